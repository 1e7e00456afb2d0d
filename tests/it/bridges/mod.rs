//! Contexts in logs and traces: S1 to S3, S8, S9, J1, J2, and the hooks under them (P21).

mod hooks;
pub(crate) mod recorder;
mod records;
mod span_misuse;
mod spans;
