//! A server that echoes 64 bytes on 50 connections over loopback: CPU ns of its thread for a request, kernel and all.
//!
//! The kernel has nine tenths of it. What would make it worse: a system call that is known to end in `EAGAIN`, more than
//! one `epoll_wait` for the requests that are there, a wake that does more than queue.
//! Instructions are counted of `lockstep`.

use super::Case;
use super::stopwatch::Stopwatch;
use crate::peer::Network;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::thread;
use std::time::Duration;

const CONNECTIONS: u64 = 50;
const SIZE: usize = 64;
/// What the server has room for: more than a request, so that it sees without asking again that there is no more.
const ROOM: usize = 1024;

/// Each connection in a context of its own.
pub(super) struct Echo;

impl<P: Network> Case<P> for Echo {
    const NAME: &'static str = "TCP echo, 50 connections, CPU of the server";

    fn run(ops: u64) -> Duration {
        P::block_on(serve::<P>(ops / CONNECTIONS))
    }
}

async fn serve<P: Network>(rounds: u64) -> Duration {
    let (listener, address) = P::listen().expect("a free port");
    let client = thread::spawn(move || ask(address, rounds));
    let mut tasks = Vec::new();
    for _ in 0..CONNECTIONS {
        let stream = P::accept(&listener).await.expect("a connection");
        tasks.push(P::spawn_here(&P::context(), echo::<P>(stream)));
    }
    let began = Stopwatch::start();
    for task in tasks {
        task.await.expect("the task neither panics nor is aborted");
    }
    let took = began.elapsed();
    client.join().expect("the client ends");
    took
}

pub(super) async fn echo<P: Network>(mut stream: P::Stream) {
    let mut buf = [0; ROOM];
    loop {
        match P::read(&mut stream, &mut buf).await.expect("a read") {
            0 => return,
            n => P::write_all(&mut stream, &buf[..n]).await.expect("a write"),
        }
    }
}

/// Asks on every connection, then waits for every answer.
fn ask(address: SocketAddr, rounds: u64) {
    let connect = |_| {
        let stream = TcpStream::connect(address).expect("the server listens");
        stream.set_nodelay(true).expect("no delay");
        stream
    };
    let mut streams: Vec<TcpStream> = (0..CONNECTIONS).map(connect).collect();
    let mut buf = [7; SIZE];
    for _ in 0..rounds {
        streams.iter_mut().for_each(|stream| stream.write_all(&buf).expect("a write"));
        streams.iter_mut().for_each(|stream| stream.read_exact(&mut buf).expect("an answer"));
    }
}
