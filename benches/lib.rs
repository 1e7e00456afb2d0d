//! What Bursar costs, beside what others cost, in one run.
//!
//! A runtime is a [`Peer`], a thing to measure is a [`Case`]; each is written once and neither knows the others. What
//! follows work through polls, as Bursar's contexts do, is a [`Wrap`]. Who stands in which row says `lineup`, and what is
//! to be reached [`reach`].
//!
//! The targets are the ways to measure. `ratios` takes the runtimes back to back, `cases` is criterion's view of the same,
//! `instructions` counts them under callgrind, `memory` counts allocations and resident bytes. Each leaves what it
//! measured in a file ([`record`]), and `ratios`, the last, makes of these the Markdown that says what is reached and
//! what is not. `docs/performance.md` has the method and the results.
//!
//! Without the feature `peers` (on by default) only Bursar and tokio are compiled.

pub mod case;
pub mod figures;
pub mod growth;
pub mod peer;
pub mod plot;
pub mod profile;
pub mod reach;
pub mod record;
pub mod wrap;

#[cfg(feature = "peers")]
#[path = "lineup/full.rs"]
mod lineup;
#[cfg(not(feature = "peers"))]
#[path = "lineup/pair.rs"]
mod lineup;

pub use case::{Case, Contender, Row, idle, rows, sleeps};
pub use peer::Peer;
pub use wrap::Wrap;
