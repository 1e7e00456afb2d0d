//! What is to be reached: the bounds, and how each is judged by what the targets left behind.

use crate::growth;
use crate::record::{ALLOCATIONS, BYTES, CPU_MS, Entry, GROWTH, INSTRUCTIONS, NS, P99_US, ratio_of};

/// A bound for one case.
#[derive(Clone, Copy, Debug)]
pub struct Goal {
    /// The row.
    pub case: &'static str,
    /// What is bounded; one of the units of [`record`](crate::record).
    pub unit: &'static str,
    /// How high it may be.
    pub bound: Bound,
}

/// How high something may be.
#[derive(Clone, Copy, Debug)]
pub enum Bound {
    /// So many times what it is for tokio, in the same run.
    Ratio(f64),
    /// So much.
    AtMost(f64),
}

/// What came of it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Verdict {
    /// The ratio, or the amount, is within the bound.
    Pass(f64),
    /// It is not.
    Fail(f64),
    /// No target left a number.
    Unmeasured,
}

/// The table "To reach".
pub const GOALS: [Goal; 25] = [
    ratio_goal("spawn + join, one context", NS, 0.12),
    at_most("spawn + join, one context", ALLOCATIONS, 0.0),
    ratio_goal("spawn + join, a context change at every poll", NS, 0.18),
    ratio_goal("yield, one context", NS, 0.25),
    at_most("yield, one context", INSTRUCTIONS, 130.0),
    ratio_goal("yield, a context per task", NS, 0.42),
    at_most("yield, a context per task", INSTRUCTIONS, 150.0),
    ratio_goal("ping-pong, a context each", NS, 0.42),
    ratio_goal("ping-pong, a context each, wakers cloned", NS, 0.35),
    ratio_goal("a sleep, create + poll + drop", NS, 0.35),
    ratio_goal("100,000 sleeps over 1 s", CPU_MS, 1.2),
    at_most("100,000 sleeps over 1 s", P99_US, 150.0),
    ratio_goal("RSS per idle task, 64 B of state, a share of a context", BYTES, 0.45),
    ratio_goal("remote wake, latency", NS, 1.0),
    ratio_goal("remote wake, throughput", NS, 0.6),
    ratio_goal("remote wake, one task, 1 thread", NS, 1.4),
    ratio_goal("remote wake, one task, 2 threads", NS, 1.4),
    ratio_goal("remote wake, one task, 4 threads", NS, 1.4),
    ratio_goal("TCP echo, a request, in lock step", INSTRUCTIONS, 0.4),
    ratio_goal("HTTP hello, a request, in lock step", INSTRUCTIONS, 1.0),
    ratio_goal("HTTP/1 hello, 50 connections, CPU of the server", NS, 0.97),
    at_most("root context, create + run + finish", NS, 60.0),
    at_most("`in_context`, a poll with a change of context and back", NS, 12.0),
    // Flat: within the noise of single points. What cache misses add where all take turns is in the plots.
    at_most(growth::IDLE_TASKS, GROWTH, 1.1),
    at_most(growth::CONTEXTS, GROWTH, 1.1),
];

const fn ratio_goal(case: &'static str, unit: &'static str, most: f64) -> Goal {
    Goal { case, unit, bound: Bound::Ratio(most) }
}

const fn at_most(case: &'static str, unit: &'static str, most: f64) -> Goal {
    Goal { case, unit, bound: Bound::AtMost(most) }
}

/// The ratio to tokio's time that a case is to reach.
pub(crate) fn ratio(case: &str) -> Option<f64> {
    GOALS.iter().find_map(|goal| match goal.bound {
        Bound::Ratio(most) if goal.case == case && goal.unit == NS => Some(most),
        _ => None,
    })
}

impl Goal {
    /// Judges by the entries of all targets.
    pub fn judge(&self, entries: &[Entry]) -> Verdict {
        let (reached, most) = match self.bound {
            Bound::Ratio(most) => (self.ratio(entries), most),
            Bound::AtMost(most) => (number(entries, self.case, "bursar", self.unit), most),
        };
        match reached {
            None => Verdict::Unmeasured,
            // Within what the table shows.
            Some(reached) if reached <= most + 0.005 => Verdict::Pass(reached),
            Some(reached) => Verdict::Fail(reached),
        }
    }

    /// The median of the ratios within repetitions where there is one; counts repeat, their quotient will do.
    fn ratio(&self, entries: &[Entry]) -> Option<f64> {
        number(entries, self.case, "bursar", &ratio_of(self.unit)).or_else(|| {
            let ours = number(entries, self.case, "bursar", self.unit)?;
            Some(ours / number(entries, self.case, "tokio", self.unit)?)
        })
    }
}

fn number(entries: &[Entry], case: &str, peer: &str, unit: &str) -> Option<f64> {
    let found = entries.iter().find(|entry| entry.case == case && entry.peer == peer && entry.unit == unit);
    found.and_then(|entry| entry.value.parse().ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(peer: &str, unit: &str, value: &str) -> Entry {
        Entry::new("remote wake, latency", peer, unit, value)
    }

    #[test]
    fn the_ratio_of_one_run_counts_and_not_the_quotient_of_medians() {
        let goal = ratio_goal("remote wake, latency", NS, 1.0);
        let mut entries = vec![entry("bursar", NS, "10"), entry("tokio", NS, "11")];
        assert!(matches!(goal.judge(&entries), Verdict::Pass(_)));
        entries.push(entry("bursar", &ratio_of(NS), "1.2"));
        assert_eq!(goal.judge(&entries), Verdict::Fail(1.2));
    }

    #[test]
    fn what_nobody_measured_is_neither_passed_nor_failed() {
        let goal = at_most("remote wake, latency", NS, 12.0);
        assert_eq!(goal.judge(&[]), Verdict::Unmeasured);
        assert_eq!(goal.judge(&[entry("tokio", NS, "11")]), Verdict::Unmeasured);
        assert_eq!(goal.judge(&[entry("bursar", NS, "12.004")]), Verdict::Pass(12.004));
        assert_eq!(goal.judge(&[entry("bursar", NS, "12.1")]), Verdict::Fail(12.1));
    }

    #[test]
    fn every_goal_has_a_row() {
        let timed = crate::rows();
        let (idle, sleeps) = (crate::idle(), crate::sleeps());
        let mut known: Vec<&str> = timed.iter().map(|row| row.case).collect();
        known.extend(idle.iter().map(|row| row.case));
        known.push(sleeps.case);
        let grown = growth::figures();
        known.extend(grown.iter().map(|figure| figure.title));
        let counted = crate::case::counted();
        known.extend(counted.iter().map(|row| row.case));
        for goal in GOALS {
            assert!(known.contains(&goal.case), "{} is not a case", goal.case);
        }
    }
}
