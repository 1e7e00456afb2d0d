//! Commits each kind of leak once, and prints what the sentinel says of it. `cargo run --example leaks`
//!
//! The comment at the end of a line is the kind that is reported with that very line; a test holds this to it.

use context::{Context, set_class_limit};
use runtime::time::sleep;
use runtime::{Runtime, background, spawn, spawn_blocking, spawn_in, yield_now};
use std::time::{Duration, Instant};

fn main() -> std::io::Result<()> {
    let rt = Runtime::builder().slow_poll(Duration::from_millis(20)).track_wakers(true).build()?;
    rt.block_on(leak());
    rt.shutdown_timeout(Duration::ZERO);
    context::sentinel::reports().iter().for_each(|report| println!("{report}"));
    Ok(())
}

async fn leak() {
    let request = Context::root("request");
    let careless = async {
        let (one, two, three) = (Context::root("one"), Context::root("two"), Context::root("three"));
        let first = one.enter(); // GuardOutOfOrder
        let second = two.enter();
        drop((first, second));
        three.scope(|| std::mem::forget(one.enter())); // GuardOutOfOrder
        let _kept = three.enter(); // GuardAcrossAwait
        yield_now().await;
    };
    let _ = spawn_in(&request, careless).await;

    Context::sentinel().scope(|| {
        drop(spawn(async {})); // SpawnedInSentinel
        drop(spawn_blocking(|| ())); // BlockingInSentinel
        drop(context::db::begin("nobody's")); // TransactionInSentinel
    });

    let finished = Context::root("finished");
    let late = spawn_in(&finished, async { burn(Duration::from_millis(1)) }); // LateWork
    finished.finish();
    let _ = late.await;

    drop(spawn(async { panic!("unheard") })); // UnhandledPanic
    let _ = background("reaper", async { Err::<(), _>("no disk") }).await; // UnhandledError
    let blocks = async { std::thread::sleep(Duration::from_millis(5)) };
    let _ = spawn_in(&Context::root("blocks"), blocks).await; // BlockingCall
    let _ = spawn_in(&Context::root("burns"), async { burn(Duration::from_millis(25)) }).await; // SlowPoll
    drop(spawn_in(&Context::root("forgotten"), std::future::pending::<()>())); // Orphaned, Straggler
    drop(spawn_in(&Context::root("sleeper"), sleep(Duration::from_secs(3_600)))); // Straggler
    // The loop looks for tasks without wakers at the end of a turn.
    sleep(Duration::from_millis(1)).await;
    set_class_limit(0);
    Context::root("one class too many"); // TooManyClasses
}

fn burn(time: Duration) {
    let begun = Instant::now();
    while begun.elapsed() < time {}
}

#[cfg(test)]
#[path = "leaks/tests.rs"]
mod tests;
