//! The clock of tests: it moves when it is told to.

use std::cell::Cell;

use super::Stamp;

/// CPU and wall time in nanoseconds, both from 0.
pub(super) struct Manual {
    cpu: Cell<u64>,
    wall: Cell<u64>,
    switches: Cell<u64>,
    /// Off the CPU since the last stamp.
    left: Cell<bool>,
}

impl Manual {
    pub(super) const fn new() -> Manual {
        Manual { cpu: Cell::new(0), wall: Cell::new(0), switches: Cell::new(0), left: Cell::new(false) }
    }

    pub(super) fn reset(&self) {
        self.cpu.set(0);
        self.wall.set(0);
        self.switches.set(0);
        self.left.set(false);
    }

    /// Wall time that is not CPU time was spent off the CPU.
    pub(super) fn advance(&self, cpu: u64, wall: u64) {
        self.cpu.set(self.cpu.get() + cpu);
        self.wall.set(self.wall.get() + wall);
        self.left.set(self.left.get() || wall > cpu);
    }

    /// The clock was ahead by so much.
    #[cfg(test)]
    pub(super) fn go_back(&self, cpu: u64) {
        self.cpu.set(self.cpu.get() - cpu);
    }

    /// Off the CPU for `wall`, of its own will.
    pub(super) fn block(&self, wall: u64) {
        self.switches.set(self.switches.get() + 1);
        self.advance(0, wall);
        self.left.set(true);
    }

    pub(super) fn stamp(&self) -> Stamp {
        Stamp { cpu: self.cpu.get(), wall: self.wall.get(), broken: self.left.replace(false) }
    }

    pub(super) fn wall(&self) -> u64 {
        self.wall.get()
    }

    pub(super) fn voluntary_switches(&self) -> u64 {
        self.switches.get()
    }
}
