//! Shared work: whoever asks for what is being fetched already waits for that.

mod flight;
mod payer;

use super::caught::caught;
use super::line::Claim;
use super::poll_leaf;
use crate::spawn;
use context::Context;
use context::harness::Share;
pub use flight::FlightError;
use flight::{Flight, Landing, Seat};
use parking_lot::Mutex;
use payer::Paid;
use std::borrow::Borrow;
use std::collections::HashMap;
use std::fmt;
use std::future::Future;
use std::hash::Hash;
use std::panic::Location;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{self, Poll};

/// Runs at most one piece of work for a key at a time; all who ask meanwhile get its result.
///
/// ```
/// # fn main() -> std::io::Result<()> {
/// # runtime::Runtime::new()?.block_on(async {
/// use runtime::sync::{FlightError, SingleFlight};
///
/// let users: SingleFlight<u64, String> = SingleFlight::new("load user");
/// let ask = || {
///     let users = users.clone();
///     runtime::spawn(async move { users.run(17, || async { "ann".to_owned() }).await })
/// };
/// let (one, two) = (ask(), ask());
/// assert_eq!(one.await.unwrap(), Ok("ann".to_owned()));
/// assert_eq!(two.await.unwrap(), Ok("ann".to_owned()));
/// # });
/// # Ok(())
/// # }
/// ```
///
/// `T` is cloned for each waiter; for work that may fail it is a `Result`, whose error is `Clone`, and everyone gets
/// it: `users.run(17, || load(17)).await??`. Nothing is kept when the work is done; see
/// [`ExpiringCache`](super::ExpiringCache) for that.
///
/// # Whose work is it?
///
/// It is nobody's but its own: a task in a root context of the flight's class, with the name of who began it as the
/// field `initiator`. So its cost shows where it arises, and neither the end nor the cancellation of a waiter reaches
/// it (P14). Waiters are charged for their waiting, that is, for nothing.
///
/// With [`charge_to_initiator`](Self::charge_to_initiator) whoever came first pays for all: the work runs *in the
/// initiator's context* while that is open. When it finishes, or is cancelled, before the work is done, the work goes
/// on in the root context of its own (it could not go on there: it would be late), and what it spends from then on is
/// charged there. `Context::current()` within the work is the payer. Therefore such work must not ask for the
/// cancellation of its current context (`cancellable`): it would hear of the initiator's, and so would all waiters.
/// Work that asks belongs in its own class, the default.
///
/// # When a waiter goes away
///
/// Dropping a waiter takes away its place, nothing else. The work goes on though nobody waits any more, and its result
/// is dropped; with [`stop_when_unwanted`](Self::stop_when_unwanted) it is stopped instead. A panic that nobody hears
/// of is reported as [`UnhandledPanic`](context::ReportKind::UnhandledPanic); an `Err` that nobody hears of is not,
/// since `T` may be anything.
///
/// # Absent
///
/// Work that waits for its own key waits for ever; this is not detected.
pub struct SingleFlight<K, T> {
    class: Arc<str>,
    payer: Payer,
    unwanted: Unwanted,
    flights: Arc<Flights<K, T>>,
}

/// Lock order: the map, then a flight's own state.
type Flights<K, T> = Mutex<HashMap<K, Arc<Flight<T>>>>;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Payer {
    OwnClass,
    Initiator,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Unwanted {
    GoesOn,
    Stops,
}

impl<K, T> SingleFlight<K, T> {
    /// Flights whose work is of class `class`, goes on when nobody wants it any more, and pays for itself.
    pub fn new(class: impl Into<Arc<str>>) -> Self {
        Self {
            class: class.into(),
            payer: Payer::OwnClass,
            unwanted: Unwanted::GoesOn,
            flights: Arc::default(),
        }
    }

    /// The work is charged to the context that began it, while that is open. See [the type](Self).
    pub fn charge_to_initiator(mut self) -> Self {
        self.payer = Payer::Initiator;
        self
    }

    /// The work is dropped when its last waiter was.
    pub fn stop_when_unwanted(mut self) -> Self {
        self.unwanted = Unwanted::Stops;
        self
    }

    /// How many pieces of work are under way.
    pub fn flying(&self) -> usize {
        self.flights.lock().len()
    }
}

impl<K: Eq + Hash + Clone + 'static, T: Clone + 'static> SingleFlight<K, T> {
    /// Waits for the result of the work for `key`; begins it with `make` if there is none under way.
    ///
    /// Nothing happens before the first poll; the context that polls first is the initiator.
    ///
    /// # Errors
    ///
    /// If the work panicked, or was dropped: by [`cancel`](Self::cancel) or because its runtime ended.
    ///
    /// # Panics
    ///
    /// When polled with no runtime on this thread, if the work is to be begun.
    #[track_caller]
    pub fn run<M, F>(&self, key: K, make: M) -> impl Future<Output = Result<T, FlightError>> + use<K, T, M, F>
    where
        M: FnOnce() -> F + 'static,
        F: Future<Output = T> + 'static,
    {
        self.run_on_course(key, |_| make(), Location::caller())
    }

    /// Stops the work for `key`: its waiters get an error. Whether there was any.
    pub fn cancel<Q: Eq + Hash + ?Sized>(&self, key: &Q) -> bool
    where
        K: Borrow<Q>,
    {
        let flight = self.flights.lock().remove_entry(key);
        if let Some((_, flight)) = &flight {
            flight.abort();
        }
        flight.is_some()
    }

    /// Who asks for `key` from now on does not get the result of the work that is under way, but begins anew. Those
    /// who wait already get it. For when the result is known to be out of date. Whether there was any.
    pub fn forget<Q: Eq + Hash + ?Sized>(&self, key: &Q) -> bool
    where
        K: Borrow<Q>,
    {
        self.take_off_map(key).is_some()
    }

    /// What was on the map, to be dropped where destructors may run.
    pub(super) fn take_off_map<Q: Eq + Hash + ?Sized>(&self, key: &Q) -> Option<impl Sized + use<K, T, Q>>
    where
        K: Borrow<Q>,
    {
        self.flights.lock().remove_entry(key)
    }

    /// The same of all keys.
    pub(super) fn clear_map(&self) -> impl Sized + use<K, T> {
        std::mem::take(&mut *self.flights.lock())
    }

    /// Who began the work for `key`, where, and when.
    pub fn initiator<Q: Eq + Hash + ?Sized>(&self, key: &Q) -> Option<Claim>
    where
        K: Borrow<Q>,
    {
        self.flights.lock().get(key).map(|flight| flight.initiator)
    }

    /// [`run`](Self::run), for work that keeps its result: it is told whether that is still wanted.
    pub(super) fn run_on_course<M, F>(
        &self,
        key: K,
        make: M,
        place: &'static Location<'static>,
    ) -> Flying<K, T, M>
    where
        M: FnOnce(Course<K, T>) -> F + 'static,
        F: Future<Output = T> + 'static,
    {
        Flying { flights: self.clone(), place, stage: Stage::Ground(key, make) }
    }

    /// A seat in the flight for `key`, and whether that is to take off now.
    fn board(&self, key: K, place: &'static Location<'static>) -> (Seat<K, T>, bool) {
        let (mut entry, fresh) = (Some(key.clone()), Arc::new(Flight::new(Claim::here(place))));
        let mut flights = self.flights.lock();
        let flight = flights.get(&key).cloned();
        let is_new = flight.is_none();
        if is_new {
            flights.extend(entry.take().map(|key| (key, fresh.clone())));
        }
        let flight = flight.unwrap_or(fresh);
        let ticket = flight.board();
        drop(flights);
        (Seat::new(self.clone(), key, flight, ticket), is_new)
    }

    /// Begins the work: from here on its landing is certain.
    fn take_off<M, F>(&self, seat: &Seat<K, T>, make: M, place: &'static Location<'static>)
    where
        M: FnOnce(Course<K, T>) -> F + 'static,
        F: Future<Output = T> + 'static,
    {
        let landing = Landing::new(seat);
        let course = Course { flights: self.clone(), key: seat.key().clone(), flight: seat.flight().clone() };
        let initiator = Context::current();
        let own = Context::builder(&self.class)
            .field("initiator", initiator.to_string())
            .inherit_background(&initiator)
            .build();
        let payer = Some(initiator).filter(|_| self.payer == Payer::Initiator);
        let work = caught(Paid::new(async move { make(course).await }, payer));
        let task = async move {
            let result = work.await;
            landing.land(result.map_err(FlightError::panicked));
        };
        seat.flight().took_off(spawn::spawn_at(task, Share::of(&own), place));
    }

    /// Whether the flight is the one that those who ask for `key` now would wait for.
    fn is_current(&self, key: &K, flight: &Arc<Flight<T>>) -> bool {
        self.flights.lock().get(key).is_some_and(|current| Arc::ptr_eq(current, flight))
    }

    /// Takes the flight off the map, unless another one is there in its place.
    fn remove(&self, key: &K, flight: &Arc<Flight<T>>) {
        let mut flights = self.flights.lock();
        let is_there = flights.get(key).is_some_and(|there| Arc::ptr_eq(there, flight));
        let removed = if is_there { flights.remove_entry(key) } else { None };
        drop(flights);
        drop(removed);
    }
}

/// Tells work in flight whether its result is still wanted for later: nobody asked to [`forget`](SingleFlight::forget).
pub(super) struct Course<K, T> {
    flights: SingleFlight<K, T>,
    key: K,
    flight: Arc<Flight<T>>,
}

impl<K: Eq + Hash + Clone + 'static, T: Clone + 'static> Course<K, T> {
    pub(super) fn key(&self) -> &K {
        &self.key
    }

    pub(super) fn is_current(&self) -> bool {
        self.flights.is_current(&self.key, &self.flight)
    }
}

/// The wait for a result: boards a flight at its first poll.
pub(super) struct Flying<K: Eq + Hash, T, M> {
    flights: SingleFlight<K, T>,
    place: &'static Location<'static>,
    stage: Stage<K, T, M>,
}

enum Stage<K: Eq + Hash, T, M> {
    Ground(K, M),
    Aboard(Seat<K, T>),
    Over,
}

impl<K: Eq + Hash, T, M> Unpin for Flying<K, T, M> {}

impl<K, T, M, F> Future for Flying<K, T, M>
where
    K: Eq + Hash + Clone + 'static,
    T: Clone + 'static,
    M: FnOnce(Course<K, T>) -> F + 'static,
    F: Future<Output = T> + 'static,
{
    type Output = Result<T, FlightError>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut task::Context<'_>) -> Poll<Self::Output> {
        if let Stage::Ground(..) = self.stage {
            let Stage::Ground(key, make) = std::mem::replace(&mut self.stage, Stage::Over) else {
                unreachable!("it was there a line ago")
            };
            let (seat, is_new) = self.flights.board(key, self.place);
            if is_new {
                self.flights.take_off(&seat, make, self.place);
            }
            self.stage = Stage::Aboard(seat);
        }
        let Stage::Aboard(seat) = &self.stage else { panic!("a single flight polled after completion") };
        let result = task::ready!(poll_leaf(cx.waker(), || seat.poll(cx.waker())));
        self.stage = Stage::Over;
        Poll::Ready(result)
    }
}

impl<K, T> Clone for SingleFlight<K, T> {
    fn clone(&self) -> Self {
        Self { class: self.class.clone(), flights: self.flights.clone(), ..*self }
    }
}

impl<K, T> fmt::Debug for SingleFlight<K, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SingleFlight").field("class", &self.class).field("flying", &self.flying()).finish()
    }
}

#[cfg(test)]
mod tests;
