//! A runtime that bills.
