//! What a group and its members share: who runs, who waits, what came of those that have ended.
//!
//! Every operation is O(1), but for the ends of the group: the first failure and the drop, which take all wakers out, once.
//! Nothing here runs foreign code: it returns what is to be woken or dropped outside of the lock.

use crate::unread;
use context::{Hold, Name, ReportKind};
use std::any::Any;
use std::collections::VecDeque;
use std::panic::Location;
use std::task::Waker;

pub(super) struct State<T, E> {
    pub(super) outputs: Outputs<T>,
    /// The first failure, until it is returned or reported.
    pub(super) failed: Option<Failed<E>>,
    pub(super) members: Members,
    pub(super) joiner: Option<Waker>,
    /// One has failed, or the group was dropped: the members end when they are polled next.
    is_stopped: bool,
    /// Nobody will take outputs or a failure.
    is_abandoned: bool,
    running: usize,
    /// How many may run; the others wait, in the order of their spawns.
    limit: usize,
    /// Some may have ended meanwhile.
    waiting: VecDeque<Seat>,
    spawned: usize,
    /// The group was dropped: its context is open until the last member has ended.
    pub(super) hold: Option<Hold>,
}

/// Names a member: its place in the list, which is used again, and its number, which is not.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) struct Seat {
    index: usize,
    number: usize,
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Stage {
    Waiting,
    Running,
}

pub(super) enum Failure<E> {
    Error(E),
    Panic(Box<dyn Any + Send>),
    /// It did not get to an end of its own: another failed, or the group or the runtime was dropped.
    Dropped,
}

/// A failure, and whose it was.
pub(super) struct Failed<E> {
    pub(super) failure: Failure<E>,
    pub(super) context: Name,
    pub(super) place: &'static Location<'static>,
}

impl<E: 'static> Failed<E> {
    /// Nobody else hears of it.
    pub(super) fn report(self) {
        let Self { failure, context, place } = self;
        match failure {
            Failure::Error(error) => {
                unread::contained(&context, place, || {
                    let text = unread::error_text(&error);
                    context::sentinel::report(ReportKind::UnhandledError, &context, place, &text);
                    drop(error);
                });
            }
            Failure::Panic(payload) => unread::report_panic(payload, &context, place),
            Failure::Dropped => {}
        }
    }
}

/// What is left to do when a member has ended.
#[must_use]
pub(super) struct Ended<T, E> {
    /// To be dropped: nobody takes it.
    pub(super) output: Option<T>,
    /// To be reported: it is not the first, or nobody takes it.
    pub(super) surplus: Option<Failed<E>>,
    pub(super) is_first_failure: bool,
    pub(super) to_wake: Vec<Waker>,
    /// The member's own, to be dropped.
    waker: Option<Waker>,
    /// It was the last: to be dropped after all else, since the context may finish then.
    pub(super) hold: Option<Hold>,
}

/// What is left to do when the group is dropped.
#[must_use]
pub(super) struct Left<T, E> {
    pub(super) outputs: Vec<T>,
    pub(super) failed: Option<Failed<E>>,
    pub(super) has_members: bool,
    pub(super) to_wake: Vec<Waker>,
}

impl<T, E> State<T, E> {
    pub(super) fn new(limit: usize) -> Self {
        Self {
            outputs: Outputs::new(),
            failed: None,
            members: Members::default(),
            joiner: None,
            is_stopped: false,
            is_abandoned: false,
            running: 0,
            limit,
            waiting: VecDeque::new(),
            spawned: 0,
            hold: None,
        }
    }

    pub(super) fn spawned(&self) -> usize {
        self.spawned
    }

    /// A new member.
    pub(super) fn enter(&mut self) -> Seat {
        let number = self.spawned;
        self.spawned += 1;
        self.outputs.expect(number);
        let is_limited = self.limit != usize::MAX;
        let stage = if is_limited { Stage::Waiting } else { Stage::Running };
        let seat = self.members.insert(number, stage);
        if is_limited {
            self.waiting.push_back(seat);
        } else {
            self.running += 1;
        }
        seat
    }

    /// What a member that is polled is to do; `None`: to end. It runs from here on if it is its turn; then whoever is next
    /// may be woken.
    pub(super) fn admit(&mut self, seat: Seat) -> Option<(Stage, Option<Waker>)> {
        if self.is_stopped {
            return None;
        }
        let is_next = self.running < self.limit && self.next_waiting() == Some(seat);
        let member = self.members.get(seat)?;
        if member.stage == Stage::Running || !is_next {
            return Some((member.stage, None));
        }
        member.stage = Stage::Running;
        self.waiting.pop_front();
        self.running += 1;
        Some((Stage::Running, self.next_to_run()))
    }

    /// The first of those that wait.
    fn next_waiting(&mut self) -> Option<Seat> {
        loop {
            let first = *self.waiting.front()?;
            if self.members.get(first).is_some() {
                return Some(first);
            }
            self.waiting.pop_front();
        }
    }

    /// The member whose turn it is, if it has come to wait and there is room.
    fn next_to_run(&mut self) -> Option<Waker> {
        let next = if self.running < self.limit { self.next_waiting() } else { None };
        self.members.get(next?)?.waker.take()
    }

    /// All members are to end.
    fn stop(&mut self) -> Vec<Waker> {
        self.is_stopped = true;
        self.waiting.clear();
        self.members.take_wakers()
    }

    /// A member has ended.
    pub(super) fn end(&mut self, seat: Seat, result: Result<T, Failed<E>>) -> Ended<T, E> {
        let mut ended = Ended {
            output: None,
            surplus: None,
            is_first_failure: false,
            to_wake: Vec::new(),
            waker: None,
            hold: None,
        };
        let Some(member) = self.members.remove(seat) else {
            ended.surplus = result.err();
            return ended;
        };
        ended.waker = member.waker;
        if member.stage == Stage::Running {
            self.running -= 1;
        }
        match result {
            Ok(output) if self.is_abandoned => ended.output = Some(output),
            Ok(output) => self.outputs.put(seat.number, output),
            Err(failed) if self.is_stopped => ended.surplus = Some(failed),
            Err(failed) => {
                ended.is_first_failure = true;
                self.failed = Some(failed);
                ended.to_wake.extend(self.stop());
            }
        }
        ended.to_wake.extend(self.next_to_run());
        if self.members.is_empty() {
            ended.to_wake.extend(self.joiner.take());
            ended.hold = self.hold.take();
        }
        ended
    }

    /// The group is dropped.
    pub(super) fn leave(&mut self) -> Left<T, E> {
        self.is_abandoned = true;
        let to_wake = if self.is_stopped { Vec::new() } else { self.stop() };
        Left {
            outputs: self.outputs.take(),
            failed: self.failed.take(),
            has_members: !self.members.is_empty(),
            to_wake,
        }
    }
}

/// The outputs of members that have ended, by number. Values without a size take no memory.
pub(super) struct Outputs<T> {
    by_number: Vec<Option<T>>,
    without_size: Vec<T>,
}

impl<T> Outputs<T> {
    const HAS_SIZE: bool = size_of::<T>() != 0;

    fn new() -> Self {
        Self { by_number: Vec::new(), without_size: Vec::new() }
    }

    fn expect(&mut self, number: usize) {
        if Self::HAS_SIZE {
            debug_assert_eq!(self.by_number.len(), number);
            self.by_number.push(None);
        }
    }

    fn put(&mut self, number: usize, output: T) {
        if !Self::HAS_SIZE {
            // One is like the other.
            self.without_size.push(output);
        } else if let Some(place) = self.by_number.get_mut(number) {
            *place = Some(output);
        }
    }

    /// In the order of the spawns.
    pub(super) fn take(&mut self) -> Vec<T> {
        let outputs = std::mem::take(&mut self.by_number).into_iter().flatten();
        std::mem::take(&mut self.without_size).into_iter().chain(outputs).collect()
    }
}

/// The members that have not ended.
#[derive(Default)]
pub(super) struct Members {
    places: Vec<Option<Place>>,
    free: Vec<usize>,
}

/// Where one member stands.
pub(super) struct Place {
    number: usize,
    pub(super) stage: Stage,
    pub(super) waker: Option<Waker>,
}

impl Members {
    pub(super) fn len(&self) -> usize {
        self.places.len() - self.free.len()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.len() == 0
    }

    #[cfg(test)]
    pub(super) fn capacity(&self) -> usize {
        self.places.capacity()
    }

    fn insert(&mut self, number: usize, stage: Stage) -> Seat {
        let place = Some(Place { number, stage, waker: None });
        let index = match self.free.pop() {
            Some(index) => {
                self.places[index] = place;
                index
            }
            None => {
                self.places.push(place);
                self.places.len() - 1
            }
        };
        Seat { index, number }
    }

    pub(super) fn get(&mut self, seat: Seat) -> Option<&mut Place> {
        self.places.get_mut(seat.index)?.as_mut().filter(|place| place.number == seat.number)
    }

    fn remove(&mut self, seat: Seat) -> Option<Place> {
        self.get(seat)?;
        self.free.push(seat.index);
        self.places[seat.index].take()
    }

    fn take_wakers(&mut self) -> Vec<Waker> {
        self.places.iter_mut().flatten().filter_map(|place| place.waker.take()).collect()
    }
}

/// Wakes them; a panic in one is reported and keeps no other from being woken.
pub(super) fn wake(wakers: Vec<Waker>, context: Name, place: &'static Location<'static>) {
    for waker in wakers {
        unread::contained(&context, place, || waker.wake());
    }
}
