//! What is measured.

mod echo;
mod http;
mod idle;
pub mod lockstep;
mod ping_pong;
mod pinned;
mod remote;
mod sleeps;
mod spawn;
pub mod stopwatch;
mod switch;
mod timers;
mod yields;

pub use idle::Resident;
pub use sleeps::Punctuality;

use crate::lineup::{
    bursar_alone, counted_networks, counted_servers, executors, networks, servers, timers, wraps,
};
use crate::reach;
use std::time::Duration;

/// Something to measure on `P`, which is whatever has what the case needs: a [`Peer`](crate::Peer), one of
/// [`Timers`](crate::peer::Timers) or [`Network`](crate::peer::Network), a [`Wrap`](crate::wrap::Wrap).
pub trait Case<P, O = Duration> {
    /// The row.
    const NAME: &'static str;

    /// Does it `ops` times and says how long that took, without what comes before and after: CPU time of the thread,
    /// except where several threads take part. Or says something else, where time is not the point.
    fn run(ops: u64) -> O;
}

/// One case on one runtime.
#[derive(Clone, Copy, Debug)]
pub struct Contender<O = Duration> {
    /// The runtime's name.
    pub peer: &'static str,
    /// Why it does not run on this machine.
    pub unavailable: fn() -> Option<String>,
    /// [`Case::run`].
    pub run: fn(u64) -> O,
}

/// One case on every runtime that can do it.
#[derive(Debug)]
pub struct Row<O = Duration> {
    /// The case's name.
    pub case: &'static str,
    /// Bursar first, tokio second; what only Bursar has stands alone.
    pub contenders: Vec<Contender<O>>,
    /// The ratio to tokio that is to be reached.
    pub goal: Option<f64>,
}

impl<O> Row<O> {
    /// The contender of that name.
    pub fn contender(&self, peer: &str) -> Option<&Contender<O>> {
        self.contenders.iter().find(|contender| contender.peer == peer)
    }
}

/// Every case that is measured by the operation, in ns.
pub fn rows() -> Vec<Row> {
    vec![
        executors::<spawn::OneContext, _>(),
        executors::<spawn::ContextChange, _>(),
        executors::<spawn::Batch, _>(),
        executors::<yields::OneContext, _>(),
        executors::<yields::ContextPerTask, _>(),
        executors::<yields::Own, _>(),
        executors::<ping_pong::OneContext, _>(),
        executors::<ping_pong::ContextEach, _>(),
        executors::<ping_pong::Cloned, _>(),
        executors::<remote::Latency, _>(),
        executors::<remote::Throughput, _>(),
        executors::<remote::OneTask<1>, _>(),
        executors::<remote::OneTask<2>, _>(),
        executors::<remote::OneTask<4>, _>(),
        timers::<timers::Create, _>(),
        timers::<timers::CreateAndPoll, _>(),
        bursar_alone::<timers::Fire, _>(),
        networks::<echo::Echo, _>(),
        servers::<http::Hello, _>(),
        wraps::<switch::InContext, _>(),
        bursar_alone::<switch::Scope, _>(),
        wraps::<switch::Root, _>(),
        bursar_alone::<switch::Child, _>(),
    ]
}

/// Many sleeps at a time.
pub fn sleeps() -> Row<Punctuality> {
    timers::<sleeps::Sleeps, _>()
}

/// Memory of idle tasks: to be run once a process.
pub fn idle() -> Vec<Row<Resident>> {
    vec![executors::<idle::OneContext, _>(), executors::<idle::ContextPerTask, _>()]
}

/// What is only counted, since its time is half the client's.
pub fn counted() -> Vec<Row> {
    vec![counted_networks::<lockstep::Echo, _>(), counted_servers::<lockstep::Hello, _>()]
}

/// A row of the table, with its goal.
pub(crate) fn row<O>(case: &'static str, contenders: Vec<Contender<O>>) -> Row<O> {
    Row { case, contenders, goal: reach::ratio(case) }
}
