//! What a build with debug assertions does unless it is told otherwise.

/// Wakers are counted, and orphans found (P19).
pub(super) const TRACK_WAKERS: bool = true;

/// Without optimisation each function that hands a future on copies it to its own stack.
pub(super) const BOX_MIN: usize = 2048;
