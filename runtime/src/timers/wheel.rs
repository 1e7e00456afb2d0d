//! The wheel's arithmetic and its occupancy: which slots hold a list, and where the first one is.

use super::entries::List;

const DIGIT_BITS: u32 = 6;
const SLOTS: usize = 1 << DIGIT_BITS;
const LEVELS: usize = 9;

/// The last tick that has a place: 54 bits.
pub(super) const PLACED_MAX: u64 = (1 << (DIGIT_BITS * LEVELS as u32)) - 1;

/// A slot of a level: `level << 6 | slot`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Place(u16);

impl Place {
    /// Where a timer of `tick` belongs while the present is `present`, which must not be later.
    pub(super) fn of(present: u64, tick: u64) -> Place {
        debug_assert!(
            present <= tick && tick <= PLACED_MAX,
            "a timer before the present: {tick} < {present}"
        );
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
    occupied: u16,
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
        self.slot(place).earliest
    }

    /// The place that holds the earliest timer.
    pub(super) fn first(&self) -> Option<Place> {
        self.first_of(self.occupied)
    }

    /// The latest tick up to `limit` in which a timer is known to be, or assumed. `first` is the first place, and
    /// `limit` at most 64 ticks after its earliest.
    ///
    /// Known are the ticks of the lowest level, and the earliest of each slot above. Where a slot above has one up to
    /// `limit`, there is a crowd, and it is taken to reach until then: to look for its last would be O(n).
    pub(super) fn last_until(&self, first: Place, limit: u64) -> u64 {
        let earliest = self.earliest(first);
        let crowded = |place: Option<Place>| place.is_some_and(|place| self.earliest(place) <= limit);
        if !first.is_exact() {
            // Two timers of level 1 are less than 64 ticks apart, as near as this need know.
            let alone = first.level() > 1 || self.slot(first).list.is_single();
            return if !alone || crowded(self.after(first)) { limit } else { earliest };
        }
        let end = earliest | (SLOTS as u64 - 1);
        if limit > end && crowded(self.first_of(self.occupied & !1)) {
            return limit;
        }
        let until = u64::MAX >> (SLOTS as u64 - 1 - limit.min(end) % SLOTS as u64);
        let last = (self.levels[0].occupied & until).ilog2();
        end - (SLOTS as u64 - 1) + u64::from(last)
    }

    /// The place with the earliest timer of the given levels, one bit each.
    fn first_of(&self, levels: u16) -> Option<Place> {
        if levels == 0 {
            return None;
        }
        let level = levels.trailing_zeros() as u16;
        let slot = self.levels[usize::from(level)].occupied.trailing_zeros() as u16;
        Some(Place(level << DIGIT_BITS | slot))
    }

    /// The occupied place that comes after `place`, the first.
    fn after(&self, place: Place) -> Option<Place> {
        match self.levels[place.level()].occupied & !(1 << place.slot()) {
            0 => self.first_of(self.occupied & !(1 << place.level())),
            slots => Some(Place((place.level() as u16) << DIGIT_BITS | slots.trailing_zeros() as u16)),
        }
    }

    fn slot(&self, place: Place) -> &Slot {
        &self.levels[place.level()].slots[place.slot()]
    }
}

#[cfg(test)]
mod tests {
    use super::super::entries::Entries;
    use super::*;

    #[test]
    fn a_place_is_the_highest_differing_digit() {
        assert_eq!(Place::of(0, 0), Place(0));
        assert_eq!(Place::of(0, 63), Place(63));
        assert_eq!(Place::of(0, 64), Place(1 << 6 | 1));
        assert_eq!(Place::of(63, 64), Place(1 << 6 | 1));
        assert_eq!(Place::of(64, 65), Place(1));
        assert_eq!(Place::of(0, 64 * 64), Place(2 << 6 | 1));
        assert_eq!(Place::of(0, PLACED_MAX), Place(8 << 6 | 63));
        assert_eq!(Place::of(PLACED_MAX, PLACED_MAX), Place(63));
    }

    #[test]
    fn a_place_starts_where_its_digit_does() {
        assert_eq!(Place::of(0, 63).start(0), 63);
        assert_eq!(Place::of(70, 131).start(70), 128);
        assert_eq!(Place::of(0x1_0000, 0x1_2345).start(0x1_0000), 0x1_2000);
        assert_eq!(Place::of(0, PLACED_MAX).start(0), 63 << 48);
        assert_eq!(Place::of(PLACED_MAX - 1, PLACED_MAX).start(PLACED_MAX - 1), PLACED_MAX);
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

    #[test]
    fn a_crowd_ends_with_the_last_tick_that_is_known() {
        let last = |ticks: &[u64], limit| {
            let (mut wheel, mut entries) = (Wheel::new(), Entries::new());
            for &tick in ticks {
                let place = Place::of(0, tick);
                let key = entries.allocate(tick, std::task::Waker::noop().clone());
                entries.push_back(wheel.occupy(place, tick), key.index(), place);
            }
            wheel.last_until(wheel.first().unwrap(), limit)
        };
        // The lowest level is known: alone, then with others before, at and after the limit.
        assert_eq!(last(&[10], 40), 10);
        assert_eq!(last(&[10, 12, 39], 40), 39);
        assert_eq!(last(&[10, 12, 40], 40), 40);
        assert_eq!(last(&[0, 63, 41], 40), 0);
        assert_eq!(last(&[10, 63], 63), 63);
        // Across the end of the lowest level the earliest of the next slot is known, and a crowd assumed behind it.
        assert_eq!(last(&[50, 60, 70], 80), 80);
        assert_eq!(last(&[50, 60, 81], 80), 60);
        // On level 1 it is known whether there are several in the slot, or an early one in the next.
        assert_eq!(last(&[70], 100), 70);
        assert_eq!(last(&[70, 75], 100), 100);
        assert_eq!(last(&[120, 130], 150), 150);
        assert_eq!(last(&[120, 151], 150), 120);
        // Further up two in a slot need not be near.
        assert_eq!(last(&[4096, 8000], 4128), 4096);
    }
}
