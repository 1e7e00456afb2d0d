//! The `log` bridge: each record carries the context it was made in, as key-values.

use crate::node::{Context, Name};
use log::kv::{self, Key, Value, VisitSource};
use log::{Log, Metadata, Record};

/// The key of the context's [name](Context::name), `class#id`.
const NAME: &str = "context";
/// The key of its [class](Context::class).
const CLASS: &str = "context_class";
/// The key of its [number](Context::id).
const ID: &str = "context_id";

/// A logger around another one: it adds the current context to each record, as key-values.
///
/// The keys are `context` (the name, `class#id`), `context_class`, `context_id`, and the context's fields and logged
/// values by their own names, those of its ancestors included (the nearest wins). A key that the record has itself is
/// never overwritten. Where no context is current the record passes as it is.
///
/// What it costs: two counts of a handle for each record; the rest when the inner logger looks at the key-values.
///
/// ```
/// use context::Context;
/// use context::bridges::ContextLogger;
/// use log::{Log, Record, kv::Key};
///
/// struct Print;
///
/// impl Log for Print {
///     fn enabled(&self, _: &log::Metadata<'_>) -> bool {
///         true
///     }
///     fn log(&self, record: &Record<'_>) {
///         assert_eq!(record.key_values().get(Key::from("user")).unwrap().to_string(), "ann");
///     }
///     fn flush(&self) {}
/// }
///
/// log::set_boxed_logger(Box::new(ContextLogger::new(Print))).unwrap();
/// log::set_max_level(log::LevelFilter::Info);
/// Context::builder("GET /x").field("user", "ann").build().scope(|| log::info!("found"));
/// ```
#[derive(Debug)]
pub struct ContextLogger<L> {
    inner: L,
}

impl<L: Log> ContextLogger<L> {
    /// Adds the context to what `inner` logs. Install it with `log::set_boxed_logger`.
    pub const fn new(inner: L) -> Self {
        Self { inner }
    }

    /// The logger inside.
    pub fn inner(&self) -> &L {
        &self.inner
    }
}

impl<L: Log> Log for ContextLogger<L> {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        self.inner.enabled(metadata)
    }

    fn log(&self, record: &Record<'_>) {
        let context = Context::current();
        if context.is_sentinel() {
            return self.inner.log(record);
        }
        let both = Both { record: record.key_values(), name: context.name(), context: &context };
        self.inner.log(&record.to_builder().key_values(&both).build());
    }

    fn flush(&self) {
        self.inner.flush();
    }
}

/// The record's key-values, then the context's.
struct Both<'a> {
    record: &'a dyn kv::Source,
    context: &'a Context,
    name: Name,
}

impl Both<'_> {
    /// The context's key-values, the nearest first; a name may come more than once.
    fn visit_context<'kvs>(&'kvs self, mut visit: impl FnMut(&'static str, Value<'kvs>)) {
        visit(NAME, Value::from_display(&self.name));
        visit(CLASS, Value::from(self.context.class()));
        visit(ID, Value::from(self.context.id().as_u64()));
        self.context.visit_fields(|name, value| visit(name, Value::from(value)));
    }
}

impl kv::Source for Both<'_> {
    fn visit<'kvs>(&'kvs self, visitor: &mut dyn VisitSource<'kvs>) -> Result<(), kv::Error> {
        self.record.visit(visitor)?;
        let mut seen: Vec<&str> = Vec::new();
        let mut result = Ok(());
        self.visit_context(|name, value| {
            let is_new = !seen.contains(&name) && self.record.get(Key::from(name)).is_none();
            if result.is_ok() && is_new {
                seen.push(name);
                result = visitor.visit_pair(Key::from(name), value);
            }
        });
        result
    }

    fn get(&self, key: Key<'_>) -> Option<Value<'_>> {
        // A key may be used up by a look-up, so the record gets a copy of the text.
        let own = self.record.get(Key::from(key.as_str()));
        own.or_else(|| {
            let mut found = None;
            self.visit_context(|name, value| {
                if found.is_none() && name == key.as_str() {
                    found = Some(value);
                }
            });
            found
        })
    }
}
