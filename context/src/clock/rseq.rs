//! First rung: the thread's restartable-sequence area, as registered by glibc.
//!
//! The kernel clears the `rseq_cs` pointer of a thread that was switched out (or got a signal) while it was not inside
//! the described critical section ("lazy clear", `rseq_ip_fixup` in kernel/rseq.c; rseq(2)). Our descriptor describes a
//! section that nobody ever executes, so it is cleared at every switch: that, and nothing else, is what we want of it.
//! Arming is one store, looking is one load.
//!
//! Kernels from 6.19 on skip the clearing for a switch inside a system call, because user space cannot be in a critical
//! section there. Preemption is still seen. [`super::ladder`] finds out which kind this kernel is.

#![allow(unsafe_code)]

use std::arch::asm;
use std::ffi::CStr;
use std::mem;
use std::ptr::{self, NonNull};
use std::sync::Arc;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering::Relaxed};
use std::thread;
use std::time::{Duration, Instant};

use super::mark::Mark;
use super::os::{current_cpu, pin_to};
use super::thread_time::nap;

/// What glibc registers on x86 (`RSEQ_SIG` in <sys/rseq.h>): `ud1` operands, so that it disassembles.
const SIGNATURE: u32 = 0x5305_3053;
/// `cpu_id`, `rseq_cs` and `flags` end here: the first published layout of `struct rseq`.
const SIZE_MIN: u32 = 20;
const CPU_ID_OFFSET: usize = 4;
const RSEQ_CS_OFFSET: usize = 8;
/// `cpu_id` of a thread which is not registered: -1 (not yet) and -2 (the kernel refused).
const CPU_ID_LIMIT: u32 = i32::MAX as u32;

/// The bytes our descriptor talks about. They are data and never executed, which is exactly what makes the "section"
/// one that no instruction pointer is ever inside of, and an abort one that never happens. The kernel checks the
/// signature before `abort` each time it looks at the descriptor, and kills the thread if it is not what was registered.
#[repr(C)]
struct Landing {
    section: [u8; 4],
    signature: u32,
    abort: [u8; 4],
}

static LANDING: Landing = Landing { section: [0xcc; 4], signature: SIGNATURE, abort: [0xcc; 4] };

/// `struct rseq_cs` of <linux/rseq.h>. References are pointers here; plain data, so the linker lays it out and no
/// assembly is needed.
#[repr(C, align(32))]
struct Descriptor {
    version: u32,
    flags: u32,
    start_ip: &'static [u8; 4],
    post_commit_offset: u64,
    abort_ip: &'static [u8; 4],
}

static DESCRIPTOR: Descriptor = Descriptor {
    version: 0,
    flags: 0,
    start_ip: &LANDING.section,
    post_commit_offset: mem::size_of::<[u8; 4]>() as u64,
    abort_ip: &LANDING.abort,
};

const _: () = assert!(mem::size_of::<Descriptor>() == 32 && mem::offset_of!(Landing, abort) == 8);

/// The value that arms: the address of our descriptor.
pub(super) fn descriptor() -> u64 {
    (&raw const DESCRIPTOR).addr() as u64
}

/// Where this thread's `rseq_cs` pointer is; `None` if glibc has not registered the thread.
pub(super) fn slot() -> Option<NonNull<AtomicU64>> {
    let area = area()?.as_ptr();
    let cpu_id = area.wrapping_add(CPU_ID_OFFSET).cast();
    // SAFETY: the area is at least `SIZE_MIN` bytes long and aligned to 32, so `cpu_id` is inside it and aligned. The
    // kernel writes it only while this thread is not running.
    let cpu_id = unsafe { AtomicU32::from_ptr(cpu_id) }.load(Relaxed);
    // `rseq_cs`, too, ends below `SIZE_MIN`.
    if cpu_id > CPU_ID_LIMIT { None } else { NonNull::new(area.wrapping_add(RSEQ_CS_OFFSET).cast()) }
}

/// Takes our descriptor out of this thread's slot.
pub(super) fn disarm() {
    if let Some(slot) = slot() {
        // SAFETY: a slot is aligned, inside this thread's rseq area, and only this thread writes it.
        unsafe { slot.as_ref() }.store(0, Relaxed);
    }
}

/// Proves that a switch is seen which did not happen inside a system call: another thread, pinned to our CPU, runs while
/// we spin in user mode, so we must have left that CPU.
///
/// Only for kernels that hide voluntary blocking, at the first start in a process; costs a thread and up to
/// [`PROOF_LIMIT`]. False also where the proof could not be led.
pub(super) fn sees_preemption(mark: &Mark) -> bool {
    let cpu = current_cpu();
    let (go, ran) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicBool::new(false)));
    let competitor = {
        let (go, ran) = (Arc::clone(&go), Arc::clone(&ran));
        thread::spawn(move || compete(cpu, &go, &ran))
    };
    mark.arm();
    let here = current_cpu() == cpu && mark.intact();
    go.store(here, Relaxed);
    let deadline = Instant::now() + PROOF_LIMIT;
    while here && !ran.load(Relaxed) && Instant::now() < deadline {
        std::hint::spin_loop();
    }
    let seen = ran.load(Relaxed) && !mark.intact();
    // Not `ran` yet: it gives up by itself. Joining would only make the start wait.
    drop(competitor);
    seen
}

const PROOF_LIMIT: Duration = Duration::from_millis(50);

fn compete(cpu: i32, go: &AtomicBool, ran: &AtomicBool) {
    if !pin_to(cpu) {
        return;
    }
    let deadline = Instant::now() + PROOF_LIMIT;
    while !go.load(Relaxed) {
        if Instant::now() > deadline {
            return;
        }
        nap(100_000);
    }
    ran.store(true, Relaxed);
}

/// This thread's `struct rseq`.
fn area() -> Option<NonNull<u8>> {
    let offset = (*REGISTRATION.get_or_init(registration))?;
    let thread_pointer: *mut u8;
    // SAFETY: the x86-64 TLS ABI keeps the thread pointer itself in the first word of the thread control block.
    unsafe { asm!("mov {}, fs:[0]", out(reg) thread_pointer, options(nostack, preserves_flags, readonly)) };
    NonNull::new(thread_pointer.wrapping_offset(offset))
}

/// glibc's `__rseq_offset`: where the area is, counted from the thread pointer. `None` if there is none. The values are
/// constant after the C library has started, so they are looked up once.
static REGISTRATION: OnceLock<Option<isize>> = OnceLock::new();

/// Looked up, not linked: an older glibc does not have the symbols, and the binary must still start there. A size of 0
/// says that glibc left rseq alone: an old kernel, the `glibc.pthread.rseq=0` tunable, or another user of it.
fn registration() -> Option<isize> {
    let size = lookup(c"__rseq_size")?.cast::<u32>();
    let offset = lookup(c"__rseq_offset")?.cast::<isize>();
    // SAFETY: glibc exports `__rseq_size` as `const unsigned int`.
    let size = unsafe { size.read() };
    if size < SIZE_MIN {
        return None;
    }
    // SAFETY: glibc exports `__rseq_offset` as `const ptrdiff_t`.
    Some(unsafe { offset.read() })
}

fn lookup(name: &CStr) -> Option<NonNull<libc::c_void>> {
    // SAFETY: the name is a C string; a symbol that does not exist is null.
    NonNull::new(unsafe { libc::dlsym(ptr::null_mut(), name.as_ptr()) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_foreign_descriptor_counts_as_cleared_and_is_left_alone() {
        static FOREIGN: Descriptor = Descriptor {
            version: 0,
            flags: 0,
            start_ip: &LANDING.section,
            post_commit_offset: 4,
            abort_ip: &LANDING.abort,
        };
        let mark = Mark::never();
        if !mark.use_rseq() {
            return;
        }
        let slot = slot().expect("the mark has just used it");
        // SAFETY: this thread's slot, and it is this thread that looks.
        let slot = unsafe { slot.as_ref() };
        let foreign = (&raw const FOREIGN).addr() as u64;
        // The kernel may clear it at any moment: then it is 0.
        let foreign_or_cleared = |value| value == foreign || value == 0;
        mark.arm();
        slot.store(foreign, Relaxed);
        assert!(!mark.intact());
        mark.release();
        assert!(foreign_or_cleared(slot.load(Relaxed)));
        slot.store(0, Relaxed);
    }

    #[test]
    fn a_released_mark_leaves_the_slot_empty() {
        let mark = Mark::never();
        if mark.use_rseq() {
            mark.arm();
            mark.release();
            let slot = slot().expect("the mark has used it");
            // SAFETY: this thread's slot, and it is this thread that looks.
            assert_eq!(unsafe { slot.as_ref() }.load(Relaxed), 0);
        }
    }
}
