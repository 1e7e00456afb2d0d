//! `interval`: ticks, missed ones, and the end.

use super::*;

/// The ticks of an interval of 1 s whose second tick is awaited 2.5 s late: when it was due, and when it came.
async fn ticks(behavior: MissedTickBehavior) -> Vec<(u128, u128)> {
    let start = Instant::now();
    let mut interval = interval(SECOND);
    interval.set_missed_tick_behavior(behavior);
    assert_eq!((interval.missed_tick_behavior(), interval.period()), (behavior, SECOND));
    let mut seen = Vec::new();
    for n in 0..6 {
        let due = interval.tick().await;
        seen.push(((due - start).as_millis(), start.elapsed().as_millis()));
        if n == 0 {
            advance(MS * 3500).await;
        }
    }
    seen
}

#[test]
fn missed_ticks_burst() {
    let seen = paused(ticks(MissedTickBehavior::Burst));
    assert_eq!(seen, [(0, 0), (1000, 3500), (2000, 3500), (3000, 3500), (4000, 4000), (5000, 5000)]);
}

#[test]
fn missed_ticks_delay() {
    let seen = paused(ticks(MissedTickBehavior::Delay));
    assert_eq!(seen, [(0, 0), (1000, 3500), (4500, 4500), (5500, 5500), (6500, 6500), (7500, 7500)]);
}

#[test]
fn missed_ticks_are_skipped() {
    let seen = paused(ticks(MissedTickBehavior::Skip));
    assert_eq!(seen, [(0, 0), (1000, 3500), (4000, 4000), (5000, 5000), (6000, 6000), (7000, 7000)]);
}

#[test]
fn an_interval_in_time_does_not_drift() {
    for behavior in [MissedTickBehavior::Burst, MissedTickBehavior::Delay, MissedTickBehavior::Skip] {
        paused(async {
            let start = Instant::now();
            let period = Duration::from_nanos(1_234_567);
            let mut interval = interval(period);
            interval.set_missed_tick_behavior(behavior);
            for n in 0..1000 {
                assert_eq!(interval.tick().await, start + period * n);
                assert_eq!(start.elapsed(), period * n);
            }
        });
    }
}

#[test]
fn intervals_are_reset() {
    paused(async {
        let start = Instant::now();
        let mut interval = interval_at(start + SECOND * 10, SECOND);
        assert_eq!(interval.tick().await, start + SECOND * 10);
        interval.reset_after(SECOND * 5);
        assert_eq!(interval.tick().await, start + SECOND * 15);
        interval.reset_immediately();
        let now = Instant::now();
        assert_eq!(interval.tick().await, now);
        interval.reset_at(now + SECOND * 3);
        assert_eq!(interval.tick().await, now + SECOND * 3);
        advance(MS * 500).await;
        interval.reset();
        assert_eq!(interval.tick().await, now + MS * 4500);
        assert_eq!(interval.tick().await, now + MS * 5500);
    });
}

/// G4, G5. A stopped repeating call leaves nothing behind.
#[test]
fn g04_a_dropped_interval_is_gone() {
    paused(async {
        let mut interval = interval(SECOND);
        interval.tick().await;
        assert!(poll_fn(|cx| Poll::Ready(interval.poll_tick(cx))).await.is_pending());
        assert_eq!(pending_timers(), 1);
        drop(interval);
        assert_eq!(pending_timers(), 0);
    });
}

#[test]
fn a_period_of_zero_is_refused() {
    let text = panic_text(|| drop(interval(Duration::ZERO)));
    assert_eq!(text, "the period of an interval must not be zero");
}
