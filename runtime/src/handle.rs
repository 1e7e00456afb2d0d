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
//! After 2^24 reuses of one slot, or 65,535 later runtimes, an ancient handle may match again. What it names then
//! is some other task, so a handle may only ever *wake* (a spurious poll at worst). Whatever needs certainty - taking
//! an output, detaching, aborting - compares the task's process-unique `u64` id instead.
//!
//! A waker carries this word in place of a pointer, hence 64-bit targets only.

#[cfg(not(target_pointer_width = "64"))]
compile_error!("bursar-runtime packs a task handle into a waker's data pointer, which takes a 64-bit target");

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

    #[cfg(test)]
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
    fn excess_bits_are_cut_off() {
        assert_eq!(Packed::new(7, GENERATION_MAX + 1, SLOT_MAX + 1), Packed::new(7, 0, 0));
    }
}
