//! What the model system's own tests check, rephrased; each by its id.

mod contexts;
mod foreign;
mod shared_work;
mod shows;
mod shutdowns;
mod timers;
mod wrappers;
