//! Failures that nobody takes: they are reported, never dropped in silence (P17).

use context::harness::{contain_panic, discard_panic};
use context::{Cancelled, Name, ReportKind};
use std::any::{Any, type_name};
use std::error::Error;
use std::fmt::Display;
use std::io;
use std::panic::Location;

use crate::error::JoinError;

type Place = &'static Location<'static>;
type Payload = Box<dyn Any + Send>;

/// The result of work, on its way to somebody who may not come for it. If it is an error when it is dropped, that is
/// reported.
pub(crate) struct Unread<T, E> {
    result: Option<Result<T, E>>,
    report: fn(&E, &Name, Place),
    context: Name,
    place: Place,
}

impl<T, E> Unread<T, E> {
    /// `report` tells the sentinel of an error of work in `context` that was begun at `place`.
    pub(crate) fn new(
        result: Result<T, E>,
        report: fn(&E, &Name, Place),
        context: Name,
        place: Place,
    ) -> Self {
        Self { result: Some(result), report, context, place }
    }

    /// The result, for somebody who came.
    pub(crate) fn take(mut self) -> Result<T, E> {
        self.result.take().expect("it is there until it is taken, and that is once")
    }
}

impl<T, E> Drop for Unread<T, E> {
    fn drop(&mut self) {
        if let Some(Err(error)) = &self.result {
            // The `Display` of an error is user code.
            contained(&self.context, self.place, || (self.report)(error, &self.context, self.place));
        }
    }
}

/// Reports an error that says itself what it is.
pub(crate) fn report_error<E: Display>(error: &E, context: &Name, place: Place) {
    context::sentinel::report(ReportKind::UnhandledError, context, place, &error.to_string());
}

/// What is to be said of an error of any type: its text, of the usual types, or at least its type.
pub(crate) fn error_text<E: 'static>(error: &E) -> String {
    let any: &dyn Any = error;
    text_of::<&'static str>(any)
        .or_else(|| text_of::<String>(any))
        .or_else(|| text_of::<Box<dyn Error + Send + Sync>>(any))
        .or_else(|| text_of::<Box<dyn Error>>(any))
        .or_else(|| text_of::<io::Error>(any))
        .or_else(|| text_of::<JoinError>(any))
        .or_else(|| text_of::<Cancelled>(any))
        .unwrap_or_else(|| format!("an error of type `{}`", type_name::<E>()))
}

fn text_of<E: Display + 'static>(error: &dyn Any) -> Option<String> {
    error.downcast_ref::<E>().map(E::to_string)
}

/// Reports a panic that nobody else hears of.
pub(crate) fn report_panic(payload: Payload, context: &Name, place: Place) {
    context::sentinel::report(ReportKind::UnhandledPanic, context, place, context::panic_message(&*payload));
    discard_panic(payload);
}

/// Runs code of the user that must not unwind into ours; a panic is reported.
pub(crate) fn contained(context: &Name, place: Place, f: impl FnOnce()) {
    contain_panic(f, |text| context::sentinel::report(ReportKind::UnhandledPanic, context, place, text));
}
