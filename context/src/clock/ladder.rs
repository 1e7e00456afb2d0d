//! Which rung this machine offers, and the test that a mark must pass.
//!
//! Trust in a mark is earned: "the kernel changes it at every switch" is tried out before it is believed, by blocking a
//! few times and looking. That is a property of the kernel, not of the thread, so the first thread's verdict serves the
//! process; a later thread only looks whether it has a slot of its own. The first start costs 1.1 ms, a later one 1 us
//! (perf page: 10 us).

use std::sync::atomic::{AtomicU8, Ordering::Relaxed};

use super::mark::Mark;
use super::thread_time::nap;
use super::{Clock, Rung, rseq, wall};

/// Naps of the self-test, and how long each is (plus the timer slack of 50 us).
///
/// More than one, because a preemption in the microsecond around a nap clears the mark also where the nap itself does
/// not, and would be taken for sight.
const NAPS: u32 = 3;
const NAP_NS: u32 = 300_000;
/// A signal cuts a nap short and clears the mark: such a nap proves nothing. Give up after this many.
const NAPS_TRIED_MAX: u32 = 12;

/// What a thread stands on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Footing {
    pub(super) rung: Rung,
    pub(super) blind_to_blocking: bool,
}

impl Footing {
    const fn on(rung: Rung) -> Footing {
        Footing { rung, blind_to_blocking: false }
    }
}

/// Sets `mark` up for the best rung not above the wanted one.
pub(super) fn climb(want: Clock, mark: &Mark, forks_watched: bool) -> Footing {
    mark.release();
    let found = match want {
        Clock::Auto | Clock::Rseq => rseq_rung(mark).or_else(|| perf_rung(mark, forks_watched)),
        Clock::PerfPage => perf_rung(mark, forks_watched),
        Clock::ThreadTime => None,
        Clock::Manual => Some(Footing::on(Rung::Manual)),
    };
    found.unwrap_or_else(|| {
        mark.release();
        Footing::on(Rung::ThreadTime)
    })
}

fn rseq_rung(mark: &Mark) -> Option<Footing> {
    if !wall::is_tsc() || !mark.use_rseq() {
        return None;
    }
    match verdict(&RSEQ, || examine(mark)) {
        Verdict::SeesAll => Some(Footing::on(Rung::Rseq)),
        Verdict::BlindToBlocking => Some(Footing { rung: Rung::Rseq, blind_to_blocking: true }),
        Verdict::Untrusted | Verdict::Unknown => None,
    }
}

/// Only where forks are watched: its page is not in a child.
fn perf_rung(mark: &Mark, forks_watched: bool) -> Option<Footing> {
    if !forks_watched || !wall::is_tsc() || !mark.use_perf_page() {
        return None;
    }
    let sees_all = verdict(&PERF_PAGE, || examine(mark)) == Verdict::SeesAll;
    sees_all.then_some(Footing::on(Rung::PerfPage))
}

static RSEQ: AtomicU8 = AtomicU8::new(Verdict::Unknown as u8);
static PERF_PAGE: AtomicU8 = AtomicU8::new(Verdict::Unknown as u8);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
enum Verdict {
    /// Not tried, or the try was disturbed: the next thread tries again.
    Unknown,
    /// Every switch shows.
    SeesAll,
    /// A switch inside a system call does not show, any other does.
    BlindToBlocking,
    /// Neither could be shown.
    Untrusted,
}

/// The verdict of the process, passed now if there is none yet. Two threads that start at once both try, and agree.
fn verdict(known: &AtomicU8, examine: impl FnOnce() -> Verdict) -> Verdict {
    const ALL: [Verdict; 3] = [Verdict::SeesAll, Verdict::BlindToBlocking, Verdict::Untrusted];
    let past = known.load(Relaxed);
    if let Some(verdict) = ALL.into_iter().find(|&verdict| verdict as u8 == past) {
        return verdict;
    }
    let verdict = examine();
    known.store(verdict as u8, Relaxed);
    verdict
}

fn examine(mark: &Mark) -> Verdict {
    match shows_blocking(mark) {
        Some(true) => Verdict::SeesAll,
        Some(false) if rseq::sees_preemption(mark) => Verdict::BlindToBlocking,
        Some(false) => Verdict::Untrusted,
        None => Verdict::Unknown,
    }
}

/// Blocks, and looks whether the mark has gone. One survivor is proof that it may survive; `None`: disturbed.
fn shows_blocking(mark: &Mark) -> Option<bool> {
    let mut gone = 0;
    for _ in 0..NAPS_TRIED_MAX {
        mark.arm();
        if !nap(NAP_NS) {
            continue;
        }
        if mark.intact() {
            return Some(false);
        }
        gone += 1;
        if gone == NAPS {
            return can_hold(mark).then_some(true);
        }
    }
    None
}

/// A mark that is gone at once, without any switch, would be sound but of no use.
fn can_hold(mark: &Mark) -> bool {
    (0..NAPS_TRIED_MAX).any(|_| {
        mark.arm();
        mark.intact()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mark_that_never_holds_earns_no_trust() {
        assert_eq!(examine(&Mark::never()), Verdict::Unknown);
    }

    #[test]
    fn a_verdict_is_passed_once_but_doubt_is_not_kept() {
        let known = AtomicU8::new(Verdict::Unknown as u8);
        assert_eq!(verdict(&known, || Verdict::Unknown), Verdict::Unknown);
        assert_eq!(verdict(&known, || Verdict::BlindToBlocking), Verdict::BlindToBlocking);
        assert_eq!(verdict(&known, || unreachable!("it is known")), Verdict::BlindToBlocking);
    }

    #[test]
    fn a_preemption_shows_where_there_is_rseq() {
        let mark = Mark::never();
        if mark.use_rseq() {
            // On a busy machine the competitor may not get its turn in time: then the proof is not led.
            assert!((0..20).any(|_| rseq::sees_preemption(&mark)));
            mark.release();
        }
        assert!(!rseq::sees_preemption(&Mark::never()));
    }
}
