//! One span of `tracing`: opened, entered, left, closed.

use super::site::{self, FIELDS};
use crate::node::Context;
use tracing_core::dispatcher::{self, Dispatch};
use tracing_core::field::Value;
use tracing_core::span::{Attributes, Id};

/// An open span. Closed when it is dropped.
pub(super) struct Span {
    dispatch: Dispatch,
    id: Id,
}

impl Span {
    /// Opens the span of `context` as a part of `parent`'s, at whose subscriber it stays; a root at the subscriber of
    /// this thread. `None` if that does not want it.
    pub(super) fn open(context: &Context, parent: Option<&Self>) -> Option<Self> {
        let own = own_fields(context);
        let names: Vec<_> = own.iter().map(|(name, _)| *name).collect();
        let site = site::site(context.class(), &names);
        let dispatch =
            parent.map_or_else(|| dispatcher::get_default(Dispatch::clone), |parent| parent.dispatch.clone());
        if !site.is_enabled(&dispatch) {
            return None;
        }
        let (class, id) = (context.class(), context.id().as_u64());
        let made_in = context.made_in().filter(|_| parent.is_none()).map(|name| name.to_string());
        let late = context.is_finished().then_some(true);
        let mut values: Vec<Option<&dyn Value>> =
            vec![Some(&class), Some(&id), some(made_in.as_ref()), some(late.as_ref())];
        values.extend(own.iter().map(|(_, value)| Some(value as &dyn Value)));
        let description = site.description();
        values.truncate(description.fields().len());
        let values = description.fields().value_set_all(&values);
        let attributes = match parent {
            Some(parent) => Attributes::child_of(parent.id.clone(), description, &values),
            None => Attributes::new_root(description, &values),
        };
        let id = dispatch.new_span(&attributes);
        Some(Self { dispatch, id })
    }

    /// Says that it came of `earlier`, though it is no part of it.
    pub(super) fn follows(&self, earlier: &Self) {
        self.dispatch.record_follows_from(&self.id, &earlier.id);
    }

    pub(super) fn enter(&self) {
        self.dispatch.enter(&self.id);
    }

    pub(super) fn exit(&self) {
        self.dispatch.exit(&self.id);
    }

    /// The span that was entered on this thread after this one, if there is such.
    pub(super) fn top(&self) -> Option<Id> {
        let current = self.dispatch.current_span();
        current.id().filter(|id| **id != self.id).cloned()
    }
}

impl Drop for Span {
    fn drop(&mut self) {
        self.dispatch.try_close(self.id.clone());
    }
}

fn some<T: Value>(value: Option<&T>) -> Option<&dyn Value> {
    value.map(|value| value as &dyn Value)
}

/// The context's own fields and logged values, but for those whose names are taken.
fn own_fields(context: &Context) -> Vec<(&'static str, &str)> {
    let mut own: Vec<(&'static str, &str)> = Vec::new();
    context.visit_own_fields(|name, value| {
        if !FIELDS.contains(&name) && own.iter().all(|(other, _)| *other != name) {
            own.push((name, value));
        }
    });
    own
}
