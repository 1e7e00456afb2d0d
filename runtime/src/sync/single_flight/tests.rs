use super::super::trace::{Gate, Trace, clean, settle, task};
use super::*;
use crate::testing::{self, Options};
use crate::{JoinHandle, Runtime};
use context::{Context, FutureExt, ReportKind, Usage};
use std::task::Waker;

type Answer = Result<u32, &'static str>;

struct Stage {
    flights: SingleFlight<&'static str, Answer>,
    trace: Trace,
    gate: Gate,
}

impl Stage {
    fn new(flights: SingleFlight<&'static str, Answer>) -> Self {
        Self { flights, trace: Trace::default(), gate: Gate::default() }
    }

    /// Asks for `key`. The work makes one transaction, waits for the gate, makes another, and gives `answer`.
    fn ask(&self, name: &'static str, answer: Answer) -> JoinHandle<Result<Answer, FlightError>> {
        task(name, self.asking(name, answer))
    }

    fn asking(
        &self,
        name: &'static str,
        answer: Answer,
    ) -> impl Future<Output = Result<Answer, FlightError>> + use<> {
        let (trace, gate) = (self.trace.clone(), self.gate.clone());
        let work = move || async move {
            let _says = Says(trace.clone());
            trace.say(format_args!("begin:{}", Context::current().class()));
            drop(context::db::begin("one"));
            gate.pass().await;
            drop(context::db::begin("two"));
            trace.say(format_args!("end:{}", Context::current().class()));
            answer
        };
        let (result, trace) = (self.flights.run("key", work), self.trace.clone());
        async move {
            let result = result.await;
            assert_eq!(Context::current().class(), name, "resumed in its own context");
            trace.say(name);
            result
        }
    }

    async fn land(&self) -> String {
        self.gate.open();
        settle().await;
        self.trace.take()
    }
}

/// Says where the work was dropped.
struct Says(Trace);

impl Drop for Says {
    fn drop(&mut self) {
        self.0.say(format_args!("drop:{}", Context::current().class()));
    }
}

fn transactions(context: &Context) -> u64 {
    context.usage().db.transactions
}

#[test]
fn a01_e01_all_waiters_get_the_value_first_come_first() {
    clean("a01", async {
        let stage = Stage::new(SingleFlight::new("fetch"));
        let asked = ["a", "b", "c"].map(|name| stage.ask(name, Ok(1)));
        settle().await;
        assert_eq!(stage.trace.take(), "begin:fetch");
        assert_eq!(stage.flights.flying(), 1);
        let initiator = stage.flights.initiator("key").unwrap();
        assert_eq!((initiator.class, initiator.place.file()), ("a", file!()));
        assert_eq!(stage.land().await, "end:fetch drop:fetch a b c");
        for asked in asked {
            assert_eq!(asked.await.unwrap(), Ok(Ok(1)));
        }
        assert_eq!(stage.flights.flying(), 0, "nothing left behind");
    });
}

#[test]
fn a02_e02_the_same_for_errors() {
    clean("a02", async {
        let stage = Stage::new(SingleFlight::new("fetch"));
        let asked = ["a", "b"].map(|name| stage.ask(name, Err("no disk")));
        settle().await;
        assert_eq!(stage.land().await, "begin:fetch end:fetch drop:fetch a b");
        for asked in asked {
            assert_eq!(asked.await.unwrap(), Ok(Err("no disk")));
        }
        assert_eq!(stage.flights.flying(), 0);
    });
}

#[test]
fn a03_e03_cancelling_one_waiter_fails_only_it() {
    clean("a03", async {
        let stage = Stage::new(SingleFlight::new("fetch"));
        let [a, b, c] = ["a", "b", "c"].map(|name| stage.ask(name, Ok(1)));
        settle().await;
        b.abort();
        assert!(b.await.unwrap_err().is_cancelled());
        let d = stage.ask("d", Ok(2));
        settle().await;
        assert_eq!(stage.land().await, "begin:fetch end:fetch drop:fetch a c d");
        for asked in [a, c, d] {
            assert_eq!(asked.await.unwrap(), Ok(Ok(1)), "the later one, too");
        }
    });
}

#[test]
fn a04_cancelling_the_source_cancels_all() {
    clean("a04", async {
        let stage = Stage::new(SingleFlight::new("fetch"));
        let asked = ["a", "b"].map(|name| stage.ask(name, Ok(1)));
        settle().await;
        assert!(stage.flights.cancel("key") && !stage.flights.cancel("key"));
        for asked in asked {
            assert!(asked.await.unwrap().unwrap_err().is_cancelled());
        }
        assert_eq!(stage.trace.take(), "begin:fetch drop:fetch a b");
    });
}

#[test]
fn d07_the_initiator_is_charged_and_the_other_not() {
    clean("d07", async {
        let stage = Stage::new(SingleFlight::new("fetch").charge_to_initiator());
        let (first, second) = (Context::root("a"), Context::root("b"));
        let one = crate::spawn_in(&first, stage.asking("a", Ok(1)));
        let two = crate::spawn_in(&second, stage.asking("b", Ok(1)));
        settle().await;
        assert_eq!(stage.land().await, "begin:a end:a drop:a a b");
        assert_eq!((one.await.unwrap(), two.await.unwrap()), (Ok(Ok(1)), Ok(Ok(1))));
        assert_eq!((transactions(&first), transactions(&second)), (2, 0));
    });
}

#[test]
fn d07_by_default_the_work_pays_for_itself() {
    clean("d07", async {
        let stage = Stage::new(SingleFlight::new("fetch d07"));
        let first = Context::root("a");
        let one = crate::spawn_in(&first, stage.asking("a", Ok(1)));
        settle().await;
        assert_eq!(stage.land().await, "begin:fetch d07 end:fetch d07 drop:fetch d07 a");
        assert_eq!(one.await.unwrap(), Ok(Ok(1)));
        assert_eq!(transactions(&first), 0);
        let class = context::classes().into_iter().find(|usage| usage.class == "fetch d07").unwrap();
        assert_eq!((class.opened, class.own.db.transactions), (1, 2));
    });
}

#[test]
fn d08_e04_cancelling_the_initiator_does_not_end_the_fetch() {
    clean("d08", async {
        let stage = Stage::new(SingleFlight::new("fetch").charge_to_initiator());
        let first = Context::root("a");
        let one = crate::spawn_in(&first, stage.asking("a", Ok(1)));
        let two = stage.ask("b", Ok(1));
        settle().await;
        one.abort();
        settle().await;
        first.cancel(context::Reason::Custom("gone away"));
        let usage: Usage = first.finish();
        assert_eq!(usage.db.transactions, 1, "what the work cost until then");
        assert_eq!(stage.land().await, "begin:a end:fetch drop:fetch b");
        assert_eq!(two.await.unwrap(), Ok(Ok(1)));
        let after = first.usage();
        assert_eq!((after.db.transactions, after.late_cpu), (1, usage.late_cpu), "nothing is late");
    });
}

#[test]
fn d08_an_initiator_that_is_cancelled_is_left_at_once() {
    clean("d08", async {
        let stage = Stage::new(SingleFlight::new("fetch").charge_to_initiator());
        let first = Context::root("a");
        let one = crate::spawn_in(&first, stage.asking("a", Ok(1)).cancellable());
        settle().await;
        first.cancel(context::Reason::Deadline);
        assert!(one.await.unwrap().is_err());
        assert_eq!(stage.land().await, "begin:a end:fetch drop:fetch", "goes on though nobody waits");
    });
}

#[test]
fn d09_cancelling_the_second_ends_it_at_once() {
    clean("d09", async {
        let stage = Stage::new(SingleFlight::new("fetch"));
        let (first, second) = (stage.ask("a", Ok(1)), stage.ask("b", Ok(1)));
        settle().await;
        second.abort();
        assert!(second.await.unwrap_err().is_cancelled());
        assert_eq!(stage.land().await, "begin:fetch end:fetch drop:fetch a");
        assert_eq!(first.await.unwrap(), Ok(Ok(1)));
    });
}

#[test]
fn e11_a_hundred_instant_waiters() {
    clean("e11", async {
        let flights: SingleFlight<u32, u32> = SingleFlight::new("fetch");
        let gate = Gate::default();
        let ask = |number| {
            let gate = gate.clone();
            let work = move || async move {
                gate.pass().await;
                number
            };
            task("ask", flights.run(7, work))
        };
        let asked: Vec<_> = (0..100).map(ask).collect();
        settle().await;
        gate.open();
        for asked in asked {
            assert_eq!(asked.await.unwrap(), Ok(0));
        }
        // And a hundred that are done when they are begun.
        for number in 0..100 {
            assert_eq!(task("ask", flights.run(number, || async { 1 })).await.unwrap(), Ok(1));
        }
        assert_eq!(flights.flying(), 0);
    });
}

#[test]
fn unwanted_work_is_stopped_if_that_is_wished() {
    clean("unwanted", async {
        let stage = Stage::new(SingleFlight::new("fetch").stop_when_unwanted());
        let asked = ["a", "b"].map(|name| stage.ask(name, Ok(1)));
        settle().await;
        asked[0].abort();
        settle().await;
        assert_eq!(stage.trace.take(), "begin:fetch", "somebody waits");
        asked[1].abort();
        settle().await;
        assert_eq!((stage.trace.take().as_str(), stage.flights.flying()), ("drop:fetch", 0));
        let again = stage.ask("c", Ok(3));
        assert_eq!(stage.land().await, "begin:fetch end:fetch drop:fetch c");
        assert_eq!(again.await.unwrap(), Ok(Ok(3)));
    });
}

#[test]
fn p02_stopped_work_is_dropped_in_the_context_of_who_pays() {
    clean("p02", async {
        let stage = Stage::new(SingleFlight::new("fetch").charge_to_initiator());
        let asked = stage.ask("a", Ok(1));
        settle().await;
        assert!(stage.flights.cancel("key"));
        assert!(asked.await.unwrap().is_err());
        assert_eq!(stage.trace.take(), "begin:a drop:a a");
    });
}

#[test]
fn nobody_boards_a_flight_that_is_being_stopped() {
    clean("boarding", async {
        let flights: SingleFlight<u32, u32> = SingleFlight::new("fetch").stop_when_unwanted();
        let mut unwanted = Box::pin(flights.run(1, std::future::pending::<u32>));
        let mut cx = task::Context::from_waker(Waker::noop());
        assert!(unwanted.as_mut().poll(&mut cx).is_pending());
        drop(unwanted);
        // At once, before the task is dropped.
        assert_eq!(flights.run(1, async || 2).await, Ok(2));
    });
}

#[test]
fn a_forgotten_flight_does_not_take_the_next_one_off_the_map() {
    clean("late landing", async {
        let flights: SingleFlight<u32, u32> = SingleFlight::new("fetch");
        let gates = [Gate::default(), Gate::default()];
        let ask = |number: usize| {
            let gate = gates[number].clone();
            let work = move || async move {
                gate.pass().await;
                number as u32
            };
            task("ask", flights.run(1, work))
        };
        let old = ask(0);
        settle().await;
        flights.forget(&1);
        let new = ask(1);
        settle().await;
        gates[0].open();
        assert_eq!(old.await.unwrap(), Ok(0));
        assert_eq!(flights.flying(), 1, "the new one flies on");
        let joined = ask(0);
        settle().await;
        gates[1].open();
        assert_eq!((new.await.unwrap(), joined.await.unwrap()), (Ok(1), Ok(1)));
    });
}

#[test]
fn what_is_forgotten_is_begun_anew() {
    clean("forgotten", async {
        let stage = Stage::new(SingleFlight::new("fetch"));
        let old = stage.ask("a", Ok(1));
        settle().await;
        assert!(stage.flights.forget("key") && !stage.flights.forget("key"));
        let new = stage.ask("b", Ok(2));
        settle().await;
        assert_eq!(stage.flights.flying(), 1);
        stage.land().await;
        assert_eq!((old.await.unwrap(), new.await.unwrap()), (Ok(Ok(1)), Ok(Ok(2))));
    });
}

#[test]
fn trap_16_a_panic_reaches_all_waiters_and_is_not_reported() {
    clean("panic", async {
        let flights: SingleFlight<u32, u32> = SingleFlight::new("fetch");
        let ask = || {
            let work = || async {
                crate::yield_now().await;
                panic!("no such row")
            };
            task("ask", flights.run(1, work))
        };
        for asked in [ask(), ask()] {
            let error = asked.await.unwrap().unwrap_err();
            assert!(error.is_panic());
            assert_eq!(error.to_string(), "shared work panicked: no such row");
        }
        let error = task("ask", flights.run(2, || -> std::future::Ready<u32> { panic!("at once") }));
        assert!(error.await.unwrap().unwrap_err().is_panic());
        assert_eq!(flights.flying(), 0);
    });
}

#[test]
fn p17_a_panic_that_nobody_hears_of_is_reported() {
    let options = Options { name: "p17", paused: true, allow_reports: true, ..Options::default() };
    testing::run(options, async {
        let flights: SingleFlight<u32, u32> = SingleFlight::new("fetch");
        let gate = Gate::default();
        let wait = gate.clone();
        let work = move || async move {
            wait.pass().await;
            panic!("row of p17")
        };
        let asked = task("ask", flights.run(1, work));
        settle().await;
        asked.abort();
        settle().await;
        gate.open();
        settle().await;
        let mut reports = context::sentinel::reports().into_iter();
        let report = reports.find(|report| report.detail.contains("row of p17")).expect("reported");
        assert_eq!((report.kind, report.place.file()), (ReportKind::UnhandledPanic, file!()));
    });
}

#[test]
fn trap_19_when_the_runtime_ends_the_waiters_hear_of_it() {
    let flights: SingleFlight<u32, u32> = SingleFlight::new("fetch");
    let mut waiting = Box::pin(flights.run(1, std::future::pending::<u32>));
    let mut poll = || waiting.as_mut().poll(&mut task::Context::from_waker(Waker::noop()));
    let rt = Runtime::new().unwrap();
    rt.block_on(async { assert!(poll().is_pending()) });
    drop(rt);
    let Poll::Ready(Err(error)) = poll() else { panic!("it has landed") };
    assert!(error.is_cancelled());
    assert_eq!(flights.flying(), 0);
}

#[test]
fn begun_without_a_runtime_nothing_is_left_behind() {
    let flights: SingleFlight<u32, u32> = SingleFlight::new("fetch");
    let mut waiting = Box::pin(flights.run(1, async || 1));
    let poll = || waiting.as_mut().poll(&mut task::Context::from_waker(Waker::noop()));
    assert!(std::panic::catch_unwind(std::panic::AssertUnwindSafe(poll)).is_err());
    assert_eq!(flights.flying(), 0);
}

#[test]
fn the_futures_are_send() {
    fn assert_send<T: Send>(_: T) {}
    let flights: SingleFlight<String, u32> = SingleFlight::new("fetch");
    // The work itself need not be.
    assert_send(flights.run("key".to_owned(), async || *std::rc::Rc::new(1)));
}
