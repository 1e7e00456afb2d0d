//! Descriptions of spans. `tracing` wants each kind of span described by something static that names it and its
//! fields. Classes and fields are known at run time only, so they are described here, once for each class and set of
//! names.

use parking_lot::RwLock;
use std::collections::HashMap;
use std::sync::atomic::{AtomicU8, Ordering::Relaxed};
use std::sync::{LazyLock, OnceLock};
use tracing_core::callsite::{self, Callsite, Identifier};
use tracing_core::field::FieldSet;
use tracing_core::metadata::{Kind, LevelFilter};
use tracing_core::subscriber::Interest;
use tracing_core::{Dispatch, Level, Metadata};

/// The fields of every span; those of its context follow.
pub(super) const FIELDS: [&str; 4] = ["class", "id", "made_in", "late"];

/// Classes are bounded and names of fields stand in the code, so a program has few descriptions. What comes after
/// these, of generated code, is named `(other)` and shows no fields of its own.
const SITES_MAX: usize = 4_096;
const OTHER: &str = "(other)";

/// A description. Never freed, as `tracing` wants it.
pub(super) struct Site {
    metadata: OnceLock<Metadata<'static>>,
    interest: AtomicU8,
}

static SITES: LazyLock<RwLock<HashMap<&'static str, Vec<&'static Site>>>> = LazyLock::new(RwLock::default);

const NEVER: u8 = 0;
const SOMETIMES: u8 = 1;
const ALWAYS: u8 = 2;

/// The description of spans of this class whose contexts have fields of these names.
pub(super) fn site(class: &'static str, names: &[&'static str]) -> &'static Site {
    let known = SITES.read().get(class).and_then(|sites| find(sites, names));
    known.unwrap_or_else(|| describe(class, names))
}

fn find(sites: &[&'static Site], names: &[&'static str]) -> Option<&'static Site> {
    sites.iter().copied().find(|site| site.own_names().eq(names.iter().copied()))
}

#[cold]
fn describe(class: &'static str, names: &[&'static str]) -> &'static Site {
    let site = {
        let mut sites = SITES.write();
        let full = sites.values().map(Vec::len).sum::<usize>() >= SITES_MAX;
        let (class, names) = if full { (OTHER, &[][..]) } else { (class, names) };
        let of_class = sites.entry(class).or_default();
        if let Some(known) = find(of_class, names) {
            return known;
        }
        let site = Site::leak(class, names);
        of_class.push(site);
        site
    };
    // Asks the subscribers, so outside the lock. Until they answered they are asked for each span.
    callsite::register(site);
    site
}

impl Site {
    fn leak(class: &'static str, names: &[&'static str]) -> &'static Self {
        let site: &'static Self =
            Box::leak(Box::new(Self { metadata: OnceLock::new(), interest: AtomicU8::new(SOMETIMES) }));
        let names: &'static [&'static str] = Vec::leak([&FIELDS[..], names].concat());
        let fields = FieldSet::new(names, Identifier(site));
        let (target, module) = ("context", Some(module_path!()));
        let _ = site.metadata.set(Metadata::new(
            class,
            target,
            Level::INFO,
            None,
            None,
            module,
            fields,
            Kind::SPAN,
        ));
        site
    }

    pub(super) fn description(&self) -> &Metadata<'static> {
        self.metadata.get().expect("set when it was made")
    }

    /// The names of the context's own fields.
    fn own_names(&self) -> impl Iterator<Item = &'static str> {
        self.description().fields().iter().skip(FIELDS.len()).map(|field| field.name())
    }

    /// Whether `dispatch` wants spans of this description.
    pub(super) fn is_enabled(&self, dispatch: &Dispatch) -> bool {
        let description = self.description();
        let interest = self.interest.load(Relaxed);
        *description.level() <= LevelFilter::current()
            && interest != NEVER
            && (interest == ALWAYS || dispatch.enabled(description))
    }
}

impl Callsite for Site {
    fn set_interest(&self, interest: Interest) {
        let value = match interest {
            interest if interest.is_never() => NEVER,
            interest if interest.is_always() => ALWAYS,
            _ => SOMETIMES,
        };
        self.interest.store(value, Relaxed);
    }

    fn metadata(&self) -> &Metadata<'_> {
        self.description()
    }
}
