//! Real sockets on the loopback. What must not happen by accident waits for an event that is certain to come.

mod attempts;
mod halves;
mod unix;

use std::cell::Cell;
use std::future::{Future, poll_fn};
use std::io::{self, ErrorKind, IoSlice, IoSliceMut, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener as StdListener, TcpStream as StdStream};
use std::path::PathBuf;
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::task::Poll;
use std::thread;
use std::time::Duration;

use context::Context;
use futures_lite::{AsyncReadExt, AsyncWriteExt};

use super::*;
use crate::{Runtime, current, spawn, spawn_in, yield_now};

const LOCAL: &str = "127.0.0.1:0";

fn run<F: Future>(future: F) -> F::Output {
    Runtime::new().unwrap().block_on(future)
}

async fn pair() -> (TcpStream, TcpStream) {
    let listener = TcpListener::bind(LOCAL).await.unwrap();
    let client = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
    let (server, from) = listener.accept().await.unwrap();
    assert_eq!(client.local_addr().unwrap(), from);
    (client, server)
}

fn sources() -> usize {
    current::with(|core| core.unwrap().reactor.len())
}

async fn poll_once<F: Future>(future: F) -> Poll<F::Output> {
    let mut future = pin!(future);
    poll_fn(|cx| Poll::Ready(future.as_mut().poll(cx))).await
}

#[test]
fn handles_go_anywhere() {
    fn check<T: Send + Sync + Unpin>() {}
    check::<TcpListener>();
    check::<TcpStream>();
    check::<UdpSocket>();
    check::<UnixListener>();
    check::<UnixStream>();
    check::<UnixDatagram>();
    check::<ReadHalf<'static, TcpStream>>();
    check::<OwnedReadHalf<TcpStream>>();
    check::<OwnedWriteHalf<UnixStream>>();

    fn send<T: Send>(_: T) {}
    send(TcpStream::connect(LOCAL));
    send(TcpListener::bind("localhost:0"));
    send(async {
        let (mut stream, _) = TcpListener::bind(LOCAL).await?.accept().await?;
        stream.read(&mut [0]).await
    });
}

#[test]
fn echo_of_bytes_that_trickle_in() {
    let listener = StdListener::bind(LOCAL).unwrap();
    let addr = listener.local_addr().unwrap();
    let peer = thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        stream.set_nodelay(true).unwrap();
        let mut back = [0; 1];
        for byte in b"one by one" {
            // Each is sent when the one before has come back.
            stream.write_all(&[*byte]).unwrap();
            stream.read_exact(&mut back).unwrap();
            assert_eq!(back[0], *byte);
        }
    });
    let echoed = run(async {
        let mut stream = TcpStream::connect(addr).await.unwrap();
        assert_eq!(stream.peer_addr().unwrap(), addr);
        let (mut buf, mut echoed) = ([0; 64], Vec::new());
        loop {
            let length = stream.read(&mut buf).await.unwrap();
            if length == 0 {
                return echoed;
            }
            stream.write_all(&buf[..length]).await.unwrap();
            echoed.extend_from_slice(&buf[..length]);
        }
    });
    assert_eq!(echoed, b"one by one");
    peer.join().unwrap();
}

/// Far more than the kernel's buffers hold: the writer has to wait for the reader again and again.
#[test]
fn large_writes_wait_for_the_reader() {
    const LENGTH: usize = 8 << 20;
    run(async {
        let (client, server) = pair().await;
        let (_keep, mut write) = client.into_split();
        let writer = spawn(async move {
            let data: Vec<u8> = (0..LENGTH).map(|n| (n % 251) as u8).collect();
            write.write_all(&data).await
        });
        let (mut server, mut seen, mut buf) = (server, 0, vec![0; 1 << 16]);
        loop {
            let length = server.read(&mut buf).await.unwrap();
            if length == 0 {
                break;
            }
            let expected = (seen..seen + length).map(|n| (n % 251) as u8);
            assert!(buf[..length].iter().copied().eq(expected));
            seen += length;
        }
        assert_eq!(seen, LENGTH);
        writer.await.unwrap().unwrap();
    });
}

#[test]
fn vectored_transfers_move_all_buffers_in_one_go() {
    run(async {
        let (mut client, mut server) = pair().await;
        let written = poll_fn(|cx| {
            let bufs = [IoSlice::new(b"hel"), IoSlice::new(b""), IoSlice::new(b"lo")];
            futures_io::AsyncWrite::poll_write_vectored(Pin::new(&mut client), cx, &bufs)
        });
        assert_eq!(written.await.unwrap(), 5);
        let (mut one, mut other) = ([0; 2], [0; 8]);
        let read = poll_fn(|cx| {
            let mut bufs = [IoSliceMut::new(&mut one), IoSliceMut::new(&mut other)];
            futures_io::AsyncRead::poll_read_vectored(Pin::new(&mut server), cx, &mut bufs)
        });
        assert_eq!(read.await.unwrap(), 5);
        assert_eq!((&one, &other[..3]), (b"he", &b"llo"[..]));
    });
}

/// More buffers than one system call takes: what is left after it must not be taken for nothing.
#[test]
fn thousands_of_buffers_do_not_stall() {
    run(async {
        let (mut client, mut server) = pair().await;
        client.write_all(&[7; 3000]).await.unwrap();
        server.readable().await.unwrap();
        let (mut seen, mut bytes) = (0, [0_u8; 3000]);
        while seen < bytes.len() {
            let mut bufs: Vec<_> = bytes[seen..].chunks_mut(1).map(IoSliceMut::new).collect();
            seen +=
                poll_fn(|cx| futures_io::AsyncRead::poll_read_vectored(Pin::new(&mut server), cx, &mut bufs))
                    .await
                    .unwrap();
        }
        assert_eq!(bytes, [7; 3000]);
    });
}

#[test]
fn a_reset_reaches_reader_and_writer() {
    run(async {
        let (client, mut server) = pair().await;
        server.write_all(b"never read").await.unwrap();
        // Closing a socket that has unread bytes resets the connection.
        client.readable().await.unwrap();
        drop(client);
        let error = server.read(&mut [0]).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::ConnectionReset);
        let error = loop {
            if let Err(error) = server.write(b"into the void").await {
                break error;
            }
        };
        assert_eq!(error.kind(), ErrorKind::BrokenPipe);
    });
}

#[test]
fn connecting_to_nobody_is_refused() {
    run(async {
        let listener = StdListener::bind(LOCAL).unwrap();
        let nobody = listener.local_addr().unwrap();
        drop(listener);
        let error = TcpStream::connect(nobody).await.unwrap_err();
        assert_eq!((error.kind(), sources()), (ErrorKind::ConnectionRefused, 0));

        // Of several the first that answers.
        let listener = TcpListener::bind(LOCAL).await.unwrap();
        let somebody = listener.local_addr().unwrap();
        let stream = TcpStream::connect(&[nobody, somebody][..]).await.unwrap();
        assert_eq!(stream.peer_addr().unwrap(), somebody);
        let error = TcpStream::connect(&[] as &[SocketAddr]).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidInput);
    });
}

/// Trap 22: names are looked up elsewhere, while the loop goes on, and on the caller's account.
#[test]
fn trap_22_names_are_resolved_off_the_loop() {
    run(async {
        let turns = Rc::new(Cell::new(0));
        let other = {
            let turns = turns.clone();
            spawn(async move {
                loop {
                    turns.set(turns.get() + 1);
                    yield_now().await;
                }
            })
        };
        let listener = TcpListener::bind("localhost:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let stream = TcpStream::connect(("localhost", port)).await.unwrap();
        assert_eq!(stream.peer_addr().unwrap().port(), port);
        assert!(turns.get() > 0);
        assert_eq!(Context::current().usage().blocking.jobs, 2);
        other.abort();
        assert!(lookup_host("no port").await.is_err());
    });
}

#[test]
fn an_accept_loop_serves_many() {
    const CLIENTS: usize = 100;
    run(async {
        let listener = TcpListener::bind(LOCAL).await.unwrap();
        let addr = listener.local_addr().unwrap();
        let server = spawn(async move {
            loop {
                let (mut stream, _) = listener.accept().await.unwrap();
                drop(spawn(async move {
                    let mut buf = [0; 4];
                    stream.read_exact(&mut buf).await.unwrap();
                    stream.write_all(&buf).await.unwrap();
                }));
            }
        });
        let clients: Vec<_> = (0..CLIENTS as u32)
            .map(|n| {
                spawn(async move {
                    let mut stream = TcpStream::connect(addr).await.unwrap();
                    stream.write_all(&n.to_le_bytes()).await.unwrap();
                    let mut buf = [0; 4];
                    stream.read_exact(&mut buf).await.unwrap();
                    u32::from_le_bytes(buf)
                })
            })
            .collect();
        for (n, client) in clients.into_iter().enumerate() {
            assert_eq!(client.await.unwrap() as usize, n);
        }
        server.abort();
        assert!(server.await.unwrap_err().is_cancelled());
        assert_eq!(sources(), 0);
    });
}

#[test]
fn attempts_say_what_is_known() {
    run(async {
        let (client, server) = pair().await;
        let mut buf = [0; 8];
        assert_eq!(server.try_read(&mut buf).unwrap_err().kind(), ErrorKind::WouldBlock);
        assert_eq!(client.try_write_vectored(&[IoSlice::new(b"pi"), IoSlice::new(b"ng")]).unwrap(), 4);
        server.readable().await.unwrap();
        assert_eq!(server.peek(&mut buf).await.unwrap(), 4);
        assert_eq!(server.try_read_vectored(&mut [IoSliceMut::new(&mut buf)]).unwrap(), 4);
        assert_eq!(&buf[..4], b"ping");
        assert_eq!(server.try_read(&mut buf).unwrap_err().kind(), ErrorKind::WouldBlock);

        // Until nothing fits any more; then it is writable again when the peer has read.
        client.writable().await.unwrap();
        let mut sent = 0;
        let error = loop {
            match client.try_write(&[0; 1 << 16]) {
                Ok(length) => sent += length,
                Err(error) => break error,
            }
        };
        assert_eq!(error.kind(), ErrorKind::WouldBlock);
        assert!(poll_once(client.writable()).await.is_pending());
        (&server).read_exact(&mut vec![0; sent]).await.unwrap();
        client.writable().await.unwrap();
        assert!(client.try_write(b"x").is_ok());
    });
}

#[test]
fn options_are_set() {
    run(async {
        let (client, _server) = pair().await;
        client.set_nodelay(true).unwrap();
        client.set_ttl(42).unwrap();
        assert!(client.nodelay().unwrap() && client.ttl().unwrap() == 42);
        assert!(client.take_error().unwrap().is_none());
        let udp = UdpSocket::bind(LOCAL).await.unwrap();
        udp.set_broadcast(true).unwrap();
        udp.set_ttl(7).unwrap();
        assert!(udp.broadcast().unwrap() && udp.ttl().unwrap() == 7);
    });
}

#[test]
fn sockets_come_from_the_standard_library_and_go_back() {
    run(async {
        let listener = TcpListener::from_std(StdListener::bind(LOCAL).unwrap()).unwrap();
        let addr = listener.local_addr().unwrap();
        let client = TcpStream::from_std(StdStream::connect(addr).unwrap()).unwrap();
        let (mut server, _) = listener.accept().await.unwrap();
        assert_eq!(sources(), 3);
        let client = client.into_std().unwrap();
        assert_eq!(sources(), 2);
        client.set_nonblocking(false).unwrap();
        (&client).write_all(b"std").unwrap();
        let mut buf = [0; 3];
        server.read_exact(&mut buf).await.unwrap();
        let listener = listener.into_std().unwrap();
        assert_eq!(listener.local_addr().unwrap(), addr);
        // And here again, as if nothing had been.
        let mut client = TcpStream::from_std(client).unwrap();
        server.write_all(b"back").await.unwrap();
        client.read_exact(&mut buf).await.unwrap();
        assert_eq!(&buf, b"bac");
    });
}

#[test]
fn used_away_from_home_a_socket_says_so() {
    #[track_caller]
    fn check<T: std::fmt::Debug>(result: io::Result<T>, what: &str) {
        let error = result.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unsupported);
        assert!(error.to_string().starts_with(what), "{error}");
    }
    let home = Runtime::new().unwrap();
    let (listener, (mut stream, _server), udp, (unix, _other)) = home.block_on(async {
        let listener = TcpListener::bind(LOCAL).await.unwrap();
        let udp = UdpSocket::bind(LOCAL).await.unwrap();
        (listener, pair().await, udp, UnixStream::pair().unwrap())
    });
    let away = async move {
        check(listener.accept().await, "a TCP listener");
        check(stream.read(&mut [0]).await, "a TCP stream");
        check(stream.write(b"x").await, "a TCP stream");
        check(stream.readable().await, "a TCP stream");
        check(stream.try_read(&mut [0]), "a TCP stream");
        check(udp.recv_from(&mut [0]).await, "a UDP socket");
        check(unix.writable().await, "a Unix stream");
        check(stream.into_std(), "a TCP stream");
    };
    // With a runtime on that thread, and then without. All that was moved there is dropped there.
    thread::spawn(|| run(away)).join().unwrap();
    home.block_on(async {
        for _ in 0..1000 {
            yield_now().await;
        }
        assert_eq!(sources(), 2);
    });
    let result = thread::spawn(|| futures_lite::future::block_on(TcpListener::bind(LOCAL))).join().unwrap();
    assert_eq!(
        result.unwrap_err().to_string(),
        "there is no runtime on this thread for a TCP listener: make it within `Runtime::block_on`"
    );
}

#[test]
fn a_socket_dropped_on_another_thread_is_forgotten_at_home() {
    run(async {
        let (client, mut server) = pair().await;
        assert_eq!(sources(), 2);
        let reader = spawn(async move { server.read(&mut [0]).await });
        yield_now().await;
        thread::spawn(move || drop(client)).join().unwrap();
        // It is closed at once, and the message is there.
        assert_eq!(reader.await.unwrap().unwrap(), 0);
        for _ in 0..1000 {
            yield_now().await;
        }
        assert_eq!(sources(), 0);
    });
}

#[test]
fn a_socket_outlives_its_runtime() {
    let (client, server) = run(pair());
    assert_eq!(client.peer_addr().unwrap(), server.local_addr().unwrap());
    assert_eq!(run(client.readable()).unwrap_err().kind(), ErrorKind::Unsupported);
    drop((client, server));
}

/// An echo that never has to wait does not keep timers from firing.
#[test]
fn a_socket_that_is_always_ready_lets_a_timer_fire() {
    run(async {
        let (mut one, mut other) = UnixStream::pair().unwrap();
        let busy = spawn(async move {
            let mut buf = [0; 1];
            loop {
                one.write_all(b"x").await.unwrap();
                other.read_exact(&mut buf).await.unwrap();
            }
        });
        crate::time::sleep(Duration::from_millis(2)).await;
        busy.abort();
        assert!(busy.await.unwrap_err().is_cancelled());
    });
}

/// A task with more idle sockets than a poll has budget waits for them all.
#[test]
fn a_task_with_many_idle_sockets_does_not_spin() {
    run(async {
        let pairs: Vec<_> = (0..300).map(|_| UnixDatagram::pair().unwrap()).collect();
        let polls = Rc::new(Cell::new(0));
        let counted = polls.clone();
        let (near, far): (Vec<_>, Vec<_>) = pairs.into_iter().unzip();
        let waiter = spawn(poll_fn(move |cx| {
            counted.set(counted.get() + 1);
            let ready = near.iter().position(|socket| socket.poll_recv(cx, &mut [0]).is_ready());
            ready.map_or(Poll::Pending, Poll::Ready)
        }));
        for _ in 0..100 {
            yield_now().await;
        }
        assert_eq!(polls.get(), 1);
        far[299].send(b"x").await.unwrap();
        assert_eq!(waiter.await.unwrap(), 299);
    });
}

/// Trap 25: a connection that was made in a request, and waited on there, holds nothing of it.
#[test]
fn trap_25_a_socket_holds_no_context() {
    run(async {
        let request = Context::root("trap 25 socket");
        let id = request.id();
        let (client, _server) = spawn_in(&request, async {
            let (mut client, server) = pair().await;
            assert!(poll_once(client.read(&mut [0])).await.is_pending());
            (client, server)
        })
        .await
        .unwrap();
        request.finish();
        drop(request);
        assert!(context::live().iter().all(|snapshot| snapshot.id != id));
        assert!(client.peer_addr().is_ok());
    });
}

#[test]
fn datagrams_go_round() {
    run(async {
        let (one, other) = (UdpSocket::bind(LOCAL).await.unwrap(), UdpSocket::bind(LOCAL).await.unwrap());
        let (one_addr, other_addr) = (one.local_addr().unwrap(), other.local_addr().unwrap());
        let mut buf = [0; 16];
        assert_eq!(one.try_recv(&mut buf).unwrap_err().kind(), ErrorKind::WouldBlock);
        let receiver = spawn(async move {
            let mut buf = [0; 16];
            let (length, from) = other.recv_from(&mut buf).await.unwrap();
            other.send_to(&buf[..length], from).await.unwrap();
            other
        });
        one.send_to(b"ping", other_addr).await.unwrap();
        assert_eq!(one.peek_from(&mut buf).await.unwrap(), (4, other_addr));
        one.readable().await.unwrap();
        assert_eq!(one.try_recv_from(&mut buf).unwrap(), (4, other_addr));

        let other = receiver.await.unwrap();
        one.connect(other_addr).await.unwrap();
        other.connect(one_addr).await.unwrap();
        assert_eq!(one.peer_addr().unwrap(), other_addr);
        // Two at once: the second is not lost for the first having been read.
        one.send(b"a").await.unwrap();
        one.try_send(b"bc").unwrap();
        assert_eq!(other.recv(&mut buf).await.unwrap(), 1);
        assert_eq!(other.recv(&mut buf).await.unwrap(), 2);
    });
}
