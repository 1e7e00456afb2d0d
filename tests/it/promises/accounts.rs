//! P7 in small and exact; `conservation` drives it through random programs.

use crate::books::{assert_balanced, manual_runtime, ns, on_manual_clock, on_own_thread, parts, pass};
use crate::watch::Watch;
use context::{Accounts, Clock, Context, FutureExt, Usage, harness};
use runtime::yield_now;
use std::time::{Duration, Instant};

/// Every account gets its own decimal.
fn one_of_each() -> Accounts {
    let request = Context::root("p07 each");
    manual_runtime().block_on(async {
        pass(1);
        let part = request.child("p07 part");
        let spend = async { pass(10) };
        spend.in_context(part).await;
        request.finish();
        pass(1);
        // Late.
        async { pass(100) }.in_context(request.clone()).await;
        // A hook of a background process runs on the loop's account.
        let process = runtime::background("p07 process", async {
            Context::current().on_finish(|_| pass(1_000));
            Ok::<_, String>(())
        });
        process.await.unwrap().unwrap();
        yield_now().await;
    });
    pass(10_000);
    assert_balanced()
}

#[test]
fn p07_each_nanosecond_is_on_exactly_one_account() {
    on_manual_clock(|| {
        let watch = Watch::here();
        let books = one_of_each();
        assert_eq!((books.contexts, books.late), (ns(12), ns(100)));
        assert_eq!((books.runtime, books.sentinel), (ns(1_000), ns(10_000)));
        assert_eq!((books.thread_cpu, books.correction), (ns(11_112), 0));
        assert_eq!(watch.take().len(), 1, "the late work");
    });
}

/// The check of the books can fail: each account left out, and a charge that nobody spent, is seen.
#[test]
fn p07_mutation_a_missing_or_invented_nanosecond_is_seen() {
    on_manual_clock(|| {
        let books = one_of_each();
        let whole = books.thread_cpu.as_nanos() as i128;
        assert_eq!(parts(&books), whole);
        for forget in [
            |books: &mut Accounts| books.contexts = ns(0),
            |books: &mut Accounts| books.late = ns(0),
            |books: &mut Accounts| books.sentinel = ns(0),
            |books: &mut Accounts| books.runtime = ns(0),
            |books: &mut Accounts| books.runtime += ns(1),
            |books: &mut Accounts| books.correction -= 1,
        ] {
            let mut wrong = books;
            forget(&mut wrong);
            assert_ne!(parts(&wrong), whole);
        }
    });
}

#[test]
fn p07_a_context_that_is_gone_stays_on_the_books() {
    on_manual_clock(|| {
        Context::root("p07 gone").scope(|| pass(5));
        assert_eq!(assert_balanced().contexts, ns(5));
    });
}

#[test]
fn p07_work_for_a_context_of_another_thread_is_on_the_books_of_the_thread_that_did_it() {
    let request = Context::root("p07 far");
    on_manual_clock(|| {
        request.scope(|| pass(6));
        let books = assert_balanced();
        assert_eq!((books.contexts, books.sentinel), (ns(6), ns(0)));
    });
    assert_eq!(request.own_usage().cpu, ns(6));
}

#[test]
fn p07_what_the_driver_of_a_database_adds_is_no_thread_time() {
    on_own_thread(|| {
        let request = Context::root("p07 charged");
        let mut usage = Usage::default();
        usage.cpu = ns(1_000_000_000);
        request.charge(usage);
        assert!(assert_balanced().contexts < ns(1_000_000_000));
        assert!(request.usage().cpu >= ns(1_000_000_000));
    });
}

#[test]
fn p07_the_books_of_a_thread_begin_anew_with_the_thread() {
    for _ in 0..3 {
        on_manual_clock(|| {
            pass(3);
            let books = assert_balanced();
            assert_eq!((books.thread_cpu, books.sentinel), (ns(3), ns(3)));
        });
    }
}

/// What a timer is waited for is parked, or it is CPU, or the thread waited for a CPU in the middle of a poll: nothing else.
#[test]
fn p07_waiting_for_something_to_do_is_parked_and_no_cpu() {
    on_own_thread(|| {
        runtime::Runtime::new().unwrap().block_on(async {
            let (main, outside) = (Context::current(), Instant::now());
            let (before, blocked) = (assert_balanced(), main.own_usage().blocked);
            let inside = Instant::now();
            runtime::time::sleep(Duration::from_millis(10)).await;
            let inside = inside.elapsed();
            let (after, blocked) = (assert_balanced(), main.own_usage().blocked - blocked);
            let outside = outside.elapsed();
            let (parked, cpu) = (after.parked - before.parked, after.thread_cpu - before.thread_cpu);
            let sum = parked + cpu + blocked;
            assert!(sum >= inside * 99 / 100, "{parked:?} + {cpu:?} + {blocked:?} of {inside:?}");
            assert!(sum <= outside * 101 / 100, "{parked:?} + {cpu:?} + {blocked:?} of {outside:?}");
        });
    });
}

#[test]
fn p07_what_the_loop_is_off_the_cpu_is_parked_to_the_nanosecond() {
    on_manual_clock(|| {
        let _loop = harness::enter_loop(Clock::Manual, None);
        let before = assert_balanced();
        harness::advance_manual_clock(30, 500);
        let books = assert_balanced();
        assert_eq!((books.parked - before.parked, books.runtime - before.runtime), (ns(470), ns(30)));
    });
}
