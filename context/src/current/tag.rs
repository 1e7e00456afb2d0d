//! Whose work this is, among things that run in one process side by side: tests.
//!
//! A tag belongs to a thread. Contexts have that of the thread that made them, jobs that of the thread that sent them, and a
//! thread that was given none the one of the thread that started it.

use super::{SLOT, TAG};
use crate::clock;
use parking_lot::Mutex;
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};

/// Not before the first tag: until then nothing here costs more than this load.
static IN_USE: AtomicBool = AtomicBool::new(false);

/// Who has the blocks of context numbers that threads with a tag were given, by the first number.
static BLOCKS: Mutex<BTreeMap<u64, u64>> = Mutex::new(BTreeMap::new());

/// The tags in use, by the mark of their threads.
static MARKS: Mutex<BTreeMap<u32, u64>> = Mutex::new(BTreeMap::new());

/// A tag that nothing has, and its mark.
pub(crate) fn fresh() -> (u64, u32) {
    static NEXT: AtomicU64 = AtomicU64::new(1);
    IN_USE.store(true, Relaxed);
    let mut marks = MARKS.lock();
    loop {
        let tag = NEXT.fetch_add(1, Relaxed);
        let mark = (tag % u64::from(clock::THREAD_MARK_MAX)) as u32 + 1;
        if let std::collections::btree_map::Entry::Vacant(vacant) = marks.entry(mark) {
            vacant.insert(tag);
            return (tag, mark);
        }
    }
}

/// Nothing has the tag any more.
pub(crate) fn retire(tag: u64, mark: u32) {
    MARKS.lock().remove(&mark);
    BLOCKS.lock().retain(|_, owner| *owner != tag);
}

/// Gives this thread a tag, or none by 0, and returns the one before.
pub(crate) fn set(tag: u64) -> u64 {
    let before = TAG.replace(tag);
    if before != tag {
        // The next context begins a block of its own.
        SLOT.with(|slot| slot.ids.set((0, 0)));
    }
    before
}

/// This thread's tag; 0 for none.
pub(crate) fn here() -> u64 {
    if !IN_USE.load(Relaxed) {
        return 0;
    }
    match TAG.get() {
        0 => clock::thread_mark().and_then(|mark| MARKS.lock().get(&mark).copied()).unwrap_or(0),
        tag => tag,
    }
}

/// The tag of the context of that number; `None` if it has none, or nobody knows.
pub(crate) fn of_context(id: u64) -> Option<u64> {
    let blocks = BLOCKS.lock();
    let (first, tag) = blocks.range(..=id).next_back()?;
    (id < first + super::BLOCK).then_some(*tag)
}

/// This thread was given a block of numbers.
pub(super) fn note_block(first: u64) {
    let tag = here();
    if tag != 0 {
        BLOCKS.lock().insert(first, tag);
    }
}
