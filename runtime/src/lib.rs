//! A single-threaded async runtime with built-in context tracking: every request is billed.

mod clockwork;
mod config;
mod current;
mod error;
mod executor;
mod group;
mod handle;
mod inbox;
mod join;
mod reactor;
mod runtime;
mod shield;
mod spawn;
mod sys;
mod task;
pub mod testing;
mod timers;
mod waker;

pub use bursar_macros::{main, test};
pub use context::{Accounts, Clock};
pub use error::JoinError;
pub use group::TaskGroup;
pub use join::{JoinHandle, TaskId};
pub use runtime::{Builder, Handle, Runtime, Straggler, accounts};
pub use shield::{Detached, Shield, detach, shield};
pub use spawn::{YieldNow, background, spawn, spawn_in, yield_now};
