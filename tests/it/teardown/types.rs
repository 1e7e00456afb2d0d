//! What may go to another thread, or be shared with it, and what may not: of every public type, checked by the compiler.

use crate::house::tree::TEXTS;
use std::fmt::Error;
use std::rc::Rc;

/// Compiles only if the type is none of that: else there are two candidates for `some`.
macro_rules! is_not {
    ($type:ty: $trait:ident) => {
        const _: fn() = || {
            trait Ambiguous<A> {
                fn some() {}
            }
            impl<T: ?Sized> Ambiguous<()> for T {}
            struct Is;
            impl<T: ?Sized + $trait> Ambiguous<Is> for T {}
            let _ = <$type as Ambiguous<_>>::some;
        };
    };
}

macro_rules! is {
    ($type:ty: $trait:ident) => {
        const _: fn() = || {
            fn is<T: ?Sized + $trait>() {}
            is::<$type>();
        };
    };
}

macro_rules! send_and_sync { ($($type:ty),* $(,)?) => { $(is!($type: Send); is!($type: Sync);)* } }
macro_rules! send_only { ($($type:ty),* $(,)?) => { $(is!($type: Send); is_not!($type: Sync);)* } }
macro_rules! neither { ($($type:ty),* $(,)?) => { $(is_not!($type: Send); is_not!($type: Sync);)* } }

/// A future that may go anywhere, and one that may not.
type Free = std::future::Ready<u8>;
type Bound = std::future::Ready<Rc<u8>>;

mod of_context {
    use super::*;
    use context::bridges::{ContextLogger, TracingSpans};
    use context::db::Transaction;
    use context::harness::{JobTimer, LoopGuard, Observing, Share};
    use context::sentinel::Listening;
    use context::*;

    send_and_sync!(
        Accounts,
        BlockingUsage,
        Builder,
        Cancelled,
        CancelledUsage,
        ClassUsage,
        Clock,
        Context,
        ContextLogger<u8>,
        DbUsage,
        Hold,
        Id,
        Inherit,
        Key<Rc<u8>>,
        Listening,
        Name,
        Reason,
        Report,
        ReportKind,
        Rung,
        Snapshot,
        TracingSpans,
        Transaction,
        Usage,
        dyn Hooks,
    );
    // Tied to the slot of their thread.
    neither!(Entered, JobTimer, LoopGuard, Observing, Share);
    // A wait has the timer of its runtime in it, a boxed future which nobody but its owner polls.
    send_only!(Cancellable<Free>, WaitCancelled);
    // As their futures.
    send_and_sync!(DbTransaction<Free>, InContext<Free>, Run<Free>);
    neither!(Cancellable<Bound>, DbTransaction<Bound>, InContext<Bound>, Run<Bound>);
}

mod of_runtime {
    use super::*;
    use ::runtime::*;

    send_and_sync!(Handle, JoinError, Straggler, TaskId, YieldNow);
    // A number, not a pointer, as long as what the task has made may go there.
    send_and_sync!(JoinHandle<u8>, Shield<u8>, Detached<u8, u8>);
    // Its listeners and hooks may go anywhere; a runtime belongs to its thread.
    send_and_sync!(Builder);
    neither!(Runtime);
    send_and_sync!(TaskGroup<u8, u8>);
    // As the future in it.
    send_and_sync!(Cooperative<u8>);
    neither!(Cooperative<Rc<u8>>);
    neither!(JoinHandle<Rc<u8>>, Shield<Rc<u8>>, Detached<Rc<u8>, u8>, TaskGroup<Rc<u8>, u8>);
}

mod of_db {
    use super::*;
    use runtime::db::*;

    type None = runtime::db::Transaction<'static, Nothing>;

    /// A driver whose connections stay on their thread.
    #[derive(Debug)]
    struct Nothing(#[expect(dead_code, reason = "not `Send`")] Rc<u8>);

    impl Connection for Nothing {
        type Error = Error;
        type Transaction<'a> = &'a mut Nothing;

        fn begin(&mut self, _: Access) -> Result<&mut Nothing, Error> {
            Ok(self)
        }
        fn commit(_: &mut Nothing) -> Result<(), Error> {
            Ok(())
        }
        fn roll_back(_: &mut Nothing) -> Result<(), Error> {
            Ok(())
        }
        fn is_retryable(_: &Error) -> bool {
            false
        }
        fn is_clean(&mut self) -> bool {
            true
        }
        fn close(self) -> Result<(), Error> {
            Ok(())
        }
    }

    send_and_sync!(Access, Builder<Nothing>, Pool<Nothing>, runtime::db::Error<u8>, Interrupt);
    // Its timer, like that of a wait.
    send_only!(Interaction<u8, u8>);
    neither!(None);
    use super::Error;
}

mod of_net {
    use runtime::net::*;

    send_and_sync!(
        TcpListener,
        TcpStream,
        UdpSocket,
        UnixDatagram,
        UnixListener,
        UnixStream,
        OwnedReadHalf<TcpStream>,
        OwnedWriteHalf<TcpStream>,
        ReadHalf<'static, TcpStream>,
        WriteHalf<'static, TcpStream>,
        ReuniteError<TcpStream>,
    );
}

mod of_time {
    use super::*;
    use runtime::time::*;

    send_and_sync!(Elapsed, Instant, Interval, MissedTickBehavior, Sleep, Timeout<Free>);
    neither!(Timeout<Bound>);
}

mod of_sync {
    use runtime::sync::*;

    send_and_sync!(
        AddError<u8>,
        AwakenableSleep<u8>,
        BackgroundQueue<u8>,
        CacheBuilder,
        CacheStats,
        Claim,
        ExpiringCache<u8, u8>,
        FlightError,
        KeyGuard<u8>,
        Linearizer<u8>,
        LockStats,
        Nap<u8>,
        ReadWriteLock<u8>,
        SingleFlight<u8, u8>,
        Turn<u8>,
        Woken,
    );
}

mod of_http {
    use super::Free;
    use runtime::http::*;

    send_and_sync!(
        Body,
        BodyError,
        ContextLayer,
        ContextService<u8>,
        Counts,
        Executor,
        Outcome,
        Peer,
        Readiness,
        RequestLine,
        ResponseBody<u8>,
        Stats,
        Timer,
    );
    // It may have the payload of a panic in it.
    send_only!(ResponseFuture<Free>);
    // The signal that ends it may be of its thread.
    neither!(Serve<u8, u8>);
}

mod of_testing {
    use runtime::testing::*;

    send_and_sync!(Options);
}

/// The names of types that a file makes public again.
fn reexported(file: &str) -> Vec<&str> {
    let uses = file.lines().map(str::trim).filter(|line| line.starts_with("pub use "));
    let names = uses.flat_map(|line| line.split(|c: char| !c.is_alphanumeric() && c != '_'));
    names
        .filter(|name| name.starts_with(|c: char| c.is_uppercase()) && name.contains(char::is_lowercase))
        .collect()
}

fn text(path: &str) -> &'static str {
    let file = TEXTS.iter().find(|file| file.path == path);
    &file.unwrap_or_else(|| panic!("{path} is missing")).text
}

/// So that a new type is added above.
#[test]
fn every_public_type_is_in_the_list() {
    let list = text("tests/it/teardown/types.rs");
    // Traits, which are no types; and what is `std`'s.
    const ELSEWHERE: [&str; 8] =
        ["Connection", "Duration", "FutureExt", "Listener", "TimeSource", "Timer", "ToSocketAddrs", "Alarm"];
    for file in [
        "context/src/lib.rs",
        "context/src/harness.rs",
        "runtime/src/lib.rs",
        "runtime/src/db/mod.rs",
        "runtime/src/http/mod.rs",
        "runtime/src/net/mod.rs",
        "runtime/src/sync/mod.rs",
        "runtime/src/time/mod.rs",
    ] {
        for name in reexported(text(file)) {
            let is_there = list.split(|c: char| !c.is_alphanumeric()).any(|word| word == name);
            assert!(is_there || ELSEWHERE.contains(&name), "{file}: `{name}`");
        }
    }
}
