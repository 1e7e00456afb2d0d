//! What a server has seen, in numbers.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// The counters of one server; from [`Serve::stats`](super::Serve::stats). Cloning is cheap, and any thread may read.
#[derive(Clone, Default)]
pub struct Stats(Arc<Counters>);

/// What [`Stats::read`] found. All but [`open`](Self::open) only grow.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Counts {
    /// Connections accepted.
    pub accepted: u64,
    /// Connections that are open.
    pub open: u64,
    /// How often the limit of connections was reached with none of them idle, and accepting waited.
    pub full: u64,
    /// Idle connections that were closed to make room for new ones.
    pub evicted: u64,
    /// Failures to accept: a client that went away at once, or no file descriptor left.
    pub accept_errors: u64,
    /// Requests handed to the service.
    pub requests: u64,
    /// Requests that the service failed to answer: it returned an error, or panicked outside of any
    /// [`ContextLayer`](super::ContextLayer). Answered with 500.
    pub failures: u64,
    /// Requests that took too long and were dropped; answered with 503.
    pub request_timeouts: u64,
    /// Connections closed for what was no HTTP/1; answered with 400. A request without one valid `Host` is one of them.
    pub malformed: u64,
    /// Connections closed for a head that was too large; answered with 431 or 414.
    pub head_too_large: u64,
    /// Requests whose body was above the limit; answered with 413.
    pub body_too_large: u64,
    /// Connections closed because the head of a request did not come in full in time.
    pub header_timeouts: u64,
    /// Connections closed because they were idle for long enough.
    pub idle_timeouts: u64,
    /// Bodies that stopped coming (answered with 408), and answers that nobody read.
    pub stalls: u64,
    /// Bodies that came too slowly (answered with 408), and answers that were read too slowly.
    pub too_slow: u64,
    /// Connections that broke in the middle of something.
    pub broken: u64,
    /// Connections that were cut when the patience of a shutdown ended.
    pub cut: u64,
}

macro_rules! counters {
    ($($name:ident),*) => {
        #[derive(Default)]
        struct Counters {
            $($name: AtomicU64,)*
        }

        #[derive(Clone, Copy)]
        #[expect(non_camel_case_types, reason = "the names of the fields, so that each is said once")]
        pub(super) enum Count {
            $($name,)*
        }

        impl Counters {
            fn get(&self, count: Count) -> &AtomicU64 {
                match count {
                    $(Count::$name => &self.$name,)*
                }
            }

            fn read(&self) -> Counts {
                Counts { $($name: self.$name.load(Relaxed),)* }
            }
        }
    };
}

counters!(
    accepted,
    open,
    full,
    evicted,
    accept_errors,
    requests,
    failures,
    request_timeouts,
    malformed,
    head_too_large,
    body_too_large,
    header_timeouts,
    idle_timeouts,
    stalls,
    too_slow,
    broken,
    cut
);

impl Stats {
    /// The numbers now.
    pub fn read(&self) -> Counts {
        self.0.read()
    }

    pub(super) fn add(&self, count: Count) {
        self.0.get(count).fetch_add(1, Relaxed);
    }

    pub(super) fn closed(&self) {
        self.0.open.fetch_sub(1, Relaxed);
    }
}

impl fmt::Debug for Stats {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.read().fmt(f)
    }
}
