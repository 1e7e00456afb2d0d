//! Chance that can be repeated.

use std::cell::Cell;

/// xorshift64*, seeded.
pub(crate) struct Random(Cell<u64>);

impl Random {
    pub(crate) fn new(seed: u64) -> Self {
        // Spread, so that neighbouring seeds differ at once; never 0.
        Self(Cell::new(seed.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1))
    }

    pub(crate) fn next(&self) -> u64 {
        let mut x = self.0.get();
        x ^= x >> 12;
        x ^= x << 25;
        x ^= x >> 27;
        self.0.set(x);
        x.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    /// Below `end`.
    pub(crate) fn below(&self, end: u64) -> u64 {
        (self.next() >> 16) % end
    }

    /// One time in `n`.
    pub(crate) fn one_in(&self, n: u64) -> bool {
        self.below(n) == 0
    }
}
