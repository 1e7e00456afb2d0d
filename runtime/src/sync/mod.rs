//! Locks, shared work and queues that know contexts. Only what needs them: for the rest there are good crates.
//!
//! | to | use |
//! |---|---|
//! | let `n` at a time work on the same thing, in order, and ask who does | [`Linearizer`] |
//! | the same with readers and writers | [`ReadWriteLock`] |
//! | do once what many ask for at the same time | [`SingleFlight`] |
//! | keep what was fetched for a while | [`ExpiringCache`] |
//! | wait, unless somebody says that it is not worth waiting | [`AwakenableSleep`] |
//! | work on many things, on some at a time, within one task | [`concurrently`] |
//! | hand work over to a background process that is there while there is work | [`BackgroundQueue`] |
//! | put a value behind a lock, or wait for a condition | [`async_lock`](#locks) |
//! | send values from task to task | [`async_channel`](#channels), [`tokio::sync`](#one-value-to-many-and-one-to-one) |
//!
//! Everything here is a handle: cheap to clone, `Send` as far as keys and values are, and its futures too, so they go
//! into handlers of axum and hyper. All of it is safe to cancel: dropping a future takes back what it stood for,
//! and a key or a seat that was handed to it already goes to the next. No lock of ours is held while wakers or
//! destructors of yours run, only while keys are hashed and compared.
//!
//! # Who pays for what
//!
//! A wait costs nothing, and nothing here holds the context of whoever waits or holds: a lock knows it by class, number and
//! place. The continuation of a waiter runs in the waiter's own context, whoever woke it, since waking only queues.
//! Work that is done for many is done by a task of its own, in a context of its own class.
//!
//! # Locks
//!
//! For a value behind a lock, `async-lock`: it is small, fair, knows no runtime, and has `Mutex`, `RwLock`, `Semaphore`,
//! `Barrier` and `OnceCell`. Where the lock is not held across an `.await`, use `Cell`, `RefCell` or
//! `std::sync::Mutex`: tasks of one thread do not run at the same time.
//!
//! ```
//! # fn main() -> std::io::Result<()> {
//! # runtime::Runtime::new()?.block_on(async {
//! use async_lock::{Mutex, Semaphore};
//! use std::rc::Rc;
//!
//! let log = Rc::new(Mutex::new(Vec::new()));
//! let writer = runtime::spawn({
//!     let log = log.clone();
//!     async move {
//!         let mut lines = log.lock().await;
//!         lines.push("begin");
//!         runtime::yield_now().await;
//!         lines.push("end");
//!     }
//! });
//! writer.await.unwrap();
//! assert_eq!(*log.lock().await, ["begin", "end"]);
//!
//! let slots = Semaphore::new(1);
//! let taken = slots.acquire().await;
//! assert!(slots.try_acquire().is_none());
//! # drop(taken);
//! # });
//! # Ok(())
//! # }
//! ```
//!
//! # Channels
//!
//! For many senders and many receivers, `async-channel`: bounded or not, closed when one side is gone, and its ends may
//! be used from threads that run no runtime (`send_blocking`).
//!
//! ```
//! # fn main() -> std::io::Result<()> {
//! # runtime::Runtime::new()?.block_on(async {
//! let (jobs, queue) = async_channel::bounded(2);
//! let worker = runtime::spawn(async move {
//!     let mut sum = 0;
//!     while let Ok(job) = queue.recv().await {
//!         sum += job;
//!     }
//!     sum
//! });
//! for job in [1, 2, 3] {
//!     jobs.send(job).await.unwrap();
//! }
//! drop(jobs);
//! assert_eq!(worker.await.unwrap(), 6);
//! # });
//! # Ok(())
//! # }
//! ```
//!
//! A receiver whose channel is never empty never waits, and so never yields: with a fast sender it holds the thread, and
//! timers, sockets and all other tasks wait. (These crates do not know the budget of a poll, from which this crate's own
//! operations spend.) Where a channel may be full for long, let the receiver spend from it, by
//! [`cooperative`](crate::FutureExt::cooperative) around the call or [`consume_budget`](crate::consume_budget) in the
//! loop. The same holds for `tokio::sync`, which asks for tokio's budget and finds none here.
//!
//! ```
//! # fn main() -> std::io::Result<()> {
//! # runtime::Runtime::new()?.block_on(async {
//! use runtime::FutureExt;
//!
//! let (lines, queue) = async_channel::bounded(1024);
//! let writer = runtime::spawn(async move {
//!     let mut bytes = 0;
//!     while let Ok(line) = queue.recv().cooperative().await {
//!         bytes += str::len(line);
//!     }
//!     bytes
//! });
//! for _ in 0..1024 {
//!     lines.send("GET /").await.unwrap();
//! }
//! drop(lines);
//! assert_eq!(writer.await.unwrap(), 5 * 1024);
//! # });
//! # Ok(())
//! # }
//! ```
//!
//! # One value to many, and one to one
//!
//! `tokio::sync` knows no runtime either (`tokio` with `default-features = false, features = ["sync"]`): `oneshot` for a
//! single answer, `watch` for the latest state, `broadcast` for every event to everyone, `mpsc`, `Notify`.
//!
//! ```
//! # fn main() -> std::io::Result<()> {
//! # runtime::Runtime::new()?.block_on(async {
//! use tokio::sync::{oneshot, watch};
//!
//! let (answer, question) = oneshot::channel();
//! let asked = runtime::spawn(question);
//! answer.send(42).unwrap();
//! assert_eq!(asked.await.unwrap(), Ok(42));
//!
//! let (state, mut seen) = watch::channel("starting");
//! let watcher = runtime::spawn(async move {
//!     seen.changed().await.unwrap();
//!     *seen.borrow()
//! });
//! runtime::yield_now().await;
//! state.send("ready").unwrap();
//! assert_eq!(watcher.await.unwrap(), "ready");
//! # });
//! # Ok(())
//! # }
//! ```
//!
//! # Absent
//!
//! No detection of deadlocks; but every lock tells who holds a key, who waits for it, and since when.

mod awakenable_sleep;
mod background_queue;
mod caught;
mod concurrently;
mod expiring_cache;
mod line;
mod linearizer;
mod read_write_lock;
mod single_flight;
mod trace;

pub use awakenable_sleep::{AwakenableSleep, Nap, Woken};
pub use background_queue::{AddError, BackgroundQueue};
pub use concurrently::concurrently;
pub use expiring_cache::{CacheBuilder, CacheStats, ExpiringCache};
pub use line::{Claim, KeyGuard, LockStats, Turn};
pub use linearizer::Linearizer;
pub use read_write_lock::ReadWriteLock;
pub use single_flight::{FlightError, SingleFlight};

use crate::current;
use context::harness::contain_panic;
use std::task::{Poll, Waker};

/// A leaf operation: with a runtime on this thread, it spends from the budget of the running poll.
fn poll_leaf<T>(waker: &Waker, operation: impl FnOnce() -> Poll<T>) -> Poll<T> {
    current::with(|core| match core {
        Some(core) => core.poll_leaf(waker, operation),
        None => operation(),
    })
}

/// Wakes all. A foreign waker that panics does not keep the others asleep.
fn wake_all(wakers: impl IntoIterator<Item = Waker>) {
    for waker in wakers {
        contain_panic(|| waker.wake(), |text| log::error!("bursar: a waker panicked: {text}"));
    }
}
