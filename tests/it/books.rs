//! Work of known size, and whether the books balance.

use context::{Accounts, Clock, Context, harness};
use runtime::Runtime;
use std::thread;
use std::time::Duration;

/// Spends CPU: `rounds` steps that no optimiser takes away.
pub(crate) fn work(rounds: u64) -> u64 {
    (0..rounds).fold(1, |x: u64, n| std::hint::black_box(x.wrapping_mul(6_364_136_223_846_793_005) ^ n))
}

/// Runs `f` on a new thread, which has nothing on its books.
pub(crate) fn on_own_thread<R: Send>(f: impl FnOnce() -> R + Send) -> R {
    thread::scope(|scope| scope.spawn(f).join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)))
}

/// Runs `f` on a thread of its own, whose books have to balance at its end (P7).
///
/// Such a thread lasts for milliseconds, and a hypervisor may take stolen time out of the thread clock in them, which is
/// more than P7 allows for so short a time. What we book wrong we book wrong each time; so one attempt of [`ATTEMPTS`]
/// has to keep the bound of the correction. All else, that the parts are the whole too, has to hold at each.
pub(crate) fn on_balanced_thread(f: impl Fn() + Sync) {
    let attempt = || {
        f();
        is_little_corrected(&assert_whole())
    };
    assert!(
        (0..ATTEMPTS).any(|_| on_own_thread(attempt)),
        "the bound of the correction was passed each time"
    );
}

/// See [`on_balanced_thread`].
pub(crate) const ATTEMPTS: u32 = 4;

/// Runs `f` on a thread whose clock stands still but for [`pass`].
pub(crate) fn on_manual_clock<R: Send>(f: impl FnOnce() -> R + Send) -> R {
    on_own_thread(|| {
        drop(harness::enter_loop(Clock::Manual, None));
        // A stamp of 0 means none.
        harness::advance_manual_clock(0, 1);
        f()
    })
}

/// A runtime for [`on_manual_clock`].
pub(crate) fn manual_runtime() -> Runtime {
    Runtime::builder().clock(Clock::Manual).build().expect("a runtime")
}

/// Manual clock: `cpu` ns of work.
pub(crate) fn pass(cpu: u64) {
    harness::advance_manual_clock(cpu, cpu);
}

pub(crate) const fn ns(ns: u64) -> Duration {
    Duration::from_nanos(ns)
}

/// The parts of the books, ns: what they add up to must be the whole.
pub(crate) fn parts(books: &Accounts) -> i128 {
    let parts = books.contexts + books.late + books.sentinel + books.runtime;
    parts.as_nanos() as i128 + i128::from(books.correction)
}

/// What is on a thread's books but not accounted for, ns.
pub(crate) fn residual(books: &Accounts) -> i128 {
    books.thread_cpu.as_nanos() as i128 - parts(books)
}

/// P7 for this thread: the parts are the whole, and little of it is correction.
#[track_caller]
pub(crate) fn assert_balanced() -> Accounts {
    let books = assert_whole();
    assert!(is_little_corrected(&books), "{books:?}");
    books
}

/// The first half: the parts are the whole, to the nanosecond.
#[track_caller]
pub(crate) fn assert_whole() -> Accounts {
    let books = context::accounts().expect("a living thread");
    assert_eq!(residual(&books), 0, "{books:?}");
    books
}

/// The second half.
pub(crate) fn is_little_corrected(books: &Accounts) -> bool {
    let limit = books.thread_cpu.as_nanos() / 10_000 + CORRECTION_MAX;
    u128::from(books.correction.unsigned_abs()) <= limit
}

/// What the correction may be beside 0.01 % of the whole, ns.
pub(crate) const CORRECTION_MAX: u128 = 1_000;

/// Whether a context of that number is in the registry.
pub(crate) fn lives(id: context::Id) -> bool {
    context::live().iter().any(|snapshot| snapshot.id == id)
}

/// The class of what is current.
pub(crate) fn current_class() -> &'static str {
    Context::current().class()
}
