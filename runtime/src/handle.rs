//! The packed task handle: which runtime, which slot, which use of that slot - in one word.
//!
//! ```text
//!   63                    40 39            24 23                     0
//!  +------------------------+----------------+------------------------+
//!  | generation (24)        | runtime (16)   | slot (24)              |
//!  +------------------------+----------------+------------------------+
//! ```
//!
//! A handle owns nothing and points at nothing, so copying it is free and keeping it too long is harmless: the
//! generation of a slot changes whenever its task is gone, and a handle of an older generation matches nothing.
//! After 2^24 reuses of one slot an ancient handle may match again, and the index of a runtime that ended is soon
//! another runtime's. What such a handle names then is some other task, so a handle may only ever *wake* (a spurious poll
//! at worst). Everything that can do more than wake - a timer, a registered source, a join handle, the end of a task's
//! last waker - also carries the [`RuntimeId`], which is never used again, and compares that first.
//!
//! A waker carries this word in place of a pointer, hence 64-bit targets only.

use std::num::NonZeroU64;

#[cfg(not(target_pointer_width = "64"))]
compile_error!("bursar-runtime packs a task handle into a waker's data pointer, which takes a 64-bit target");

/// A runtime: unique in the process and never used again.
///
/// The lower 16 bits are the index by which the runtime is found, which later runtimes have, too; above them is a number
/// that counts the runtimes of the process. One comparison tells two runtimes apart.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct RuntimeId(NonZeroU64);

/// How many runtimes one process can make: at 10 us each that takes 89 years.
pub(crate) const SERIAL_MAX: u64 = (1 << (64 - RUNTIME_BITS)) - 1;

impl RuntimeId {
    /// The `serial`-th runtime of the process, counted from 1, which has that index. `None` beyond [`SERIAL_MAX`].
    pub(crate) fn new(serial: u64, index: u16) -> Option<RuntimeId> {
        if serial == 0 || serial > SERIAL_MAX {
            return None;
        }
        NonZeroU64::new(serial << RUNTIME_BITS | u64::from(index)).map(RuntimeId)
    }

    /// Where the runtime is found while it lives.
    #[inline]
    pub(crate) const fn index(self) -> u16 {
        self.0.get() as u16
    }

    /// The handle of slot 0 in its first use. Its generation is spread by the serial number, so that wakers which are left
    /// of the runtime that had the index before match no task of this one, as a rule.
    pub(crate) const fn first_handle(self) -> Packed {
        let serial = (self.0.get() >> RUNTIME_BITS) as u32;
        // An odd factor: runtimes that follow each other are far apart, and 2^24 of them all different.
        Packed::new(self.index(), serial.wrapping_mul(0x9e_3779), 0)
    }
}

/// Names one use of one slot of one runtime.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(crate) struct Packed(u64);

const SLOT_BITS: u32 = 24;
const RUNTIME_BITS: u32 = 16;
const GENERATION_BITS: u32 = 24;

/// The greatest slot number.
pub(crate) const SLOT_MAX: u32 = (1 << SLOT_BITS) - 1;
/// The greatest generation; the next one is 0.
pub(crate) const GENERATION_MAX: u32 = (1 << GENERATION_BITS) - 1;

impl Packed {
    /// Bits of `generation` and `slot` above the 24th are cut off.
    #[inline]
    pub(crate) const fn new(runtime: u16, generation: u32, slot: u32) -> Packed {
        let generation = (generation & GENERATION_MAX) as u64;
        let slot = (slot & SLOT_MAX) as u64;
        Packed(generation << (RUNTIME_BITS + SLOT_BITS) | (runtime as u64) << SLOT_BITS | slot)
    }

    /// The handle of the next use of the same slot. One addition: the generation is on top for that, and wraps there.
    #[inline]
    pub(crate) const fn next(self) -> Packed {
        Packed(self.0.wrapping_add(1 << (RUNTIME_BITS + SLOT_BITS)))
    }

    /// The handle of another slot, of the same runtime and generation.
    #[inline]
    pub(crate) const fn at(self, slot: u32) -> Packed {
        Packed(self.0 & !(SLOT_MAX as u64) | (slot & SLOT_MAX) as u64)
    }

    #[inline]
    pub(crate) const fn from_bits(bits: u64) -> Packed {
        Packed(bits)
    }

    #[inline]
    pub(crate) const fn bits(self) -> u64 {
        self.0
    }

    #[inline]
    pub(crate) const fn runtime(self) -> u16 {
        (self.0 >> SLOT_BITS) as u16
    }

    #[inline]
    pub(crate) const fn generation(self) -> u32 {
        (self.0 >> (RUNTIME_BITS + SLOT_BITS)) as u32
    }

    #[inline]
    pub(crate) const fn slot(self) -> u32 {
        self.0 as u32 & SLOT_MAX
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CORNERS: [u32; 6] = [0, 1, 0x5a_5a5a, 0xa5_a5a5, GENERATION_MAX - 1, GENERATION_MAX];

    #[test]
    fn every_corner_comes_back_as_it_went_in() {
        for runtime in [0, 1, 0x5a5a, 0xa5a5, u16::MAX - 1, u16::MAX] {
            for generation in CORNERS {
                for slot in CORNERS {
                    let handle = Packed::new(runtime, generation, slot);
                    assert_eq!(
                        (handle.runtime(), handle.generation(), handle.slot()),
                        (runtime, generation, slot)
                    );
                    assert_eq!(Packed::from_bits(handle.bits()), handle);
                    assert_eq!(handle.next(), Packed::new(runtime, generation.wrapping_add(1), slot));
                }
            }
        }
    }

    /// Each bit of the word belongs to exactly one field: flipping it changes that field and no other.
    #[test]
    fn no_bit_leaks_into_a_neighbour() {
        for bit in 0..64 {
            let handle = Packed::from_bits(0x0123_4567_89ab_cdef);
            let flipped = Packed::from_bits(handle.bits() ^ 1 << bit);
            let changed = [
                handle.slot() != flipped.slot(),
                handle.generation() != flipped.generation(),
                handle.runtime() != flipped.runtime(),
            ];
            let owner = if bit < 24 {
                0
            } else if bit < 40 {
                2
            } else {
                1
            };
            assert_eq!(changed, [owner == 0, owner == 1, owner == 2], "bit {bit}");
        }
    }

    #[test]
    fn random_triples_survive_packing() {
        let mut seed = 0x9e37_79b9_7f4a_7c15_u64;
        for _ in 0..100_000 {
            seed ^= seed << 13;
            seed ^= seed >> 7;
            seed ^= seed << 17;
            let (runtime, generation, slot) =
                (seed as u16, (seed >> 16) as u32 & GENERATION_MAX, (seed >> 40) as u32 & SLOT_MAX);
            let handle = Packed::new(runtime, generation, slot);
            assert_eq!((handle.runtime(), handle.generation(), handle.slot()), (runtime, generation, slot));
        }
    }

    #[test]
    fn another_slot_changes_nothing_else() {
        for slot in CORNERS {
            let handle = Packed::new(0xa5a5, 0x5a_5a5a, 7).at(slot);
            assert_eq!(handle, Packed::new(0xa5a5, 0x5a_5a5a, slot));
        }
    }

    #[test]
    fn r3_ids_of_runtimes_with_one_index_differ_until_they_run_out() {
        let ids: Vec<_> = [1, 2, 3, SERIAL_MAX].map(|serial| RuntimeId::new(serial, u16::MAX)).into();
        for (n, id) in ids.iter().enumerate() {
            assert_eq!(id.unwrap().index(), u16::MAX);
            assert!(!ids[..n].contains(id));
        }
        assert!(RuntimeId::new(0, 7).is_none() && RuntimeId::new(SERIAL_MAX + 1, 7).is_none());
    }

    #[test]
    fn r3_runtimes_that_follow_each_other_begin_with_other_generations() {
        let mut seen = std::collections::HashSet::new();
        for serial in 1..10_000 {
            let first = RuntimeId::new(serial, 9).unwrap().first_handle();
            assert_eq!((first.runtime(), first.slot()), (9, 0));
            assert!(seen.insert(first.generation()));
        }
    }

    #[test]
    fn excess_bits_are_cut_off() {
        assert_eq!(Packed::new(7, GENERATION_MAX + 1, SLOT_MAX + 1), Packed::new(7, 0, 0));
    }
}
