//! `runtime::http`: a server and its clients in one runtime, on paused time, over real sockets. What waits for time to
//! pass waits for nothing else, so the clock jumps there.

mod abuse;
mod answers;
mod limits;
mod listeners;
mod requests;
mod shutdown;
mod sweep;

use axum::Router;
use context::{Context, Reason};
use futures_lite::{AsyncReadExt, AsyncWriteExt};
use runtime::JoinHandle;
use runtime::http::{ContextLayer, RequestLine, Serve, Stats, serve};
use runtime::net::{TcpListener, TcpStream};
use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// A server that keeps the lines of its requests.
struct Server {
    addr: SocketAddr,
    stats: Stats,
    lines: Arc<Mutex<Vec<RequestLine>>>,
    /// Cancelled, it shuts down.
    stop: Context,
    task: JoinHandle<Result<(), io::Error>>,
}

impl Server {
    async fn start(app: Router) -> Self {
        Self::with(app, |serve| serve).await
    }

    async fn with(
        app: Router,
        configure: impl FnOnce(Serve<TcpListener, Router>) -> Serve<TcpListener, Router>,
    ) -> Self {
        let lines: Arc<Mutex<Vec<RequestLine>>> = Arc::default();
        let kept = lines.clone();
        let layer = ContextLayer::axum().report_to(move |line| kept.lock().unwrap().push(line.clone()));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let addr = listener.local_addr().unwrap();
        let stop = Context::root("test: stop");
        let stopped = stop.cancelled();
        let server = configure(serve(listener, app.layer(layer))).with_graceful_shutdown(async move {
            stopped.await;
        });
        let stats = server.stats();
        let task = runtime::background("test: server", server.into_future());
        Self { addr, stats, lines, stop, task }
    }

    async fn connect(&self) -> Client {
        Client { stream: TcpStream::connect(self.addr).await.unwrap() }
    }

    /// One request on a connection of its own, and the whole answer.
    async fn ask(&self, request: &str) -> String {
        let mut client = self.connect().await;
        client.send(request).await;
        client.rest().await
    }

    fn lines(&self) -> Vec<RequestLine> {
        self.lines.lock().unwrap().clone()
    }

    /// The only request there was.
    #[track_caller]
    fn line(&self) -> RequestLine {
        let lines = self.lines();
        assert_eq!(lines.len(), 1, "{lines:?}");
        lines[0].clone()
    }

    /// Lets everything go on until nothing is left to do: only then paused time moves. A client that goes after that has
    /// gone, and not only closed its end.
    async fn settle(&self) {
        runtime::time::sleep(Duration::from_millis(30)).await;
    }
}

/// Notes in which context it is dropped, and what that context was told by then.
#[derive(Clone, Default)]
struct Drops(Arc<Mutex<Vec<Dropped>>>);

type Dropped = (&'static str, Option<Reason>);

impl Drops {
    fn watch(&self) -> Watched {
        Watched(self.clone())
    }

    #[track_caller]
    fn assert(&self, expected: &[Dropped]) {
        assert_eq!(*self.0.lock().unwrap(), expected);
    }
}

struct Watched(Drops);

impl Drop for Watched {
    fn drop(&mut self) {
        let context = Context::current();
        self.0.0.lock().unwrap().push((context.class(), context.cancel_reason()));
    }
}

struct Client {
    stream: TcpStream,
}

impl Client {
    async fn send(&mut self, text: &str) {
        self.stream.write_all(text.as_bytes()).await.unwrap();
    }

    /// Everything up to the end of the connection.
    async fn rest(&mut self) -> String {
        let mut bytes = Vec::new();
        match self.stream.read_to_end(&mut bytes).await {
            Ok(_) => {}
            // The server closes while something of ours is unread.
            Err(error) if error.kind() == io::ErrorKind::ConnectionReset => {}
            Err(error) => panic!("{error}"),
        }
        String::from_utf8(bytes).unwrap()
    }

    /// One answer that has a `Content-Length`.
    async fn answer(&mut self) -> String {
        let mut text = String::new();
        while !text.ends_with("\r\n\r\n") {
            self.read_into(&mut text, 1).await;
        }
        let length = header(&text, "content-length").and_then(|value| value.parse().ok()).unwrap_or(0);
        self.read_into(&mut text, length).await;
        text
    }

    async fn read_into(&mut self, text: &mut String, bytes: usize) {
        let mut buffer = vec![0; bytes];
        self.stream.read_exact(&mut buffer).await.unwrap();
        text.push_str(std::str::from_utf8(&buffer).unwrap());
    }
}

/// The value of a header of an answer.
fn header<'a>(answer: &'a str, name: &str) -> Option<&'a str> {
    answer
        .lines()
        .find_map(|line| line.split_once(": ").filter(|(key, _)| *key == name))
        .map(|(_, value)| value)
}

fn status(answer: &str) -> u16 {
    let status = answer.split(' ').nth(1);
    status.and_then(|status| status.parse().ok()).unwrap_or_else(|| panic!("no answer: {answer:?}"))
}

fn get(path: &str) -> String {
    format!("GET {path} HTTP/1.1\r\nhost: test\r\n\r\n")
}

/// Asks for the connection to be closed after the answer.
fn get_once(path: &str) -> String {
    format!("GET {path} HTTP/1.1\r\nhost: test\r\nconnection: close\r\n\r\n")
}
