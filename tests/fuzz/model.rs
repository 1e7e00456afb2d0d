//! What is current on one thread, as the documentation of guards and frames has it.

/// The number of a context, 0 for none; `None` where the rules do not say.
pub(crate) type Who = Option<u64>;

#[derive(Debug, Default)]
pub(crate) struct Model {
    current: Who,
    guards: Vec<Guard>,
    /// Where the guards of the innermost frame begin.
    base: usize,
    serials: u64,
    lost: bool,
}

#[derive(Debug)]
struct Guard {
    serial: u64,
    before: Who,
    /// Dropped in a frame that began after it.
    dead: bool,
}

/// A frame that began.
pub(crate) struct Begun {
    base: usize,
    before: Who,
}

impl Model {
    pub(crate) fn new() -> Self {
        Self { current: Some(0), ..Self::default() }
    }

    pub(crate) fn current(&self) -> Who {
        self.current.filter(|_| !self.lost)
    }

    /// The rules do not say any more what is current.
    pub(crate) fn lose(&mut self) {
        self.lost = true;
    }

    /// A guard is made; returns its number.
    pub(crate) fn enter(&mut self, who: u64) -> u64 {
        self.serials += 1;
        self.guards.push(Guard { serial: self.serials, before: self.current, dead: false });
        self.current = Some(who);
        self.serials
    }

    /// A guard is dropped.
    pub(crate) fn leave(&mut self, serial: u64) {
        // If its frame has ended, it was undone there.
        let Some(at) = self.guards.iter().rposition(|guard| guard.serial == serial) else { return };
        if at < self.base {
            self.guards[at].dead = true;
        } else {
            let guard = self.guards.remove(at);
            match self.guards.get_mut(at) {
                Some(later) => later.before = guard.before,
                None => self.current = guard.before,
            }
        }
    }

    /// A poll or a closure begins.
    pub(crate) fn begin(&mut self, who: Who) -> Begun {
        let begun = Begun { base: self.base, before: self.current };
        self.base = self.guards.len();
        self.current = who;
        begun
    }

    /// It ends, and with it the guards that were entered within.
    pub(crate) fn end(&mut self, begun: &Begun) {
        self.guards.truncate(self.base);
        self.base = begun.base;
        self.current = begun.before;
    }

    /// A poll by a loop ends. What is current in it stays, unless guards were left: then it is the task's context.
    pub(crate) fn end_poll(&mut self, begun: &Begun, who: u64) {
        let after = if self.guards.len() > self.base { Some(who) } else { self.current };
        self.end(begun);
        self.stay(who);
        self.current = self.current.and(after);
    }

    /// The loop is idle, or has polled: that stays. Where guards of this frame were dropped in a poll, it depends.
    pub(crate) fn stay(&mut self, who: u64) {
        let guards = self.guards.len();
        self.settle();
        self.current = (self.guards.len() == guards).then_some(who);
    }

    /// Undoes guards that were dropped elsewhere, now that their frame is the innermost.
    pub(crate) fn settle(&mut self) {
        while self.guards.len() > self.base && self.guards.last().is_some_and(|guard| guard.dead) {
            if let Some(guard) = self.guards.pop() {
                self.current = guard.before;
            }
        }
    }
}
