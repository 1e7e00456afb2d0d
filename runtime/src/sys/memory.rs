//! glibc's allocator, which keeps what was freed.

#![allow(unsafe_code)]

/// Gives memory that is free, and lies in whole pages, back to the system.
///
/// glibc has an arena for each thread, up to eight a processor, and gives back only what is free at the end of one: after a
/// burst of jobs the rest stays, though no thread is left to use it. Takes a millisecond or so, in which other threads may
/// have to wait for memory. With another allocator it does nothing.
pub(crate) fn give_back() {
    // SAFETY: takes an integer; it locks what it touches, and moves nothing that is in use.
    unsafe { libc::malloc_trim(0) };
}
