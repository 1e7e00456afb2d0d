//! A runtime that bills.

#[allow(dead_code)]
mod reactor;
#[allow(dead_code)]
mod sys;
#[allow(dead_code)]
mod timers;
