//! How much of the memory of nodes is used again. The twin `spare_none` is for AddressSanitizer.

/// How many vacant nodes a ledger keeps: half a megabyte. More of them at a time are the allocator's.
pub(super) const SPARE_MAX: usize = 2_048;
