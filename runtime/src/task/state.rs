//! The state of a slot, as a value: flags in one `u32`, and every move by name.
//!
//! Nothing here acts. A transition takes the word and returns the next one inside a `#[must_use]` enum which says what
//! the caller has to do. Always the whole word is stored: a load that is wider than the store before it waits for that
//! (7 ns a poll, once). Whose the slot is, is not said here but by the handle beside the word, which a wake compares first.
//!
//! Which combinations exist (`Q` = [`QUEUED`], `A` = [`ABORTED`], either with or without [`HANDLE`] unless said):
//!
//! | `LIVE` | `RUNNING` | `COMPLETE` | Q | meaning |
//! |---|---|---|---|---|
//! | - | - | - | - | vacant (no `HANDLE`) |
//! | - | - | - | Q | gone, but still linked into the queue; the slot is freed when it is popped (no `HANDLE`) |
//! | x | - | - | - | idle: waits for a wake |
//! | x | - | - | Q | runnable; with A: to be dropped instead of polled. A never occurs without Q, save while `RUNNING` |
//! | x | x | - | - | its future is being polled, or dropped |
//! | x | x | - | Q | the same, and woken meanwhile: it goes again, at the back |
//! | - | - | x | ? | result waits for the handle (`HANDLE` always) |
//! | - | x | - | ? | its unwanted result is being dropped, or its output moved out (no `HANDLE`) |
//!
//! Everything else is a bug.

/// The cell holds a future.
///
/// Set by [`Word::occupy`] and [`Word::reserve`]; cleared by [`Word::finish`], after the future was dropped. A wake counts only while this is set.
pub(crate) const LIVE: u32 = 1;

/// The slot is linked into the run queue.
///
/// Set by [`Word::occupy`], [`Word::schedule`] and [`Word::abort`]; cleared by [`Word::begin`]. While set the slot is never freed, since
/// the queue would otherwise hand out the slot's next task, or hold the slot twice. May coexist with everything.
pub(crate) const QUEUED: u32 = 2;

/// The cell is out of the slot, owned by whoever polls it, drops its future or takes its output.
///
/// Set by [`Word::begin`], [`Word::seize`] and [`Word::release`]; cleared by [`Word::suspend`], [`Word::finish`] and [`Word::settle`].
/// While set the slot is never freed, so user code that runs meanwhile may do whatever it likes with the task's handles.
pub(crate) const RUNNING: u32 = 4;

/// The future is to be dropped instead of polled.
///
/// Set by [`Word::abort`], cleared by [`Word::finish`]. The abort itself drops nothing: it may be called by anyone who
/// holds a borrow, the loop drops. A future that completes in the very poll that aborted it has completed.
pub(crate) const ABORTED: u32 = 8;

/// The result is in the cell and waits for the join handle.
///
/// Set by [`Word::finish`] if there is a [`HANDLE`], cleared by [`Word::release`]. Never together with [`LIVE`].
pub(crate) const COMPLETE: u32 = 16;

/// Somebody may still ask for the result.
///
/// Set by [`Word::occupy`], cleared by [`Word::release`]. While set the slot is never freed.
pub(crate) const HANDLE: u32 = 32;

/// The flags of a slot.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) struct Word(u32);

/// What a wake asks for.
#[must_use]
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Schedule {
    /// Link the slot into the queue.
    Push(Word),
    /// Finished, or already queued.
    Ignore,
}

/// What to do with a slot that came out of the queue.
#[must_use]
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Begin {
    /// Poll its future.
    Poll(Word),
    /// Drop its future.
    Drop(Word),
    /// Nothing: it finished while it was queued.
    Leave(Word),
    /// It was only the queue that kept the slot: free it.
    Free(Word),
}

/// Where the result of a finished task goes.
#[must_use]
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Finish {
    /// Put the cell back: the handle will come for the result.
    Keep(Word),
    /// Nobody can ask for it: drop it, then [`Word::settle`].
    Discard(Word),
}

/// What the end of a join handle leaves to do.
#[must_use]
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Release {
    /// Nothing: the task frees its slot when it finishes.
    Later(Word),
    /// Take the cell out, move or drop its result, then [`Word::settle`].
    Take(Word),
}

/// What an abort asks for.
#[must_use]
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Abort {
    /// Link the slot into the queue.
    Push(Word),
    /// It is in the queue already.
    Mark(Word),
    /// It has finished.
    TooLate,
}

/// Whether the slot can have another task.
#[must_use]
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Settle {
    /// Free the slot.
    Free(Word),
    /// It is still queued: [`Word::begin`] will free it.
    Wait(Word),
}

impl Word {
    /// Of a slot that is free.
    pub(crate) const VACANT: Word = Word(0);

    /// Whether any of `flags` is set.
    #[inline]
    pub(crate) const fn has(self, flags: u32) -> bool {
        self.0 & flags != 0
    }

    /// A task moves in, with a handle, and queued for its first poll.
    #[inline]
    pub(crate) const fn occupy(self) -> Word {
        debug_assert!(self.0 == 0);
        // Not `self.0 | ..`: that the compiler turns into a store of one byte, as in `suspend`.
        Word(LIVE | QUEUED | HANDLE)
    }

    /// Somebody takes the slot for a future that is kept elsewhere.
    pub(crate) const fn reserve(self) -> Word {
        debug_assert!(self.0 == 0);
        Word(self.0 | LIVE)
    }

    /// Somebody woke it.
    #[inline]
    pub(crate) const fn schedule(self) -> Schedule {
        if self.0 & (LIVE | QUEUED) == LIVE {
            Schedule::Push(Word(self.0 ^ QUEUED))
        } else {
            Schedule::Ignore
        }
    }

    /// The slot came out of the queue.
    #[inline]
    pub(crate) const fn begin(self) -> Begin {
        debug_assert!(self.0 & QUEUED != 0);
        if self.0 & (LIVE | RUNNING | ABORTED) == LIVE {
            return Begin::Poll(Word(self.0 ^ (QUEUED | RUNNING)));
        }
        let popped = Word(self.0 & !QUEUED);
        match self.0 & (LIVE | RUNNING | ABORTED | HANDLE) {
            flags if flags & (LIVE | RUNNING) == LIVE => Begin::Drop(Word(popped.0 | RUNNING)),
            0 => Begin::Free(popped),
            _ => Begin::Leave(popped),
        }
    }

    /// The loop takes the future in order to drop it, queued or not (shutdown).
    pub(crate) const fn seize(self) -> Option<Word> {
        if self.0 & (LIVE | RUNNING) == LIVE { Some(Word(self.0 | RUNNING)) } else { None }
    }

    /// The poll ended, the future did not. (An aborted one is queued: the abort saw to that.)
    #[inline]
    pub(crate) const fn suspend(self) -> Word {
        debug_assert!(self.0 & RUNNING != 0 && self.0 & (ABORTED | QUEUED) != ABORTED);
        // Not by a mask: that the compiler turns into a store of one byte, for which the next load of the word waits.
        Word(self.0 - RUNNING)
    }

    /// The future is dropped.
    #[inline]
    pub(crate) const fn finish(self) -> Finish {
        debug_assert!(self.0 & (LIVE | RUNNING) == LIVE | RUNNING);
        let word = self.0 & !(LIVE | ABORTED);
        if word & HANDLE != 0 {
            Finish::Keep(Word(word & !RUNNING | COMPLETE))
        } else {
            Finish::Discard(Word(word))
        }
    }

    /// The handle is dropped, or has got what it wanted.
    #[inline]
    pub(crate) const fn release(self) -> Release {
        debug_assert!(self.0 & HANDLE != 0);
        let word = self.0 & !HANDLE;
        if word & COMPLETE != 0 {
            Release::Take(Word(word & !COMPLETE | RUNNING))
        } else {
            Release::Later(Word(word))
        }
    }

    /// Somebody no longer wants the task.
    pub(crate) const fn abort(self) -> Abort {
        match self.0 & (LIVE | QUEUED) {
            LIVE => Abort::Push(Word(self.0 | ABORTED | QUEUED)),
            flags if flags & LIVE != 0 => Abort::Mark(Word(self.0 | ABORTED)),
            _ => Abort::TooLate,
        }
    }

    /// Future and result are gone, the cell is empty.
    #[inline]
    pub(crate) const fn settle(self) -> Settle {
        debug_assert!(self.0 & (LIVE | RUNNING | COMPLETE | HANDLE) == RUNNING);
        let word = Word(self.0 & !RUNNING);
        if word.has(QUEUED) { Settle::Wait(word) } else { Settle::Free(word) }
    }
}

impl std::fmt::Debug for Word {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let names = [
            (LIVE, "live"),
            (QUEUED, "queued"),
            (RUNNING, "running"),
            (ABORTED, "aborted"),
            (COMPLETE, "complete"),
            (HANDLE, "handle"),
        ];
        f.write_str("slot")?;
        names.iter().filter(|(flag, _)| self.has(*flag)).try_for_each(|(_, name)| write!(f, "+{name}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn word(flags: u32) -> Word {
        Word(flags)
    }

    fn every_word() -> impl Iterator<Item = u32> {
        0..64
    }

    #[test]
    fn a_wake_queues_only_the_live_and_unqueued() {
        for flags in every_word() {
            let expected = flags & (LIVE | QUEUED) == LIVE;
            let wanted = if expected { Schedule::Push(word(flags | QUEUED)) } else { Schedule::Ignore };
            assert_eq!(word(flags).schedule(), wanted, "{:?}", word(flags));
        }
    }

    #[test]
    fn the_table_of_pops() {
        let table = [
            (LIVE, Begin::Poll(word(LIVE | RUNNING))),
            (LIVE | HANDLE, Begin::Poll(word(LIVE | RUNNING | HANDLE))),
            (LIVE | ABORTED, Begin::Drop(word(LIVE | ABORTED | RUNNING))),
            (LIVE | ABORTED | HANDLE, Begin::Drop(word(LIVE | ABORTED | RUNNING | HANDLE))),
            (COMPLETE | HANDLE, Begin::Leave(word(COMPLETE | HANDLE))),
            (RUNNING, Begin::Leave(word(RUNNING))),
            (0, Begin::Free(Word::VACANT)),
        ];
        for (flags, expected) in table {
            assert_eq!(word(flags | QUEUED).begin(), expected, "{:?}", word(flags));
        }
    }

    #[test]
    fn the_table_of_ends() {
        let running = LIVE | RUNNING;
        assert_eq!(word(running | HANDLE).finish(), Finish::Keep(word(COMPLETE | HANDLE)));
        assert_eq!(word(running).finish(), Finish::Discard(word(RUNNING)));
        assert_eq!(word(running | ABORTED | QUEUED).finish(), Finish::Discard(word(RUNNING | QUEUED)));
        assert_eq!(word(RUNNING).settle(), Settle::Free(Word::VACANT));
        assert_eq!(word(RUNNING | QUEUED).settle(), Settle::Wait(word(QUEUED)));
        assert_eq!(word(running | QUEUED).suspend(), word(LIVE | QUEUED));
    }

    #[test]
    fn the_table_of_handles() {
        assert_eq!(word(LIVE | HANDLE).release(), Release::Later(word(LIVE)));
        assert_eq!(word(LIVE | RUNNING | HANDLE).release(), Release::Later(word(LIVE | RUNNING)));
        assert_eq!(word(COMPLETE | HANDLE).release(), Release::Take(word(RUNNING)));
        assert_eq!(word(COMPLETE | HANDLE | QUEUED).release(), Release::Take(word(RUNNING | QUEUED)));
    }

    #[test]
    fn the_table_of_aborts() {
        assert_eq!(word(LIVE).abort(), Abort::Push(word(LIVE | ABORTED | QUEUED)));
        assert_eq!(word(LIVE | QUEUED).abort(), Abort::Mark(word(LIVE | ABORTED | QUEUED)));
        assert_eq!(word(LIVE | RUNNING).abort(), Abort::Push(word(LIVE | RUNNING | ABORTED | QUEUED)));
        for flags in every_word().filter(|flags| flags & LIVE == 0) {
            assert_eq!(word(flags).abort(), Abort::TooLate);
        }
    }

    #[test]
    fn shutdown_takes_what_lives_and_is_not_out() {
        for flags in every_word() {
            let expected = (flags & (LIVE | RUNNING) == LIVE).then(|| word(flags | RUNNING));
            assert_eq!(word(flags).seize(), expected);
        }
    }

    /// Walks every sequence of moves from a fresh spawn and looks at every word on the way: the states are those of
    /// the module's table, no more, and each can reach "freed".
    #[test]
    fn only_the_states_of_the_table_are_reachable() {
        let first = Word::VACANT.occupy();
        let mut seen = vec![first, Word::VACANT.reserve()];
        let mut next = 0;
        while next < seen.len() {
            for successor in successors(seen[next]).into_iter().filter(|w| *w != Word::VACANT) {
                assert_legal(successor);
                if !seen.contains(&successor) {
                    seen.push(successor);
                }
            }
            assert!(can_be_freed(seen[next]), "{:?} is stuck", seen[next]);
            next += 1;
        }
        assert!(seen.len() > 12, "{seen:?}");
    }

    fn successors(from: Word) -> Vec<Word> {
        let mut to = Vec::new();
        if let Schedule::Push(w) = from.schedule() {
            to.push(w);
        }
        if let Abort::Push(w) | Abort::Mark(w) = from.abort() {
            to.push(w);
        }
        to.extend(from.seize());
        // While the cell is out the loop is busy with it and pops nothing.
        if from.has(QUEUED) && !from.has(RUNNING) {
            let (Begin::Poll(w) | Begin::Drop(w) | Begin::Leave(w) | Begin::Free(w)) = from.begin();
            to.push(w);
        }
        if from.has(HANDLE) {
            let (Release::Later(w) | Release::Take(w)) = from.release();
            to.push(w);
        }
        if from.has(LIVE) && from.has(RUNNING) {
            if from.has(QUEUED) || !from.has(ABORTED) {
                to.push(from.suspend());
            }
            let (Finish::Keep(w) | Finish::Discard(w)) = from.finish();
            to.push(w);
        }
        if from.has(RUNNING) && !from.has(LIVE) {
            let (Settle::Free(w) | Settle::Wait(w)) = from.settle();
            to.push(w);
        }
        to
    }

    fn assert_legal(w: Word) {
        let row = (w.has(LIVE), w.has(RUNNING), w.has(COMPLETE));
        let legal = match row {
            (false, false, false) => w.has(QUEUED) && !w.has(HANDLE | ABORTED),
            (true, false, false) => !w.has(ABORTED) || w.has(QUEUED),
            (true, true, false) => true,
            (false, false, true) => w.has(HANDLE) && !w.has(ABORTED),
            (false, true, false) => !w.has(HANDLE | ABORTED),
            _ => false,
        };
        assert!(legal, "{w:?}");
    }

    fn can_be_freed(from: Word) -> bool {
        let mut seen = vec![from];
        let mut next = 0;
        while next < seen.len() {
            for w in successors(seen[next]) {
                if w == Word::VACANT {
                    return true;
                }
                if !seen.contains(&w) {
                    seen.push(w);
                }
            }
            next += 1;
        }
        false
    }
}
