//! HTTP: a server made of hyper 1, and a tower layer that bills every request.
//!
//! [`serve`] accepts connections and gives each a task of its own, in a context of class `connection`: parsing and
//! serialising are paid there. [`ContextLayer`] gives each *request* a root context: the handler is polled and
//! dropped in it, the response's body too, and it ends when the last byte was written, or the client went away.
//! One line is logged then, with what the request cost; and the answer carries a `Server-Timing` header.
//!
//! ```no_run
//! use axum::{Router, routing::get};
//! use runtime::http::{ContextLayer, serve};
//! use runtime::net::TcpListener;
//!
//! # fn main() -> std::io::Result<()> {
//! # runtime::Runtime::new()?.block_on(async {
//! let app = Router::new().route("/", get(async || "hello")).layer(ContextLayer::new());
//! serve(TcpListener::bind("127.0.0.1:8080").await?, app).await
//! # })
//! # }
//! ```
//!
//! # With axum
//!
//! axum without its default features has no runtime of its own. With the feature `axum` of this crate,
//! `ContextLayer::axum()` takes the class from the route that matched. Add it by `Router::layer`, which puts it behind the
//! routing, so that the pattern is known; handlers, extractors and the fallback then run within.
//!
//! # What is bounded
//!
//! Connections, header size and count, the time for a head, between two requests and for a handler to answer, how long a
//! body or a reader may stall and how slow it may be, and, if asked for, the size of a body: see [`Serve`]. What is refused
//! is answered where HTTP has an answer, counted ([`Stats`]), and said in the log (target `http::connection`).
//!
//! A request without exactly one valid `Host` is answered with 400. A poll of a connection begins one request at most, so a
//! client that pipelines many does not keep others waiting.
//!
//! # Clients that close their end
//!
//! TCP does not say whether a client that has closed its end still reads. One that does so within 20 ms of its request (as
//! `nc -N` does) gets its answer if the service begins it within two seconds. Otherwise it is taken for one that has gone.
//!
//! # What is absent
//!
//! HTTP/2, upgrades (WebSockets) and TLS; hyper's adapters ([`Timer`], [`Executor`], the streams' `hyper::rt::Read` and
//! `Write`) are there to build them on. A handler is dropped when its client goes away: what must run to its end all the
//! same goes into a [`shield`](crate::shield()).

mod answer;
mod body;
mod bridge;
mod drive;
mod executor;
mod io;
mod layer;
mod line;
mod link;
mod listen;
#[cfg(unix)]
mod listen_unix;
#[cfg(feature = "axum")]
mod matched;
mod pace;
mod panics;
mod peer;
mod readiness;
mod response;
mod room;
mod serve;
mod server;
mod stats;
mod timer;

pub use body::{Body, BodyError};
pub use executor::Executor;
pub use layer::{ContextLayer, ContextService, ResponseFuture};
pub use line::{Outcome, RequestLine};
pub use listen::Listener;
pub use peer::Peer;
pub use readiness::Readiness;
pub use response::ResponseBody;
pub use serve::{Serve, serve};
pub use stats::{Counts, Stats};
pub use timer::Timer;
