//! What the model system's own tests check, rephrased; each by its id.

mod contexts;
mod shared_work;
mod timers;
mod wrappers;
