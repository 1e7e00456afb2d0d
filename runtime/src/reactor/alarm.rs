//! Ends a wait at a deadline, on Linux: by a timerfd in the poll set, to the nanosecond.
//!
//! The twin for other systems is `alarm_coarse.rs`.

use std::cell::Cell;
use std::io;
use std::os::fd::AsRawFd;
use std::time::{Duration, Instant};

use mio::unix::SourceFd;
use mio::{Interest, Registry, Token};

use crate::sys::timerfd::{TimerFd, monotonic_ns};

/// "Armed for never": later than any deadline that could replace it.
const UNARMED: u64 = u64::MAX;

pub(super) struct Alarm {
    timer: TimerFd,
    /// The epoch of the deadlines on `CLOCK_MONOTONIC`, in ns.
    epoch: u64,
    /// The deadline that will ring.
    armed: Cell<u64>,
}

impl Alarm {
    /// An alarm that rings as an event of `token`; deadlines count from `epoch`.
    pub(super) fn new(registry: &Registry, token: Token, epoch: Instant) -> io::Result<Alarm> {
        // In this order the time between the two readings makes alarms some ns late; the other would make them
        // early, and every wait would be followed by a second, tiny one.
        let age = epoch.elapsed();
        let epoch = monotonic_ns()?.saturating_sub(age.as_nanos() as u64);
        let timer = TimerFd::new()?;
        registry.register(&mut SourceFd(&timer.as_raw_fd()), token, Interest::READABLE)?;
        Ok(Alarm { timer, epoch, armed: Cell::new(UNARMED) })
    }

    /// Sees to it that a wait which begins now ends at `deadline` (ns since the epoch) at the latest, and returns
    /// the timeout to give to mio besides: none, here.
    ///
    /// An alarm that is armed for an earlier time is left alone: the wait ends early, finds nothing to do, and
    /// arms the right time then. That is at most one wake-up for nothing per system call saved, and it saves
    /// one a turn where deadlines move away all the time (a timeout per request: armed once per timeout).
    pub(super) fn set(&self, deadline: u64) -> io::Result<Option<Duration>> {
        if deadline < self.armed.get() {
            self.timer.arm(self.epoch.saturating_add(deadline))?;
            self.armed.set(deadline);
        }
        Ok(None)
    }

    /// Takes note that the alarm's token came up. The descriptor is not read: arming resets it, and an
    /// edge-triggered poll does not report it twice.
    pub(super) fn rang(&self) {
        self.armed.set(UNARMED);
    }
}

#[cfg(test)]
mod tests {
    use mio::{Events, Poll};

    use super::*;

    const SECOND: u64 = 1_000_000_000;

    fn wait(poll: &mut Poll, timeout: Option<Duration>) -> usize {
        let mut events = Events::with_capacity(8);
        poll.poll(&mut events, timeout).unwrap();
        events.iter().count()
    }

    #[test]
    fn a_later_deadline_is_not_armed_until_the_earlier_rang() {
        let poll = Poll::new().unwrap();
        let alarm = Alarm::new(poll.registry(), Token(7), Instant::now()).unwrap();
        alarm.set(1000 * SECOND).unwrap();
        alarm.set(2000 * SECOND).unwrap();
        assert_eq!(alarm.armed.get(), 1000 * SECOND);
        alarm.set(500 * SECOND).unwrap();
        assert_eq!(alarm.armed.get(), 500 * SECOND);
        alarm.rang();
        alarm.set(2000 * SECOND).unwrap();
        assert_eq!(alarm.armed.get(), 2000 * SECOND);
    }

    #[test]
    fn rings_once_per_arm_without_being_read() {
        let mut poll = Poll::new().unwrap();
        let alarm = Alarm::new(poll.registry(), Token(7), Instant::now()).unwrap();
        for _ in 0..5 {
            let timeout = alarm.set(0).unwrap();
            assert_eq!(wait(&mut poll, timeout), 1);
            alarm.rang();
            assert_eq!(wait(&mut poll, Some(Duration::ZERO)), 0, "an edge is reported once");
        }
    }

    #[test]
    fn the_end_of_time_is_far_away() {
        let mut poll = Poll::new().unwrap();
        let alarm = Alarm::new(poll.registry(), Token(7), Instant::now()).unwrap();
        alarm.set(u64::MAX - 1).unwrap();
        assert_eq!(wait(&mut poll, Some(Duration::ZERO)), 0);
    }
}
