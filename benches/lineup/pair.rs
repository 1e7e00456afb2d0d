//! Bursar and tokio, quick to compile.

use crate::case::{Case, Contender, Row, row};
use crate::peer::{Bursar, Peer, Tokio};
use crate::wrap::{InContext, Wrap};

pub(crate) fn executors<C, O>() -> Row<O>
where
    C: Case<Bursar, O> + Case<Tokio, O>,
{
    row(<C as Case<Bursar, O>>::NAME, vec![peer::<C, Bursar, O>(), peer::<C, Tokio, O>()])
}

pub(crate) use executors as counted_networks;
pub(crate) use executors as counted_servers;
pub(crate) use executors as networks;
pub(crate) use executors as servers;
pub(crate) use executors as timers;

pub(crate) fn wraps<C, O>() -> Row<O>
where
    C: Case<InContext, O>,
{
    row(C::NAME, vec![wrap::<C, InContext, O>()])
}

pub(crate) fn bursar_alone<C, O>() -> Row<O>
where
    C: Case<Bursar, O>,
{
    row(C::NAME, vec![peer::<C, Bursar, O>()])
}

fn peer<C: Case<P, O>, P: Peer, O>() -> Contender<O> {
    Contender { peer: P::NAME, unavailable: P::unavailable, run: C::run }
}

fn wrap<C: Case<W, O>, W: Wrap, O>() -> Contender<O> {
    Contender { peer: W::NAME, unavailable: W::Host::unavailable, run: C::run }
}
