//! `context` alone, on tokio: who wraps a future in [`Context::run`] knows what it cost.
//! `cargo run --example with_tokio`

use context::harness::{self, Alarm, Timer};
use context::{Context, FutureExt, sentinel};
use std::time::{Duration, Instant};

/// tokio's timers, for deadlines of contexts.
struct TokioTimer;

impl Timer for TokioTimer {
    fn now(&self) -> Instant {
        tokio::time::Instant::now().into_std()
    }

    fn sleep_until(&self, deadline: Instant) -> Alarm {
        Box::pin(tokio::time::sleep_until(deadline.into()))
    }
}

fn main() -> std::io::Result<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_time()
        // A worker that waits for a deadline is woken by tokio.
        .on_thread_start(|| _ = harness::set_timer(Some(&TokioTimer)))
        .build()?;
    runtime.block_on(async {
        let requests: Vec<_> = (1..=3).map(|n| tokio::spawn(request(n))).collect();
        for request in requests {
            request.await.expect("requests do not panic");
        }
    });
    drop(runtime);
    println!("nobody's: {}", sentinel::usage());
    Ok(())
}

/// One request: named, billed, with a deadline; its context finishes with it, also if it is dropped.
fn request(n: u64) -> impl Future<Output = ()> {
    let context = Context::builder("GET /primes/{n}")
        .field("n", n.to_string())
        .timeout(Duration::from_millis(200))
        .build();
    let name = context.name();
    context.on_finish(move |usage| println!("{name}: {usage}"));
    context.run(async move {
        let primes = count_primes(n * 20_000);
        // A slow peer: the deadline ends the wait.
        let peer = tokio::time::sleep(Duration::from_millis(n * 80)).cancellable().await;
        let peer = peer.map_or_else(|cancelled| cancelled.to_string(), |()| "the peer answered".to_owned());
        println!("{}: {primes} primes, {peer}", Context::current());
    })
}

fn count_primes(below: u64) -> usize {
    let is_prime = |n: &u64| (2..).take_while(|d| d * d <= *n).all(|d| n % d != 0);
    (2..below).filter(is_prime).count()
}
