//! Contexts among many.
//!
//! What would make it worse: a registry that is walked or locked for long, a node that is searched for. What grows is the
//! memory: past the caches, entering a context waits for its node.

use crate::case::stopwatch::Stopwatch;
use crate::peer::{Bursar, Peer};
use context::Context;
use std::hint::black_box;

const OPS: u64 = 1_000_000;
/// Coprime to every power of ten: a walk by such steps comes by every context, and no prefetcher follows.
const STRIDE: u64 = 7_919_993;

/// ns for `Context::scope`, there and back, each of `n` in turn.
pub(super) fn scopes_in_order(n: u64) -> f64 {
    scopes(n, 1)
}

/// The same as requests come: in no order.
pub(super) fn scopes_in_no_order(n: u64) -> f64 {
    scopes(n, STRIDE)
}

fn scopes(n: u64, stride: u64) -> f64 {
    Bursar::block_on(async {
        let all = alive(n);
        let mut at = 0;
        let mut enter = |ops| {
            let began = Stopwatch::start();
            for op in 0..ops {
                at = (at + stride) % n;
                all[at as usize].scope(|| black_box(op));
            }
            began.elapsed()
        };
        enter(OPS / 4);
        enter(OPS).as_nanos() as f64 / OPS as f64
    })
}

/// ns for a root context that does nothing, from its making to its finish, while `n` others live.
pub(super) fn roots(n: u64) -> f64 {
    Bursar::block_on(async {
        let all = alive(n);
        let began = Stopwatch::start();
        for op in 0..OPS {
            Context::root("GET /x").run(async move { black_box(op) }).await;
        }
        let took = began.elapsed();
        drop(all);
        took.as_nanos() as f64 / OPS as f64
    })
}

fn alive(n: u64) -> Vec<Context> {
    (0..n).map(|_| Context::root("GET /x")).collect()
}
