//! Idle tasks: how many bytes of memory each takes, with 64 bytes of state and its share of a context.
//!
//! Resident memory of the process, so a process may ask once only. What would make it worse: a header larger than it must
//! be, a cell that is rounded up to a cache line, an allocator's own header for each task, a second allocation a task, a
//! table beside that grows by doubling.

use super::Case;
use crate::peer::Peer;
use std::cell::Cell;
use std::future::{Future, poll_fn};
use std::hint::black_box;
use std::task::Poll;

const STATE: usize = 64;

/// Bytes of all the tasks together.
#[derive(Clone, Copy, Debug)]
pub struct Resident(pub u64);

/// All in one context: what follows a request follows all of its tasks.
pub(super) struct OneContext;

impl<P: Peer> Case<P, Resident> for OneContext {
    const NAME: &'static str = "RSS per idle task, 64 B of state, a share of a context";

    fn run(ops: u64) -> Resident {
        let context = P::block_on(async { P::context() });
        grow::<P>(ops, || context.clone())
    }
}

/// A context for each, so a request that waits.
pub(super) struct ContextPerTask;

impl<P: Peer> Case<P, Resident> for ContextPerTask {
    const NAME: &'static str = "RSS per idle task, 64 B of state, a context each";

    fn run(ops: u64) -> Resident {
        grow::<P>(ops, P::context)
    }
}

thread_local! {
    static POLLED: Cell<u64> = const { Cell::new(0) };
}

fn grow<P: Peer>(tasks: u64, context: impl Fn() -> P::Context) -> Resident {
    POLLED.set(0);
    P::block_on(async {
        // Whatever the first task brings along is not the tasks'.
        std::mem::forget(P::spawn_in(&context(), idle()));
        until_polled::<P>(1).await;
        let before = resident();
        for _ in 0..tasks {
            // Forgotten and not dropped, since dropping a handle ends the task elsewhere.
            std::mem::forget(P::spawn_in(&context(), idle()));
        }
        until_polled::<P>(tasks + 1).await;
        Resident(resident().saturating_sub(before))
    })
}

/// A task behind all of them, and not a yield, which monoio puts before them.
async fn until_polled<P: Peer>(tasks: u64) {
    while POLLED.get() < tasks {
        P::spawn(async {}).await.expect("the task neither panics nor is aborted");
    }
}

fn idle() -> impl Future<Output = ()> + Send + 'static {
    let state = [7_u8; STATE];
    poll_fn(move |_| {
        black_box(&state);
        POLLED.set(POLLED.get() + 1);
        Poll::Pending
    })
}

/// Of this process, in bytes.
fn resident() -> u64 {
    let statm = std::fs::read_to_string("/proc/self/statm").expect("a kernel that tells");
    let pages: u64 = statm.split(' ').nth(1).and_then(|pages| pages.parse().ok()).expect("a number of pages");
    pages * rustix::param::page_size() as u64
}
