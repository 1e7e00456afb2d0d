//! The connections of a server: how many there may be, which of them are idle, and how they are told to end.

use super::peer::Peer;
use super::stats::{Count, Stats};
use crate::time::Instant;
use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::future::poll_fn;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

/// So long a connection must have been idle before it is closed to make room: a request may be on its way.
const IDLE_MIN: Duration = Duration::from_millis(500);

/// What a connection is told from outside.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Order {
    #[default]
    None,
    /// Others need its place, and it is idle.
    Leave,
    /// The grace of the shutdown is over.
    Cut,
}

/// One connection, as the accept loop sees it.
pub(super) struct Seat {
    peer: Peer,
    /// When its phase began, as of its last poll.
    since: Cell<Instant>,
    order: Cell<Order>,
    waker: RefCell<Option<Waker>>,
}

impl Seat {
    /// The phase of the connection began at `now`.
    pub(super) fn begin_phase(&self, now: Instant) {
        self.since.set(now);
    }

    pub(super) fn since(&self) -> Instant {
        self.since.get()
    }

    /// What it is told; its task is woken when that changes.
    pub(super) fn order(&self, cx: &Context<'_>) -> Order {
        let order = self.order.get();
        if order == Order::None {
            let is_known = self.waker.borrow().as_ref().is_some_and(|known| known.will_wake(cx.waker()));
            if !is_known {
                let waker = cx.waker().clone();
                drop(self.waker.replace(Some(waker)));
            }
        }
        order
    }

    fn tell(&self, order: Order) {
        self.order.set(order);
        let waker = self.waker.take();
        waker.into_iter().for_each(Waker::wake);
    }

    /// How long it has been idle, if it is and was not told to leave.
    fn idle_for(&self, now: Instant) -> Option<Duration> {
        let is_idle = self.peer.link().phase().is_idle() && self.order.get() == Order::None;
        is_idle.then(|| now.saturating_duration_since(self.since.get()))
    }
}

/// All connections, and who waits for a change among them: the accept loop only.
pub(super) struct Room {
    seats: RefCell<BTreeMap<u64, Rc<Seat>>>,
    next: Cell<u64>,
    waiter: RefCell<Option<Waker>>,
    stats: Stats,
}

/// Whether there is room for one more connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Vacancy {
    Free,
    /// If an idle connection leaves for it.
    Idle,
    /// Not for that long, unless a connection ends.
    Later(Duration),
}

impl Room {
    pub(super) fn new(stats: Stats) -> Self {
        Self { seats: RefCell::default(), next: Cell::new(0), waiter: RefCell::new(None), stats }
    }

    pub(super) fn open(&self) -> usize {
        self.seats.borrow().len()
    }

    pub(super) fn take(self: &Rc<Self>, peer: Peer) -> Taken {
        let number = self.next.get();
        self.next.set(number + 1);
        let since = peer.link().made();
        let seat = Rc::new(Seat {
            peer,
            since: Cell::new(since),
            order: Cell::default(),
            waker: RefCell::default(),
        });
        self.seats.borrow_mut().insert(number, seat.clone());
        self.stats.add(Count::accepted);
        self.stats.add(Count::open);
        Taken { room: self.clone(), number, seat }
    }

    /// Looks for room below `limit`. Walks all connections if there is none.
    pub(super) fn vacancy(&self, limit: usize) -> Vacancy {
        let seats = self.seats.borrow();
        // One may be over the limit while the one that leaves for it has not heard of it.
        if seats.len() < limit {
            return Vacancy::Free;
        }
        if seats.len() > limit {
            return Vacancy::Later(IDLE_MIN);
        }
        let now = Instant::now();
        match seats.values().filter_map(|seat| seat.idle_for(now)).max() {
            Some(idle) if idle >= IDLE_MIN => Vacancy::Idle,
            Some(idle) => Vacancy::Later(IDLE_MIN - idle),
            None => Vacancy::Later(IDLE_MIN),
        }
    }

    /// Tells the connection that has been idle for longest to leave. Whether there is one.
    pub(super) fn evict(&self) -> bool {
        let now = Instant::now();
        let oldest = {
            let seats = self.seats.borrow();
            let idle = seats.values().filter_map(|seat| Some((seat.idle_for(now)?, seat)));
            idle.max_by_key(|(idle, _)| *idle).map(|(_, seat)| seat.clone())
        };
        if let Some(seat) = &oldest {
            self.stats.add(Count::evicted);
            seat.tell(Order::Leave);
        }
        oldest.is_some()
    }

    /// Waits until a connection ends.
    pub(super) async fn changed(&self) {
        let before = self.open();
        poll_fn(|cx| if self.open() < before { Poll::Ready(()) } else { self.wait(cx) }).await
    }

    /// Waits until no connection is left.
    pub(super) async fn empty(&self) {
        poll_fn(|cx| if self.open() == 0 { Poll::Ready(()) } else { self.wait(cx) }).await
    }

    fn wait(&self, cx: &Context<'_>) -> Poll<()> {
        let waker = cx.waker().clone();
        drop(self.waiter.replace(Some(waker)));
        Poll::Pending
    }

    /// Cuts every connection; returns how many.
    pub(super) fn cut(&self) -> usize {
        let seats: Vec<Rc<Seat>> = self.seats.borrow().values().cloned().collect();
        seats.iter().for_each(|seat| seat.tell(Order::Cut));
        seats.len()
    }
}

/// A place among the connections, given back when it is dropped.
pub(super) struct Taken {
    room: Rc<Room>,
    number: u64,
    seat: Rc<Seat>,
}

impl Taken {
    pub(super) fn seat(&self) -> &Seat {
        &self.seat
    }
}

impl Drop for Taken {
    fn drop(&mut self) {
        let seat = self.room.seats.borrow_mut().remove(&self.number);
        drop(seat);
        self.room.stats.closed();
        let waiter = self.room.waiter.take();
        waiter.into_iter().for_each(Waker::wake);
    }
}
