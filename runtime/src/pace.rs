//! How many polls the loop makes between two looks at the clock and the inbox.
//!
//! A look costs more than many a poll, so sixteen quick polls share one. Slow polls must not: sixteen polls of 8 ms would
//! keep a timer, a socket and the inbox waiting for 128 ms. So the loop begins each turn with four, doubles that while
//! they are quick, and makes so few in a row while they are slow that a stretch takes [`STRETCH`] or is one poll.

use std::cell::Cell;

/// In a turn at most: then the loop looks at timers and I/O. Looking costs a system call, ~300 ns: 1 ns a poll.
pub(crate) const TURN_POLLS: u32 = 256;
/// How long a turn goes on at most, ns, plus the stretch that is running then.
pub(crate) const TURN: u64 = 200_000;
/// How long a stretch is to take at most, ns, if its polls take what the last ones took.
const STRETCH: u64 = 50_000;

/// After one of so many ns the next ones may be twice as long.
const QUICK: u64 = STRETCH / 2;

const FIRST: u32 = 4;
const MOST: u32 = 16;

/// The pace of one loop.
pub(crate) struct Pace {
    /// Polls in a stretch at most, as the last polls were.
    most: Cell<u32>,
}

impl Pace {
    pub(crate) fn new() -> Pace {
        Pace { most: Cell::new(MOST) }
    }

    /// Polls in the first stretch of a turn.
    #[inline]
    pub(crate) fn first(&self) -> u32 {
        self.most.get().min(FIRST)
    }

    /// Polls in the next stretch, after one of `polls` polls that took `ns`.
    #[inline]
    pub(crate) fn next(&self, polls: u32, ns: u64) -> u32 {
        let most = if ns <= QUICK {
            (self.most.get() * 2).min(MOST)
        } else if ns <= STRETCH {
            self.most.get()
        } else {
            // Of a long stretch it is not known whether all polls were slow or one.
            (u64::from(polls) * STRETCH / ns).max(1) as u32
        };
        self.most.set(most);
        most.min(polls * 2)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const QUICK: u64 = 100;
    const SLOW: u64 = 8_000_000;

    /// The stretches of one turn whose polls take `ns` each.
    fn turn(pace: &Pace, ns: u64) -> Vec<u32> {
        let (mut polls, mut all, mut took) = (pace.first(), Vec::new(), 0);
        while took <= TURN && all.iter().sum::<u32>() < TURN_POLLS {
            all.push(polls);
            took += u64::from(polls) * ns;
            polls = pace.next(polls, u64::from(polls) * ns);
        }
        all
    }

    #[test]
    fn p29_quick_polls_share_a_look_at_the_clock() {
        let stretches = turn(&Pace::new(), QUICK);
        assert_eq!(stretches[..4], [4, 8, 16, 16]);
        assert_eq!(stretches.len(), 18);
    }

    /// Without the pace a sleeper waited for 16 of them.
    #[test]
    fn p29_slow_polls_are_few_in_a_row_and_then_one() {
        let pace = Pace::new();
        assert_eq!(turn(&pace, SLOW), [4], "not known before that they are slow");
        assert_eq!(turn(&pace, SLOW), [1]);
        assert_eq!(turn(&pace, SLOW), [1]);
        turn(&pace, QUICK);
        assert_eq!(turn(&pace, QUICK)[..3], [4, 8, 16]);
    }

    #[test]
    fn p29_a_stretch_of_middling_polls_takes_as_long_as_it_may() {
        let pace = Pace::new();
        turn(&pace, 10_000);
        assert_eq!(turn(&pace, 10_000)[1..3], [5, 5]);
    }
}
