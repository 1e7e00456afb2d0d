//! Which process this is, to notice a fork: one load instead of a system call (~160 ns in a virtual machine).
//!
//! The number of the process stands in a page that the kernel empties in a forked child (`MADV_WIPEONFORK`, Linux 4.14),
//! also in one made by a bare clone(2). Where there is no such page the number is asked for each time.

#![allow(unsafe_code)]

use std::ptr::{self, NonNull};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};

/// The number of this process.
#[inline]
pub(crate) fn process_id() -> u32 {
    match noted().map(|noted| noted.load(Relaxed)) {
        Some(id) if id != 0 => id,
        _ => note(),
    }
}

#[cold]
fn note() -> u32 {
    let id = std::process::id();
    if let Some(noted) = noted() {
        noted.store(id, Relaxed);
    }
    id
}

/// Where it is noted; 0 after a fork, and at first.
fn noted() -> Option<&'static AtomicU32> {
    static NOTED: OnceLock<Option<&'static AtomicU32>> = OnceLock::new();
    *NOTED.get_or_init(page_emptied_on_fork)
}

fn page_emptied_on_fork() -> Option<&'static AtomicU32> {
    const SIZE: usize = 4096;
    let (rights, kind) = (libc::PROT_READ | libc::PROT_WRITE, libc::MAP_PRIVATE | libc::MAP_ANONYMOUS);
    // SAFETY: a new mapping, wherever the kernel likes.
    let page = unsafe { libc::mmap(ptr::null_mut(), SIZE, rights, kind, -1, 0) };
    let page = NonNull::new(page).filter(|page| page.as_ptr() != libc::MAP_FAILED)?;
    // SAFETY: advice on a mapping of our own.
    if unsafe { libc::madvise(page.as_ptr(), SIZE, libc::MADV_WIPEONFORK) } != 0 {
        // SAFETY: nobody knows of it yet.
        unsafe { libc::munmap(page.as_ptr(), SIZE) };
        return None;
    }
    // SAFETY: never unmapped, aligned to a page, and zeroes are a valid `AtomicU32`.
    Some(unsafe { page.cast::<AtomicU32>().as_ref() })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::tests::exit_code_of_child;

    #[test]
    fn a_forked_child_is_another_process() {
        let parent = process_id();
        assert_eq!(parent, std::process::id());
        assert_eq!(process_id(), parent, "also when it is noted");
        let told_apart = || i32::from(process_id() != parent && process_id() == std::process::id());
        assert_eq!(exit_code_of_child(told_apart), 1);
        assert_eq!(process_id(), parent);
    }
}
