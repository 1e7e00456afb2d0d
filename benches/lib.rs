//! What Bursar costs, beside what others cost, in one run.
//!
//! A runtime is a [`Peer`], a thing to measure is a [`Case`]; each is written once and neither knows the others. The
//! targets are the ways to measure: `ratios` prints the table, `cases` is criterion's view of the same, and
//! `instructions` counts them under callgrind. `docs/performance.md` has the method and the results.

pub mod case;
pub mod figures;
pub mod peer;

pub use case::{Case, Contender, Row, rows};
pub use peer::Peer;
