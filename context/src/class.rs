//! Classes: the low-cardinality labels of contexts, interned, with what each has cost.

use crate::cells::{Cell64, Cells};
use parking_lot::RwLock;
use std::collections::HashMap;
use std::sync::LazyLock;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

/// Where classes above the limit are counted.
pub(crate) const OTHER: &str = "(other)";

/// How many classes a process has unless [`set_class_limit`] says otherwise.
pub const CLASS_LIMIT_DEFAULT: usize = 1_000;

static LIMIT: AtomicUsize = AtomicUsize::new(CLASS_LIMIT_DEFAULT);
static CLASSES: LazyLock<RwLock<HashMap<&'static str, &'static Class>>> = LazyLock::new(RwLock::default);

/// Sets how many classes the process may have, `(other)` not counted.
///
/// Classes become metric labels, so their number must be bounded by the code, not by what clients send. Classes that
/// are there already stay.
pub fn set_class_limit(limit: usize) {
    LIMIT.store(limit, Relaxed);
}

/// One class. Never freed: their number is bounded.
#[derive(Debug)]
pub(crate) struct Class {
    pub(crate) name: &'static str,
    /// Contexts ever opened in it.
    pub(crate) opened: Cell64,
    /// Contexts that finished.
    pub(crate) finished: Cell64,
    /// Own usage of the contexts that are gone.
    pub(crate) own: Cells,
    /// Total usage (with everything below) of the contexts that are gone.
    pub(crate) total: Cells,
}

/// What [`intern`] found.
pub(crate) enum Interned {
    Class(&'static Class),
    /// The limit is reached: this is `(other)`, and the caller says so to the sentinel.
    Refused(&'static Class),
}

/// Finds or makes the class of that name.
pub(crate) fn intern(name: &str) -> Interned {
    if let Some(class) = CLASSES.read().get(name) {
        return Interned::Class(class);
    }
    let mut classes = CLASSES.write();
    if let Some(class) = classes.get(name) {
        return Interned::Class(class);
    }
    let refused = classes.len() >= LIMIT.load(Relaxed);
    let name = if refused { OTHER } else { name };
    let class = match classes.get(name) {
        Some(class) => class,
        None => insert(&mut classes, name),
    };
    if refused { Interned::Refused(class) } else { Interned::Class(class) }
}

fn insert(classes: &mut HashMap<&'static str, &'static Class>, name: &str) -> &'static Class {
    let name: &'static str = Box::leak(name.into());
    let class: &'static Class = Box::leak(Box::new(Class::new(name)));
    classes.insert(name, class);
    class
}

impl Class {
    const fn new(name: &'static str) -> Self {
        Self { name, opened: Cell64::new(), finished: Cell64::new(), own: Cells::new(), total: Cells::new() }
    }
}

/// The sentinel's class, which is not among the others.
pub(crate) fn sentinel() -> &'static Class {
    static SENTINEL: Class = Class::new("(sentinel)");
    &SENTINEL
}

/// All classes, sorted by name.
pub(crate) fn all() -> Vec<&'static Class> {
    let mut classes: Vec<_> = CLASSES.read().values().copied().collect();
    classes.sort_unstable_by_key(|class| class.name);
    classes
}
