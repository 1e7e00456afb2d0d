//! Second rung: the mapped page of a perf event that counts nothing.
//!
//! `PERF_COUNT_SW_DUMMY` measures nothing, but it is scheduled in and out with its thread, and each time the kernel
//! rewrites the mapped page and counts its `lock` up (struct perf_event_mmap_page in <linux/perf_event.h>). So `lock`
//! changes at every context switch, also at a voluntary one, and looking at it is one load.
//!
//! The price is the kernel's: some 200 ns more at every switch of the thread, a page of locked memory per thread, and
//! permission (`kernel.perf_event_paranoid` <= 2, no seccomp filter), which containers seldom have. Hence second.

#![allow(unsafe_code)]

use std::mem;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::ptr::{self, NonNull};
use std::sync::Once;
use std::sync::atomic::{AtomicBool, AtomicPtr, AtomicU64, AtomicUsize, Ordering::Relaxed};

use libc::c_void;

const PERF_TYPE_SOFTWARE: u32 = 1;
const PERF_COUNT_SW_DUMMY: u64 = 9;
const EXCLUDE_KERNEL: u64 = 1 << 5;
const EXCLUDE_HYPERVISOR: u64 = 1 << 6;
const PERF_FLAG_FD_CLOEXEC: libc::c_ulong = 1 << 3;

/// `lock: u32` and, behind it, `index: u32`, which is constant for a software event: together an aligned u64.
const LOCK_OFFSET: usize = 8;

/// A value which `lock` and `index` do not have while the event lives: they were written at least once. It is what a
/// forked child reads instead of the page, see [`on_fork`].
pub(super) const NEVER_LOCKED: u64 = u64::MAX;

/// The first published layout of `struct perf_event_attr` (PERF_ATTR_SIZE_VER0); every later kernel takes it.
#[repr(C)]
#[derive(Default)]
struct Attributes {
    kind: u32,
    size: u32,
    config: u64,
    sample_period: u64,
    sample_type: u64,
    read_format: u64,
    flags: u64,
    wakeup_events: u32,
    breakpoint_type: u32,
    config1: u64,
}

const _: () = assert!(mem::size_of::<Attributes>() == 64);

/// Opens an event for this thread and maps its page: the word that changes at every switch. `None` if the kernel does
/// not let us, or more than [`PAGES_MAX`] threads have one.
pub(super) fn open() -> Option<NonNull<AtomicU64>> {
    if !fork_is_watched() {
        return None;
    }
    let event = open_event()?;
    // The mapping keeps the event alive; the descriptor is closed at the end of this function.
    let page = map(event.as_raw_fd())?;
    if !remember(page) {
        unmap(page);
        return None;
    }
    // SAFETY: `LOCK_OFFSET` is inside the page.
    Some(unsafe { page.byte_add(LOCK_OFFSET) }.cast())
}

/// Unmaps the page of a word that came from [`open`], which ends the event. Nobody may look at the word any more.
pub(super) fn close(word: *const AtomicU64) {
    let page = word.wrapping_byte_sub(LOCK_OFFSET).cast::<c_void>().cast_mut();
    for entry in &PAGES {
        let _ = entry.compare_exchange(page, ptr::null_mut(), Relaxed, Relaxed);
    }
    if let Some(page) = NonNull::new(page) {
        unmap(page);
    }
}

fn open_event() -> Option<OwnedFd> {
    let attributes = Attributes {
        kind: PERF_TYPE_SOFTWARE,
        size: mem::size_of::<Attributes>() as u32,
        config: PERF_COUNT_SW_DUMMY,
        // Without the kernel side an unprivileged process may have it.
        flags: EXCLUDE_KERNEL | EXCLUDE_HYPERVISOR,
        ..Attributes::default()
    };
    let (this_thread, any_cpu, no_group): (libc::pid_t, libc::c_int, libc::c_int) = (0, -1, -1);
    // SAFETY: the attributes are valid for a read of the size they state; the other arguments are numbers.
    let fd = unsafe {
        libc::syscall(
            libc::SYS_perf_event_open,
            &raw const attributes,
            this_thread,
            any_cpu,
            no_group,
            PERF_FLAG_FD_CLOEXEC,
        )
    };
    if fd < 0 {
        return None;
    }
    // SAFETY: the kernel has just given us this descriptor, and nobody else knows it.
    Some(unsafe { OwnedFd::from_raw_fd(fd as RawFd) })
}

fn map(event: RawFd) -> Option<NonNull<c_void>> {
    // SAFETY: a new mapping, at a place of the kernel's choosing, touches nothing that exists.
    let page =
        unsafe { libc::mmap(ptr::null_mut(), page_size(), libc::PROT_READ, libc::MAP_SHARED, event, 0) };
    if page == libc::MAP_FAILED { None } else { NonNull::new(page) }
}

fn unmap(page: NonNull<c_void>) {
    // SAFETY: the page came from `map` and is unmapped once; `Mark::release` has let go of the word before.
    unsafe { libc::munmap(page.as_ptr(), page_size()) };
}

fn page_size() -> usize {
    let known = PAGE_SIZE.load(Relaxed);
    if known != 0 {
        return known;
    }
    // SAFETY: takes a number, returns a number.
    let size = unsafe { libc::sysconf(libc::_SC_PAGESIZE) } as usize;
    PAGE_SIZE.store(size, Relaxed);
    size
}

static PAGE_SIZE: AtomicUsize = AtomicUsize::new(0);

// After fork. The kernel never hands a perf mapping on to a child (VM_DONTCOPY): where the page was there is a hole, and
// the first stamp in the child would be a SIGSEGV instead of the message that a fork is not supported - or, worse, would
// read what the child has mapped there since. So all pages are listed, and the child fills the holes.

/// Threads that can be on this rung at the same time; the rest read the thread clock.
const PAGES_MAX: usize = 256;

static PAGES: [AtomicPtr<c_void>; PAGES_MAX] = [const { AtomicPtr::new(ptr::null_mut()) }; PAGES_MAX];

fn remember(page: NonNull<c_void>) -> bool {
    let null = ptr::null_mut();
    PAGES.iter().any(|entry| entry.compare_exchange(null, page.as_ptr(), Relaxed, Relaxed).is_ok())
}

unsafe extern "C" {
    // POSIX. Absent from the libc crate on Linux.
    fn pthread_atfork(
        prepare: Option<unsafe extern "C" fn()>,
        parent: Option<unsafe extern "C" fn()>,
        child: Option<unsafe extern "C" fn()>,
    ) -> libc::c_int;
}

/// Has [`on_fork`] registered, once a process. A child made by a bare clone(2) passes it by.
fn fork_is_watched() -> bool {
    static ONCE: Once = Once::new();
    static WATCHED: AtomicBool = AtomicBool::new(false);
    ONCE.call_once(|| {
        // SAFETY: `on_fork` does only what is allowed in a forked child: atomics and mmap.
        let result = unsafe { pthread_atfork(None, None, Some(on_fork)) };
        WATCHED.store(result == 0, Relaxed);
    });
    WATCHED.load(Relaxed)
}

/// In the child: puts a page of zeroes where each perf page was. The marks that point there are then broken, the next
/// stamp takes the slow path, and that one sees that the process id has changed.
unsafe extern "C" fn on_fork() {
    let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_FIXED;
    for entry in &PAGES {
        let page = entry.swap(ptr::null_mut(), Relaxed);
        if !page.is_null() {
            // SAFETY: the child has one thread and this is the first thing it does: the page was mapped when it was
            // forked, was not handed on, and nothing has been mapped into the hole yet.
            unsafe { libc::mmap(page, page_size(), libc::PROT_READ, flags, -1, 0) };
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::tests::exit_code_of_child;

    #[test]
    fn a_forked_child_reads_zeroes_where_the_page_was() {
        let Some(word) = open() else { return };
        // SAFETY: the page is mapped until `close`.
        let word_now = || unsafe { word.as_ref() }.load(Relaxed);
        assert_ne!(word_now(), 0);
        assert_eq!(exit_code_of_child(|| if word_now() == 0 { 42 } else { 1 }), 42);
        assert_ne!(word_now(), 0, "and the parent is not touched");
        close(word.as_ptr());
    }
}
