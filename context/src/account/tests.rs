//! What no program can make happen at will: a clock that was a little ahead, a reading of another thread that was.

use super::*;
use crate::clock::Clock;
use crate::harness;

fn on_manual_clock(f: impl FnOnce() + Send) {
    std::thread::scope(|scope| {
        let thread = scope.spawn(|| {
            drop(harness::enter_loop(Clock::Manual, None));
            f();
        });
        thread.join().unwrap();
    });
}

/// The cheap clock was 4 ns ahead when a slice ended: the next comes out negative, and nobody is charged that.
#[test]
fn p07_what_the_clock_was_ahead_is_a_negative_correction() {
    on_manual_clock(|| {
        let (context, next) = (Context::root("p07 ahead"), Context::root("p07 next"));
        context.scope(|| harness::advance_manual_clock(10, 10));
        current::manual_go_back(4);
        next.scope(|| ());
        next.scope(|| harness::advance_manual_clock(100, 100));
        let books = accounts().unwrap();
        let ns = |duration: Duration| duration.as_nanos();
        assert_eq!((books.correction, ns(books.contexts), ns(books.thread_cpu)), (-4, 110, 106));
        assert_eq!((ns(context.own_usage().cpu), ns(next.own_usage().cpu)), (10, 100));
        assert_eq!((ns(books.sentinel), ns(books.runtime), ns(books.late)), (0, 0, 0));
    });
}

/// While it ran it was measured by the kernel's clock, and charged by the cheap one, 5 ns less.
#[test]
fn p08_what_was_shown_of_a_running_slice_is_not_taken_back() {
    let context = Context::root("p08 shown");
    let show = |cpu, running| {
        let reading = Reading { tally: Tally { cpu, ..Tally::default() }, running };
        context.node().show_total(reading).cpu
    };
    assert_eq!([show(100, 30), show(95, 0), show(95, 20), show(101, 0)], [100, 100, 100, 101]);
}
