//! A single-threaded async runtime with built-in context tracking: every request is billed.
//!
//! The task harness puts a task's [`Context`](context::Context) in place around every poll and every drop, and charges CPU
//! time, database time, waiting and blocking to it. What runs in no context, or escapes from one, goes to the *sentinel*,
//! which reports it with the line it came from. You wrap no futures; the accounting is always on.
//!
//! Work begins in a context and is charged to it from then on, whatever it awaits:
//!
//! ```
//! use context::Context;
//!
//! #[runtime::main]
//! async fn main() {
//!     let request = Context::root("GET /users/{id}");
//!     let user = request.run(async {
//!         let row = runtime::spawn_blocking(|| "ann").await.unwrap();
//!         runtime::time::sleep(std::time::Duration::from_millis(1)).await;
//!         row
//!     });
//!     assert_eq!(user.await, "ann");
//!     println!("{} {:?} {}", request.name(), request.elapsed(), request.usage());
//! }
//! ```
//!
//! A task shares the context in which it was spawned, a background process has its own, and parts of a request are
//! billed apart where you say so:
//!
//! ```
//! use context::{Context, FutureExt};
//!
//! # fn main() -> std::io::Result<()> {
//! # runtime::Runtime::new()?.block_on(async {
//! let request = Context::current();
//! let part = request.child("render");
//! let page = async { "<p>" }.in_context(part.clone());
//! let reaper = runtime::background("reap sessions", async { Ok::<_, std::io::Error>(()) });
//! assert_eq!(page.await, "<p>");
//! reaper.await.unwrap().unwrap();
//! assert!(part.usage().cpu <= request.usage().cpu);
//! # });
//! # Ok(())
//! # }
//! ```
//!
//! And the books of the thread balance, at any moment: [`accounts`].
//!
//! # Where things are
//!
//! | need | here |
//! |---|---|
//! | tasks | [`spawn`], [`spawn_in`], [`background`], [`spawn_blocking`], [`TaskGroup`], [`shield()`], [`detach`] |
//! | yielding in time | [`yield_now`], [`consume_budget`], [`FutureExt::cooperative`] |
//! | time, sockets, files, signals | [`time`], [`net`], [`fs`], [`signal`] |
//! | locks by key, shared work, caches | [`sync`]; for ordinary locks and channels see there |
//! | databases | [`db`] (SQLite by the feature `sqlite`) |
//! | HTTP | `http` (features `http`, `axum`) |
//! | the end | [`shutdown()`], [`Handle::shutdown`], [`Runtime::shutdown_timeout`] |
//! | tests | [`test`](macro@test), [`testing`] |
//!
//! `docs/contexts.md` has the rules for users, `docs/architecture.md` what is behind this.
//!
//! # What is absent
//!
//! Work stealing: a runtime is one thread, so its tasks need not be `Send`. For more cores run one runtime on each.

mod blocking;
mod clockwork;
mod config;
mod coop;
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
mod pace;
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
mod unread;
mod waker;

#[cfg(all(test, target_os = "linux", not(miri)))]
#[path = "../../tests/watchdog.rs"]
mod watchdog;

pub use blocking::spawn_blocking;
pub use bursar_macros::{main, test};
pub use context::{Accounts, Clock};
pub use coop::{Cooperative, FutureExt, consume_budget};
pub use error::{JoinError, Straggler};
pub use group::TaskGroup;
pub use join::{JoinHandle, TaskId};
pub use runtime::{Builder, Handle, Runtime, accounts};
pub use shield::{Detached, Shield, detach, shield};
pub use shutdown::shutdown;
pub use spawn::{YieldNow, background, spawn, spawn_in, yield_now};
