//! Panics of handlers: caught, and reported at once with the place of the panic. **Fenced**, for the life of that place.

#![allow(unsafe_code)]

use crate::current;
use context::harness::discard_panic;
use context::{Context, ReportKind, panic_message};
use std::any::Any;
use std::panic::{self, AssertUnwindSafe, Location, PanicHookInfo, catch_unwind};
use std::sync::Once;

pub(super) type Place = &'static Location<'static>;

/// Notes from now on where panics come from: by a panic hook, which calls the one before it.
///
/// A program that sets a hook later, and does not call ours, loses the places and nothing else.
pub(super) fn note_places() {
    static ONCE: Once = Once::new();
    if std::thread::panicking() {
        // A hook cannot be set now.
        return;
    }
    ONCE.call_once(|| {
        let before = panic::take_hook();
        panic::set_hook(Box::new(move |info| {
            note(info);
            before(info);
        }));
    });
}

fn note(info: &PanicHookInfo<'_>) {
    let Some(place) = info.location() else { return };
    // SAFETY: the location of a panic is a `Location::caller()`, or the compiler's own for a panic that it inserts: both are
    // constants of the program. A `Location` cannot be made in any other way, and neither can a `PanicHookInfo`.
    let place = unsafe { &*std::ptr::from_ref(place).cast::<Location<'static>>() };
    current::with(|core| core.iter().for_each(|core| core.panicked.set(Some(place))));
}

/// What is left of a panic.
pub(super) struct Panicked {
    payload: Box<dyn Any + Send>,
    place: Option<Place>,
}

/// Runs `f`, and catches its panic.
pub(super) fn catch<R>(f: impl FnOnce() -> R) -> Result<R, Panicked> {
    catch_unwind(AssertUnwindSafe(f)).map_err(|payload| {
        let place = current::with(|core| core.and_then(|core| core.panicked.take()));
        Panicked { payload, place }
    })
}

impl Panicked {
    /// Reports it in `context`, where it came from; at `fallback` if that is not known.
    pub(super) fn report(self, context: &Context, fallback: Place) {
        let Self { payload, place } = self;
        let place = place.unwrap_or(fallback);
        let text = panic_message(&*payload);
        // Within the context, so that what a logger or listener says of it has the name of the request.
        context.scope(|| context::sentinel::report(ReportKind::UnhandledPanic, context, place, text));
        discard_panic(payload);
    }
}
