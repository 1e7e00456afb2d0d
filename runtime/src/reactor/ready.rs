//! What is known of a source's readiness: a byte of bits, and the only places where they change.

use mio::event::Event;

/// One of the two ways through a source.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Direction {
    /// Reading, accepting, receiving.
    Read = 0,
    /// Writing, connecting, sending.
    Write = 1,
}

/// The readiness of both directions.
///
/// | bit | set when | cleared when |
/// |---|---|---|
/// | `READ` | an event says readable, closed or failed | an attempt would have blocked, or came back short |
/// | `WRITE` | the same for writing; from the start for a stream that is connected | the same |
/// | `READ_CLOSED` | an event says that no more will come (end of file, hang-up) | an attempt would have blocked |
/// | `WRITE_CLOSED` | an event says that nobody will take more (hang-up) | the same |
///
/// A direction is ready when either of its bits is set. The closed bits are there for the short read: the edge
/// that announced the last bytes has announced the end of file with them, so after reading those bytes no further
/// event would come, though the next read does not block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Ready(u8);

const READ: u8 = 1;
const WRITE: u8 = 2;
const READ_CLOSED: u8 = 4;
const WRITE_CLOSED: u8 = 8;

impl Ready {
    pub(super) const NOTHING: Ready = Ready(0);
    pub(super) const WRITE: Ready = Ready(WRITE);

    /// What an event says. A failure makes both directions ready: whoever waits shall see it.
    pub(super) fn of(event: &Event) -> Ready {
        let says = |yes: bool, bits: u8| if yes { bits } else { 0 };
        Ready(
            says(event.is_readable(), READ)
                | says(event.is_writable(), WRITE)
                | says(event.is_error(), READ | WRITE)
                | says(event.is_read_closed(), READ | READ_CLOSED)
                | says(event.is_write_closed(), WRITE | WRITE_CLOSED),
        )
    }

    pub(super) fn has(self, direction: Direction) -> bool {
        self.0 & ((READ | READ_CLOSED) << direction as u8) != 0
    }

    #[must_use]
    pub(super) fn and(self, other: Ready) -> Ready {
        Ready(self.0 | other.0)
    }

    /// After an attempt that would have blocked: the kernel has the last word, and reports the next change.
    #[must_use]
    pub(super) fn without(self, direction: Direction) -> Ready {
        Ready(self.0 & !((READ | READ_CLOSED) << direction as u8))
    }

    /// After a read or write that moved less than asked: nothing is left, but a closed end stays ready.
    #[must_use]
    pub(super) fn without_unless_closed(self, direction: Direction) -> Ready {
        Ready(self.0 & !(READ << direction as u8))
    }
}

#[cfg(test)]
mod tests {
    use super::Direction::{Read, Write};
    use super::*;

    #[test]
    fn directions_do_not_touch_each_other() {
        let all = Ready(15);
        assert!(all.has(Read) && all.has(Write));
        assert!(!all.without(Read).has(Read) && all.without(Read).has(Write));
        assert!(!all.without(Write).has(Write) && all.without(Write).has(Read));
        assert_eq!(all.without(Read).without(Write), Ready::NOTHING);
        assert!(Ready::WRITE.has(Write) && !Ready::WRITE.has(Read));
    }

    #[test]
    fn a_closed_end_outlives_a_short_attempt_only() {
        for direction in [Read, Write] {
            let closed = Ready(15).without_unless_closed(direction);
            assert!(closed.has(direction));
            assert!(!closed.without(direction).has(direction));
        }
        let open = Ready(READ | WRITE);
        assert!(!open.without_unless_closed(Read).has(Read));
        assert!(open.without_unless_closed(Read).has(Write));
    }
}
