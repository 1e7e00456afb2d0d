//! The signals that ask a process to end: `SIGINT`, `SIGTERM` and `SIGHUP`. The first one is heard, a second one ends the process
//! at once.

use super::unix::{SignalKind, Signals};
use parking_lot::Mutex;
use signal_hook::{SigId, flag, low_level};
use std::fmt;
use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, LazyLock};
use std::task::{Context, Poll, ready};

static KINDS: [SignalKind; 3] = [SignalKind::interrupt(), SignalKind::terminate(), SignalKind::hangup()];

/// One of these signals has come, and asked the process to end. Set by the handlers themselves: it is seen although the loop is stuck.
static ASKED: LazyLock<Arc<AtomicBool>> = LazyLock::new(Arc::default);

static HANDLERS: Mutex<Handlers> =
    Mutex::new(Handlers { installed: false, setters: [None; 3], listened: [false; 3] });

struct Handlers {
    /// A signal ends the process if [`ASKED`] is set.
    installed: bool,
    /// What sets [`ASKED`], for each of [`KINDS`].
    setters: [Option<SigId>; 3],
    /// The program has, or had, a listener of its own, for each of [`KINDS`].
    listened: [bool; 3],
}

impl Handlers {
    /// From now on a second one of these signals ends the process.
    fn install(&mut self) -> io::Result<()> {
        for (kind, setter) in KINDS.iter().zip(&mut self.setters) {
            let number = kind.as_raw_value();
            if !self.installed {
                // Before what sets the flag: the handlers of a signal are called in the order of their registration.
                flag::register_conditional_shutdown(number, 128 + number, ASKED.clone())?;
            }
            if setter.is_none() {
                *setter = Some(flag::register(number, ASKED.clone())?);
            }
        }
        self.installed = true;
        Ok(())
    }
}

/// The program listens for `kind` in its own way: such a signal need not be a request to end.
pub(super) fn leave_to_program(kind: SignalKind) {
    let Some(at) = KINDS.iter().position(|known| *known == kind) else { return };
    let mut handlers = HANDLERS.lock();
    handlers.listened[at] = true;
    if let Some(setter) = handlers.setters[at].take() {
        low_level::unregister(setter);
    }
}

/// Whether one of these signals has asked the process to end.
pub(crate) fn was_asked() -> bool {
    ASKED.load(Relaxed)
}

/// Waits for the request to end the process: `SIGINT` (Ctrl-C), `SIGTERM` or `SIGHUP`, whichever comes first. It counts from
/// the call, not from the first poll, so make it the first thing that `main` does.
///
/// The first of these signals is heard here. A second one ends the process at once, with the status 128 + its number, also
/// while a task holds the thread: so an operator whose patience is over need not send `SIGKILL`. That holds from the first
/// call on, for the life of the process.
///
/// ```no_run
/// # async fn start() {}
/// # async fn serve() {}
/// # fn main() -> std::io::Result<()> {
/// # runtime::Runtime::new()?.block_on(async {
/// let ended = runtime::signal::terminate();
/// start().await;
/// let signal = ended.await?;
/// println!("ending in order after signal {}", signal.as_raw_value());
/// # Ok(())
/// # })
/// # }
/// ```
///
/// # Errors
///
/// Once awaited: when the process was out of file descriptors, and if no runtime runs on this thread.
pub fn terminate() -> Terminate {
    let listening = || {
        let mut handlers = HANDLERS.lock();
        handlers.install()?;
        handlers.listened = [true; 3];
        drop(handlers);
        Signals::listen(&KINDS)
    };
    Terminate { signals: listening() }
}

/// Waits for the request to end; made by [`terminate`].
#[must_use = "futures do nothing unless polled"]
pub struct Terminate {
    signals: io::Result<Signals>,
}

impl Future for Terminate {
    type Output = io::Result<SignalKind>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        match &mut self.signals {
            Ok(signals) => signals.poll_recv(cx).map(|(_, kind)| Ok(kind)),
            Err(error) => Poll::Ready(Err(io::Error::new(error.kind(), error.to_string()))),
        }
    }
}

impl fmt::Debug for Terminate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Terminate").finish_non_exhaustive()
    }
}

/// The requests to end that the program does not listen for: what `#[runtime::main]` acts on.
pub(crate) struct Unheard(Signals);

impl Unheard {
    /// Listens from now on, for the runtime of this thread.
    pub(crate) fn listen() -> io::Result<Self> {
        HANDLERS.lock().install()?;
        Ok(Self(Signals::listen(&KINDS)?))
    }

    /// Ready with the first signal for which the program has made no listener by then.
    pub(crate) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<SignalKind> {
        loop {
            let (at, kind) = ready!(self.0.poll_recv(cx));
            if !HANDLERS.lock().listened[at] {
                return Poll::Ready(kind);
            }
        }
    }
}
