//! What following work costs by itself: ns for doing so around a poll or a closure, and for the whole life of a request.
//!
//! What would make it worse: a second reading of the clock a switch, a lock or an atomic addition on the owner's thread,
//! a node that is larger than it must be, or one that is not reused. Of the others only the thread clock measures
//! anything: a span, a value or a context is made current and taken back.

use super::Case;
use super::stopwatch::Stopwatch;
use crate::peer::{Bursar, Peer};
use crate::wrap::Wrap;
use context::Context;
use std::future::{Future, pending, poll_fn};
use std::hint::black_box;
use std::pin::pin;
use std::task::Poll;
use std::time::Duration;

/// A poll of `future.in_context(other)`: there and back, two ends of slices.
pub(super) struct InContext;

impl<W: Wrap> Case<W> for InContext {
    const NAME: &'static str = "`in_context`, a poll with a change of context and back";

    fn run(ops: u64) -> Duration {
        W::Host::block_on(async {
            let mut inner = pin!(W::wrap(W::context(), pending::<()>()));
            poll_fn(|cx| {
                let began = Stopwatch::start();
                for _ in 0..ops {
                    let _ = black_box(inner.as_mut().poll(cx));
                }
                Poll::Ready(began.elapsed())
            })
            .await
        })
    }
}

/// A request that does nothing: a root context, made, run and finished.
pub(super) struct Root;

impl<W: Wrap> Case<W> for Root {
    const NAME: &'static str = "root context, create + run + finish";

    fn run(ops: u64) -> Duration {
        W::Host::block_on(async {
            let began = Stopwatch::start();
            for op in 0..ops {
                W::request(async move { black_box(op) }).await;
            }
            began.elapsed()
        })
    }
}

/// `Context::scope` around nothing.
pub(super) struct Scope;

impl Case<Bursar> for Scope {
    const NAME: &'static str = "`Context::scope`, there and back";

    fn run(ops: u64) -> Duration {
        Bursar::block_on(async {
            let part = Context::root("part");
            let began = Stopwatch::start();
            for op in 0..ops {
                part.scope(|| black_box(op));
            }
            began.elapsed()
        })
    }
}

/// A part of a request that does nothing.
pub(super) struct Child;

impl Case<Bursar> for Child {
    const NAME: &'static str = "child context, create + run + finish";

    fn run(ops: u64) -> Duration {
        Bursar::block_on(async {
            let request = Context::root("GET /x");
            let began = Stopwatch::start();
            for op in 0..ops {
                request.child("part").run(async move { black_box(op) }).await;
            }
            began.elapsed()
        })
    }
}
