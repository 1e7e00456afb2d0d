//! Making contexts.

use crate::cells::nanos;
use crate::current::{self, Origin};
use crate::deadline::Deadline;
use crate::node::hooks::{self, Hooks, Observer};
use crate::node::{Aside, Birth, Budget, Context, Extras, Plan};
use crate::value::{Key, Value};
use std::panic::Location;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Makes a context with more than a class; see [`Context::builder`].
#[derive(Debug)]
#[must_use = "nothing is made before `build`"]
pub struct Builder<'a> {
    class: &'a str,
    parent: Option<Context>,
    deadline: Option<Deadline>,
    aside: Option<Box<Aside>>,
}

impl Context {
    /// A parentless context: a request, a background process.
    ///
    /// `class` is a low-cardinality label, the only thing that becomes a metric label: `GET /users/{id}`, never
    /// `GET /users/17`.
    #[track_caller]
    pub fn root(class: &str) -> Self {
        plain_root(class, Location::caller())
    }

    /// A part of this context: what it spends is its own, and shows here as total.
    ///
    /// A child of the sentinel is a root: the sentinel has no parts.
    #[track_caller]
    pub fn child(&self, class: &str) -> Self {
        plain_child(self, class, Location::caller())
    }

    /// A context with a parent, fields, values or limits.
    ///
    /// ```
    /// use context::Context;
    /// use std::time::Duration;
    ///
    /// let request = Context::builder("GET /x").field("user", "ann").timeout(Duration::from_secs(30)).build();
    /// let part = Context::builder("parse").parent(&request).build();
    /// assert_eq!(part.deadline(), request.deadline());
    /// ```
    pub fn builder(class: &str) -> Builder<'_> {
        Builder { class, parent: None, deadline: None, aside: None }
    }
}

impl Builder<'_> {
    /// What it is a part of. The sentinel as parent means none.
    pub fn parent(mut self, parent: &Context) -> Self {
        self.parent = (!parent.is_sentinel()).then(|| parent.clone());
        self
    }

    /// A field for logs, of any cardinality.
    pub fn field(mut self, name: &'static str, value: impl Into<Box<str>>) -> Self {
        self.extras().fields.push((name, value.into()));
        self
    }

    /// Sets a value. Set twice, the last one counts.
    pub fn value<T: Send + Sync + 'static>(mut self, key: &Key<T>, value: T) -> Self {
        self.put(Value::new(key, value));
        self
    }

    /// Takes the values that `from` and its ancestors let background work inherit
    /// ([`Inherit::Everything`](crate::Inherit::Everything)); values set already stay.
    pub fn inherit_background(mut self, from: &Context) -> Self {
        let mut inherited = from.clone();
        loop {
            for value in inherited.node().background_values() {
                if !self.extras().values.iter().any(|own| own.key() == value.key()) {
                    self.extras().values.push(value.clone());
                }
            }
            match inherited.parent() {
                Some(parent) => inherited = parent,
                None => return self,
            }
        }
    }

    /// A deadline this long from now. Never later than the parent's.
    pub fn timeout(self, timeout: Duration) -> Self {
        match current::now().checked_add(timeout) {
            Some(deadline) => self.deadline(deadline),
            None => self,
        }
    }

    /// A deadline. Never later than the parent's.
    ///
    /// It passes by the clock of the runtime that this thread works for, whoever asks: by paused time, if that is paused.
    pub fn deadline(mut self, deadline: Instant) -> Self {
        self.deadline = Some(current::deadline(deadline));
        self
    }

    /// A limit of the total CPU time: of the context and everything below it, on all threads. When it is spent the context
    /// is cancelled with [`Reason::CpuBudget`](crate::Reason::CpuBudget).
    ///
    /// It is looked at when a poll, an [`in_context`](crate::FutureExt::in_context) or a blocking job in the context, or below
    /// it, ends, and in [`Context::check`]. Nothing is interrupted in between: a long poll or job ends over its budget unless
    /// it calls `check`. What runs on another thread counts when its slice ends: at the end of the job, or when it calls
    /// `check`.
    pub fn cpu_budget(mut self, budget: Duration) -> Self {
        self.extras().cpu_budget = Some(budget);
        self
    }

    /// Tells `hooks` of this context's life, on whatever thread; not of its parts.
    pub fn hooks(mut self, hooks: Arc<dyn Hooks>) -> Self {
        hooks::announce();
        self.extras().observers.push(Observer(hooks));
        self
    }

    /// Makes it.
    #[track_caller]
    pub fn build(self) -> Context {
        make(self.class, self.parent, self.deadline, self.aside, Location::caller())
    }

    fn put(&mut self, value: Value) {
        let values = &mut self.extras().values;
        values.retain(|other| other.key() != value.key());
        values.push(value);
    }

    fn extras(&mut self) -> &mut Extras {
        &mut self.aside.get_or_insert_default().extras
    }
}

// These two are functions of their own, in which there is nothing but a class and a parent: what goes into the node stays
// in registers on its way.
#[inline(never)]
fn plain_root(class: &str, place: &'static Location<'static>) -> Context {
    make(class, None, None, None, place)
}

#[inline(never)]
fn plain_child(parent: &Context, class: &str, place: &'static Location<'static>) -> Context {
    make(class, (!parent.is_sentinel()).then(|| parent.clone()), None, None, place)
}

/// What the context spends counts against its own budget, if it has one, and against those above.
#[cold]
#[inline(never)]
fn count_against(parent: Option<&Context>, extras: &mut Extras) {
    let above = parent.and_then(|parent| parent.node().budget()).cloned();
    extras.budget = match extras.cpu_budget {
        Some(limit) => Some(Budget::new(nanos(limit), above)),
        None => above,
    };
}

#[inline(always)]
fn make(
    class: &str,
    parent: Option<Context>,
    deadline: Option<Deadline>,
    mut aside: Option<Box<Aside>>,
    place: &'static Location<'static>,
) -> Context {
    let (mut budgeted, mut timed) = (false, false);
    if let Some(parent) = &parent {
        (budgeted, timed) = (parent.node().budgeted, parent.node().is_timed());
    }
    if let Some(deadline) = deadline {
        let inherited = parent.as_ref().and_then(Context::deadline);
        // The nearest deadline is the earliest: a later one than the parent's is none.
        if inherited.is_none_or(|inherited| deadline.at < inherited) {
            aside.get_or_insert_default().extras.deadline = Some(deadline);
            timed = true;
        }
    }
    budgeted |= aside.as_ref().is_some_and(|aside| aside.extras.cpu_budget.is_some());
    if budgeted {
        count_against(parent.as_ref(), &mut aside.get_or_insert_default().extras);
    }
    let Origin { ledger, owner, id, now, class, made_in } = current::origin(class, place);
    let (made_in, made_in_id) = made_in.map_or((None, 0), |(class, id)| (Some(class), id));
    let birth = Birth { ledger, owner, class, parent, opened: now, place, made_in, made_in_id };
    Context::new(Plan { id, budgeted, timed, birth, aside })
}
