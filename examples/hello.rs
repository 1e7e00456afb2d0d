//! The smallest service whose requests are billed: `cargo run --example hello`, then `curl -i 127.0.0.1:8080/hello/ann`.

use axum::{Router, extract::Path, routing::get};
use runtime::http::{ContextLayer, serve};
use runtime::net::TcpListener;

#[runtime::main]
async fn main() -> std::io::Result<()> {
    env_logger::Builder::new().filter_level(log::LevelFilter::Info).init();
    let app = Router::new()
        .route("/hello/{name}", get(async |Path(name): Path<String>| format!("hello, {name}\n")))
        .layer(ContextLayer::axum());
    let listener = TcpListener::bind("127.0.0.1:8080").await?;
    println!("listening on http://{}", listener.local_addr()?);
    serve(listener, app).with_graceful_shutdown(async { drop(runtime::signal::terminate().await) }).await
}
