//! Classes: the low-cardinality labels of contexts, interned, with what each has cost.

use parking_lot::RwLock;
use std::collections::HashMap;
use std::sync::LazyLock;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed};

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

/// One class. Never freed: their number is bounded. What it has cost is in the ledgers, at `index`.
#[derive(Debug)]
pub(crate) struct Class {
    pub(crate) name: &'static str,
    pub(crate) index: usize,
    /// The largest CPU of its contexts that any reader was told, ns: a reading never decreases.
    pub(crate) shown_cpu: AtomicU64,
    pub(crate) shown_late: AtomicU64,
}

impl Class {
    const fn new(name: &'static str, index: usize) -> Self {
        Self { name, index, shown_cpu: AtomicU64::new(0), shown_late: AtomicU64::new(0) }
    }
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
    let class: &'static Class = Box::leak(Box::new(Class::new(name, classes.len())));
    classes.insert(name, class);
    class
}

/// The sentinel's class, which is not among the others.
pub(crate) fn sentinel() -> &'static Class {
    static SENTINEL: Class = Class::new("(sentinel)", usize::MAX);
    &SENTINEL
}

/// All classes, sorted by name.
pub(crate) fn all() -> Vec<&'static Class> {
    let mut classes: Vec<_> = CLASSES.read().values().copied().collect();
    classes.sort_unstable_by_key(|class| class.name);
    classes
}
