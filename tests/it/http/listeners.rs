//! Where connections come from, and where they do not.

use super::{get_once, status};
use axum::Router;
use axum::extract::Request;
use axum::routing::get as on_get;
use context::Reason;
use futures_lite::{AsyncReadExt, AsyncWriteExt};
use runtime::http::{Listener, Peer, serve};
use runtime::net::{TcpListener, TcpStream, UnixListener, UnixStream};
use runtime::time::{Instant, sleep};
use std::cell::Cell;
use std::io;
use std::rc::Rc;
use std::time::Duration;

fn hello() -> Router {
    Router::new()
        .route("/", on_get(async |request: Request| request.extensions().get::<Peer>().unwrap().to_string()))
}

#[runtime::test(paused)]
async fn a_unix_socket_serves_as_well() {
    let path =
        std::path::Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("http-{}.sock", std::process::id()));
    let _ = std::fs::remove_file(&path);
    let server =
        runtime::background("test: server", serve(UnixListener::bind(&path).unwrap(), hello()).into_future());
    let mut client = UnixStream::connect(&path).await.unwrap();
    client.write_all(get_once("/").as_bytes()).await.unwrap();
    let mut answer = String::new();
    client.read_to_string(&mut answer).await.unwrap();
    assert!(status(&answer) == 200 && answer.ends_with("\r\n\r\nunix"), "{answer}");
    server.abort();
    std::fs::remove_file(&path).unwrap();
}

/// Fails so often before it works.
struct Failing {
    listener: TcpListener,
    failures: usize,
    error: fn() -> io::Error,
    tried: Rc<Cell<usize>>,
}

impl Listener for Failing {
    type Stream = TcpStream;

    async fn accept(&mut self) -> io::Result<(TcpStream, Peer)> {
        self.tried.set(self.tried.get() + 1);
        if self.tried.get() <= self.failures {
            return Err((self.error)());
        }
        Listener::accept(&mut self.listener).await
    }
}

/// `EMFILE`: the process is out of descriptors. The loop does not spin, and goes on when there are some.
#[runtime::test(paused)]
async fn a_lack_of_descriptors_pauses_the_server() {
    const EMFILE: i32 = 24;
    let tcp = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let addr = tcp.local_addr().unwrap();
    let tried = Rc::new(Cell::new(0));
    let error = || io::Error::from_raw_os_error(EMFILE);
    let server = serve(Failing { listener: tcp, failures: 12, error, tried: tried.clone() }, hello());
    let stats = server.stats();
    let begin = Instant::now();
    let task = runtime::background("test: server", server.into_future());
    let mut client = TcpStream::connect(addr).await.unwrap();
    client.write_all(get_once("/").as_bytes()).await.unwrap();
    let mut answer = String::new();
    client.read_to_string(&mut answer).await.unwrap();
    assert_eq!(status(&answer), 200);
    assert_eq!((tried.get(), stats.read().accept_errors), (14, 12));
    // 5 ms, doubled each time up to a second.
    let waited = begin.elapsed();
    assert!((Duration::from_secs(5)..Duration::from_secs(6)).contains(&waited), "{waited:?}");
    task.abort();
}

/// `ECONNABORTED` and its like: the client was gone before it was accepted. Others are not made to wait for that.
#[runtime::test(paused)]
async fn connections_that_are_gone_before_they_are_accepted_cost_no_time() {
    use io::ErrorKind::{ConnectionAborted, ConnectionReset, Interrupted};
    for error in [|| ConnectionAborted.into(), || ConnectionReset.into(), || io::Error::from(Interrupted)] {
        let tcp = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let addr = tcp.local_addr().unwrap();
        let tried = Rc::new(Cell::new(0));
        let server = serve(Failing { listener: tcp, failures: 12, error, tried: tried.clone() }, hello());
        let begin = Instant::now();
        let task = runtime::background("test: server", server.into_future());
        let mut client = TcpStream::connect(addr).await.unwrap();
        client.write_all(get_once("/").as_bytes()).await.unwrap();
        let mut answer = String::new();
        client.read_to_string(&mut answer).await.unwrap();
        assert_eq!((status(&answer), tried.get(), begin.elapsed()), (200, 14, Duration::ZERO));
        task.abort();
    }
}

#[runtime::test(paused, allow_reports)]
async fn a_listener_that_is_none_ends_the_server() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let error = || io::Error::from(io::ErrorKind::InvalidInput);
    let failing = Failing { listener, failures: 1, error, tried: Rc::default() };
    let result = runtime::background("test: server", serve(failing, hello()).into_future()).await;
    assert_eq!(result.unwrap().unwrap_err().kind(), io::ErrorKind::InvalidInput);
}

/// A server that is dropped stops accepting, and its connections go after their request in flight.
#[runtime::test(paused)]
async fn a_server_that_is_dropped_leaves_its_connections_gracefully() {
    let app = Router::new().route(
        "/",
        on_get(async || {
            sleep(Duration::from_secs(1)).await;
            "done"
        }),
    );
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let addr = listener.local_addr().unwrap();
    let task = runtime::background("test: server", serve(listener, app).into_future());
    let mut client = TcpStream::connect(addr).await.unwrap();
    client.write_all(super::get("/").as_bytes()).await.unwrap();
    sleep(Duration::from_millis(1)).await;
    task.abort();
    assert_eq!(task.await.unwrap_err().reason(), Some(Reason::Custom("aborted")));
    assert!(TcpStream::connect(addr).await.is_err());
    let mut answer = String::new();
    client.read_to_string(&mut answer).await.unwrap();
    assert!(answer.ends_with("done"), "{answer}");
}
