//! One flight: those aboard, and the result when it has landed.
//!
//! ```text
//!   board ---> aboard (a ticket each) --- land ---> each takes a copy of the result
//!                |  leave: the seat was dropped
//!                '--> the last one, if the work is not to go on unwanted: off the map, aborted
//! ```

use super::super::caught::PanicText;
use super::super::line::Claim;
use super::super::wake_all;
use super::{SingleFlight, Unwanted};
use crate::join::JoinHandle;
use context::ReportKind;
use parking_lot::Mutex;
use std::collections::BTreeMap;
use std::fmt;
use std::hash::Hash;
use std::sync::Arc;
use std::task::{Poll, Waker};

/// Why there is no result of shared work.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FlightError(Kind);

#[derive(Clone, Debug, PartialEq, Eq)]
enum Kind {
    Panicked(Arc<str>),
    Cancelled,
}

impl FlightError {
    pub(super) fn panicked(text: PanicText) -> Self {
        Self(Kind::Panicked(text.into()))
    }

    /// Whether the work panicked.
    pub fn is_panic(&self) -> bool {
        matches!(self.0, Kind::Panicked(_))
    }

    /// Whether the work was dropped before it was done: it was cancelled, or its runtime ended.
    pub fn is_cancelled(&self) -> bool {
        matches!(self.0, Kind::Cancelled)
    }
}

impl fmt::Display for FlightError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Kind::Panicked(text) => write!(f, "shared work panicked: {text}"),
            Kind::Cancelled => f.write_str("shared work was cancelled"),
        }
    }
}

impl std::error::Error for FlightError {}

type Outcome<T> = Result<T, FlightError>;

pub(super) struct Flight<T> {
    pub(super) initiator: Claim,
    state: Mutex<State<T>>,
}

struct State<T> {
    /// Shared, so that it is cloned outside the lock.
    outcome: Option<Arc<Outcome<T>>>,
    /// Whom to wake, by ticket; a ticket stays until its seat is given up.
    aboard: BTreeMap<u64, Option<Waker>>,
    tickets: u64,
    task: Option<JoinHandle<()>>,
    /// Somebody took the outcome.
    heard: bool,
}

impl<T> Flight<T> {
    pub(super) fn new(initiator: Claim) -> Self {
        let state = State { outcome: None, aboard: BTreeMap::new(), tickets: 0, task: None, heard: false };
        Self { initiator, state: Mutex::new(state) }
    }

    pub(super) fn board(&self) -> u64 {
        let mut state = self.state.lock();
        state.tickets += 1;
        let ticket = state.tickets;
        state.aboard.insert(ticket, None);
        ticket
    }

    /// The task that does the work. It may have ended already: a runtime that is closing refuses it.
    pub(super) fn took_off(&self, task: JoinHandle<()>) {
        let mut task = Some(task);
        let mut state = self.state.lock();
        if state.outcome.is_none() {
            state.task = task.take();
        }
        drop(state);
        drop(task);
    }

    pub(super) fn abort(&self) {
        let task = self.state.lock().task.take();
        if let Some(task) = task {
            task.abort();
        }
    }

    fn land(&self, outcome: Outcome<T>) {
        let outcome = Arc::new(outcome);
        let mut state = self.state.lock();
        state.outcome = Some(outcome.clone());
        let wakers: Vec<Waker> = state.aboard.values_mut().filter_map(Option::take).collect();
        let (task, unheard) = (state.task.take(), state.aboard.is_empty());
        drop(state);
        drop(task);
        if unheard {
            self.report(&outcome);
        }
        wake_all(wakers);
    }

    fn report(&self, outcome: &Outcome<T>) {
        if let Err(FlightError(Kind::Panicked(text))) = outcome {
            let Claim { place, .. } = self.initiator;
            let detail = format!("shared work that nobody waits for: {text}");
            context::sentinel::report(ReportKind::UnhandledPanic, &self.initiator.name(), place, &detail);
        }
    }
}

/// The place of one waiter in a flight.
pub(super) struct Seat<K: Eq + Hash, T> {
    flights: SingleFlight<K, T>,
    key: K,
    flight: Arc<Flight<T>>,
    ticket: u64,
}

impl<K: Eq + Hash, T> Seat<K, T> {
    pub(super) fn new(flights: SingleFlight<K, T>, key: K, flight: Arc<Flight<T>>, ticket: u64) -> Self {
        Self { flights, key, flight, ticket }
    }

    pub(super) fn key(&self) -> &K {
        &self.key
    }

    pub(super) fn flight(&self) -> &Arc<Flight<T>> {
        &self.flight
    }

    pub(super) fn poll(&self, waker: &Waker) -> Poll<Outcome<T>>
    where
        T: Clone,
    {
        let waker = waker.clone();
        let mut state = self.flight.state.lock();
        let Some(outcome) = state.outcome.clone() else {
            let replaced = state.aboard.insert(self.ticket, Some(waker));
            drop(state);
            drop(replaced);
            return Poll::Pending;
        };
        state.heard = true;
        drop(state);
        Poll::Ready((*outcome).clone())
    }
}

impl<K: Eq + Hash, T> Drop for Seat<K, T> {
    fn drop(&mut self) {
        // The map first: nobody boards between the look at the seats and the abort.
        let mut flights = self.flights.flights.lock();
        let mut state = self.flight.state.lock();
        let waker = state.aboard.remove(&self.ticket);
        let is_last = state.aboard.is_empty();
        let unheard = state.outcome.clone().filter(|_| is_last && !state.heard);
        let stops = is_last && state.outcome.is_none() && self.flights.unwanted == Unwanted::Stops;
        let task = if stops { state.task.take() } else { None };
        drop(state);
        let is_there = flights.get(&self.key).is_some_and(|there| Arc::ptr_eq(there, &self.flight));
        let removed = if stops && is_there { flights.remove_entry(&self.key) } else { None };
        drop(flights);
        if let Some(task) = task {
            task.abort();
        }
        if let Some(outcome) = unheard {
            self.flight.report(&outcome);
        }
        drop((waker, removed));
    }
}

/// The duty to land, whatever becomes of the work.
pub(super) struct Landing<K: Eq + Hash + Clone + 'static, T: Clone + 'static> {
    flights: SingleFlight<K, T>,
    key: K,
    flight: Arc<Flight<T>>,
    landed: bool,
}

impl<K: Eq + Hash + Clone + 'static, T: Clone + 'static> Landing<K, T> {
    pub(super) fn new(seat: &Seat<K, T>) -> Self {
        let Seat { flights, key, flight, .. } = seat;
        Self { flights: flights.clone(), key: key.clone(), flight: flight.clone(), landed: false }
    }

    pub(super) fn land(mut self, outcome: Outcome<T>) {
        self.touch_down(outcome);
    }

    fn touch_down(&mut self, outcome: Outcome<T>) {
        self.landed = true;
        self.flights.remove(&self.key, &self.flight);
        self.flight.land(outcome);
    }
}

impl<K: Eq + Hash + Clone + 'static, T: Clone + 'static> Drop for Landing<K, T> {
    fn drop(&mut self) {
        if !self.landed {
            self.touch_down(Err(FlightError(Kind::Cancelled)));
        }
    }
}
