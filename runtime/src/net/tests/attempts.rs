//! How many system calls it takes: a stream that counts the attempts which are made on it.

use std::cell::RefCell;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::task::{Wake, Waker};

use mio::event::Source;
use mio::net::TcpStream as MioStream;
use mio::{Interest, Registry, Token};

use super::*;
use crate::reactor::{Direction, Initially};
use crate::registered::Registered;

/// What was tried, in order: `r` a read, `R` of several buffers, `w` and `W` likewise; `!` after one that would have
/// blocked.
#[derive(Clone, Default)]
struct Trace(Rc<RefCell<String>>);

impl Trace {
    fn note<T>(&self, what: char, result: io::Result<T>) -> io::Result<T> {
        self.0.borrow_mut().push(what);
        if result.as_ref().is_err_and(|error| error.kind() == ErrorKind::WouldBlock) {
            self.0.borrow_mut().push('!');
        }
        result
    }

    fn take(&self) -> String {
        self.0.take()
    }
}

struct Counted {
    stream: MioStream,
    trace: Trace,
}

impl Source for Counted {
    fn register(&mut self, registry: &Registry, token: Token, interest: Interest) -> io::Result<()> {
        self.stream.register(registry, token, interest)
    }

    fn reregister(&mut self, registry: &Registry, token: Token, interest: Interest) -> io::Result<()> {
        self.stream.reregister(registry, token, interest)
    }

    fn deregister(&mut self, registry: &Registry) -> io::Result<()> {
        self.stream.deregister(registry)
    }
}

impl Read for &Counted {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        self.trace.note('r', (&self.stream).read(buf))
    }

    fn read_vectored(&mut self, bufs: &mut [IoSliceMut<'_>]) -> io::Result<usize> {
        self.trace.note('R', (&self.stream).read_vectored(bufs))
    }
}

impl Write for &Counted {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        self.trace.note('w', (&self.stream).write(buf))
    }

    fn write_vectored(&mut self, bufs: &[IoSlice<'_>]) -> io::Result<usize> {
        self.trace.note('W', (&self.stream).write_vectored(bufs))
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// A peer that blocks, the stream, and what is tried on it.
fn counted() -> (StdStream, Rc<Registered<Counted>>, Trace) {
    let listener = StdListener::bind(LOCAL).unwrap();
    let peer = StdStream::connect(listener.local_addr().unwrap()).unwrap();
    let (stream, _) = listener.accept().unwrap();
    stream.set_nonblocking(true).unwrap();
    peer.set_nodelay(true).unwrap();
    let trace = Trace::default();
    let source = Counted { stream: MioStream::from_std(stream), trace: trace.clone() };
    let interest = Interest::READABLE | Interest::WRITABLE;
    let stream = Registered::new(source, interest, Initially::Writable, "a counted stream").unwrap();
    (peer, Rc::new(stream), trace)
}

async fn read(stream: &Registered<Counted>, buf: &mut [u8]) -> io::Result<usize> {
    poll_fn(|cx| stream.poll_read(cx, buf)).await
}

async fn write(stream: &Registered<Counted>, buf: &[u8]) -> io::Result<usize> {
    poll_fn(|cx| stream.poll_write(cx, buf)).await
}

/// Reads `length` bytes in pieces.
async fn read_all(stream: &Registered<Counted>, length: usize, buf: &mut [u8]) {
    let mut seen = 0;
    while seen < length {
        seen += read(stream, buf).await.unwrap();
    }
}

/// Starts a task that reads once, and lets it come to where it waits.
async fn reader(stream: &Rc<Registered<Counted>>) -> crate::JoinHandle<io::Result<usize>> {
    let stream = stream.clone();
    let task = spawn(async move { read(&stream, &mut [0; 64]).await });
    yield_now().await;
    task
}

#[test]
fn a_request_is_one_read_and_one_write() {
    run(async {
        let (mut peer, stream, trace) = counted();
        let server = spawn(async move {
            let mut buf = [0; 256];
            loop {
                match read(&stream, &mut buf).await.unwrap() {
                    0 => return,
                    length => assert_eq!(write(&stream, &buf[..length]).await.unwrap(), length),
                }
            }
        });
        // The peer's own reads tell when the answer is there, and block no longer than that takes: it is there after a turn.
        peer.set_nonblocking(true).unwrap();
        let mut answer = [0; 64];
        for _ in 0..5 {
            peer.write_all(&[7; 64]).unwrap();
            while peer.read(&mut answer).is_err() {
                yield_now().await;
            }
        }
        assert_eq!(trace.take(), "rwrwrwrwrw");
        drop(peer);
        server.await.unwrap();
        assert_eq!(trace.take(), "r", "the end");
    });
}

#[test]
fn only_a_read_that_fills_its_buffer_is_followed_by_one_that_finds_nothing() {
    run(async {
        let (mut peer, stream, trace) = counted();
        peer.write_all(&[7; 100]).unwrap();
        read_all(&stream, 100, &mut [0; 50]).await;
        let waiting = reader(&stream).await;
        assert_eq!(trace.take(), "rrr!");
        peer.write_all(&[7; 100]).unwrap();
        assert_eq!(waiting.await.unwrap().unwrap(), 64);
        read_all(&stream, 36, &mut [0; 50]).await;
        let waiting = reader(&stream).await;
        assert_eq!(trace.take(), "rr", "36 of 50 are all there is");
        drop(peer);
        assert_eq!(waiting.await.unwrap().unwrap(), 0);
        assert_eq!(trace.take(), "r");
    });
}

#[test]
fn several_buffers_are_one_system_call() {
    run(async {
        let (mut peer, stream, trace) = counted();
        // Short ones as one buffer, longer ones as they are.
        for (body, call) in [(vec![b'b'; 1020], "w"), (vec![b'b'; 1021], "W")] {
            let bufs = [IoSlice::new(b"head"), IoSlice::new(b""), IoSlice::new(&body)];
            let written = poll_fn(|cx| stream.poll_write_vectored(cx, &bufs)).await.unwrap();
            let mut text = vec![0; 4 + body.len()];
            peer.read_exact(&mut text).unwrap();
            assert_eq!((written, trace.take().as_str()), (text.len(), call));
            assert!(text.starts_with(b"head") && text[4..] == body[..]);
        }

        peer.write_all(b"question").unwrap();
        let (mut one, mut other) = ([0; 5], [0; 5]);
        let read = poll_fn(|cx| {
            stream.poll_read_vectored(cx, &mut [IoSliceMut::new(&mut one), IoSliceMut::new(&mut other)])
        });
        assert_eq!(read.await.unwrap(), 8);
        let waiting = reader(&stream).await;
        assert_eq!((&one, &other[..3], trace.take()), (b"quest", &b"ion"[..], "R".to_owned()));
        drop(peer);
        assert_eq!(waiting.await.unwrap().unwrap(), 0);
    });
}

#[test]
fn what_comes_after_a_short_read_wakes() {
    run(async {
        let (mut peer, stream, trace) = counted();
        for round in 0..3 {
            peer.write_all(b"one").unwrap();
            assert_eq!(read(&stream, &mut [0; 64]).await.unwrap(), 3);
            if round > 0 {
                // Between the read and the next poll, nobody waiting: the kernel tells of it all the same.
                peer.write_all(b"three").unwrap();
                assert_eq!(read(&stream, &mut [0; 64]).await.unwrap(), 5);
            }
            let waiting = reader(&stream).await;
            peer.write_all(b"four").unwrap();
            assert_eq!(waiting.await.unwrap().unwrap(), 4);
        }
        assert_eq!(trace.take(), "rrrrrrrr");
    });
}

#[test]
fn the_end_is_seen_whenever_it_comes_about_a_short_read() {
    run(async {
        // With the bytes, in one event.
        let (mut peer, stream, trace) = counted();
        peer.write_all(b"bye").unwrap();
        peer.shutdown(Shutdown::Write).unwrap();
        assert_eq!(read(&stream, &mut [0; 64]).await.unwrap(), 3);
        assert_eq!(read(&stream, &mut [0; 64]).await.unwrap(), 0);
        assert_eq!(read(&stream, &mut [0; 64]).await.unwrap(), 0, "it stays");
        assert_eq!(trace.take(), "rrr");

        // Between the event and the read.
        let (mut peer, stream, _) = counted();
        peer.write_all(b"bye").unwrap();
        poll_fn(|cx| stream.poll_ready(Direction::Read, cx)).await.unwrap();
        peer.shutdown(Shutdown::Write).unwrap();
        assert_eq!(read(&stream, &mut [0; 64]).await.unwrap(), 3);
        assert_eq!(read(&stream, &mut [0; 64]).await.unwrap(), 0);

        // After the read; then while somebody waits.
        for waits in [false, true] {
            let (mut peer, stream, _) = counted();
            peer.write_all(b"bye").unwrap();
            assert_eq!(read(&stream, &mut [0; 64]).await.unwrap(), 3);
            if waits {
                let waiting = reader(&stream).await;
                drop(peer);
                assert_eq!(waiting.await.unwrap().unwrap(), 0);
            } else {
                drop(peer);
                assert_eq!(read(&stream, &mut [0; 64]).await.unwrap(), 0);
            }
        }
    });
}

#[test]
fn two_tasks_wait_for_the_two_directions_of_one_socket() {
    run(async {
        let (mut peer, stream, trace) = counted();
        let out = stream.clone();
        let writer = spawn(async move {
            let chunk = vec![7; 1 << 20];
            let mut sent = 0;
            while sent < 16 << 20 {
                sent += write(&out, &chunk).await.unwrap();
            }
            sent
        });
        let waiting = reader(&stream).await;
        assert!(!writer.is_finished(), "the kernel does not hold 16 MiB");
        trace.take();
        peer.write_all(b"hello").unwrap();
        assert_eq!(waiting.await.unwrap().unwrap(), 5);
        assert_eq!(trace.take(), "r", "nobody read in vain");
        let drain = thread::spawn(move || io::copy(&mut peer, &mut io::sink()).unwrap());
        let sent = writer.await.unwrap();
        drop(stream);
        assert_eq!(drain.join().unwrap(), sent as u64);
    });
}

/// A combinator polls by a waker of its own: number and waker take turns in one place.
#[test]
fn a_task_and_a_foreign_waker_replace_each_other() {
    struct Flag(AtomicBool);
    impl Wake for Flag {
        fn wake(self: Arc<Self>) {
            self.0.store(true, Relaxed);
        }
    }
    run(async {
        let (mut peer, stream, _) = counted();
        let flag = Arc::new(Flag(false.into()));
        let waker = Waker::from(flag.clone());
        let mut foreign = std::task::Context::from_waker(&waker);
        // The foreign one comes last, and holds the place of the task.
        let waiting = reader(&stream).await;
        assert!(stream.poll_read(&mut foreign, &mut [0; 64]).is_pending());
        assert_eq!(Arc::strong_count(&flag), 3);
        peer.write_all(b"one").unwrap();
        while !flag.0.load(Relaxed) {
            yield_now().await;
        }
        assert!(!waiting.is_finished());
        let Poll::Ready(Ok(3)) = stream.poll_read(&mut foreign, &mut [0; 64]) else { panic!("woken for it") };
        // The task comes last, and what it replaces is dropped.
        assert!(stream.poll_read(&mut foreign, &mut [0; 64]).is_pending());
        waiting.abort();
        let waiting = reader(&stream).await;
        assert_eq!(Arc::strong_count(&flag), 2);
        peer.write_all(b"four").unwrap();
        assert_eq!(waiting.await.unwrap().unwrap(), 4);
    });
}
