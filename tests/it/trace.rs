//! What happened, in order, and in which context.

use context::Context;
use std::fmt::Display;
use std::sync::{Arc, Mutex};

/// A list of events that everybody adds to. Each carries the class of the context that was current.
#[derive(Clone, Default)]
pub(crate) struct Trace(Arc<Mutex<Vec<String>>>);

impl Trace {
    pub(crate) fn new() -> Self {
        Self::default()
    }

    /// `what @ class`
    pub(crate) fn note(&self, what: impl Display) {
        let line = format!("{what} @ {}", Context::current().class());
        self.0.lock().unwrap_or_else(|broken| broken.into_inner()).push(line);
    }

    /// Notes `drop name` when it is dropped.
    pub(crate) fn on_drop(&self, name: &'static str) -> Noted {
        Noted { name, trace: self.clone() }
    }

    /// The events so far, and forgets them.
    pub(crate) fn take(&self) -> Vec<String> {
        std::mem::take(&mut *self.0.lock().unwrap())
    }

    /// These and no other events since the last call, in this order.
    #[track_caller]
    pub(crate) fn expect(&self, events: &[&str]) {
        assert_eq!(self.take(), events);
    }
}

/// See [`Trace::on_drop`].
pub(crate) struct Noted {
    name: &'static str,
    trace: Trace,
}

impl Drop for Noted {
    fn drop(&mut self) {
        self.trace.note(format_args!("drop {}", self.name));
    }
}

/// Waits for ever, with a waker at hand: what waits without one is an orphan, whenever a turn of the loop ends.
pub(crate) async fn wait_with_waker<T>() -> T {
    let mut kept = Vec::new();
    std::future::poll_fn(move |cx| {
        kept.truncate(0);
        kept.push(cx.waker().clone());
        std::task::Poll::Pending
    })
    .await
}

/// Panics, without the noise of a panic hook.
pub(crate) fn panic_quietly(text: &'static str) -> ! {
    std::panic::resume_unwind(Box::new(text))
}

/// Panics when dropped, but for a thread that panics already.
pub(crate) struct PanicOnDrop(pub(crate) &'static str);

impl Drop for PanicOnDrop {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            panic_quietly(self.0);
        }
    }
}
