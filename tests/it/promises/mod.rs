//! P1 to P23 of the design, sentence by sentence.

mod accounts;
mod attribution;
mod birth;
mod blocking;
mod budget;
mod cancel;
mod cancel_by_deadline;
mod cancel_by_finish;
mod cancel_wakers;
mod clock;
mod current;
mod database;
mod finish;
mod guards;
mod lives;
mod parts;
mod poll_and_drop;
mod rollup;
mod shutdown;
mod silence;
mod silence_unread;
mod switch;
mod testing;
mod values;
mod wakers;
mod wall;
