//! Containing panics of user code: what the crates use wherever they call code that may panic.

use std::any::Any;
use std::mem;
use std::panic::{AssertUnwindSafe, catch_unwind};

/// Returns the text of a panic, or a stand-in if its payload is no text.
///
/// ```
/// let payload = std::panic::catch_unwind(|| panic!("no such user")).unwrap_err();
/// assert_eq!(context::panic_message(&*payload), "no such user");
/// ```
pub fn panic_message(payload: &(dyn Any + Send)) -> &str {
    let text = payload.downcast_ref::<&'static str>().copied();
    text.or_else(|| payload.downcast_ref::<String>().map(String::as_str)).unwrap_or("a panic without a text")
}

/// Drops the payload of a panic and never unwinds.
///
/// A payload is a value of the user, so its destructor may panic, with a payload whose destructor panics in turn. The
/// first such panic is caught here, and its payload is leaked instead of dropped. `let _ = catch_unwind(|| drop(payload))`
/// would drop it outside of the catch.
pub fn discard_panic(payload: Box<dyn Any + Send>) {
    if let Err(second) = catch_unwind(AssertUnwindSafe(|| drop(payload))) {
        mem::forget(second);
    }
}

/// Drops `value`. If its destructor panics, `report` gets the text of the panic; nothing unwinds unless `report` does.
pub fn drop_contained<T>(value: T, report: impl FnOnce(&str)) {
    contain_panic(|| drop(value), report);
}

/// Runs `f`. If it panics, `report` gets the text of the panic; nothing unwinds unless `report` does.
pub fn contain_panic(f: impl FnOnce(), report: impl FnOnce(&str)) {
    if let Err(payload) = catch_unwind(AssertUnwindSafe(f)) {
        report(panic_message(&*payload));
        discard_panic(payload);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::cell::Cell;
    use std::panic::panic_any;

    /// Its destructor panics with another one of it, so many times.
    struct Bomb(u32);

    impl Drop for Bomb {
        fn drop(&mut self) {
            if self.0 > 0 {
                panic_any(Bomb(self.0 - 1));
            }
        }
    }

    #[test]
    fn u9_a_payload_that_panics_with_payloads_that_panic_is_discarded() {
        discard_panic(Box::new(Bomb(3)));
        let reported = Cell::new(false);
        contain_panic(|| panic_any(Bomb(3)), |_| reported.set(true));
        assert!(reported.take());
        drop_contained(Bomb(3), |text| reported.set(text == "a panic without a text"));
        assert!(reported.take());
        drop_contained(Bomb(0), |_| unreachable!("it does not panic"));
    }
}
