//! Contexts in other people's logs and traces, each bridge behind a feature of its own.
//!
//! | feature | gives |
//! |---|---|
//! | `kv` | `ContextLogger`: name, class, number and fields of the context on each record of [`log`](https://docs.rs/log) |
//! | `tracing` | `TracingSpans`: a span of [`tracing`](https://docs.rs/tracing) for each context, entered and left with it |

#[cfg(feature = "kv")]
mod key_values;
#[cfg(feature = "tracing")]
mod spans;

#[cfg(feature = "kv")]
pub use key_values::ContextLogger;
#[cfg(feature = "tracing")]
pub use spans::TracingSpans;
