//! Servers asked in lock step, to be counted: user instructions for a request on one of 50 connections.
//!
//! Client and server share one thread, and the client asks on all connections at once when it has all the answers. So
//! every wait of the server brings 50 requests, in the same order, on every machine and under any emulator: with a client
//! on a thread of its own it is chance whether a wait brings 1 or 50. What the client does is one function,
//! [`Client::next_round`], which callgrind is told to leave out; what is left of it is the poll of its task, a fiftieth
//! of a request's.
//!
//! What would make it worse: a visit to the event, the source or the task more than once a request; checks around a read;
//! a copy between buffers; a timer or a context that is dear to make.

use super::Case;
use super::stopwatch::Stopwatch;
use crate::Peer;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::time::Duration;

const CONNECTIONS: u64 = 50;
const ECHOED: [u8; 64] = [7; 64];
/// The longest wait for an answer that must be there already.
const PATIENCE: Duration = Duration::from_secs(2);

/// The name of the function to leave out, as callgrind wants it.
pub const CLIENT: &str = "*lockstep*next_round*";

/// 64 bytes back, each connection in a context of its own.
pub(super) struct Echo;

impl Case for Echo {
    const NAME: &'static str = "TCP echo, a request, in lock step";

    fn run<P: Peer>(ops: u64) -> Duration {
        run::<P>(&ECHOED, ops, |stream| P::spawn_in(&P::context(), super::echo::echo::<P>(stream)))
    }
}

/// hyper's hello, each request in a root context of its own.
pub(super) struct Hello;

impl Case for Hello {
    const NAME: &'static str = "HTTP hello, a request, in lock step";

    fn run<P: Peer>(ops: u64) -> Duration {
        run::<P>(super::http::REQUEST, ops, |stream| P::spawn_in(&P::context(), P::serve_hello(stream)))
    }
}

/// Serves every connection by `serve`, and sends `request` on each of them as often as makes `ops` in all.
fn run<P: Peer>(request: &'static [u8], ops: u64, serve: fn(P::Stream) -> P::Handle<()>) -> Duration {
    let (listener, address) = listen();
    let (bells, bell_address) = listen();
    P::block_on(async {
        let listener = P::listener(listener).expect("a listener");
        let bells = P::listener(bells).expect("a listener");
        let mut client = Client::new(request, connect(bell_address));
        let mut tasks = Vec::new();
        for _ in 0..CONNECTIONS {
            client.streams.push(connect(address));
            tasks.push(serve(P::accept(&listener).await.expect("a connection")));
        }
        // The last one that the poller hears of, so that it comes last.
        let bell = P::accept(&bells).await.expect("a connection");
        let took = P::spawn(ask::<P>(client, bell, ops / CONNECTIONS));
        let took = took.await.expect("the task neither panics nor is aborted");
        for task in tasks {
            task.await.expect("the task neither panics nor is aborted");
        }
        took
    })
}

/// The client's task. Its bell rings after the last request, so it is woken after the last server, and runs after it.
async fn ask<P: Peer>(mut client: Client, mut bell: P::Stream, rounds: u64) -> Duration {
    // Else the poller's first word of the bell, that one can write, might come before all requests.
    client.ring();
    hear::<P>(&mut bell).await;
    let began = Stopwatch::start();
    for _ in 0..rounds {
        client.next_round();
        hear::<P>(&mut bell).await;
    }
    client.finish();
    began.elapsed()
}

async fn hear<P: Peer>(bell: &mut P::Stream) {
    // One more than there is: a short read says that nothing is left, so the next one waits.
    let heard = P::read(bell, &mut [0; 2]).await.expect("a read");
    assert_eq!(heard, 1, "the bell rings once a round");
}

struct Client {
    request: &'static [u8],
    rope: TcpStream,
    streams: Vec<TcpStream>,
    /// Bytes of an answer; 0 until there was one.
    answer: usize,
    asked: bool,
    buf: [u8; 1024],
}

impl Client {
    fn new(request: &'static [u8], rope: TcpStream) -> Self {
        Self { request, rope, streams: Vec::new(), answer: 0, asked: false, buf: [0; 1024] }
    }

    /// Takes all answers, asks anew on every connection, and rings the bell.
    #[inline(never)]
    fn next_round(&mut self) {
        self.finish();
        self.streams.iter_mut().for_each(|stream| stream.write_all(self.request).expect("a write"));
        self.asked = true;
        self.ring();
    }

    fn ring(&mut self) {
        self.rope.write_all(&[1]).expect("a write");
    }

    /// Takes the answers that are still out.
    fn finish(&mut self) {
        if !std::mem::take(&mut self.asked) {
            return;
        }
        for stream in &mut self.streams {
            if self.answer == 0 {
                self.answer = stream.read(&mut self.buf).expect("an answer");
            } else {
                stream.read_exact(&mut self.buf[..self.answer]).expect("an answer");
            }
        }
    }
}

fn listen() -> (TcpListener, SocketAddr) {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port");
    listener.set_nonblocking(true).expect("a non-blocking socket");
    let address = listener.local_addr().expect("an address");
    (listener, address)
}

/// The kernel accepts for the listener, which need not run for that.
fn connect(address: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect(address).expect("the server listens");
    stream.set_nodelay(true).expect("no delay");
    stream.set_read_timeout(Some(PATIENCE)).expect("a limit");
    stream
}
