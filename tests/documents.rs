//! The examples in the documents, compiled and run as tests of this documentation.

#[doc = include_str!("../docs/contexts.md")]
pub mod contexts {}
