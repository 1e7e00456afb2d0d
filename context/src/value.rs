//! Typed values that a context carries: they inform, they do not control (P16).

use std::any::Any;
use std::fmt;
use std::marker::PhantomData;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};

/// A typed, private key, made as a `static`. Who cannot name the key cannot read the value (Go's context keys).
///
/// ```
/// use context::{Context, Key};
///
/// static USER: Key<String> = Key::new("user");
///
/// let request = Context::builder("GET /x").value(&USER, "ann".to_owned()).build();
/// assert_eq!(request.child("parse").get(&USER).map(String::as_str), Some("ann"));
/// ```
pub struct Key<T> {
    name: &'static str,
    /// Given at first use, so that two statics of the same name and type stay two keys.
    id: AtomicU32,
    inherit: Inherit,
    format: Option<fn(&T) -> String>,
    marker: PhantomData<fn() -> T>,
}

/// Who sees a value besides the context it was set on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Inherit {
    /// Nobody.
    None,
    /// Its descendants. The default.
    Children,
    /// Its descendants, and background work started from it or from them, although that has no parent.
    Everything,
}

static IDS: AtomicU32 = AtomicU32::new(1);

impl<T: Send + Sync + 'static> Key<T> {
    /// A key whose values children inherit, background work does not, and logs do not show.
    pub const fn new(name: &'static str) -> Self {
        Self { name, id: AtomicU32::new(0), inherit: Inherit::Children, format: None, marker: PhantomData }
    }

    /// The same key with another rule of inheritance.
    #[must_use]
    pub const fn inherit(mut self, inherit: Inherit) -> Self {
        self.inherit = inherit;
        self
    }

    /// The same key, its values shown in logs as `format` writes them.
    #[must_use]
    pub const fn logged(mut self, format: fn(&T) -> String) -> Self {
        self.format = Some(format);
        self
    }

    /// The name it was made with.
    pub const fn name(&self) -> &'static str {
        self.name
    }

    pub(crate) fn id(&self) -> u32 {
        match self.id.load(Relaxed) {
            0 => self.assign(),
            id => id,
        }
    }

    fn assign(&self) -> u32 {
        let fresh = IDS.fetch_add(1, Relaxed);
        match self.id.compare_exchange(0, fresh, Relaxed, Relaxed) {
            Ok(_) => fresh,
            Err(theirs) => theirs,
        }
    }
}

impl<T> fmt::Debug for Key<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Key")
            .field("name", &self.name)
            .field("inherit", &self.inherit)
            .finish_non_exhaustive()
    }
}

/// One value, set when the context was built.
#[derive(Clone)]
pub(crate) struct Value {
    key: u32,
    name: &'static str,
    inherit: Inherit,
    value: Arc<dyn Any + Send + Sync>,
    /// What logs show; rendered once, when it is set.
    shown: Option<Arc<str>>,
}

impl Value {
    pub(crate) fn new<T: Send + Sync + 'static>(key: &Key<T>, value: T) -> Self {
        let shown = key.format.map(|format| format(&value).into());
        Self { key: key.id(), name: key.name, inherit: key.inherit, value: Arc::new(value), shown }
    }

    pub(crate) fn get<T: 'static>(&self, key: u32) -> Option<&T> {
        if self.key == key { self.value.downcast_ref() } else { None }
    }

    pub(crate) fn key(&self) -> u32 {
        self.key
    }

    pub(crate) fn reaches_children(&self) -> bool {
        self.inherit != Inherit::None
    }

    pub(crate) fn reaches_background(&self) -> bool {
        self.inherit == Inherit::Everything
    }

    pub(crate) fn shown(&self) -> Option<(&'static str, &str)> {
        self.shown.as_deref().map(|shown| (self.name, shown))
    }
}
