//! X5: shared work that a cut request leaves behind does not stop the others.

use crate::promise::Promise;
use runtime::sync::{Linearizer, SingleFlight};
use runtime::testing::sweep;
use runtime::time::sleep;
use std::cell::{Cell, RefCell};
use std::panic::catch_unwind;
use std::rc::Rc;
use std::time::Duration;

/// What the requests share.
struct Shared {
    flights: SingleFlight<&'static str, u32>,
    lock: Linearizer<&'static str>,
    asked: Rc<Cell<u32>>,
    fetched: Rc<Cell<u32>>,
}

/// A request whose work suspends, takes a lock, and sleeps with it: at each cut it is blocked somewhere.
async fn request(flights: SingleFlight<&'static str, u32>, work: impl Future<Output = u32> + 'static) {
    runtime::yield_now().await;
    assert_eq!(flights.run("key", || work).await, Ok(7));
    runtime::yield_now().await;
}

async fn fetch(lock: Linearizer<&'static str>, fetched: Rc<Cell<u32>>) -> u32 {
    fetched.set(fetched.get() + 1);
    runtime::yield_now().await;
    let _turn = lock.queue("database").await;
    sleep(Duration::from_secs(1)).await;
    7
}

/// How many requests asked, and how many pieces of work that made.
fn swept(name: &'static str, flights: SingleFlight<&'static str, u32>) -> (u32, u32) {
    let (asked, fetched) = (Rc::new(Cell::new(0)), Rc::new(Cell::new(0)));
    let all = flights.clone();
    let set_up =
        || Shared { flights, lock: Linearizer::new("x5", 1), asked: asked.clone(), fetched: fetched.clone() };
    let cuts = sweep(name, set_up, |shared| {
        shared.asked.set(shared.asked.get() + 1);
        let work = fetch(shared.lock.clone(), shared.fetched.clone());
        request(shared.flights.clone(), work)
    });
    assert_eq!((cuts, all.flying()), (3, 0), "{name}");
    (asked.get(), fetched.get())
}

#[test]
fn x05_shared_work_blocked_by_a_cut_is_released_and_the_next_request_gets_its_result() {
    for (name, flights) in [
        ("x5 own class", SingleFlight::new("x5 fetch")),
        ("x5 initiator", SingleFlight::new("x5 fetch").charge_to_initiator()),
    ] {
        let (asked, fetched) = swept(name, flights);
        assert!(fetched < asked, "{name}: some got on what a cut one had begun: {fetched} of {asked}");
    }
}

#[test]
fn x05_shared_work_that_stops_with_its_last_waiter_lets_go_of_its_locks() {
    let (asked, fetched) = swept("x5 stops", SingleFlight::new("x5 fetch").stop_when_unwanted());
    // All but those that were cut before they asked.
    assert!(fetched > asked / 2, "each began anew: {fetched} of {asked}");
}

/// Shared work that is driven by whoever came first, as a naive cache has it: the sweep finds out.
#[test]
fn x05_shared_work_that_dies_with_its_first_waiter_is_found() {
    let naive = |shared: &Rc<RefCell<Option<Promise<u32>>>>| {
        let shared = shared.clone();
        async move {
            let under_way = shared.borrow().clone();
            if let Some(promise) = under_way {
                return promise.await;
            }
            let promise = Promise::new();
            *shared.borrow_mut() = Some(promise.clone());
            runtime::yield_now().await;
            promise.complete(7);
            *shared.borrow_mut() = None;
            7
        }
    };
    let found = catch_unwind(|| sweep("x5 naive", Rc::default, naive)).unwrap_err();
    let text = context::panic_message(&*found);
    assert!(text.contains("a whole request is stuck after a request was cut at await 1"), "{text}");
}
