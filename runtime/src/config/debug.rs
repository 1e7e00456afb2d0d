//! What a build with debug assertions does unless it is told otherwise.

/// Wakers are counted, and orphans found (P19).
pub(super) const TRACK_WAKERS: bool = true;
