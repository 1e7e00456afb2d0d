//! What is measured, and what is to be reached.

mod echo;
mod http;
mod ping_pong;
mod remote;
mod spawn;
mod stopwatch;
mod switch;
mod timers;
mod yields;

use crate::peer::{Bursar, Peer, Tokio};
use std::time::Duration;

/// Something to measure.
pub trait Case {
    /// The row.
    const NAME: &'static str;

    /// Does it `ops` times and says how long that took, without what comes before and after: CPU time of the thread,
    /// except where several threads take part.
    fn run<P: Peer>(ops: u64) -> Duration;
}

/// One case on one runtime.
#[derive(Clone, Copy, Debug)]
pub struct Contender {
    /// The runtime's name.
    pub peer: &'static str,
    /// [`Case::run`].
    pub run: fn(u64) -> Duration,
}

/// One case on every runtime.
#[derive(Debug)]
pub struct Row {
    /// The case's name.
    pub case: &'static str,
    /// Bursar first; what only Bursar has stands alone.
    pub contenders: Vec<Contender>,
    /// The ratio to tokio that is to be reached.
    pub goal: Option<f64>,
}

/// Every case.
pub fn rows() -> Vec<Row> {
    vec![
        row::<spawn::OneContext>(Some(0.12)),
        row::<spawn::ContextChange>(Some(0.18)),
        row::<spawn::Batch>(None),
        row::<yields::OneContext>(Some(0.25)),
        row::<yields::ContextPerTask>(Some(0.42)),
        row::<yields::Own>(None),
        row::<ping_pong::OneContext>(None),
        row::<ping_pong::ContextEach>(Some(0.42)),
        row::<ping_pong::Cloned>(Some(0.35)),
        row::<remote::Latency>(Some(1.0)),
        row::<remote::Throughput>(Some(0.6)),
        row::<timers::Create>(None),
        row::<timers::CreateAndPoll>(Some(0.35)),
        alone::<timers::Fire>(),
        row::<echo::Echo>(None),
        row::<http::Hello>(Some(0.97)),
        alone::<switch::InContext>(),
        alone::<switch::Scope>(),
        alone::<switch::Root>(),
        alone::<switch::Child>(),
    ]
}

fn row<C: Case>(goal: Option<f64>) -> Row {
    Row { case: C::NAME, contenders: vec![contender::<C, Bursar>(), contender::<C, Tokio>()], goal }
}

/// What has no counterpart elsewhere.
fn alone<C: Case>() -> Row {
    Row { case: C::NAME, contenders: vec![contender::<C, Bursar>()], goal: None }
}

fn contender<C: Case, P: Peer>() -> Contender {
    Contender { peer: P::NAME, run: C::run::<P> }
}
