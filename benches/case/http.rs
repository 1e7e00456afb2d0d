//! A server that answers `hello` over HTTP/1 on 50 connections that stay open: CPU ns of its thread for a request.
//!
//! Everyone uses hyper, through the runtime's own adaptors and with hyper's timeout for heads on. On Bursar each request
//! has a root context, which is charged and finished; nothing is logged. What would make it worse: what makes the echo
//! worse; a timer that costs an allocation or a place in the wheel for each request; a context that is not reused
//! memory. Instructions are counted of `lockstep`.

use super::Case;
use super::stopwatch::Stopwatch;
use crate::peer::{HELLO, Server};
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::thread;
use std::time::Duration;

const CONNECTIONS: u64 = 50;
pub(super) const REQUEST: &[u8] = b"GET /hello HTTP/1.1\r\nhost: localhost\r\n\r\n";
const HEAD_END: &[u8] = b"\r\n\r\n";

/// Each request in a root context of its own.
pub(super) struct Hello;

impl<P: Server> Case<P> for Hello {
    const NAME: &'static str = "HTTP/1 hello, 50 connections, CPU of the server";

    fn run(ops: u64) -> Duration {
        P::block_on(serve::<P>(ops / CONNECTIONS))
    }
}

async fn serve<P: Server>(rounds: u64) -> Duration {
    let (listener, address) = P::listen().expect("a free port");
    let client = thread::spawn(move || ask(address, rounds));
    let mut tasks = Vec::new();
    for _ in 0..CONNECTIONS {
        let stream = P::accept(&listener).await.expect("a connection");
        tasks.push(P::spawn_here(&P::context(), P::serve_hello(stream)));
    }
    let began = Stopwatch::start();
    for task in tasks {
        task.await.expect("the task neither panics nor is aborted");
    }
    let took = began.elapsed();
    client.join().expect("the client ends");
    took
}

/// Asks on every connection, then waits for every answer.
fn ask(address: SocketAddr, rounds: u64) {
    let connect = |_| {
        let stream = TcpStream::connect(address).expect("the server listens");
        stream.set_nodelay(true).expect("no delay");
        stream
    };
    let mut streams: Vec<TcpStream> = (0..CONNECTIONS).map(connect).collect();
    // One tells how long they all are: the date in them is always written in as many bytes.
    let mut answer = vec![0; answer_length(&mut streams[0])];
    for _ in 0..rounds {
        streams.iter_mut().for_each(|stream| stream.write_all(REQUEST).expect("a write"));
        streams.iter_mut().for_each(|stream| stream.read_exact(&mut answer).expect("an answer"));
    }
    assert!(
        answer.starts_with(b"HTTP/1.1 200 ") && answer.ends_with(HELLO.as_bytes()),
        "the answers are in step"
    );
}

/// Asks once, and reads up to the end of the body.
fn answer_length(stream: &mut TcpStream) -> usize {
    stream.write_all(REQUEST).expect("a write");
    let mut answer = Vec::new();
    let mut byte = [0];
    while !answer.ends_with(HEAD_END) {
        stream.read_exact(&mut byte).expect("a head");
        answer.extend(byte);
    }
    let mut body = [0; HELLO.len()];
    stream.read_exact(&mut body).expect("a body");
    assert_eq!(body, *HELLO.as_bytes(), "the answer has the body that was sent");
    answer.len() + body.len()
}
