//! Real sockets on the loopback, and no sleeps: every wait is for an event that is certain to come.

use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::task::Wake;

use mio::net::{TcpListener, TcpStream};
use parking_lot::{Mutex, ReentrantMutex};

use super::Direction::{Read as Reading, Write as Writing};
use super::*;

const BOTH: Interest = Interest::READABLE.add(Interest::WRITABLE);

#[derive(Default)]
struct Counter(AtomicUsize);

impl Counter {
    /// A clone, because a waker made from an `Arc` and its clones need not share the address of their vtable, and
    /// `will_wake` compares that. Clones of clones do.
    fn new() -> (Arc<Counter>, Waker) {
        let counter = Arc::new(Counter::default());
        let waker = Waker::from(counter.clone());
        (counter, waker.clone())
    }

    fn count(&self) -> usize {
        self.0.load(Relaxed)
    }
}

impl Wake for Counter {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Relaxed);
    }
}

struct Bench {
    epoch: Instant,
    reactor: Reactor,
    bell: mio::Waker,
}

impl Bench {
    fn new() -> Bench {
        let epoch = Instant::now();
        let (reactor, bell) = Reactor::new(epoch, EVENTS_DEFAULT).unwrap();
        Bench { epoch, reactor, bell }
    }

    /// A turn, with everybody woken.
    fn turn(&self, wait: Wait) -> usize {
        let mut woken = Vec::new();
        self.reactor.turn(wait, no_task, &mut woken).unwrap();
        let count = woken.len();
        woken.into_iter().for_each(Waker::wake);
        count
    }

    /// Turns until an event makes the source ready.
    fn until_ready(&self, key: SourceKey, direction: Direction) {
        while !self.is_ready(key, direction, Waker::noop()) {
            self.turn(Wait::Forever);
        }
    }

    fn until_woken(&self, counter: &Counter) {
        while counter.count() == 0 {
            self.turn(Wait::Forever);
        }
    }

    /// Polls for readiness, and so also lets `waker` wait if there is none.
    fn is_ready(&self, key: SourceKey, direction: Direction, waker: &Waker) -> bool {
        match self.reactor.poll_ready(key, direction, by(waker)) {
            Poll::Ready(result) => {
                result.unwrap();
                true
            }
            Poll::Pending => false,
        }
    }

    /// An attempt that would have blocked.
    fn would_block(&self, key: SourceKey, direction: Direction) {
        let _ = self.reactor.try_attempt(key, direction, would_block, |()| false);
    }

    /// An attempt that moved less than it might have.
    fn fell_short(&self, key: SourceKey, direction: Direction) {
        let _ = self.reactor.try_attempt(key, direction, || Ok(()), |()| true);
    }

    fn now(&self) -> u64 {
        self.epoch.elapsed().as_nanos() as u64
    }
}

/// Somebody who is no task.
fn by(waker: &Waker) -> Asker<'_> {
    Asker { task: None, waker }
}

fn no_task(task: Packed) {
    panic!("{task:?} has not asked");
}

fn would_block() -> io::Result<()> {
    Err(ErrorKind::WouldBlock.into())
}

/// Our end, non-blocking, and the peer's, blocking.
fn pair() -> (TcpStream, std::net::TcpStream) {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let peer = std::net::TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    let (ours, _) = listener.accept().unwrap();
    ours.set_nonblocking(true).unwrap();
    (TcpStream::from_std(ours), peer)
}

/// Our end in the reactor, after the first events (the kernel reports what is there at registration).
fn registered(bench: &Bench) -> (TcpStream, SourceKey, std::net::TcpStream) {
    let (mut ours, peer) = pair();
    let key = bench.reactor.register(&mut ours, BOTH, Initially::Unknown).unwrap();
    bench.until_ready(key, Writing);
    (ours, key, peer)
}

#[test]
fn a_fresh_stream_is_writable_and_not_readable() {
    let bench = Bench::new();
    let (mut ours, _peer) = pair();
    let key = bench.reactor.register(&mut ours, BOTH, Initially::Writable).unwrap();
    assert!(bench.is_ready(key, Writing, Waker::noop()));
    assert!(!bench.is_ready(key, Reading, Waker::noop()));
}

#[test]
fn readiness_is_set_by_events_and_cleared_by_the_caller() {
    let bench = Bench::new();
    let (mut ours, key, mut peer) = registered(&bench);
    let (counter, waker) = Counter::new();
    let mut buffer = [0; 16];

    for round in 1..=3 {
        assert!(!bench.is_ready(key, Reading, &waker));
        peer.write_all(b"hello").unwrap();
        while counter.count() < round {
            bench.turn(Wait::Forever);
        }
        assert!(bench.is_ready(key, Reading, &waker));
        assert_eq!(ours.read(&mut buffer).unwrap(), 5);
        assert_eq!(ours.read(&mut buffer).unwrap_err().kind(), ErrorKind::WouldBlock);
        bench.would_block(key, Reading);
    }
    assert!(bench.is_ready(key, Writing, &waker), "the other direction is untouched");
    assert_eq!(counter.count(), 3);
    assert!(bench.reactor.events_seen() >= 4);
}

#[test]
fn a_partial_read_leaves_the_rest_ready() {
    let bench = Bench::new();
    let (mut ours, key, mut peer) = registered(&bench);
    peer.write_all(b"hello world").unwrap();
    bench.until_ready(key, Reading);

    let mut buffer = [0; 5];
    ours.read_exact(&mut buffer).unwrap();
    bench.turn(Wait::No);
    assert!(bench.is_ready(key, Reading, Waker::noop()));

    let mut rest = [0; 16];
    assert_eq!(ours.read(&mut rest).unwrap(), 6);
    bench.fell_short(key, Reading);
    assert!(!bench.is_ready(key, Reading, Waker::noop()));
}

#[test]
fn a_full_socket_becomes_writable_when_the_peer_reads() {
    let bench = Bench::new();
    let (mut ours, key, mut peer) = registered(&bench);
    let (counter, waker) = Counter::new();
    let chunk = vec![7; 64 * 1024];
    let mut sent = 0;
    loop {
        match ours.write(&chunk) {
            Ok(count) => sent += count,
            Err(error) if error.kind() == ErrorKind::WouldBlock => break,
            Err(error) => panic!("{error}"),
        }
    }
    bench.would_block(key, Writing);
    assert!(!bench.is_ready(key, Writing, &waker));

    peer.read_exact(&mut vec![0; sent]).unwrap();
    bench.until_woken(&counter);
    assert!(bench.is_ready(key, Writing, &waker));
}

#[test]
fn the_end_of_file_that_came_with_the_last_bytes_is_not_lost() {
    let bench = Bench::new();
    let (mut ours, mut peer) = pair();
    peer.write_all(b"bye").unwrap();
    peer.shutdown(Shutdown::Write).unwrap();
    // Only now, so that one event says both.
    let key = bench.reactor.register(&mut ours, BOTH, Initially::Unknown).unwrap();
    bench.until_ready(key, Reading);
    let mut buffer = [0; 16];
    assert_eq!(ours.read(&mut buffer).unwrap(), 3);
    bench.fell_short(key, Reading);

    bench.until_ready(key, Reading);
    assert_eq!(ours.read(&mut buffer).unwrap(), 0);
}

#[test]
fn a_reset_wakes_both_directions() {
    let bench = Bench::new();
    let (ours, key, mut peer) = registered(&bench);
    let ((reader, reading), (writer, writing)) = (Counter::new(), Counter::new());
    bench.would_block(key, Writing);
    assert!(!bench.is_ready(key, Reading, &reading) && !bench.is_ready(key, Writing, &writing));

    // Closing with unread bytes sends a reset.
    let mut ours = ours;
    ours.write_all(b"unread").unwrap();
    peer.peek(&mut [0; 6]).unwrap();
    drop(std::mem::replace(&mut peer, pair().1));

    while reader.count() == 0 || writer.count() == 0 {
        bench.turn(Wait::Forever);
    }
    assert!(bench.is_ready(key, Reading, &reading) && bench.is_ready(key, Writing, &writing));
    assert_eq!(ours.read(&mut [0; 8]).unwrap_err().kind(), ErrorKind::ConnectionReset);
}

#[test]
fn a_listener_becomes_readable() {
    let bench = Bench::new();
    let mut listener = TcpListener::bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let address: SocketAddr = listener.local_addr().unwrap();
    let key = bench.reactor.register(&mut listener, Interest::READABLE, Initially::Unknown).unwrap();
    let (counter, waker) = Counter::new();
    assert!(!bench.is_ready(key, Reading, &waker));
    let _peer = std::net::TcpStream::connect(address).unwrap();
    bench.until_woken(&counter);
    listener.accept().unwrap();
    assert_eq!(listener.accept().unwrap_err().kind(), ErrorKind::WouldBlock);
    bench.would_block(key, Reading);
    assert!(!bench.is_ready(key, Reading, &waker));
}

#[test]
fn the_last_task_that_asked_is_woken() {
    let bench = Bench::new();
    let (_ours, key, mut peer) = registered(&bench);
    let ((first, first_waker), (second, second_waker)) = (Counter::new(), Counter::new());
    assert!(!bench.is_ready(key, Reading, &first_waker));
    assert!(!bench.is_ready(key, Reading, &second_waker));
    assert_eq!(Arc::strong_count(&first), 2, "the replaced waker was dropped");
    assert!(!bench.is_ready(key, Reading, &second_waker));
    assert_eq!(Arc::strong_count(&second), 3, "the same waker is stored once");

    peer.write_all(b"x").unwrap();
    bench.until_woken(&second);
    assert_eq!((first.count(), second.count()), (0, 1));
}

#[test]
fn a_stale_key_is_a_clear_error() {
    let bench = Bench::new();
    let (mut ours, key, _peer) = registered(&bench);
    bench.reactor.deregister(key, Some(&mut ours));
    assert_eq!(bench.reactor.len(), 0);

    let Poll::Ready(Err(error)) = bench.reactor.poll_ready(key, Reading, by(Waker::noop())) else {
        panic!("a stale key must not wait")
    };
    assert_eq!(error.kind(), ErrorKind::NotConnected);
    assert_eq!(error.to_string(), "the source is no longer registered with its runtime");
    bench.would_block(key, Reading);
    bench.fell_short(key, Writing);
    bench.reactor.deregister(key, None);
}

#[test]
fn a_closed_or_unregistered_source_can_be_deregistered() {
    let bench = Bench::new();
    let (ours, key, _peer) = registered(&bench);
    drop(ours);
    bench.reactor.deregister(key, None);

    let (mut ours, key, _peer) = registered(&bench);
    bench.reactor.deregister(key, Some(&mut ours));
    bench.reactor.deregister(key, Some(&mut ours));
    assert_eq!(bench.reactor.len(), 0);
}

#[test]
fn a_source_cannot_be_registered_twice() {
    let bench = Bench::new();
    let (mut ours, _key, _peer) = registered(&bench);
    let error = bench.reactor.register(&mut ours, BOTH, Initially::Unknown).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::AlreadyExists);
    assert_eq!(bench.reactor.len(), 1);
}

#[test]
fn events_of_a_former_owner_of_the_slot_are_ignored() {
    let bench = Bench::new();
    let (ours, old, mut old_peer) = registered(&bench);
    // A duplicate keeps the closed descriptor's file in the poll set, with its old token.
    let ours = std::net::TcpStream::from(ours);
    let _duplicate = ours.try_clone().unwrap();
    bench.reactor.deregister(old, None);
    drop(ours);

    let (_new_ours, new, _new_peer) = registered(&bench);
    assert_eq!(old.token().0 as u32, new.token().0 as u32, "the slot is reused");
    let (counter, waker) = Counter::new();
    assert!(!bench.is_ready(new, Reading, &waker));

    let before = bench.reactor.events_seen();
    old_peer.write_all(b"for somebody else").unwrap();
    while bench.reactor.events_seen() == before {
        bench.turn(Wait::Forever);
    }
    assert_eq!(counter.count(), 0);
    assert!(!bench.is_ready(new, Reading, &waker));
}

#[test]
fn a_timed_wait_is_not_early() {
    let bench = Bench::new();
    for wait in [0, 1_000, 50_000, 300_000, 1_500_000, 20_000_000] {
        let deadline = bench.now() + wait;
        bench.turn(Wait::Until(deadline));
        let now = bench.now();
        assert!(now >= deadline, "{} ns early", deadline - now);
        assert!(now < deadline + 2_000_000_000, "{} ns late", now - deadline);
    }
}

#[test]
fn an_earlier_deadline_replaces_a_later_one() {
    let bench = Bench::new();
    let hour = 3_600_000_000_000;
    bench.bell.wake().unwrap();
    bench.turn(Wait::Until(hour));
    let deadline = bench.now() + 1_000_000;
    bench.turn(Wait::Until(deadline));
    assert!((deadline..hour).contains(&bench.now()));
}

#[test]
fn a_deadline_that_moved_away_is_waited_for_all_the_same() {
    let bench = Bench::new();
    bench.bell.wake().unwrap();
    bench.turn(Wait::Until(bench.now() + 3_000_000));
    let deadline = bench.now() + 10_000_000;
    let mut turns = 0;
    while bench.now() < deadline {
        bench.turn(Wait::Until(deadline));
        turns += 1;
    }
    assert!(turns <= 2, "one early wake-up is allowed, not {}", turns - 1);
}

#[test]
fn the_bell_ends_a_wait_from_another_thread() {
    let Bench { reactor, bell, .. } = Bench::new();
    std::thread::scope(|scope| {
        for _ in 0..3 {
            let ringing = scope.spawn(|| bell.wake().unwrap());
            reactor.turn(Wait::Forever, no_task, &mut Vec::new()).unwrap();
            ringing.join().unwrap();
        }
    });
    assert_eq!(reactor.events_seen(), 0, "the bell is not a source");
}

#[test]
fn a_turn_without_waiting_does_not_wait() {
    let bench = Bench::new();
    assert_eq!(bench.turn(Wait::No), 0);
}

#[test]
fn more_events_than_one_turn_can_take() {
    let (reactor, _bell) = Reactor::new(Instant::now(), 2).unwrap();
    let mut pairs: Vec<_> = (0..7).map(|_| pair()).collect();
    let counters: Vec<_> = (0..7).map(|_| Counter::new()).collect();
    for ((ours, _), (_, waker)) in pairs.iter_mut().zip(&counters) {
        let key = reactor.register(ours, BOTH, Initially::Unknown).unwrap();
        assert!(reactor.poll_ready(key, Writing, by(waker)).is_pending());
    }
    for _ in 0..4 {
        let mut woken = Vec::new();
        reactor.turn(Wait::Forever, no_task, &mut woken).unwrap();
        assert!(woken.len() <= 2);
        woken.into_iter().for_each(Waker::wake);
    }
    assert!(counters.iter().all(|(counter, _)| counter.count() == 1));
}

/// A waker whose drop uses the reactor it is stored in.
struct Meddler {
    reactor: Arc<ReentrantMutex<Reactor>>,
    key: Mutex<Option<SourceKey>>,
    dropped: Arc<Counter>,
}

impl Wake for Meddler {
    fn wake(self: Arc<Self>) {}
}

impl Drop for Meddler {
    fn drop(&mut self) {
        let reactor = self.reactor.lock();
        if let Some(key) = self.key.lock().take() {
            let _ = reactor.poll_ready(key, Reading, by(Waker::noop()));
            let _ = reactor.try_attempt(key, Writing, would_block, |()| false);
            reactor.deregister(key, None);
        }
        reactor.turn(Wait::No, no_task, &mut Vec::new()).unwrap();
        self.dropped.0.fetch_add(1, Relaxed);
    }
}

#[test]
fn trap_12_a_dropped_waker_may_come_back() {
    let (reactor, _bell) = Reactor::new(Instant::now(), EVENTS_DEFAULT).unwrap();
    let reactor = Arc::new(ReentrantMutex::new(reactor));
    let (mut ours, _peer) = pair();
    let key = reactor.lock().register(&mut ours, BOTH, Initially::Unknown).unwrap();
    let (dropped, _) = Counter::new();
    let meddler = |meddles_with: Option<SourceKey>| {
        let (reactor, dropped) = (reactor.clone(), dropped.clone());
        Waker::from(Arc::new(Meddler { reactor, key: Mutex::new(meddles_with), dropped }))
    };

    let park = |waker: Waker| {
        let poll = reactor.lock().poll_ready(key, Reading, by(&waker));
        assert!(poll.is_pending());
    };
    park(meddler(None));
    park(meddler(None));
    assert_eq!(dropped.count(), 1, "replaced");
    park(meddler(Some(key)));
    assert_eq!(dropped.count(), 2, "replaced");
    reactor.lock().deregister(key, Some(&mut ours));
    assert_eq!(dropped.count(), 3, "deregistered, and once more by the waker itself");
    assert_eq!(reactor.lock().len(), 0);
}
