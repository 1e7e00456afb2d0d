//! A single-threaded async runtime with built-in context tracking: every request is billed.

mod blocking;
mod clockwork;
mod config;
mod current;
pub mod db;
mod error;
mod executor;
pub mod fs;
mod group;
mod handle;
#[cfg(feature = "http")]
pub mod http;
mod inbox;
mod join;
pub mod net;
mod pool;
mod reactor;
mod registered;
mod runtime;
mod shield;
mod shutdown;
pub mod signal;
mod spawn;
pub mod sync;
mod sys;
mod task;
pub mod testing;
pub mod time;
mod timers;
mod waker;

pub use blocking::spawn_blocking;
pub use bursar_macros::{main, test};
pub use context::{Accounts, Clock};
pub use error::JoinError;
pub use group::TaskGroup;
pub use join::{JoinHandle, TaskId};
pub use runtime::{Builder, Handle, Runtime, accounts};
pub use shield::{Detached, Shield, detach, shield};
pub use shutdown::{Straggler, shutdown};
pub use spawn::{YieldNow, background, spawn, spawn_in, yield_now};
