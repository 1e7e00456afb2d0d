//! Tasks that each sleep once, the ends spread evenly over one second: the CPU that takes, and how late they wake.
//!
//! Lateness is from the deadline to the poll. What would make it worse: timers in milliseconds, one sleep of the loop
//! for each timer, a heap of timers (log n moves each), a wheel that is walked where it is empty.

use super::Case;
use super::stopwatch::Stopwatch;
use crate::peer::Timers;
use std::cell::RefCell;
use std::time::{Duration, Instant};

const SPREAD: Duration = Duration::from_secs(1);
/// Time to spawn them all before the first ends.
const HEAD_START: Duration = Duration::from_millis(500);

/// What a run yields.
#[derive(Clone, Copy, Debug)]
pub struct Punctuality {
    /// CPU time of the thread, from when they all sleep until all are awake.
    pub cpu: Duration,
    /// The median of the lateness.
    pub p50: Duration,
    /// One in a hundred is later.
    pub p99: Duration,
}

/// As many sleeps as there are operations, 100,000 for the table.
pub(super) struct Sleeps;

impl<P: Timers> Case<P, Punctuality> for Sleeps {
    const NAME: &'static str = "100,000 sleeps over 1 s";

    fn run(ops: u64) -> Punctuality {
        let sleeps = u32::try_from(ops).expect("so many sleeps at a time");
        LATE.with_borrow_mut(|late| {
            late.clear();
            late.reserve(sleeps as usize);
        });
        let cpu = P::block_on(async {
            let start = Instant::now() + HEAD_START;
            let sleep = |n| P::spawn_here(&P::context(), sleep_once::<P>(start + SPREAD * n / sleeps));
            let tasks: Vec<_> = (0..sleeps).map(sleep).collect();
            // The first polls register the timers; what is measured is the firing.
            P::sleep(start.saturating_duration_since(Instant::now()) / 2).await;
            let began = Stopwatch::start();
            for task in tasks {
                task.await.expect("the task neither panics nor is aborted");
            }
            began.elapsed()
        });
        let mut late = LATE.take();
        late.sort_unstable();
        Punctuality { cpu, p50: late[late.len() / 2], p99: late[late.len() * 99 / 100] }
    }
}

thread_local! {
    static LATE: RefCell<Vec<Duration>> = const { RefCell::new(Vec::new()) };
}

async fn sleep_once<P: Timers>(deadline: Instant) {
    P::sleep(deadline.saturating_duration_since(Instant::now())).await;
    let late = Instant::now().saturating_duration_since(deadline);
    LATE.with_borrow_mut(|all| all.push(late));
}
