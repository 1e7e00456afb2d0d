//! The soundness traps of task harnesses, each by its number.
//!
//! Where the trap is inside one mechanism its test is there: 3 (a lost remote wake) in `inbox`, 12 (timers woken while
//! they are borrowed) in `timers` and `executor`, 24 (2^24 reuses of a slot) in `task`.

mod ends;
mod handles;
mod panics;
mod parked;
mod threads;
mod wakes;
