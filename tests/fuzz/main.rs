//! Random programs over everything that safe code can do to what is current on a thread, and what holds whatever they do.
//!
//! A program is a few threads that take turns. Each makes contexts, guards, frames, loops, polls, shares and observers, and
//! ends them in any order, on any thread; hooks, listeners, the logger, destructors and futures do the same from inside of
//! the library, and some of them panic. After each step and at the end of a program:
//!
//! - what is current is what a model says ([`model`]), which knows the rules of guards and nothing of the code;
//! - the books of the thread balance, and no usage ever falls;
//! - no panic of user code has come out of the library;
//! - each observer has heard resumes and suspends in pairs, and of each finish once;
//! - when the threads have ended, every context is gone.
//!
//! `BURSAR_FUZZ_SEED=17 BURSAR_FUZZ_STEPS=1` runs one program again, `BURSAR_FUZZ_STEPS=10000000` many. The seed of a
//! `BURSAR_FUZZ_TRACE=1` says each step. The seed of a
//! program that ends the process is in `fuzz.seed` in cargo's folder for the files of tests (`target/tmp`). Under
//! AddressSanitizer with `--cfg bursar_no_reuse` a use after free ends it.

mod callbacks;
mod model;
#[path = "../it/random.rs"]
mod random;
mod steps;
mod world;

#[cfg(all(target_os = "linux", not(miri)))]
#[path = "../watchdog.rs"]
mod watchdog;

use random::Random;
use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::thread;
use world::{CLASS, Shared, World};

const STEPS: u64 = if cfg!(miri) { 300 } else { 100_000 };
const THREADS_MAX: u64 = 3;

fn number(variable: &str, default: u64) -> u64 {
    let text = std::env::var(variable).ok();
    text.map_or(default, |text| text.parse().unwrap_or_else(|_| panic!("{variable} is not a number: {text}")))
}

/// Names the program, should it fail.
struct Running(u64);

impl Running {
    fn begin(seed: u64) -> Self {
        // For a program that ends the process. Under Miri there are no files.
        if !cfg!(miri) {
            fs::write(Path::new(env!("CARGO_TARGET_TMPDIR")).join("fuzz.seed"), seed.to_string()).unwrap();
        }
        Self(seed)
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if thread::panicking() {
            eprintln!("the program that failed: BURSAR_FUZZ_SEED={} BURSAR_FUZZ_STEPS=1", self.0);
        }
    }
}

/// Runs one program; returns how many steps it took.
fn run(seed: u64) -> u64 {
    let _running = Running::begin(seed);
    let random = Random::new(seed);
    let threads = 1 + random.below(THREADS_MAX);
    let steps = 10 + random.below(60);
    let shared = Arc::new(Shared::new(seed, threads as usize));
    let spawn = |index: u64| {
        let (shared, seed) = (shared.clone(), random.next());
        let world = move || World::live_through(shared, index as usize, seed, steps);
        thread::Builder::new().name(format!("fuzz {index}")).spawn(world).unwrap()
    };
    let threads: Vec<_> = (0..threads).map(spawn).collect();
    let ends: Vec<_> = threads.into_iter().map(thread::JoinHandle::join).collect();
    // Joined, so that what is thread-local is gone too.
    shared.clear();
    for end in ends {
        end.unwrap_or_else(|panic| std::panic::resume_unwind(panic));
    }
    shared.check_observers();
    let left: Vec<_> =
        context::live().into_iter().filter(|context| context.class.starts_with(CLASS)).collect();
    assert!(left.is_empty(), "contexts that leaked: {left:?}");
    assert_eq!(shared.wrong(), Vec::<String>::new());
    shared.steps.load(Ordering::Relaxed)
}

/// One test, for the listeners and the registry of contexts are the process's.
#[test]
fn p23_random_programs_keep_what_is_current_and_the_books_right() {
    callbacks::install_logger();
    let (mut seed, steps) = (number("BURSAR_FUZZ_SEED", 0), number("BURSAR_FUZZ_STEPS", STEPS));
    let mut taken = 0;
    while taken < steps {
        taken += run(seed);
        seed += 1;
    }
    println!("{taken} steps; the next seed is {seed}");
}
