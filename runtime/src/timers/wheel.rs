//! The wheel's arithmetic and its occupancy: which slots hold a list, and where the first one is.

use super::entries::List;

const DIGIT_BITS: u32 = 6;
const SLOTS: usize = 1 << DIGIT_BITS;
const LEVELS: usize = 8;

/// The last tick: 48 bits, which is all that a u64 of nanoseconds can say.
pub(super) const TICK_MAX: u64 = (1 << (DIGIT_BITS * LEVELS as u32)) - 1;

/// A slot of a level: `level << 6 | slot`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Place(u16);

impl Place {
    /// Where a timer of `tick` belongs while the present is `present`, which must not be later.
    pub(super) fn of(present: u64, tick: u64) -> Place {
        debug_assert!(present <= tick && tick <= TICK_MAX, "a timer before the present: {tick} < {present}");
        // Setting the lowest digit makes "differs only there" and "does not differ" both level 0.
        let differing = (present ^ tick) | (SLOTS as u64 - 1);
        let level = differing.ilog2() / DIGIT_BITS;
        let slot = (tick >> (level * DIGIT_BITS)) as u16 % SLOTS as u16;
        Place((level as u16) << DIGIT_BITS | slot)
    }

    /// The first tick of this place in the revolution that `present` is in.
    ///
    /// That is the only revolution there is: a place is never behind the present, so slots do not wrap around.
    pub(super) fn start(self, present: u64) -> u64 {
        let shift = self.level() as u32 * DIGIT_BITS;
        let revolution = present >> shift >> DIGIT_BITS << DIGIT_BITS;
        (revolution | self.slot() as u64) << shift
    }

    /// Whether all timers in this place have the same tick.
    pub(super) fn is_exact(self) -> bool {
        self.level() == 0
    }

    fn level(self) -> usize {
        usize::from(self.0 >> DIGIT_BITS)
    }

    fn slot(self) -> usize {
        usize::from(self.0) % SLOTS
    }
}

/// The lists of all levels, with one bit for each list that is not empty.
pub(super) struct Wheel {
    /// Bit n: level n has an occupied slot.
    occupied: u8,
    levels: Box<[Level; LEVELS]>,
}

struct Level {
    /// Bit n: slot n has a list that is not empty.
    occupied: u64,
    slots: [Slot; SLOTS],
}

#[derive(Clone, Copy)]
struct Slot {
    list: List,
    /// The earliest tick linked here since the slot was last empty; cancelling does not raise it.
    earliest: u64,
}

impl Slot {
    const EMPTY: Slot = Slot { list: List::EMPTY, earliest: u64::MAX };
}

impl Wheel {
    pub(super) fn new() -> Wheel {
        let level = || Level { occupied: 0, slots: [Slot::EMPTY; SLOTS] };
        Wheel { occupied: 0, levels: Box::new(std::array::from_fn(|_| level())) }
    }

    /// Marks a place as occupied by a timer of `tick`; the caller adds it to the returned list.
    pub(super) fn occupy(&mut self, place: Place, tick: u64) -> &mut List {
        self.occupied |= 1 << place.level();
        let level = &mut self.levels[place.level()];
        level.occupied |= 1 << place.slot();
        let slot = &mut level.slots[place.slot()];
        slot.earliest = slot.earliest.min(tick);
        &mut slot.list
    }

    /// Empties a place and returns the list that was in it.
    pub(super) fn vacate(&mut self, place: Place) -> List {
        let level = &mut self.levels[place.level()];
        level.occupied &= !(1 << place.slot());
        if level.occupied == 0 {
            self.occupied &= !(1 << place.level());
        }
        std::mem::replace(&mut level.slots[place.slot()], Slot::EMPTY).list
    }

    pub(super) fn list(&mut self, place: Place) -> &mut List {
        &mut self.levels[place.level()].slots[place.slot()].list
    }

    pub(super) fn earliest(&self, place: Place) -> u64 {
        self.levels[place.level()].slots[place.slot()].earliest
    }

    /// The place that holds the earliest timer.
    pub(super) fn first(&self) -> Option<Place> {
        if self.occupied == 0 {
            return None;
        }
        let level = self.occupied.trailing_zeros() as u16;
        let slot = self.levels[usize::from(level)].occupied.trailing_zeros() as u16;
        Some(Place(level << DIGIT_BITS | slot))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_is_the_highest_differing_digit() {
        assert_eq!(Place::of(0, 0), Place(0));
        assert_eq!(Place::of(0, 63), Place(63));
        assert_eq!(Place::of(0, 64), Place(1 << 6 | 1));
        assert_eq!(Place::of(63, 64), Place(1 << 6 | 1));
        assert_eq!(Place::of(64, 65), Place(1));
        assert_eq!(Place::of(0, 64 * 64), Place(2 << 6 | 1));
        assert_eq!(Place::of(0, TICK_MAX), Place(7 << 6 | 63));
        assert_eq!(Place::of(TICK_MAX, TICK_MAX), Place(63));
    }

    #[test]
    fn a_place_starts_where_its_digit_does() {
        assert_eq!(Place::of(0, 63).start(0), 63);
        assert_eq!(Place::of(70, 131).start(70), 128);
        assert_eq!(Place::of(0x1_0000, 0x1_2345).start(0x1_0000), 0x1_2000);
        assert_eq!(Place::of(0, TICK_MAX).start(0), 63 << 42);
        assert_eq!(Place::of(TICK_MAX - 1, TICK_MAX).start(TICK_MAX - 1), TICK_MAX);
    }

    #[test]
    fn the_first_place_is_on_the_lowest_level() {
        let mut wheel = Wheel::new();
        assert_eq!(wheel.first(), None);
        for tick in [1 << 30, 5000, 200, 70, 3] {
            let place = Place::of(0, tick);
            wheel.occupy(place, tick);
            assert_eq!(wheel.first(), Some(place));
            assert_eq!(wheel.earliest(place), tick);
        }
        wheel.vacate(Place::of(0, 3));
        assert_eq!(wheel.first(), Some(Place::of(0, 70)));
    }
}
