//! Wakers whose every function takes the lock of the context that is waited for: if any of them was called under that lock,
//! the test would hang. Fenced: only a vtable made by hand can run code in a clone.
#![allow(unsafe_code)]

use super::Context;
use crate::cancel::Reason;
use std::future::Future;
use std::pin::pin;
use std::task::{self, RawWaker, RawWakerVTable, Waker};

static TABLE: RawWakerVTable = RawWakerVTable::new(clone, reach, reach, reach);

fn waker(context: &Context) -> Waker {
    let data: *const Context = Box::leak(Box::new(context.clone()));
    // SAFETY: the functions of the table may be called on any thread, with a pointer to a context that is never freed.
    unsafe { Waker::new(data.cast(), &TABLE) }
}

unsafe fn clone(data: *const ()) -> RawWaker {
    // SAFETY: as for this function.
    unsafe { reach(data) };
    RawWaker::new(data, &TABLE)
}

unsafe fn reach(data: *const ()) {
    // SAFETY: see `waker`.
    let context = unsafe { &*data.cast::<Context>() };
    context.on_finish(|_| ());
}

#[test]
fn p13_u12_foreign_wakers_are_cloned_woken_and_dropped_outside_of_all_locks() {
    let ends: [fn(&Context); 2] =
        [|context| _ = context.cancel(Reason::Shutdown), |context| _ = context.finish()];
    for end in ends {
        let request = Context::root("u12 request");
        let mut wait = pin!(request.cancelled());
        for _ in 0..3 {
            let waker = waker(&request);
            assert!(wait.as_mut().poll(&mut task::Context::from_waker(&waker)).is_pending());
        }
        end(&request);
        let waker = waker(&request);
        assert!(wait.as_mut().poll(&mut task::Context::from_waker(&waker)).is_ready());
    }
}
