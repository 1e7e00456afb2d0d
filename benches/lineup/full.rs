//! Everybody, each in the rows of what it has.

use crate::case::{Case, Contender, Row, row};
use crate::peer::{
    AxumOn, Bursar, Compio, Glommio, LocalPool, LocalRuntime, LocalSet, Monoio, Peer, Smol, Tokio,
};
use crate::wrap::{
    FastraceSpan, InContext, OtelContext, TaskLocal, ThreadClock, TokioWith, TracingSpan, Wrap,
};

/// `lineup!(name, who: Trait, ..)`: a function that puts a case into a row with all these.
macro_rules! lineup {
    ($(#[$doc:meta])* $name:ident, $contender:ident, $($who:ty),+ $(,)?) => {
        $(#[$doc])*
        pub(crate) fn $name<C, O>() -> Row<O>
        where
            $(C: Case<$who, O>),+
        {
            let contenders: Vec<(&'static str, Contender<O>)> =
                vec![$((<C as Case<$who, O>>::NAME, $contender::<C, $who, O>())),+];
            row(contenders[0].0, contenders.into_iter().map(|(_, contender)| contender).collect())
        }
    };
}

lineup!(
    /// All that run tasks.
    executors, peer,
    Bursar, Tokio, LocalRuntime, LocalSet, Smol, Monoio, Compio, Glommio, LocalPool,
    TokioWith<TracingSpan>, TokioWith<ThreadClock>, TokioWith<FastraceSpan>, TokioWith<InContext>,
);
lineup!(
    /// All that have timers.
    timers, peer,
    Bursar, Tokio, LocalRuntime, LocalSet, Smol, Monoio, Compio, Glommio,
);
lineup!(
    /// All that have sockets.
    networks, peer,
    Bursar, Tokio, LocalRuntime, LocalSet, Smol, Monoio, Compio, Glommio,
    TokioWith<TracingSpan>, TokioWith<ThreadClock>, TokioWith<FastraceSpan>,
);
lineup!(
    /// All that hyper runs on, and axum on top of it.
    servers,
    peer,
    Bursar,
    Tokio,
    LocalRuntime,
    LocalSet,
    Smol,
    Monoio,
    Compio,
    Glommio,
    TokioWith<TracingSpan>,
    TokioWith<ThreadClock>,
    TokioWith<FastraceSpan>,
    AxumOn<Bursar>,
    AxumOn<Tokio>,
);
lineup!(
    /// Those whose sockets wait before they read: who tries first falls out of lock step.
    counted_networks, peer,
    Bursar, Tokio,
);
lineup!(
    /// The same with hyper, and axum on top of it.
    counted_servers, peer,
    Bursar, Tokio, AxumOn<Bursar>, AxumOn<Tokio>,
);
lineup!(
    /// All that follow work through polls.
    wraps, wrap,
    InContext, TracingSpan, FastraceSpan, OtelContext, TaskLocal, ThreadClock,
);
lineup!(
    /// What nobody else has.
    bursar_alone, peer,
    Bursar,
);

fn peer<C: Case<P, O>, P: Peer, O>() -> Contender<O> {
    Contender { peer: P::NAME, unavailable: P::unavailable, run: C::run }
}

fn wrap<C: Case<W, O>, W: Wrap, O>() -> Contender<O> {
    Contender { peer: W::NAME, unavailable: W::Host::unavailable, run: C::run }
}
