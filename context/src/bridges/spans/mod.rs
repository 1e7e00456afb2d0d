//! The `tracing` bridge: each context has a span, which is entered and left with it.

mod site;
mod span;

use crate::node::hooks::Hooks;
use crate::node::{Context, Id};
use parking_lot::Mutex;
use span::Span;
use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, OnceLock};
use std::thread::{self, ThreadId};
use tracing_core::span::Id as SpanId;

/// Hooks that give each context a span of [`tracing`](https://docs.rs/tracing): plain `tracing::info!` in any future is
/// attributed to its request, and nobody writes `.instrument`.
///
/// The span of a context
/// - is opened when the context, or a part of it, becomes current for the first time; entered whenever the context
///   becomes current on a thread, left when it ceases to be; closed when the context has finished and was left.
///   Work that goes on in it after that shows in a span of its own, with the field `late`.
/// - is named after its class. Its level is INFO, its target `context`. Its fields are `class`, `id` and the context's
///   own fields and logged values.
/// - is a child of the parent's span, whatever is entered where it is opened. The span of a context without parent is
///   a root; its field `made_in` names the context that was current where it was made (who started this background
///   process?), and it follows from that one's span if that is still open.
///
/// What user code enters inside stays inside: with `.instrument(x)` around `part.run(..)` the events are in `x` again
/// when the part is done. That asks the subscriber which span is current; one that does not know it (most do) loses `x`
/// until it is entered again.
///
/// Install it with the runtime's `Builder::hooks`, or under another executor with
/// [`harness::observe`](crate::harness::observe) on each of its threads. All clones are one and the same.
///
/// What it costs: opening a span is the subscriber's matter, a microsecond or so; a switch, two uncontended locks and
/// two calls of the subscriber. Nothing is kept of a context that is finished and left.
///
/// ```
/// use context::{Context, bridges::TracingSpans, harness};
/// use std::sync::Arc;
///
/// let _observing = harness::observe(Arc::new(TracingSpans::new()));
/// Context::builder("GET /x").field("user", "ann").build().scope(|| {
///     // Prints with any subscriber that prints: GET /x{class="GET /x" id=1 user="ann"}: found
///     tracing::info!("found");
/// });
/// ```
#[derive(Clone, Default)]
pub struct TracingSpans {
    open: Arc<Open>,
}

/// What is kept of the contexts that are open and were current, by their numbers.
#[derive(Default)]
struct Open {
    entries: Mutex<HashMap<Id, Entry>>,
}

/// Filled outside of the lock, since a subscriber is user code; by one thread, the others wait. Holds nothing if no
/// subscriber wants the span.
type Slot = Arc<OnceLock<Option<Arc<Span>>>>;

#[derive(Default)]
struct Entry {
    slot: Slot,
    /// How often it is current now, or stepped aside.
    here: usize,
    /// Where it ceased to be current but is not done with.
    aside: Vec<Aside>,
    finished: bool,
}

/// A context that is not current on this thread, but whose span is not done with there.
struct Aside {
    thread: ThreadId,
    /// The span is entered, and beneath this one, which user code entered and did not leave. To leave the span and to
    /// enter it again later would put it on top.
    beneath: Option<SpanId>,
    /// Its finish hooks are running; then it is current again.
    returns: bool,
}

impl TracingSpans {
    /// Spans for the contexts of whatever these hooks are installed in.
    pub fn new() -> Self {
        Self::default()
    }
}

impl fmt::Debug for TracingSpans {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TracingSpans").field("open", &self.open.entries.lock().len()).finish()
    }
}

impl Hooks for TracingSpans {
    fn on_resume(&self, context: &Context) {
        let (slot, aside) = self.open.arrive(context);
        let known = slot.get().cloned();
        let Some(span) = known.unwrap_or_else(|| self.open.open_span(context)) else { return };
        match aside.and_then(|aside| aside.beneath) {
            None => span.enter(),
            Some(beneath) if span.top().as_ref() == Some(&beneath) => {}
            Some(_) => {
                span.exit();
                span.enter();
            }
        }
    }

    fn on_suspend(&self, context: &Context) {
        let span = self.open.find(context.id());
        let beneath = span.as_ref().filter(|_| !context.is_finished()).and_then(|span| span.top());
        if let Some(span) = span.filter(|_| beneath.is_none()) {
            span.exit();
        }
        drop(self.open.leave(context, beneath));
    }
}

impl Open {
    /// The context becomes current on this thread; again, if it had stepped aside.
    fn arrive(self: &Arc<Self>, context: &Context) -> (Slot, Option<Aside>) {
        self.with(context, |entry| {
            let here = thread::current().id();
            let aside = entry.aside.iter().rposition(|aside| aside.thread == here);
            let aside = aside.map(|at| entry.aside.remove(at));
            entry.here += usize::from(aside.is_none());
            (entry.slot.clone(), aside)
        })
    }

    /// It ceases to be current on this thread; the span is still entered if it is `beneath` another. Returns what is
    /// not needed any more, to be dropped outside of the lock.
    fn leave(&self, context: &Context, beneath: Option<SpanId>) -> Option<Entry> {
        let mut entries = self.entries.lock();
        let entry = entries.get_mut(&context.id())?;
        // It has finished, but `finish` was not called yet: it is about to be, from here, and then we are back.
        let returns = context.is_finished() && !entry.finished;
        if returns || beneath.is_some() {
            entry.aside.push(Aside { thread: thread::current().id(), beneath, returns });
        } else {
            entry.here -= 1;
        }
        let done = entry.is_done();
        if done { entries.remove(&context.id()) } else { None }
    }

    /// The context has finished, on whatever thread. What stepped aside on this one and does not come back is left.
    fn finish(&self, id: Id) {
        let (entered, _done) = {
            let mut entries = self.entries.lock();
            let Some(entry) = entries.get_mut(&id) else { return };
            let entered = entry.finish(thread::current().id());
            let span = entry.slot.get().cloned().flatten().filter(|_| entered);
            let done = entry.is_done();
            (span, if done { entries.remove(&id) } else { None })
        };
        if let Some(span) = entered {
            span.exit();
        }
    }

    /// Opens the span of `context`, and before it those of its ancestors that have none.
    #[cold]
    fn open_span(self: &Arc<Self>, context: &Context) -> Option<Arc<Span>> {
        let mut missing = vec![context.clone()];
        let mut parent = None;
        // Not by recursion: contexts may be nested without limit.
        while let Some(above) = missing[missing.len() - 1].parent() {
            parent = self.find(above.id());
            if parent.is_some() {
                break;
            }
            missing.push(above);
        }
        let mut own = None;
        for here in missing.iter().rev().filter(|here| *here == context || !here.is_finished()) {
            let slot = self.with(here, |entry| entry.slot.clone());
            own = slot.get_or_init(|| self.open_one(here, parent.as_deref())).clone();
            parent = own.clone().or(parent);
        }
        own
    }

    fn open_one(&self, context: &Context, parent: Option<&Span>) -> Option<Arc<Span>> {
        let span = Span::open(context, parent)?;
        let origin = context.made_in().filter(|_| parent.is_none());
        if let Some(origin) = origin.and_then(|origin| self.find(origin.id())) {
            span.follows(&origin);
        }
        Some(Arc::new(span))
    }

    /// The span of the context of this number, if it is open.
    fn find(&self, id: Id) -> Option<Arc<Span>> {
        self.entries.lock().get(&id)?.slot.get()?.clone()
    }

    /// Changes what is kept of `context`; what is new goes when the context has finished and was left.
    fn with<R>(self: &Arc<Self>, context: &Context, change: impl FnOnce(&mut Entry) -> R) -> R {
        let id = context.id();
        let (is_new, result) = {
            let mut entries = self.entries.lock();
            let is_new = !entries.contains_key(&id);
            (is_new, change(entries.entry(id).or_default()))
        };
        if is_new {
            let open = self.clone();
            context.on_finish(move |_| open.finish(id));
        }
        result
    }
}

impl Entry {
    fn is_done(&self) -> bool {
        self.finished && self.here == 0
    }

    /// Whether the span is still entered on the thread that finishes it, which does not come back to it.
    fn finish(&mut self, thread: ThreadId) -> bool {
        self.finished = true;
        let (stay, gone): (Vec<_>, _) =
            self.aside.drain(..).partition(|aside| (aside.thread == thread) == aside.returns);
        self.aside = stay;
        self.here -= gone.len();
        gone.iter().any(|aside| aside.beneath.is_some())
    }
}
