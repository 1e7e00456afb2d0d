//! `context` alone, on smol: who wraps a future in [`Context::run`] knows what it cost.
//! `cargo run --example with_smol`

use context::harness::{self, Alarm, Timer};
use context::{Context, FutureExt, sentinel};
use std::time::{Duration, Instant};

/// smol's timers, for deadlines of contexts.
struct SmolTimer;

impl Timer for SmolTimer {
    fn now(&self) -> Instant {
        Instant::now()
    }

    fn sleep_until(&self, deadline: Instant) -> Alarm {
        Box::pin(async move { _ = smol::Timer::at(deadline).await })
    }
}

fn main() {
    harness::set_timer(Some(&SmolTimer));
    let executor = smol::LocalExecutor::new();
    smol::block_on(executor.run(async {
        let requests: Vec<_> = (1..=3).map(|n| executor.spawn(request(n))).collect();
        for request in requests {
            request.await;
        }
    }));
    println!("nobody's: {}", sentinel::usage());
    let books = context::accounts().expect("the thread lives");
    println!("this thread: {:?}, of which contexts {:?}", books.thread_cpu, books.contexts);
}

/// One request: named, billed, with a deadline; its context finishes with it, also if it is dropped.
async fn request(n: u64) {
    let context = Context::builder("GET /primes/{n}")
        .field("n", n.to_string())
        .timeout(Duration::from_millis(200))
        .build();
    let name = context.name();
    context.on_finish(move |usage| println!("{name}: {usage}"));
    let work = async {
        let primes = count_primes(n * 20_000);
        // A slow peer: the deadline ends the wait.
        let peer = async { _ = smol::Timer::after(Duration::from_millis(n * 80)).await };
        let peer = peer.cancellable().await;
        let peer = peer.map_or_else(|cancelled| cancelled.to_string(), |()| "the peer answered".to_owned());
        println!("{}: {primes} primes, {peer}", Context::current());
    };
    context.run(work).await;
}

fn count_primes(below: u64) -> usize {
    let is_prime = |n: &u64| (2..).take_while(|d| d * d <= *n).all(|d| n % d != 0);
    (2..below).filter(is_prime).count()
}
