//! Requests among many connections.
//!
//! The clients are a process of their own: every connection takes a file descriptor at both ends, and their memory is not
//! the server's. What would make it worse: a poll set that is walked, a table of sources that is moved when it grows, a
//! buffer for each connection that waits.

use crate::case::stopwatch::Stopwatch;
use crate::peer::Network;
use rustix::net::{AddressFamily, SocketType};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4, TcpStream};
use std::process::{ChildStdin, Command, Stdio};
use std::thread::{self, JoinHandle};

/// Connections in use.
const ACTIVE: u64 = 50;
const ROUNDS: u64 = 400;
const SIZE: usize = 64;
const SIZES: [u64; 8] = [1, 10, 100, 1_000, 5_000, 10_000, 19_900, 50_000];
/// Descriptors for all else.
const RESERVE: u64 = 64;
/// Connections from one address: the fewer of its ports are taken, the sooner a free one is found.
const AN_ADDRESS: u64 = 4_000;
/// How this program asks itself to be the clients: the port, how many, how many rounds.
const CLIENTS: &str = "--clients";

/// Up to 50,000, or as many as one process may have descriptors.
pub(super) fn sizes() -> Vec<u64> {
    let most = getrlimit(Resource::Nofile).maximum.unwrap_or(u64::MAX).saturating_sub(RESERVE);
    SIZES.into_iter().filter(|size| *size <= most).collect()
}

/// us of CPU for a request while `n` connections are open.
pub(super) fn request<P: Network>(n: u64) -> f64 {
    P::block_on(serve::<P>(n)).0
}

/// Bytes of resident memory that the server has for each of `n` connections.
pub(super) fn memory<P: Network>(n: u64) -> f64 {
    P::block_on(serve::<P>(n)).1
}

async fn serve<P: Network>(n: u64) -> (f64, f64) {
    raise_limit();
    let (listener, address) = P::listen().expect("a free port");
    let mut clients = start_clients(address, n);
    let before = resident();
    let active = n.min(ACTIVE);
    let mut in_use = Vec::new();
    for number in 0..n {
        let stream = P::accept(&listener).await.expect("a connection");
        let task = P::spawn_here(&P::context(), echo::<P>(stream));
        if number < active { in_use.push(task) } else { std::mem::forget(task) }
    }
    // The last ones are polled once before the memory is looked at.
    P::yield_now().await;
    let bytes = (resident() - before) / n as f64;
    let began = Stopwatch::start();
    clients.input.write_all(b"\n").expect("the clients listen");
    for task in in_use {
        task.await.expect("the task neither panics nor is aborted");
    }
    let took = began.elapsed();
    drop(clients.input);
    clients.end.join().expect("the clients end");
    (took.as_secs_f64() * 1e6 / (ROUNDS * active) as f64, bytes)
}

async fn echo<P: Network>(mut stream: P::Stream) {
    let mut buf = [0; SIZE];
    // A client that is gone is no error.
    while let Ok(n @ 1..) = P::read(&mut stream, &mut buf).await {
        P::write_all(&mut stream, &buf[..n]).await.expect("a write");
    }
}

fn resident() -> f64 {
    let statm = std::fs::read_to_string("/proc/self/statm").expect("a kernel that tells");
    let pages: f64 = statm.split(' ').nth(1).and_then(|pages| pages.parse().ok()).expect("a number of pages");
    pages * rustix::param::page_size() as f64
}

fn raise_limit() {
    let maximum = getrlimit(Resource::Nofile).maximum;
    setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum }).expect("the limit can be raised");
}

// ---- the clients ---------------------------------------------------------------------------------------------------

struct Clients {
    input: ChildStdin,
    end: JoinHandle<()>,
}

fn start_clients(address: SocketAddr, n: u64) -> Clients {
    let this = std::env::current_exe().expect("the path of this program");
    let arguments = [u64::from(address.port()), n, ROUNDS].map(|number| number.to_string());
    let mut command = Command::new(this);
    command.arg(CLIENTS).args(arguments).stdin(Stdio::piped());
    let mut clients = command.spawn().expect("this program runs again");
    let input = clients.stdin.take().expect("a pipe");
    let end = thread::spawn(move || {
        // One that cannot connect is the end of all, and nobody should wait for the rest.
        if !clients.wait().expect("a child").success() {
            std::process::exit(1);
        }
    });
    Clients { input, end }
}

/// What this program does when it is asked to be the clients; false if it is not.
///
/// Connects, waits for a line, asks on the connections in use, closes these, and waits for the end of its input.
pub fn ask(arguments: &[String]) -> bool {
    let [first, port, n, rounds] = arguments else { return false };
    if first != CLIENTS {
        return false;
    }
    raise_limit();
    let [port, n, rounds] = [port, n, rounds].map(|number| number.parse::<u64>().expect("a number"));
    let server = SocketAddrV4::new(Ipv4Addr::LOCALHOST, port as u16);
    let mut streams: Vec<TcpStream> = (0..n).map(|number| connect(server, number)).collect();
    let mut input = BufReader::new(std::io::stdin());
    input.read_line(&mut String::new()).expect("the server says when");
    let mut buf = [7; SIZE];
    let active = n.min(ACTIVE) as usize;
    for _ in 0..rounds {
        streams[..active].iter_mut().for_each(|stream| stream.write_all(&buf).expect("a write"));
        streams[..active].iter_mut().for_each(|stream| stream.read_exact(&mut buf).expect("an answer"));
    }
    streams.drain(..active);
    input.read_to_end(&mut Vec::new()).expect("the server says when");
    true
}

/// From 127.0.0.2 on: one address has 28,000 ports only.
fn connect(server: SocketAddrV4, number: u64) -> TcpStream {
    let from = Ipv4Addr::new(127, 0, 0, 2 + (number / AN_ADDRESS) as u8);
    let socket = rustix::net::socket(AddressFamily::INET, SocketType::STREAM, None).expect("a socket");
    // Ports that earlier runs have used may still rest.
    rustix::net::sockopt::set_socket_reuseaddr(&socket, true).expect("an option");
    rustix::net::bind(&socket, &SocketAddrV4::new(from, 0)).expect("a free port");
    rustix::net::connect(&socket, &server).expect("the server listens");
    let stream = TcpStream::from(socket);
    stream.set_nodelay(true).expect("no delay");
    stream
}
