//! Cost against size: what one operation costs while 1 to 1,000,000 others of its kind are alive.
//!
//! A [`Figure`] is a picture, a [`Line`] one runtime in it. Each point is measured in a process of its own, so that no
//! memory is left over from another size.

mod connections;
mod contexts;
mod tasks;
mod timers;

pub use connections::ask;

use crate::peer::{Bursar, Peer, Tokio};

/// Cost against size.
#[derive(Debug)]
pub struct Figure {
    /// The name of its file.
    pub name: &'static str,
    /// What is measured.
    pub title: &'static str,
    /// What there are so many of.
    pub size: &'static str,
    /// What the cost is in.
    pub unit: &'static str,
    /// How many.
    pub sizes: Vec<u64>,
    /// Who is in it.
    pub lines: Vec<Line>,
}

/// One runtime in a figure.
#[derive(Clone, Copy, Debug)]
pub struct Line {
    /// Who.
    pub name: &'static str,
    /// The cost at a size.
    pub measure: fn(u64) -> f64,
}

/// The figures that are to be flat, by their first line.
pub(crate) const IDLE_TASKS: &str = "A poll of two tasks taking turns, n tasks idle";
pub(crate) const CONTEXTS: &str = "Contexts: n alive, and one is entered or made";

const MILLION: u64 = 1_000_000;
const BURSAR_ONE: &str = "bursar, one context";
const BURSAR_EACH: &str = "bursar, a context per task";

/// Every figure.
pub fn figures() -> Vec<Figure> {
    [of_tasks(), of_connections(), of_timers()].into_iter().flatten().collect()
}

fn of_tasks() -> Vec<Figure> {
    vec![
        Figure {
            name: "growth-tasks",
            title: "A poll, n tasks taking turns",
            size: "live tasks",
            unit: "ns",
            sizes: decades(MILLION),
            lines: vec![
                Line { name: BURSAR_EACH, measure: tasks::turns_in_contexts::<Bursar> },
                Line { name: BURSAR_ONE, measure: tasks::turns::<Bursar> },
                Line { name: Tokio::NAME, measure: tasks::turns::<Tokio> },
            ],
        },
        Figure {
            name: "growth-idle-tasks",
            title: IDLE_TASKS,
            size: "idle tasks",
            unit: "ns",
            sizes: decades(MILLION),
            lines: vec![
                Line { name: BURSAR_EACH, measure: tasks::pair_among_idle::<Bursar> },
                Line { name: Tokio::NAME, measure: tasks::pair_among_idle::<Tokio> },
            ],
        },
        Figure {
            name: "growth-contexts",
            title: CONTEXTS,
            size: "live contexts",
            unit: "ns",
            sizes: decades(100_000),
            lines: vec![
                Line { name: "scope, one after the other", measure: contexts::scopes_in_order },
                Line { name: "scope, in no order", measure: contexts::scopes_in_no_order },
                Line { name: "a root besides, all its life", measure: contexts::roots },
            ],
        },
    ]
}

fn of_connections() -> Vec<Figure> {
    vec![
        Figure {
            name: "growth-connections",
            title: "TCP echo: CPU of the server for a request, n connections open, 50 of them in use",
            size: "open connections",
            unit: "us",
            sizes: connections::sizes(),
            lines: vec![
                Line { name: Bursar::NAME, measure: connections::request::<Bursar> },
                Line { name: Tokio::NAME, measure: connections::request::<Tokio> },
            ],
        },
        Figure {
            name: "growth-connection-memory",
            title: "TCP echo: resident memory of the server per open connection",
            size: "open connections",
            unit: "bytes",
            sizes: connections::sizes().into_iter().filter(|size| *size >= 100).collect(),
            lines: vec![
                Line { name: Bursar::NAME, measure: connections::memory::<Bursar> },
                Line { name: Tokio::NAME, measure: connections::memory::<Tokio> },
            ],
        },
    ]
}

fn of_timers() -> Vec<Figure> {
    vec![
        Figure {
            name: "growth-timers",
            title: "A sleep: create + poll + drop, n others waiting",
            size: "live timers",
            unit: "ns",
            sizes: decades(MILLION),
            lines: vec![
                Line { name: Bursar::NAME, measure: timers::create_among::<Bursar> },
                Line { name: Tokio::NAME, measure: timers::create_among::<Tokio> },
            ],
        },
        Figure {
            name: "growth-firing",
            title: "n tasks whose sleeps end at once: CPU for each, its last poll included",
            size: "timers that fire",
            unit: "ns",
            // Of few the wake of the thread is all there is.
            sizes: decades(MILLION).split_off(2),
            lines: vec![
                Line { name: Bursar::NAME, measure: timers::fire::<Bursar> },
                Line { name: Tokio::NAME, measure: timers::fire::<Tokio> },
            ],
        },
    ]
}

/// 1, 10, 100 and so on.
fn decades(last: u64) -> Vec<u64> {
    std::iter::successors(Some(1), |n| Some(n * 10)).take_while(|n| *n <= last).collect()
}
