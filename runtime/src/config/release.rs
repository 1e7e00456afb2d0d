//! What a build without debug assertions does unless it is told otherwise.

/// Counting wakers costs an atomic operation for each clone and drop of one.
pub(super) const TRACK_WAKERS: bool = false;

/// An allocation more costs less than to move a future of this size once.
pub(super) const BOX_MIN: usize = 16_384;
