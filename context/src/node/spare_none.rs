//! Twin of `spare` under `--cfg bursar_no_reuse`: a node goes back to the allocator when its context has gone, so that
//! AddressSanitizer sees a use of it afterwards, which would read the living memory of another context else.

/// None.
pub(super) const SPARE_MAX: usize = 0;
