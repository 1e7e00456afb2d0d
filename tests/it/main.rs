//! The tests that need more than one crate, in one binary. Names carry the ids of what they hold: a promise (`p05_`),
//! a trap (`trap_16_`), a behaviour (`l07_`).
//!
//! Reports are the process's, and tests run side by side: a test looks at those of its own thread ([`watch`]). What
//! needs exact figures runs on the manual clock, on a thread of its own ([`books::on_manual_clock`]).

mod behaviours;
mod books;
mod bridges;
mod conservation;
mod elsewhere;
mod figures;
mod hangs;
mod house;
mod http;
mod ids;
mod logger;
mod meter;
mod promise;
mod promises;
mod random;
mod readme;
mod service;
mod signals;
mod teardown;
mod trace;
mod traps;
mod watch;

#[cfg(all(target_os = "linux", not(miri)))]
#[path = "../watchdog.rs"]
mod watchdog;
