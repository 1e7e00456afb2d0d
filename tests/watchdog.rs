//! A watchdog over a test binary: a test that runs for longer than a limit is named, and the process aborts.
//!
//! The test harness of Rust waits for a test that hangs for ever. This module is compiled into each test binary of the
//! workspace; a thread that starts before `main` looks at the threads of the process once a second. The harness gives each
//! test a thread of its own that has the test's name. When one of these is older than the limit, the watchdog interrupts
//! all threads, one after the other, and each prints its name and its backtrace to stderr.
//!
//! `BURSAR_TEST_LIMIT=60` is the limit in seconds, 0 means none. Not seen: tests under `--test-threads=1`, which run on the
//! main thread (the harness prints their names before it runs them). Fenced: the harness has no hook that runs before the
//! tests, and a thread can be asked for its full name only by a signal.
#![allow(unsafe_code)]

use std::backtrace::Backtrace;
use std::collections::HashMap;
use std::fs;
use std::io::{self, Write};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

/// The longest test of the gate takes less than a tenth of this, also beside a busy loop on each core.
const LIMIT_DEFAULT: Duration = Duration::from_secs(300);
/// How often the watchdog looks.
const PERIOD: Duration = Duration::from_secs(1);
/// How long one thread may take to print what it does. It may hold a lock that printing needs.
const ANSWER_MAX: Duration = Duration::from_secs(2);

#[used]
// SAFETY: the section is a list of functions that the dynamic linker calls before `main`, and this is one of them.
#[unsafe(link_section = ".init_array")]
static START: extern "C" fn() = start;

/// How many threads have answered.
static ANSWERS: AtomicUsize = AtomicUsize::new(0);

extern "C" fn start() {
    let limit = match std::env::var("BURSAR_TEST_LIMIT") {
        Ok(seconds) => {
            Duration::from_secs(seconds.parse().expect("BURSAR_TEST_LIMIT is a number of seconds"))
        }
        Err(_) => LIMIT_DEFAULT,
    };
    if !limit.is_zero() {
        let spawned = thread::Builder::new().name("watchdog".to_owned()).spawn(move || watch(limit));
        spawned.expect("a thread for the watchdog");
    }
}

/// A thread of this process, as the kernel lists it. The kernel keeps 15 bytes of the name.
struct Thread {
    id: libc::pid_t,
    name: String,
    /// Since boot. The number of a thread may be used again, but not with the same start.
    start: String,
}

impl Thread {
    /// Tests have paths for names; no thread that this workspace starts has one.
    fn is_test(&self) -> bool {
        self.name.contains("::")
    }
}

fn watch(limit: Duration) {
    let mut seen: HashMap<(libc::pid_t, String), Instant> = HashMap::new();
    loop {
        thread::sleep(PERIOD);
        let tests: Vec<Thread> = threads().into_iter().filter(Thread::is_test).collect();
        seen.retain(|(id, start), _| tests.iter().any(|test| (test.id, &test.start) == (*id, start)));
        for test in &tests {
            let since = seen.entry((test.id, test.start.clone())).or_insert_with(Instant::now);
            if since.elapsed() >= limit {
                bark(test, limit);
            }
        }
    }
}

/// The threads that live now. One that ends meanwhile is left out.
fn threads() -> Vec<Thread> {
    let Ok(entries) = fs::read_dir("/proc/self/task") else { return Vec::new() };
    let thread = |entry: fs::DirEntry| {
        let id = entry.file_name().to_str()?.parse().ok()?;
        let name = fs::read_to_string(entry.path().join("comm")).ok()?.trim_end().to_owned();
        let stat = fs::read_to_string(entry.path().join("stat")).ok()?;
        // After the name, which may hold spaces, the start is the 20th field: proc_pid_stat(5).
        let start = stat.rsplit_once(')')?.1.split_ascii_whitespace().nth(19)?.to_owned();
        Some(Thread { id, name, start })
    };
    entries.filter_map(|entry| thread(entry.ok()?)).collect()
}

/// Prints what all threads do, the late test first, and ends the process.
fn bark(late: &Thread, limit: Duration) -> ! {
    eprintln!(
        "watchdog: the test `{}..` has run for more than {limit:?}. Its full name and what it does:",
        late.name
    );
    // SAFETY: a handler of the kind that `signal` takes. It is not async-signal-safe; the process ends anyway.
    unsafe { libc::signal(libc::SIGRTMAX(), answer as extern "C" fn(libc::c_int) as libc::sighandler_t) };
    ask(late.id);
    eprintln!("watchdog: the other threads:");
    // SAFETY: takes nothing, returns a number.
    let own = unsafe { libc::gettid() };
    threads()
        .iter()
        .filter(|thread| thread.id != late.id && thread.id != own)
        .for_each(|thread| ask(thread.id));
    std::process::abort();
}

/// Interrupts one thread, which prints its name and its backtrace.
fn ask(id: libc::pid_t) {
    let (before, begin) = (ANSWERS.load(Ordering::Acquire), Instant::now());
    // SAFETY: a signal to a thread of this very process; if it has ended, the call fails.
    unsafe { libc::syscall(libc::SYS_tgkill, std::process::id(), id, libc::SIGRTMAX()) };
    while ANSWERS.load(Ordering::Acquire) == before && begin.elapsed() < ANSWER_MAX {
        thread::sleep(Duration::from_millis(1));
    }
}

extern "C" fn answer(_: libc::c_int) {
    let current = thread::current();
    let name = current.name().unwrap_or("(no name)");
    // Not `eprintln`, whose text the harness keeps from tests that run.
    let _ = writeln!(io::stderr(), "watchdog: thread `{name}`\n{}", Backtrace::force_capture());
    ANSWERS.fetch_add(1, Ordering::Release);
}
