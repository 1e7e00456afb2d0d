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
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed};

use libc::c_void;

const PERF_TYPE_SOFTWARE: u32 = 1;
const PERF_COUNT_SW_DUMMY: u64 = 9;
const EXCLUDE_KERNEL: u64 = 1 << 5;
const EXCLUDE_HYPERVISOR: u64 = 1 << 6;
const PERF_FLAG_FD_CLOEXEC: libc::c_ulong = 1 << 3;

/// `lock: u32` and, behind it, `index: u32`, which is constant for a software event: together an aligned u64.
const LOCK_OFFSET: usize = 8;

/// A value which `lock` and `index` do not have while the event lives: they were written at least once.
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
/// not let us.
///
/// The kernel does not hand the mapping on to a forked child (VM_DONTCOPY), where the first look at it would be a SIGSEGV, or
/// see what the child has mapped there since. So it may only be used where forks are watched, see `clock::fork`; and in the
/// child nothing is mapped in its place, which may be somebody else's by then.
pub(super) fn open() -> Option<NonNull<AtomicU64>> {
    let event = open_event()?;
    // The mapping keeps the event alive; the descriptor is closed at the end of this function.
    let page = map(event.as_raw_fd())?;
    // SAFETY: `LOCK_OFFSET` is inside the page.
    Some(unsafe { page.byte_add(LOCK_OFFSET) }.cast())
}

/// Unmaps the page of a word that came from [`open`], which ends the event. Nobody may look at the word any more.
pub(super) fn close(word: *const AtomicU64) {
    let page = word.wrapping_byte_sub(LOCK_OFFSET).cast::<c_void>().cast_mut();
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

#[cfg(test)]
mod tests {
    use crate::clock::mark::Mark;
    use crate::clock::tests::exit_code_of_child;

    /// The page that a mark points at is not in the child, and what is there instead, if anything, is not touched.
    #[test]
    fn u11_a_mark_that_is_suspended_during_a_fork_reads_nothing_in_the_child() {
        let mark = Mark::never();
        if !mark.use_perf_page() {
            return;
        }
        mark.arm();
        mark.suspend();
        let in_child = || {
            let is_intact = mark.intact();
            mark.abandon();
            mark.release();
            i32::from(is_intact)
        };
        assert_eq!(exit_code_of_child(in_child), 0);
        assert!(!mark.intact());
        mark.resume();
        assert!((0..1000).any(|_| {
            mark.arm();
            mark.intact()
        }));
        mark.release();
    }
}
