#![cfg(test)]
//! What the tests here are written with: a trace of what happened, and contexts to run in.

use crate::testing::{self, Options};
use crate::{JoinHandle, spawn_in, yield_now};
use context::Context;
use parking_lot::Mutex;
use std::fmt::Display;
use std::future::Future;
use std::sync::Arc;

/// What happened, in order.
#[derive(Clone, Default)]
pub(super) struct Trace(Arc<Mutex<Vec<String>>>);

impl Trace {
    pub(super) fn say(&self, event: impl Display) {
        self.0.lock().push(event.to_string());
    }

    /// Everything since the last call, in one line.
    pub(super) fn take(&self) -> String {
        std::mem::take(&mut *self.0.lock()).join(" ")
    }
}

/// Runs a test on paused time. Any report of the sentinel fails it.
pub(super) fn clean<F: Future>(name: &'static str, test: F) -> F::Output {
    testing::run(Options { name, paused: true, ..Options::default() }, test)
}

/// Starts a task in a context of its own, which ends with it.
pub(super) fn task<F: Future + 'static>(class: &str, future: F) -> JoinHandle<F::Output> {
    spawn_in(&Context::root(class), future)
}

/// Lets every other task go on until it can go no further.
pub(super) async fn settle() {
    for _ in 0..20 {
        yield_now().await;
    }
}

/// Something that is used up by a wake, like the last line of a conversation: `open` lets all `pass`.
#[derive(Clone, Default)]
pub(super) struct Gate(Arc<async_lock::OnceCell<()>>);

impl Gate {
    pub(super) fn open(&self) {
        let _ = self.0.set_blocking(());
    }

    pub(super) async fn pass(&self) {
        self.0.wait().await;
    }
}
