//! Servers asked in lock step, to be counted: user instructions for a request on one of 50 connections.
//!
//! Client and server share one thread, and the client asks on all connections at once when it has all the answers. So
//! every wait of the server brings 50 requests, in the same order, on every machine and under any emulator: with a client
//! on a thread of its own it is chance whether a wait brings 1 or 50. What the client does is one function,
//! `Client::next_round`, which callgrind is told to leave out; what is left of it is the poll of its task, a fiftieth
//! of a request's.
//!
//! What would make it worse: a visit to the event, the source or the task more than once a request; checks around a read;
//! a copy between buffers; a timer or a context that is dear to make.

use super::Case;
use super::stopwatch::Stopwatch;
use crate::peer::{Network, Server};
use std::future::{Future, poll_fn};
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::pin::pin;
use std::time::Duration;

const CONNECTIONS: u64 = 50;
const ECHOED: [u8; 64] = [7; 64];
/// The longest wait for an answer that must be there already.
const PATIENCE: Duration = Duration::from_secs(2);

/// The name of the function to leave out, as callgrind wants it.
const CLIENT: &str = "*lockstep*next_round*";
/// And what else is not: fastrace's clock measures itself before `main`, for as long as it takes that day.
const CLOCK_OF_A_PEER: &str = "fastant::*ctor*";
/// The functions that callgrind leaves out.
pub const LEFT_OUT: [&str; 2] = [CLIENT, CLOCK_OF_A_PEER];

/// 64 bytes back, each connection in a context of its own.
pub(super) struct Echo;

impl<P: Network> Case<P> for Echo {
    const NAME: &'static str = "TCP echo, a request, in lock step";

    fn run(ops: u64) -> Duration {
        run::<P>(&ECHOED, ops, |stream| P::spawn_here(&P::context(), super::echo::echo::<P>(stream)))
    }
}

/// hyper's hello, each request in a root context of its own.
pub(super) struct Hello;

impl<P: Server> Case<P> for Hello {
    const NAME: &'static str = "HTTP hello, a request, in lock step";

    fn run(ops: u64) -> Duration {
        run::<P>(super::http::REQUEST, ops, |stream| P::spawn_here(&P::context(), P::serve_hello(stream)))
    }
}

/// Serves every connection by `serve`, and sends `request` on each of them as often as makes `ops` in all.
fn run<P: Network>(request: &'static [u8], ops: u64, serve: fn(P::Stream) -> P::Handle<()>) -> Duration {
    P::block_on(async {
        let (listener, address) = P::listen().expect("a free port");
        let mut client = Client::new(request, connect(address));
        let mut bell = P::accept(&listener).await.expect("a connection");
        let mut tasks = Vec::new();
        for _ in 0..CONNECTIONS {
            client.streams.push(connect(address));
            tasks.push(serve(P::accept(&listener).await.expect("a connection")));
        }
        let rounds = ops / CONNECTIONS;
        let took = P::spawn_here(&P::context(), async move { ask::<P>(client, &mut bell, rounds).await });
        let took = took.await.expect("the task neither panics nor is aborted");
        for task in tasks {
            task.await.expect("the task neither panics nor is aborted");
        }
        took
    })
}

/// The client's task. Its bell rings after the last request, so it is woken after the last server, and runs after it.
async fn ask<P: Network>(mut client: Client, bell: &mut P::Stream, rounds: u64) -> Duration {
    first_ring::<P>(&client, bell).await;
    let began = Stopwatch::start();
    for _ in 0..rounds {
        client.next_round();
        hear::<P>(bell).await;
    }
    client.finish();
    began.elapsed()
}

/// Rings when the task waits already, so that the poller has had its first word of every socket (one can write) when the
/// first round begins: from then on it hears of requests first and of the bell last.
async fn first_ring<P: Network>(client: &Client, bell: &mut P::Stream) {
    let mut heard = pin!(hear::<P>(bell));
    let mut rung = false;
    poll_fn(|cx| {
        let heard = heard.as_mut().poll(cx);
        if !std::mem::replace(&mut rung, true) {
            client.ring();
        }
        heard
    })
    .await;
}

async fn hear<P: Network>(bell: &mut P::Stream) {
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

    fn ring(&self) {
        (&self.rope).write_all(&[1]).expect("a write");
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

/// The kernel accepts for the listener, which need not run for that.
fn connect(address: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect(address).expect("the server listens");
    stream.set_nodelay(true).expect("no delay");
    stream.set_read_timeout(Some(PATIENCE)).expect("a limit");
    stream
}
