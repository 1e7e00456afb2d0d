//! A box that is made when it is first needed. Fenced: a `OnceLock<Box<T>>` would be two words, and the node has
//! two of them in its four cache lines.
#![allow(unsafe_code)]

use std::fmt;
use std::marker::PhantomData;
use std::ptr::{self, NonNull};
use std::sync::atomic::{AtomicPtr, Ordering};

/// Empty, or one box; never another one until it is taken out.
pub(super) struct Late<T>(AtomicPtr<T>, PhantomData<Box<T>>);

// SAFETY: it is a box that may be sent with its content, and lends that to any thread: so `T` is to be both.
unsafe impl<T: Send + Sync> Sync for Late<T> {}

impl<T> Late<T> {
    pub(super) const fn new() -> Self {
        Self(AtomicPtr::new(ptr::null_mut()), PhantomData)
    }

    /// Sequentially consistent, for who must not miss what another thread makes meanwhile; on x86 that is a plain load.
    #[inline]
    pub(super) fn get(&self) -> Option<&T> {
        let made = NonNull::new(self.0.load(Ordering::SeqCst))?;
        // SAFETY: it came from a box, and is given back only by who has this `Late` alone.
        Some(unsafe { made.as_ref() })
    }

    #[inline]
    pub(super) fn get_or_make(&self, make: impl FnOnce() -> T) -> &T {
        match self.get() {
            Some(made) => made,
            None => self.make(make()),
        }
    }

    #[cold]
    #[inline(never)]
    fn make(&self, value: T) -> &T {
        let ours = Box::into_raw(Box::new(value));
        let theirs = self.0.compare_exchange(ptr::null_mut(), ours, Ordering::SeqCst, Ordering::SeqCst).err();
        if theirs.is_some() {
            // SAFETY: it came from a box just now, and nobody has seen it.
            drop(unsafe { Box::from_raw(ours) });
        }
        // SAFETY: as in `get`.
        unsafe { &*theirs.unwrap_or(ours) }
    }

    /// Puts a box in, and drops what was there.
    pub(super) fn set(&mut self, made: Option<Box<T>>) {
        drop(self.take());
        *self.0.get_mut() = made.map_or(ptr::null_mut(), Box::into_raw);
    }

    #[inline]
    pub(super) fn take(&mut self) -> Option<Box<T>> {
        let made = std::mem::replace(self.0.get_mut(), ptr::null_mut());
        // SAFETY: it came from a box, and nobody borrows: `self` is exclusive.
        (!made.is_null()).then(|| unsafe { Box::from_raw(made) })
    }
}

impl<T> Drop for Late<T> {
    fn drop(&mut self) {
        drop(self.take());
    }
}

impl<T: fmt::Debug> fmt::Debug for Late<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.get().fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Barrier;
    use std::sync::atomic::AtomicUsize;

    static ALIVE: AtomicUsize = AtomicUsize::new(0);

    struct Counted(usize);

    impl Counted {
        fn new(n: usize) -> Self {
            ALIVE.fetch_add(1, Ordering::Relaxed);
            Self(n)
        }
    }

    impl Drop for Counted {
        fn drop(&mut self) {
            ALIVE.fetch_sub(1, Ordering::Relaxed);
        }
    }

    #[test]
    fn threads_that_make_it_at_once_share_one() {
        for _ in 0..if cfg!(miri) { 10 } else { 100 } {
            let (late, start) = (Late::new(), Barrier::new(3));
            let seen: Vec<usize> = std::thread::scope(|scope| {
                let make = |n| {
                    start.wait();
                    late.get_or_make(|| Counted::new(n)).0
                };
                let threads: Vec<_> = (0..3).map(|n| scope.spawn(move || make(n))).collect();
                threads.into_iter().map(|thread| thread.join().unwrap()).collect()
            });
            assert!(seen.iter().all(|n| *n == late.get().unwrap().0));
            assert_eq!(ALIVE.load(Ordering::Relaxed), 1);
            let mut late = late;
            late.set(Some(Box::new(Counted::new(7))));
            assert_eq!(late.take().unwrap().0, 7);
            assert!(late.get().is_none());
            assert_eq!(ALIVE.load(Ordering::Relaxed), 0);
        }
    }
}
