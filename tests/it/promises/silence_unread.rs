//! P17: a failure that nobody takes is reported, in whatever it ends, and whenever its handle goes.

use crate::promise::cut;
use crate::trace::{PanicOnDrop, panic_quietly};
use crate::watch::Watch;
use context::{Context, ReportKind};
use runtime::{Runtime, TaskGroup, yield_now};
use std::future::{Future, pending, poll_fn};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{self, Poll, Wake, Waker};

use ReportKind::{UnhandledError, UnhandledPanic};

async fn settle() {
    for _ in 0..4 {
        yield_now().await;
    }
}

fn watched<F: Future>(f: impl FnOnce(Watch) -> F) -> F::Output {
    let watch = Watch::here();
    Runtime::new().unwrap().block_on(f(watch))
}

/// The reports since the last call: kind, class of the context, text.
fn said(watch: &Watch) -> Vec<(ReportKind, String, String)> {
    let class = |name: &str| name.split('#').next().unwrap_or_default().to_owned();
    watch.take().into_iter().map(|report| (report.kind, class(&report.context), report.detail)).collect()
}

fn once(kind: ReportKind, class: &str, text: &str) -> Vec<(ReportKind, String, String)> {
    vec![(kind, class.to_owned(), text.to_owned())]
}

type Group = TaskGroup<(), &'static str>;

#[test]
fn p17_b08_the_failure_of_a_group_that_nobody_joins_is_reported() {
    watched(|watch| async move {
        let fails: [(fn(&mut Group), _); 3] = [
            (
                |group| group.spawn(async { panic_quietly("b08 panics") }),
                once(UnhandledPanic, "b08 group", "b08 panics"),
            ),
            (|group| group.spawn(async { Err("b08 fails") }), once(UnhandledError, "b08 group", "b08 fails")),
            (
                |group| group.spawn_part("b08 part", async { Err("b08 fails") }),
                once(UnhandledError, "b08 part", "b08 fails"),
            ),
        ];
        for (fail, expected) in fails {
            // Dropped after the failure, and before it.
            let mut group = Group::new("b08 group");
            fail(&mut group);
            settle().await;
            drop(group);
            assert_eq!(said(&watch), expected);
            // The future of `join` is dropped, when all has ended and earlier.
            let mut group = Group::new("b08 group");
            fail(&mut group);
            let joining = group.join();
            settle().await;
            drop(joining);
            assert_eq!(said(&watch), expected);
            // And if it is joined there is nothing to report.
            let mut group = Group::new("b08 group");
            fail(&mut group);
            let joined = runtime::spawn(group.join()).await;
            assert!(joined.is_err() || joined.is_ok_and(|result| result.is_err()));
            assert_eq!(said(&watch), []);
        }
    });
}

#[test]
fn p17_b08_the_report_of_a_group_names_the_line_of_the_spawn() {
    watched(|watch| async move {
        let mut group = Group::new("b08 line");
        let line = line!() + 1;
        group.spawn(async { Err("b08 line") });
        settle().await;
        drop(group);
        let report = watch.only();
        assert_eq!((report.place.file(), report.place.line()), (file!(), line));
    });
}

#[test]
fn p17_b08_what_fails_besides_the_first_is_reported_when_it_happens() {
    watched(|watch| async move {
        let mut group = Group::new("b08 second");
        group.spawn(async {
            let _bomb = PanicOnDrop("b08 destructor");
            pending().await
        });
        group.spawn(async { Err("b08 first") });
        assert_eq!(group.join().await, Err("b08 first"));
        assert_eq!(said(&watch), once(UnhandledPanic, "b08 second", "b08 destructor"));
        // The same when the group is dropped.
        let mut group = Group::new("b08 second");
        group.spawn(async {
            let _bomb = PanicOnDrop("b08 destructor");
            pending().await
        });
        settle().await;
        drop(group);
        settle().await;
        assert_eq!(said(&watch), once(UnhandledPanic, "b08 second", "b08 destructor"));
    });
}

#[test]
fn p15_b08_the_panic_of_a_destructor_is_the_failure_of_its_member() {
    watched(|watch| async move {
        let mut group = Group::new("b08 destructor");
        let mut bomb = Some(PanicOnDrop("b08 at the end"));
        group.spawn(poll_fn(move |_| {
            let _stays = &mut bomb;
            Poll::Ready(Ok(()))
        }));
        let joined = runtime::spawn(group.join()).await.unwrap_err();
        assert_eq!(context::panic_message(&*joined.into_panic()), "b08 at the end");
        assert_eq!(said(&watch), []);
    });
}

struct NoText;

#[test]
fn p17_b08_an_error_without_a_text_is_reported_by_its_type() {
    watched(|watch| async move {
        let mut group = TaskGroup::<(), NoText>::new("b08 no text");
        group.spawn(async { Err(NoText) });
        settle().await;
        drop(group);
        assert!(watch.only().detail.contains("NoText"));
    });
}

/// Ends with `result` at its second poll.
async fn late<T>(result: T) -> T {
    yield_now().await;
    result
}

#[test]
fn p17_b08_the_error_of_detached_work_is_reported_whenever_its_handle_goes() {
    watched(|watch| async move {
        let work = || runtime::detach("b08 detached", late(Err::<(), _>("b08 lost")));
        let expected = || once(UnhandledError, "b08 detached", "b08 lost");
        drop(work());
        settle().await;
        assert_eq!(said(&watch), expected());
        let handle = work();
        settle().await;
        assert_eq!(said(&watch), [], "somebody may still ask");
        drop(handle);
        assert_eq!(said(&watch), expected());
        assert!(cut(work(), 1).await.is_none());
        settle().await;
        assert_eq!(said(&watch), expected());
        assert_eq!(work().await, Err("b08 lost"));
        assert_eq!(said(&watch), []);
        assert_eq!(runtime::detach("b08 detached", late(Ok::<_, &str>(1))).await, Ok(1));
    });
}

#[test]
fn p17_b08_the_panic_of_detached_or_shielded_work_or_of_a_job_is_reported_whenever_its_handle_goes() {
    async fn panics() -> Result<(), &'static str> {
        yield_now().await;
        panic_quietly("b08 panic")
    }
    watched(|watch| async move {
        let request = Context::root("b08 request");
        type Work = Pin<Box<dyn Future<Output = ()>>>;
        fn boxed(work: impl Future + 'static) -> Work {
            Box::pin(async { drop(work.await) })
        }
        let begin: [fn() -> Work; 2] =
            [|| boxed(runtime::detach("b08 detached", panics())), || boxed(runtime::shield(panics()))];
        for begin in begin {
            for drops_early in [true, false] {
                let mut work = Some(request.scope(begin));
                if drops_early {
                    work = None;
                }
                settle().await;
                drop(work);
                let said = said(&watch);
                assert_eq!(
                    said.iter().map(|(kind, _, text)| (*kind, text.as_str())).collect::<Vec<_>>(),
                    [(UnhandledPanic, "b08 panic")]
                );
            }
        }
        let job = request.scope(|| runtime::spawn_blocking(|| panic_quietly("b08 job")));
        while !job.is_finished() {
            yield_now().await;
        }
        drop(job);
        assert_eq!(said(&watch), once(UnhandledPanic, "b08 request", "b08 job"));
    });
}

struct PanicsWhenWoken;

impl Wake for PanicsWhenWoken {
    fn wake(self: Arc<Self>) {
        panic_quietly("b16 join waker");
    }
}

#[test]
fn p17_b16_a_foreign_waker_of_a_group_or_a_timer_harms_nobody() {
    watched(|watch| async move {
        let bad = Waker::from(Arc::new(PanicsWhenWoken));
        let mut group = Group::new("b16 group");
        group.spawn(late(Ok(())));
        let mut joining = Box::pin(group.join());
        assert!(joining.as_mut().poll(&mut task::Context::from_waker(&bad)).is_pending());
        settle().await;
        assert_eq!(said(&watch), once(UnhandledPanic, "b16 group", "b16 join waker"));
        assert_eq!(joining.await, Ok(vec![()]));
        // Of three timers for one moment the second has a waker that panics.
        let milli = std::time::Duration::from_millis(1);
        let before = runtime::spawn(runtime::time::sleep(milli));
        yield_now().await;
        let mut foreign = Box::pin(runtime::time::sleep(milli));
        assert!(foreign.as_mut().poll(&mut task::Context::from_waker(&bad)).is_pending());
        let after = runtime::spawn(runtime::time::sleep(milli));
        before.await.unwrap();
        after.await.unwrap();
        let report = watch.only();
        assert_eq!((report.kind, report.detail.as_str()), (UnhandledPanic, "a waker: b16 join waker"));
        assert!(foreign.is_elapsed());
    });
}
