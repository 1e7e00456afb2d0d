//! Work of known size, and whether the books balance.

use context::{Accounts, Clock, Context, harness};
use runtime::Runtime;
use std::thread;
use std::time::Duration;

/// Spends CPU: `rounds` steps that no optimiser takes away.
pub(crate) fn work(rounds: u64) -> u64 {
    (0..rounds).fold(1, |x: u64, n| std::hint::black_box(x.wrapping_mul(6_364_136_223_846_793_005) ^ n))
}

/// CPU time of the calling thread, as the kernel says: measured without anything of ours.
pub(crate) fn kernel_cpu() -> Duration {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
    Duration::new(now.tv_sec as u64, now.tv_nsec as u32)
}

/// Runs `f` on a new thread, which has nothing on its books.
pub(crate) fn on_own_thread<R: Send>(f: impl FnOnce() -> R + Send) -> R {
    thread::scope(|scope| scope.spawn(f).join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)))
}

/// Runs `f` on a thread of its own by each of two clocks, and looks whether the thread's books balance (P7): by the cheap
/// one that the parts are the whole, by the kernel's own that nothing is corrected either.
///
/// For threads of a few milliseconds in which much happens at once. Interrupts and time that a hypervisor took are in a
/// slice of the counter, and the kernel leaves them out of the thread's CPU time: in so short a time that is more than P7
/// allows for, whatever we book. `conservation` holds sums to the bound, and `promises::clock` single threads.
pub(crate) fn on_balanced_thread(f: impl Fn(Clock) + Sync) {
    on_own_thread(|| {
        f(Clock::Auto);
        assert_whole();
    });
    on_own_thread(|| {
        f(Clock::ThreadTime);
        assert_eq!(assert_whole().correction, 0);
    });
}

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
