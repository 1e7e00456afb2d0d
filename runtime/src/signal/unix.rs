//! Signals as Unix has them.
//!
//! The handlers are `signal-hook`'s: any number of listeners, in any number of runtimes and threads, and beside other users
//! of that crate. Each listener has a socket pair, into which the handler writes a byte.

use std::fmt;
use std::future::poll_fn;
use std::io::{self, Read};
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::task::{Context, Poll, ready};

use mio::Interest;
use signal_hook::SigId;
use signal_hook::low_level::{pipe, unregister};
use signal_hook::{consts, flag};

use crate::reactor::{Direction, Initially};
use crate::registered::Registered;

/// A signal, by its number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct SignalKind(i32);

impl SignalKind {
    /// Any signal, for those which have no name here.
    pub const fn from_raw(number: i32) -> Self {
        Self(number)
    }

    /// Its number.
    pub const fn as_raw_value(&self) -> i32 {
        self.0
    }

    /// `SIGALRM`: a timer of the system has run down.
    pub const fn alarm() -> Self {
        Self(consts::SIGALRM)
    }

    /// `SIGCHLD`: a child process has changed its state.
    pub const fn child() -> Self {
        Self(consts::SIGCHLD)
    }

    /// `SIGHUP`: the terminal is gone. Daemons take it for "read your configuration again".
    pub const fn hangup() -> Self {
        Self(consts::SIGHUP)
    }

    /// `SIGINT`: Ctrl-C.
    pub const fn interrupt() -> Self {
        Self(consts::SIGINT)
    }

    /// `SIGIO`: a descriptor is ready.
    pub const fn io() -> Self {
        Self(consts::SIGIO)
    }

    /// `SIGPIPE`: nobody reads what was written. Rust ignores it from the start.
    pub const fn pipe() -> Self {
        Self(consts::SIGPIPE)
    }

    /// `SIGQUIT`: Ctrl-\.
    pub const fn quit() -> Self {
        Self(consts::SIGQUIT)
    }

    /// `SIGTERM`: the request to end.
    pub const fn terminate() -> Self {
        Self(consts::SIGTERM)
    }

    /// `SIGUSR1`.
    pub const fn user_defined1() -> Self {
        Self(consts::SIGUSR1)
    }

    /// `SIGUSR2`.
    pub const fn user_defined2() -> Self {
        Self(consts::SIGUSR2)
    }

    /// `SIGWINCH`: the terminal has another size.
    pub const fn window_change() -> Self {
        Self(consts::SIGWINCH)
    }
}

/// Listens for a signal, from now on, for the runtime of this thread.
///
/// The first listener installs a handler, which stays for the life of the process: the signal's default action (mostly: to
/// end the process) does not come back when the last listener is dropped.
///
/// ```no_run
/// use runtime::signal::unix::{SignalKind, signal};
///
/// # fn main() -> std::io::Result<()> {
/// # runtime::Runtime::new()?.block_on(async {
/// let mut hangup = signal(SignalKind::hangup())?;
/// while hangup.recv().await.is_some() {
///     println!("reading the configuration again");
/// }
/// # Ok(())
/// # })
/// # }
/// ```
///
/// # Errors
///
/// - `InvalidInput` for a signal that cannot be listened for: `SIGKILL`, `SIGSTOP`, `SIGILL`, `SIGFPE`, `SIGSEGV`;
/// - what the system says of the number, or of the limit of open files (two are needed for each listener);
/// - if no runtime runs on this thread.
pub fn signal(kind: SignalKind) -> io::Result<Signal> {
    let signal = listen(kind)?;
    super::end::leave_to_program(kind);
    Ok(signal)
}

/// [`signal`] for this crate's own use: `#[runtime::main]` goes on to end the program if it comes.
fn listen(kind: SignalKind) -> io::Result<Signal> {
    if consts::FORBIDDEN.contains(&kind.0) {
        let message = format!("signal {} cannot be listened for", kind.0);
        return Err(io::Error::new(io::ErrorKind::InvalidInput, message));
    }
    let (bytes, write) = pair()?;
    let handler = Handler(pipe::register(kind.0, write)?);
    Ok(Signal { _handler: handler, bytes, kind })
}

fn pair() -> io::Result<(Bytes, UnixStream)> {
    let (read, write) = UnixStream::pair()?;
    read.set_nonblocking(true)?;
    let read = mio::net::UnixStream::from_std(read);
    let bytes = Registered::new(read, Interest::READABLE, Initially::Unknown, "a signal listener")?;
    Ok((bytes, write))
}

type Bytes = Registered<mio::net::UnixStream>;

fn poll_bytes(bytes: &mut Bytes, cx: &mut Context<'_>) -> Poll<()> {
    // One byte a signal; more than these at once are told in several portions.
    let mut buffer = [0; 64];
    let read = bytes.poll_transfer(Direction::Read, buffer.len(), cx, |mut source| source.read(&mut buffer));
    read.map(|read| match read {
        Ok(_) => {}
        // The pair is ours alone, so nothing else goes wrong with it.
        Err(error) => panic!("{error}"),
    })
}

/// Listens for several signals at the price of one.
pub(super) struct Signals {
    kinds: &'static [SignalKind],
    /// Which of them have come; the byte says that one has.
    came: Vec<Arc<AtomicBool>>,
    _handlers: Vec<Handler>,
    bytes: Bytes,
}

impl Signals {
    pub(super) fn listen(kinds: &'static [SignalKind]) -> io::Result<Self> {
        let (bytes, write) = pair()?;
        let (mut came, mut handlers) = (Vec::new(), Vec::new());
        for kind in kinds {
            let flag = Arc::new(AtomicBool::new(false));
            // In this order: it is set when the byte is there.
            handlers.push(Handler(flag::register(kind.0, flag.clone())?));
            handlers.push(Handler(pipe::register(kind.0, write.try_clone()?)?));
            came.push(flag);
        }
        Ok(Self { kinds, came, _handlers: handlers, bytes })
    }

    /// Ready with a signal that has come, by its place in the list.
    pub(super) fn poll_recv(&mut self, cx: &mut Context<'_>) -> Poll<(usize, SignalKind)> {
        loop {
            // Before the bytes: one of them may stand for several signals.
            if let Some(at) = self.came.iter().position(|came| came.swap(false, Relaxed)) {
                return Poll::Ready((at, self.kinds[at]));
            }
            ready!(poll_bytes(&mut self.bytes, cx));
        }
    }
}

/// Listens for a signal; made by [`signal`].
///
/// Signals that come while nobody awaits them are kept, but not counted: after one or after many, [`recv`](Self::recv)
/// returns once. Every listener sees every signal.
#[must_use = "dropping it ends the listening"]
pub struct Signal {
    _handler: Handler,
    bytes: Bytes,
    kind: SignalKind,
}

impl Signal {
    /// Waits for the next signal. Always `Some`, so that it fits in a `while let`. Dropping the future loses none.
    ///
    /// # Panics
    ///
    /// Away from the runtime it was made on.
    pub async fn recv(&mut self) -> Option<()> {
        poll_fn(|cx| self.poll_recv(cx)).await
    }

    /// [`recv`](Self::recv) for those who write futures by hand.
    ///
    /// # Panics
    ///
    /// Away from the runtime it was made on.
    pub fn poll_recv(&mut self, cx: &mut Context<'_>) -> Poll<Option<()>> {
        poll_bytes(&mut self.bytes, cx).map(Some)
    }
}

impl fmt::Debug for Signal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Signal").field("kind", &self.kind).finish_non_exhaustive()
    }
}

/// What the handler does for one listener; its end of the pair is closed with it.
struct Handler(SigId);

impl Drop for Handler {
    fn drop(&mut self) {
        unregister(self.0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Runtime, spawn, yield_now};
    use signal_hook::low_level::raise;
    use std::future::Future;
    use std::pin::pin;
    use std::sync::Barrier;

    // A signal reaches all listeners of the process, those of other tests too: each test has its own.

    fn run<F: Future>(future: F) -> F::Output {
        Runtime::new().unwrap().block_on(future)
    }

    fn send(kind: SignalKind) {
        raise(kind.as_raw_value()).unwrap();
    }

    async fn is_pending(signal: &mut Signal) -> bool {
        poll_fn(|cx| Poll::Ready(signal.poll_recv(cx).is_pending())).await
    }

    #[test]
    fn every_listener_sees_every_signal() {
        run(async {
            let kind = SignalKind::user_defined1();
            let (mut one, mut other) = (signal(kind).unwrap(), signal(kind).unwrap());
            let waiter = spawn(async move { one.recv().await });
            yield_now().await;
            send(kind);
            assert_eq!((waiter.await.unwrap(), other.recv().await), (Some(()), Some(())));
            // Kept while nobody waits, but not counted.
            for _ in 0..3 {
                send(kind);
            }
            assert_eq!(other.recv().await, Some(()));
            assert!(is_pending(&mut other).await);
            send(kind);
            assert_eq!(other.recv().await, Some(()));
        });
    }

    /// More than fit in the pair: none of it blocks the handler, and the next is heard again.
    #[test]
    fn a_flood_is_survived() {
        run(async {
            let kind = SignalKind::window_change();
            let mut listener = signal(kind).unwrap();
            for _ in 0..10_000 {
                send(kind);
            }
            while !is_pending(&mut listener).await {}
            send(kind);
            assert_eq!(listener.recv().await, Some(()));
        });
    }

    #[test]
    fn listeners_of_several_runtimes_and_threads_hear_it() {
        let kind = SignalKind::user_defined2();
        let listening = Barrier::new(3);
        std::thread::scope(|scope| {
            let listen = || {
                run(async {
                    let mut listener = signal(kind).unwrap();
                    listening.wait();
                    listener.recv().await
                })
            };
            let (one, other) = (scope.spawn(listen), scope.spawn(listen));
            listening.wait();
            send(kind);
            assert_eq!((one.join().unwrap(), other.join().unwrap()), (Some(()), Some(())));
        });
    }

    #[test]
    fn ctrl_c_is_heard_from_the_first_poll_on() {
        run(async {
            let mut waiting = pin!(super::super::ctrl_c());
            assert!(poll_fn(|cx| Poll::Ready(waiting.as_mut().poll(cx).is_pending())).await);
            send(SignalKind::interrupt());
            waiting.await.unwrap();
        });
    }

    #[test]
    fn a_dropped_listener_is_gone_and_the_process_stays() {
        let kind = SignalKind::hangup();
        run(async {
            let kept = signal(kind).unwrap();
            let sources = || crate::current::with(|core| core.unwrap().reactor.len());
            assert_eq!(sources(), 1);
            drop(kept);
            assert_eq!(sources(), 0);
        });
        // No listener is left, and the default action would end the process.
        send(kind);
    }

    #[test]
    fn what_cannot_be_listened_for_is_an_error() {
        run(async {
            for number in consts::FORBIDDEN {
                let error = signal(SignalKind::from_raw(*number)).unwrap_err();
                assert_eq!(error.kind(), io::ErrorKind::InvalidInput);
            }
            assert!(signal(SignalKind::from_raw(12_345)).is_err());
        });
        assert!(signal(SignalKind::pipe()).is_err(), "there is no runtime");
    }
}
