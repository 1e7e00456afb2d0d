//! Ending a runtime that serves (P20): asked for from inside or from any thread, bounded in time, nothing lost in
//! silence.

use crate::current::{self, Core};
use crate::error::Straggler;
use crate::spawn::spawn_root;
use crate::time::sleep;
use context::{Context, Reason};
use std::panic::Location;
use std::time::Duration;

/// Shuts the runtime of this thread down gracefully.
///
/// Every context that has a task here, and the one of `block_on`'s future, is cancelled with [`Reason::Shutdown`], from
/// its root down. Whoever waits for a cancellation ([`Context::cancelled`], `cancellable`, a server) can end in order.
/// After `patience` the tasks that are left are dropped, each in its own context, and reported as
/// [`ReportKind::Straggler`](context::ReportKind::Straggler). `block_on` itself ends when its own future does. A second call changes nothing.
///
/// ```
/// # fn main() -> std::io::Result<()> {
/// use std::time::Duration;
///
/// runtime::Runtime::new()?.block_on(async {
///     runtime::shutdown(Duration::from_secs(5));
///     let cancelled = context::Context::current().cancelled().await;
///     assert_eq!(cancelled.reason(), context::Reason::Shutdown);
/// });
/// # Ok(())
/// # }
/// ```
///
/// # Panics
///
/// If no runtime runs on this thread.
#[track_caller]
pub fn shutdown(patience: Duration) {
    let place = Location::caller();
    current::with(|core| {
        let Some(core) = core else {
            current::none("no runtime runs on this thread: use `Handle::shutdown`")
        };
        begin(core, patience, place);
    });
}

pub(crate) fn begin(core: &Core, patience: Duration, place: &'static Location<'static>) {
    if core.stopping.replace(true) {
        return;
    }
    cancel_all(core);
    let end = spawn_root("shutdown", place, async move {
        sleep(patience).await;
        current::with(|core| core.iter().for_each(|core| drop_stragglers(core)));
    });
    drop(end);
}

/// Cancels what runs here, from the roots down.
pub(crate) fn cancel_all(core: &Core) {
    let main = core.main.take();
    core.main.set(main.clone());
    for context in core.tasks.contexts().into_iter().chain(main) {
        root_of(context).cancel(Reason::Shutdown);
    }
}

fn root_of(mut context: Context) -> Context {
    while let Some(parent) = context.parent() {
        context = parent;
    }
    context
}

/// The loop drops them at its next turn, each in its own context.
fn drop_stragglers(core: &Core) {
    for (context, place) in core.tasks.abort_all() {
        Straggler::new(&context, place).report("dropped: the patience of the shutdown has ended");
    }
}

#[cfg(test)]
mod tests {
    use crate::testing::{Options, run};
    use context::{Context, FutureExt, Reason, ReportKind};
    use std::cell::RefCell;
    use std::future::{Future, pending};
    use std::rc::Rc;
    use std::time::Duration;

    fn paused<F: Future>(name: &'static str, future: F) -> F::Output {
        run(Options { name, paused: true, allow_reports: true, ..Options::default() }, future)
    }

    struct Leaves(Rc<RefCell<Vec<&'static str>>>);

    impl Drop for Leaves {
        fn drop(&mut self) {
            self.0.borrow_mut().push(Context::current().class());
        }
    }

    #[test]
    fn p20_a_shutdown_cancels_waits_and_drops_the_rest_in_its_context_with_a_report() {
        let dropped = Rc::new(RefCell::new(Vec::new()));
        let leaves = Leaves(dropped.clone());
        let (polite, rude) = (Context::root("p20 polite"), Context::root("p20 rude"));
        paused("p20_shutdown", async {
            let first = crate::spawn_in(&polite, polite.child("part").run(pending::<()>().cancellable()));
            let part = crate::spawn_in(&polite, pending::<()>().cancellable());
            let line = line!() + 1;
            let second = crate::spawn_in(&rude, async move {
                let _leaves = leaves;
                pending::<()>().await;
            });
            crate::yield_now().await;
            crate::shutdown(Duration::from_secs(5));
            assert_eq!(part.await.unwrap().unwrap_err().reason(), Reason::Shutdown);
            first.abort();
            assert!(second.await.unwrap_err().is_cancelled());
            let reports = context::sentinel::reports();
            let is_ours = |report: &&context::Report| {
                report.kind == ReportKind::Straggler && report.place.line() == line
            };
            let straggler = reports.iter().find(is_ours).unwrap();
            assert_eq!(straggler.context, rude.to_string());
        });
        assert_eq!(*dropped.borrow(), ["p20 rude"]);
    }

    #[test]
    fn p20_a_handle_shuts_down_from_another_thread() {
        let runtime = crate::Runtime::new().unwrap();
        let handle = runtime.handle().clone();
        let ended = runtime.block_on(async {
            let asker = std::thread::spawn(move || handle.shutdown(Duration::from_secs(5)));
            let ended = Context::current().cancelled().await;
            asker.join().unwrap();
            ended
        });
        assert_eq!(ended.reason(), Reason::Shutdown);
    }
}
