//! Contexts that are billed.
