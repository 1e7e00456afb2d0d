//! Ping-pong: ns for a round of two tasks that wake each other, so two polls and two wakes by another task.
//!
//! What would make it worse: all that makes a yield worse; a wake that does more than queue; and, in the cloned case,
//! wakers with a reference count.

use super::Case;
use super::stopwatch::Stopwatch;
use crate::Peer;
use std::cell::Cell;
use std::future::{Future, poll_fn};
use std::task::{Poll, Waker};
use std::time::Duration;

const ENDS: &str = "the task neither panics nor is aborted";

/// Both in one context, each waker stored once.
pub(super) struct OneContext;

impl<P: Peer> Case<P> for OneContext {
    const NAME: &'static str = "ping-pong, one context";

    fn run(ops: u64) -> Duration {
        let context = P::context();
        play::<P>(&context, &context, ops, stored)
    }
}

/// Each in its own context: a change at every poll.
pub(super) struct ContextEach;

impl<P: Peer> Case<P> for ContextEach {
    const NAME: &'static str = "ping-pong, a context each";

    fn run(ops: u64) -> Duration {
        play::<P>(&P::context(), &P::context(), ops, stored)
    }
}

/// The same, and the waker is cloned at each poll and consumed by each wake, as channels and locks do.
pub(super) struct Cloned;

impl<P: Peer> Case<P> for Cloned {
    const NAME: &'static str = "ping-pong, a context each, wakers cloned";

    fn run(ops: u64) -> Duration {
        play::<P>(&P::context(), &P::context(), ops, cloned)
    }
}

thread_local! {
    /// Whose turn it is, and both wakers. Here and not in the tasks, which are to be `Send` without atomics.
    static TABLE: Table = const { Table { turn: Cell::new(0), wakers: [Cell::new(None), Cell::new(None)] } };
}

struct Table {
    turn: Cell<usize>,
    wakers: [Cell<Option<Waker>>; 2],
}

fn play<P: Peer>(ping: &P::Context, pong: &P::Context, ops: u64, hit: fn(&Table, usize, &Waker)) -> Duration {
    TABLE.with(|table| {
        table.turn.set(0);
        table.wakers.iter().for_each(|waker| waker.set(None));
    });
    P::block_on(async {
        let began = Stopwatch::start();
        let ping = P::spawn_in(ping, player(0, ops, hit));
        let pong = P::spawn_in(pong, player(1, ops, hit));
        ping.await.expect(ENDS);
        pong.await.expect(ENDS);
        began.elapsed()
    })
}

fn player(
    me: usize,
    rounds: u64,
    hit: fn(&Table, usize, &Waker),
) -> impl Future<Output = ()> + Send + 'static {
    let mut left = rounds;
    poll_fn(move |cx| {
        TABLE.with(|table| {
            if table.turn.get() == me && left > 0 {
                left -= 1;
                table.turn.set(1 - me);
            }
            hit(table, me, cx.waker());
            if left == 0 { Poll::Ready(()) } else { Poll::Pending }
        })
    })
}

fn stored(table: &Table, me: usize, own: &Waker) {
    let mine = table.wakers[me].take().unwrap_or_else(|| own.clone());
    table.wakers[me].set(Some(mine));
    if let Some(other) = table.wakers[1 - me].take() {
        other.wake_by_ref();
        table.wakers[1 - me].set(Some(other));
    }
}

fn cloned(table: &Table, me: usize, own: &Waker) {
    table.wakers[me].set(Some(own.clone()));
    if let Some(other) = table.wakers[1 - me].take() {
        other.wake();
    }
}
