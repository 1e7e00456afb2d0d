//! Who wants to know of a context's life (P21).
//!
//! Nothing is looked up while nobody does: one flag for the process, one predictable branch in the switch.

use crate::node::Context;
use crate::usage::Usage;
use parking_lot::RwLock;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// An observer of contexts: of all on one thread ([`harness::observe`](crate::harness::observe), a runtime's
/// `Builder::hooks`), or of one ([`Builder::hooks`](crate::Builder::hooks)).
///
/// Hooks may read contexts, not switch them; they run on the account of the context that they are told of, on its
/// thread, and should be quick. A panic in one is reported and stops there. A resume and a suspend always come in
/// pairs, however a poll ends; between two polls in a row for the same context there is neither.
pub trait Hooks: Send + Sync {
    /// `context` is current on this thread from here on.
    fn on_resume(&self, context: &Context) {
        let _ = context;
    }

    /// `context` is current on this thread up to here.
    fn on_suspend(&self, context: &Context) {
        let _ = context;
    }

    /// `context` has finished, with this total. Once for each context, also if nobody finished it and its last handle
    /// went.
    fn on_finish(&self, context: &Context, usage: &Usage) {
        let _ = (context, usage);
    }
}

/// A shared [`Hooks`].
#[derive(Clone)]
pub(crate) struct Observer(pub(crate) Arc<dyn Hooks>);

impl fmt::Debug for Observer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Observer")
    }
}

/// Whether anyone ever asked to be told. Never goes back: the branch is what it saves.
static ANYONE: AtomicBool = AtomicBool::new(false);

#[inline]
pub(crate) fn anyone() -> bool {
    ANYONE.load(Ordering::Relaxed)
}

pub(crate) fn announce() {
    ANYONE.store(true, Ordering::Relaxed);
}

/// Observers of everything that finishes, on whatever thread: finishing is no matter of one thread. Each stands here
/// once, with the number of threads that it observes.
static FINISH: RwLock<Vec<(Observer, usize)>> = RwLock::new(Vec::new());

pub(crate) fn add_finish(observer: &Observer) {
    let mut observers = FINISH.write();
    match observers.iter_mut().find(|(other, _)| Arc::ptr_eq(&other.0, &observer.0)) {
        Some((_, threads)) => *threads += 1,
        None => observers.push((observer.clone(), 1)),
    }
}

/// The caller holds another handle: the last one is not dropped under the lock.
pub(crate) fn remove_finish(observer: &Observer) {
    let mut observers = FINISH.write();
    let Some(at) = observers.iter().position(|(other, _)| Arc::ptr_eq(&other.0, &observer.0)) else { return };
    observers[at].1 -= 1;
    if observers[at].1 == 0 {
        observers.remove(at);
    }
}

pub(crate) fn finish_observers() -> Vec<Observer> {
    FINISH.read().iter().map(|(observer, _)| observer.clone()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use parking_lot::Mutex;

    /// Keeps a handle of what finishes.
    #[derive(Default)]
    struct Keep(Mutex<Vec<Context>>);

    impl Hooks for Keep {
        fn on_finish(&self, context: &Context, _: &Usage) {
            self.0.lock().push(context.clone());
        }
    }

    #[test]
    fn a_hook_may_keep_the_context_whose_last_handle_went() {
        let keep = Arc::new(Keep::default());
        for share in [false, true] {
            let context = Context::builder("kept").field("of", "a hook").hooks(keep.clone()).build();
            let (id, part) = (context.id(), context.child("part of kept"));
            if share {
                drop(part.enter());
            }
            drop(context);
            assert!(keep.0.lock().is_empty(), "the part holds it");
            drop(part);
            let kept = keep.0.lock().pop().expect("it finished");
            assert!(kept.is_finished() && kept.id() == id);
            kept.visit_fields(|name, value| assert_eq!((name, value), ("of", "a hook")));
            kept.scope(|| drop(kept.clone()));
            std::thread::spawn(move || drop(kept)).join().unwrap();
            assert!(keep.0.lock().is_empty(), "it finishes once");
        }
    }
}
