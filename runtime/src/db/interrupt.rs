//! Work for nobody: what is known of one job of the pool by the code that awaits it, and by the thread that does it.
//!
//! Both look at one [`Watch`]. An interrupt concerns the attempt that runs, and nothing after it: it is asked for and
//! answered under the stage of this one job, and [`Watch::halt`] waits until a driver's own interrupt has returned before
//! the connection is used for anything else. So it never reaches the commit, the roll-back, or a later job.

use super::connection::Access;
use super::error::Error;
use crate::blocking::errand;
use crate::pool::Stop;
use context::{Cancelled, Context, ReportKind, harness};
use parking_lot::{Condvar, Mutex};
use std::fmt;
use std::panic::Location;
use std::sync::Arc;
use std::time::Duration;

/// Whether the read that runs on a connection is to stop; see [`Connection::watch`](super::Connection::watch).
///
/// It is, as soon as its future is dropped, its context is cancelled, the context's deadline passes or its CPU budget is
/// spent, or the pool loses patience when it closes.
#[derive(Clone)]
pub struct Interrupt(Arc<Watch>);

impl Interrupt {
    pub(super) fn new(watch: Arc<Watch>) -> Self {
        Self(watch)
    }

    /// Whether the read is to stop. False after its end, whatever happens then.
    ///
    /// For drivers that ask now and then while a statement runs; about 100 ns. Once it was true, the read fails, whatever the
    /// closure makes of it.
    pub fn is_requested(&self) -> bool {
        self.0.is_requested()
    }

    /// Calls `f` when the read is to stop, from whatever thread; at once, if that is so already; never after its end. The
    /// read fails then, whatever the closure makes of it.
    ///
    /// For drivers whose statements are interrupted by a handle. The end of the read waits for `f`, which must not wait for
    /// anything itself. Of several the last one counts. A CPU budget is noticed only by those who ask.
    pub fn on_request(&self, f: impl FnOnce() + Send + 'static) {
        self.0.on_request(Box::new(f));
    }
}

impl fmt::Debug for Interrupt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Interrupt").field("stage", &self.0.state.lock().stage).finish_non_exhaustive()
    }
}

/// Why a job is not begun, or stops.
#[derive(Clone, Copy, Debug)]
pub(super) enum Cause {
    /// Nobody awaits it any more.
    Dropped,
    Cancelled(Cancelled),
    /// It waited for that long.
    Expired(Duration),
    /// The pool closes, and its patience has ended.
    Closed,
}

impl Cause {
    pub(super) fn into_error<E>(self) -> Error<E> {
        match self {
            Self::Dropped | Self::Closed => Error::Interrupted,
            Self::Cancelled(cancelled) => Error::Cancelled(cancelled),
            Self::Expired(age) => Error::QueueTimeout(age),
        }
    }
}

type Callback = Box<dyn FnOnce() + Send>;

/// One job, from its sending to its end.
pub(super) struct Watch {
    pub(super) access: Access,
    /// It is not begun if its context is cancelled while it waits.
    pub(super) heeds: bool,
    state: Mutex<State>,
    callback_returned: Condvar,
}

struct State {
    stage: Stage,
    /// Until the end: what is kept of a job afterwards pins no context.
    context: Option<Context>,
    /// Why it is to stop; the first reason counts.
    cause: Option<Cause>,
    /// The driver knows: what the attempt returns is not to be trusted.
    told: bool,
    on_request: Option<Callback>,
    /// `on_request` runs, on some thread.
    calling: bool,
    on_error: Vec<Callback>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    /// It waits for a connection, or between two attempts.
    Waiting,
    /// An attempt of a read runs, and can be interrupted.
    Reading,
    Committed,
    Failed,
}

impl Watch {
    pub(super) fn new(access: Access, context: Context) -> Arc<Self> {
        let heeds = errand::cancelled(&context).is_none();
        let state = State {
            stage: Stage::Waiting,
            context: Some(context),
            cause: None,
            told: false,
            on_request: None,
            calling: false,
            on_error: Vec::new(),
        };
        Arc::new(Self { access, heeds, state: Mutex::new(state), callback_returned: Condvar::new() })
    }

    /// Its context, until the job has ended.
    pub(super) fn context(&self) -> Option<Context> {
        self.state.lock().context.clone()
    }

    /// Why the job, which waits, is not to be begun.
    pub(super) fn refusal(&self) -> Option<Cause> {
        let (cause, context) = {
            let state = self.state.lock();
            (state.cause, state.context.clone())
        };
        // Outside of the lock: a deadline that is noticed here wakes others.
        let cancelled = || context.filter(|_| self.heeds).and_then(|context| errand::cancelled(&context));
        cause.or_else(|| cancelled().map(Cause::Cancelled))
    }

    /// An attempt of a read begins: from here on it can be interrupted.
    pub(super) fn begin_reading(&self) {
        let mut state = self.state.lock();
        state.stage = Stage::Reading;
        state.told = false;
    }

    /// The attempt has ended, before its commit or roll-back. Why it was told to stop, if it was.
    pub(super) fn halt(&self) -> Option<Cause> {
        let mut state = self.state.lock();
        while state.calling {
            self.callback_returned.wait(&mut state);
        }
        if state.stage == Stage::Reading {
            state.stage = Stage::Waiting;
        }
        let callback = state.on_request.take();
        let cause = state.cause.filter(|_| state.told);
        drop(state);
        drop(callback);
        cause
    }

    /// The job is to stop, or not to be begun. The first reason counts.
    pub(super) fn request(&self, cause: Cause) {
        let mut state = self.state.lock();
        state.cause.get_or_insert(cause);
        self.call_if_due(state);
    }

    fn on_request(&self, f: Callback) {
        let mut state = self.state.lock();
        if state.stage != Stage::Reading {
            drop(state);
            return drop(f);
        }
        let before = state.on_request.replace(f);
        self.call_if_due(state);
        drop(before);
    }

    /// Calls the driver, outside of the lock, while `calling` keeps the job from going on.
    fn call_if_due(&self, mut state: parking_lot::MutexGuard<'_, State>) {
        if state.stage != Stage::Reading || state.cause.is_none() {
            return;
        }
        let Some(callback) = state.on_request.take() else { return };
        (state.told, state.calling) = (true, true);
        drop(state);
        let _returned = Returned(self);
        callback();
    }

    fn is_requested(&self) -> bool {
        let context = {
            let mut state = self.state.lock();
            if state.stage != Stage::Reading {
                return false;
            }
            if state.cause.is_some() {
                state.told = true;
                return true;
            }
            state.context.clone()
        };
        let Some(cancelled) = context.and_then(|context| errand::cancelled(&context)) else { return false };
        let mut state = self.state.lock();
        state.cause.get_or_insert(Cause::Cancelled(cancelled));
        state.told = true;
        true
    }

    /// Calls `f` if the job ends without a commit; at once, if it has.
    pub(super) fn call_on_error(&self, f: Callback) {
        let mut state = self.state.lock();
        match state.stage {
            Stage::Waiting | Stage::Reading => state.on_error.push(f),
            Stage::Committed => {
                drop(state);
                drop(f);
            }
            Stage::Failed => {
                drop(state);
                f();
            }
        }
    }

    /// The job has ended. What is to be called now.
    fn end(&self, is_committed: bool) -> Vec<Callback> {
        let mut state = self.state.lock();
        if matches!(state.stage, Stage::Committed | Stage::Failed) {
            return Vec::new();
        }
        state.stage = if is_committed { Stage::Committed } else { Stage::Failed };
        let context = state.context.take();
        let callbacks = std::mem::take(&mut state.on_error);
        drop(state);
        drop(context);
        if is_committed { Vec::new() } else { callbacks }
    }
}

impl Stop for Watch {
    fn stop(&self) {
        self.request(Cause::Closed);
    }
}

/// The driver's interrupt has returned, or panicked.
struct Returned<'a>(&'a Watch);

impl Drop for Returned<'_> {
    fn drop(&mut self) {
        self.0.state.lock().calling = false;
        self.0.callback_returned.notify_all();
    }
}

/// Goes with the job. Dropped before [`ended`](Self::ended), it was never begun, or has panicked.
pub(super) struct Course {
    pub(super) watch: Arc<Watch>,
    pub(super) place: &'static Location<'static>,
}

impl Course {
    /// Calls what was to be called then; once, whatever is called later.
    pub(super) fn ended(&self, is_committed: bool) {
        self.watch.end(is_committed).into_iter().for_each(|callback| contained(callback, self.place));
    }
}

impl Drop for Course {
    fn drop(&mut self) {
        self.ended(false);
    }
}

/// Calls a callback of the user's, in the context that is current; its panic is reported.
pub(super) fn contained(callback: impl FnOnce(), place: &'static Location<'static>) {
    harness::contain_panic(callback, |text| {
        context::sentinel::report(ReportKind::UnhandledPanic, &Context::current(), place, text);
    });
}
