//! Ends a wait at a deadline, where there is no timerfd: by mio's own timeout, which some systems round up to
//! whole milliseconds.
//!
//! The twin for Linux is `alarm.rs`.

use std::io;
use std::time::{Duration, Instant};

use mio::{Registry, Token};

pub(super) struct Alarm {
    epoch: Instant,
}

impl Alarm {
    /// Deadlines count from `epoch`. The token never comes up.
    pub(super) fn new(_registry: &Registry, _token: Token, epoch: Instant) -> io::Result<Alarm> {
        Ok(Alarm { epoch })
    }

    /// The timeout which makes a wait that begins now end at `deadline` (ns since the epoch).
    pub(super) fn set(&self, deadline: u64) -> io::Result<Option<Duration>> {
        Ok(Some(Duration::from_nanos(deadline).saturating_sub(self.epoch.elapsed())))
    }

    /// Never called: the token does not come up.
    pub(super) fn rang(&self) {}
}

#[cfg(test)]
mod tests {
    use mio::Poll;

    use super::*;

    #[test]
    fn the_timeout_is_what_is_left() {
        let poll = Poll::new().unwrap();
        let alarm = Alarm::new(poll.registry(), Token(7), Instant::now()).unwrap();
        let day = Duration::from_secs(24 * 3600);
        let left = alarm.set(day.as_nanos() as u64).unwrap().unwrap();
        assert!(left <= day && left > day / 2);
        assert_eq!(alarm.set(0).unwrap(), Some(Duration::ZERO));
        alarm.rang();
    }
}
