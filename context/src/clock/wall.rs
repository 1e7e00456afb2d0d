//! The process-wide wall clock in ticks, and what a tick is worth.
//!
//! A tick is one count of the time-stamp counter where the kernel trusts it, else a nanosecond of `CLOCK_MONOTONIC`.
//!
//! What a tick is worth is measured against `CLOCK_MONOTONIC_RAW` and not against the thread's CPU clock: the latter says
//! nothing about ticks unless the thread never left its CPU in between, and then only over the 10 ms that an anchor lasts
//! (50 ns of jitter in 10 ms are 5 parts in a million). RAW runs at the rate of the scheduler's clock, which NTP does not
//! slew either, and can be measured over a baseline that grows: 200 us at first, then twice as long each time, up to a
//! window of 16 s. Wall times converted by it therefore differ from `Instant` by what NTP slews, at most 0.05 %.

use std::sync::Once;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};

use parking_lot::Mutex;

use super::thread_time::{monotonic_ns, monotonic_raw_ns};
use super::tsc;

/// The rate is a fixed-point number, nanoseconds per tick times 2^40: 1e-12 exact, which is a microsecond in 10 days. The
/// product of a rate and the ticks of up to 16 ms fits into 64 bits, whatever the tick: [`short_ticks_to_ns`].
const SHIFT: u32 = 40;

/// The rate of a tick that is a nanosecond.
pub(super) const ONE: u64 = 1 << SHIFT;

/// Of the first measurement; somebody waits for it.
const BASELINE_MIN_NS: u64 = 200_000;
const BASELINE_MAX_NS: u64 = 16_000_000_000;

/// Now, in ticks. Comparable on all threads of the process; never 0.
#[inline]
pub(crate) fn wall_ticks() -> u64 {
    if TSC.load(Relaxed) { tsc::read() } else { other_ticks() }
}

/// A difference of ticks in nanoseconds, rounded down. Exact where a tick is a nanosecond.
#[inline]
pub(crate) fn ticks_to_ns(ticks: u64) -> u64 {
    scale(ticks, rate())
}

/// The same for less than 16 ms, at a rate the caller remembers: one multiplication.
#[inline(always)]
pub(super) fn short_ticks_to_ns(ticks: u64, rate: u64) -> u64 {
    ticks.wrapping_mul(rate) >> SHIFT
}

/// The inverse at a given rate.
pub(super) fn ns_to_ticks(ns: u64, rate: u64) -> u64 {
    ((u128::from(ns) << SHIFT) / u128::from(rate)) as u64
}

/// Is a tick one of the time-stamp counter?
pub(super) fn is_tsc() -> bool {
    begin();
    TSC.load(Relaxed)
}

/// Nanoseconds per tick, times 2^40.
#[inline]
pub(super) fn rate() -> u64 {
    match RATE.load(Relaxed) {
        0 => first_rate(),
        rate => rate,
    }
}

/// Measures the rate again if it is time to. Called beside every read of the real clock; a load and a compare if not.
#[inline]
pub(super) fn refine(now: u64) {
    if now >= REFINE_AT.load(Relaxed) {
        refine_now();
    }
}

/// Set once by [`begin`], after `RATE`.
static TSC: AtomicBool = AtomicBool::new(false);
/// 0 until `begin`.
static RATE: AtomicU64 = AtomicU64::new(0);
/// In ticks.
static REFINE_AT: AtomicU64 = AtomicU64::new(u64::MAX);
static CALIBRATION: Mutex<Option<Calibration>> = Mutex::new(None);

/// Finds out what a tick is, once a process: 20 us, and [`BASELINE_MIN_NS`] more to measure the counter.
fn begin() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        if tsc::is_trusted() {
            let calibration = Calibration::begin();
            calibration.publish();
            *CALIBRATION.lock() = Some(calibration);
            TSC.store(true, Relaxed);
        } else {
            RATE.store(1 << SHIFT, Relaxed);
        }
    });
}

#[cold]
#[inline(never)]
fn other_ticks() -> u64 {
    if is_tsc() { tsc::read() } else { monotonic_ns() }
}

#[cold]
#[inline(never)]
fn first_rate() -> u64 {
    begin();
    RATE.load(Relaxed)
}

#[cold]
#[inline(never)]
fn refine_now() {
    // Another thread is at it: its result serves us too. (And a child forked meanwhile is not stuck.)
    let Some(mut calibration) = CALIBRATION.try_lock() else { return };
    if let Some(calibration) = calibration.as_mut() {
        calibration.extend(Sight::take());
        calibration.publish();
    }
}

#[inline]
pub(super) fn scale(ticks: u64, rate: u64) -> u64 {
    ((u128::from(ticks) * u128::from(rate)) >> SHIFT) as u64
}

/// The same moment on both clocks.
#[derive(Clone, Copy, Debug)]
struct Sight {
    ticks: u64,
    raw_ns: u64,
}

impl Sight {
    /// The tightest of a few: an interrupt or a stolen CPU between the two readings widens it. 250 ns.
    fn take() -> Sight {
        let (_, sight) = (0..5).map(|_| Sight::take_once()).min_by_key(|&(width, _)| width).expect("five");
        sight
    }

    fn take_once() -> (u64, Sight) {
        let before = tsc::read();
        let raw_ns = monotonic_raw_ns();
        let width = tsc::read().wrapping_sub(before);
        (width, Sight { ticks: before.wrapping_add(width / 2), raw_ns })
    }
}

/// Two sights and the rate between the first and the newest one.
struct Calibration {
    base: Sight,
    latest: Sight,
    rate: u64,
    /// Ticks.
    refine_at: u64,
}

impl Calibration {
    fn begin() -> Calibration {
        let base = Sight::take();
        while monotonic_raw_ns() - base.raw_ns < BASELINE_MIN_NS {
            std::hint::spin_loop();
        }
        let mut calibration = Calibration { base, latest: base, rate: 1 << SHIFT, refine_at: 0 };
        calibration.extend(Sight::take());
        calibration
    }

    fn extend(&mut self, now: Sight) {
        let ticks = now.ticks.saturating_sub(self.base.ticks);
        let ns = now.raw_ns.saturating_sub(self.base.raw_ns);
        let rate = ((u128::from(ns) << SHIFT) / u128::from(ticks.max(1))) as u64;
        if rate == 0 {
            // One of the clocks was set back (a restored snapshot): begin anew, with the old rate until then.
            self.base = now;
        } else {
            self.rate = rate;
        }
        if ns >= BASELINE_MAX_NS {
            self.base = self.latest;
        }
        self.latest = now;
        let next_ns = ns.clamp(BASELINE_MIN_NS, BASELINE_MAX_NS / 2);
        self.refine_at = now.ticks.saturating_add(ns_to_ticks(next_ns, self.rate));
    }

    fn publish(&self) {
        RATE.store(self.rate, Relaxed);
        REFINE_AT.store(self.refine_at, Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DAY_NS: u64 = 86_400 * 1_000_000_000;
    /// A counter of 2.5 GHz.
    const FAST: u64 = (4 << SHIFT) / 10;

    #[test]
    fn ten_days_of_ticks_do_not_overflow() {
        let ticks = ns_to_ticks(10 * DAY_NS, FAST);
        assert!(ticks.abs_diff(25 * DAY_NS) < 10_000);
        assert!(scale(ticks, FAST).abs_diff(10 * DAY_NS) <= 1);
        assert_eq!(scale(10 * DAY_NS, 1 << SHIFT), 10 * DAY_NS);
        assert!(ticks_to_ns(ns_to_ticks(10 * DAY_NS, rate())).abs_diff(10 * DAY_NS) < 1000);
    }

    #[test]
    fn the_short_product_is_the_long_one_up_to_sixteen_ms() {
        for rate in [FAST, FAST / 2, 1 << SHIFT, 1000 << SHIFT] {
            for ns in [0, 1, 999, 30_000, 10_000_000, 16_000_000] {
                let ticks = ns_to_ticks(ns, rate);
                assert_eq!(short_ticks_to_ns(ticks, rate), scale(ticks, rate));
            }
        }
    }

    #[test]
    fn ticks_agree_with_the_raw_clock() {
        let (ticks, raw) = (wall_ticks(), monotonic_raw_ns());
        while monotonic_raw_ns() - raw < 5_000_000 {
            std::hint::spin_loop();
        }
        refine(wall_ticks());
        let (ticks, raw) = (ticks_to_ns(wall_ticks() - ticks), monotonic_raw_ns() - raw);
        // The margin is for a preemption between two readings.
        assert!(ticks.abs_diff(raw) < raw / 2, "{ticks} ns of ticks in {raw} ns");
    }

    #[test]
    fn the_rate_follows_the_clocks_and_its_baseline_is_bounded() {
        let second =
            |s: u64, ticks_per_s: u64| Sight { ticks: 1 + s * ticks_per_s, raw_ns: s * 1_000_000_000 };
        let start = second(0, 0);
        let mut calibration = Calibration { base: start, latest: start, rate: 1, refine_at: 0 };
        for s in (1..=64).chain((72..=400).step_by(8)) {
            calibration.extend(second(s, 2_500_000_000));
            assert!(calibration.rate.abs_diff(FAST) < 1000);
            let age = calibration.latest.raw_ns - calibration.base.raw_ns;
            assert!(age <= BASELINE_MAX_NS);
            assert!(calibration.refine_at <= 1 + (s + 8) * 2_500_000_000);
        }
        calibration.extend(start);
        assert!(calibration.rate.abs_diff(FAST) < 1000, "a clock set back leaves the rate alone");
        assert_eq!(calibration.base.ticks, start.ticks);
    }
}
