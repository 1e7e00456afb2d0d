//! A runtime that bills.
#![allow(dead_code)]

mod current;
mod handle;
mod inbox;
mod share_placeholder;
mod task;
mod waker;
