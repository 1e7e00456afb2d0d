//! R13: polls that hold the thread are reported, by default, whether the clock is read around each poll or not.

use context::{Clock, Context, Report, ReportKind, harness};
use runtime::{Builder, Runtime};
use std::sync::{Arc, Mutex};
use std::thread;

const MILLI: u64 = 1_000_000;

/// What is reported as slow while tasks run, each in a context of its own and polled once, that take so many ms.
fn slow(set: impl Fn(Builder) -> Builder, polls: &[u64]) -> Vec<Report> {
    let (seen, here) = (Arc::new(Mutex::new(Vec::new())), thread::current().id());
    let sink = seen.clone();
    let builder = set(Runtime::builder().clock(Clock::Manual)).on_report(move |report| {
        if report.kind == ReportKind::SlowPoll && thread::current().id() == here {
            sink.lock().unwrap().push(report.clone());
        }
    });
    builder.build().unwrap().block_on(async {
        let tasks: Vec<_> = polls.iter().map(|ms| (Context::root(&format!("{ms} ms")), ms * MILLI)).collect();
        let tasks: Vec<_> = tasks
            .iter()
            .map(|(context, ns)| {
                let ns = *ns;
                runtime::spawn_in(context, async move { harness::advance_manual_clock(ns, ns) })
            })
            .collect();
        for task in tasks {
            task.await.unwrap();
        }
    });
    let seen = seen.lock().unwrap();
    seen.clone()
}

#[test]
fn r13_a_slow_poll_is_reported_by_default_with_its_context_and_line() {
    for track in [false, true] {
        let found = slow(|builder| builder.track_wakers(track), &[1, 150, 2, 90]);
        let [report] = &found[..] else { panic!("{track}: {found:?}") };
        assert!(report.context.starts_with("150 ms#"), "{report}");
        assert_eq!(report.place.file(), file!());
        assert!(report.detail.contains("150"), "{report}");
    }
}

#[test]
fn r13_polls_of_several_contexts_are_not_one_slow_poll() {
    for track in [false, true] {
        let found = slow(|builder| builder.track_wakers(track), &[60; 8]);
        assert!(found.is_empty(), "{track}: {found:?}");
    }
}

#[test]
fn r13_the_threshold_can_be_set_and_taken_away() {
    for track in [false, true] {
        let with = |threshold: Option<std::time::Duration>| {
            slow(|builder| builder.track_wakers(track).slow_poll(threshold), &[1, 20, 150]).len()
        };
        assert_eq!(with(None), 0);
        // Only the longest of a turn is told where the clock is not read around each poll.
        assert_eq!(with(Some(std::time::Duration::from_millis(10))), if track { 2 } else { 1 });
        assert_eq!(with(Some(std::time::Duration::from_millis(149))), 1);
    }
}
