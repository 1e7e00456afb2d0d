//! A single-threaded async runtime with built-in context tracking: every request is billed.

mod clockwork;
mod config;
mod current;
mod error;
mod executor;
mod handle;
mod inbox;
mod join;
pub mod net;
mod reactor;
mod registered;
mod runtime;
mod spawn;
pub mod sync;
mod sys;
mod task;
pub mod testing;
pub mod time;
mod timers;
mod waker;

pub use bursar_macros::{main, test};
pub use context::{Accounts, Clock};
pub use error::JoinError;
pub use join::{JoinHandle, TaskId};
pub use runtime::{Builder, Handle, Runtime, Straggler, accounts};
pub use spawn::{YieldNow, background, spawn, spawn_in, yield_now};
