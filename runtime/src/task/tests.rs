//! Lives of tasks, by enumeration: whatever happens in which order, what was made is dropped exactly once and its slot
//! comes back.

mod lives;

use std::cell::{Cell, RefCell};
use std::future::{Future, pending, poll_fn};
use std::panic::{AssertUnwindSafe, Location, catch_unwind, resume_unwind};
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::task::{Context, Poll, Wake, Waker};

use crate::config::TASK_KEPT_MAX;
use crate::handle::{GENERATION_MAX, Packed};
use crate::task::JoinFailure;
use crate::task::joiners::Joiner;
use crate::task::raw::Ticket;
use crate::task::table::{Finished, Joined, Next, Polling, Refused, Table};
use context::harness::Share;
use std::sync::atomic::Ordering::Relaxed;

/// What is left of a spawn: no type of ours ends its handle by itself.
type Spawned = (Packed, Ticket<()>);

/// A stand-in for the context of a task.
pub(crate) fn share() -> Share {
    Share::of(&context::Context::root("test"))
}

/// The table of the runtime with that index.
fn table(runtime: u16) -> Table {
    Table::new(Packed::new(runtime, 0, 0))
}

#[track_caller]
pub(crate) fn spawn<F: Future + 'static>(table: &Table, future: F) -> (Packed, Ticket<F::Output>) {
    let admission = table.admit().expect("open");
    admission.insert(future, share(), Location::caller(), || 5)
}

/// One turn of an executor in miniature: what was ready at the start, in order.
pub(crate) fn turn(table: &Table, waker: fn(Packed) -> Waker) {
    for _ in 0..table.queue().len() {
        match table.next(|polling| poll(polling, waker)) {
            Some(Next::Aborted(polling)) => cancel(polling),
            Some(Next::Polled | Next::Bare { .. } | Next::Stale) | None => {}
        }
    }
}

fn poll(mut polling: Polling<'_>, waker: fn(Packed) -> Waker) {
    let waker = waker(polling.handle());
    let (_, mut contents) = polling.split();
    let polled = contents.poll(&mut Context::from_waker(&waker));
    if polled.is_pending() {
        return polling.suspend();
    }
    if let Some(payload) = polled.into_panic() {
        let _second = guarded(|| contents.discard());
        contents.fail(JoinFailure::Panicked(payload, "".into()));
    }
    finish(polling);
}

pub(crate) fn cancel(mut polling: Polling<'_>) {
    let (_, mut contents) = polling.split();
    let failure = guarded(|| contents.discard()).err().unwrap_or(JoinFailure::Cancelled);
    contents.fail(failure);
    finish(polling);
}

fn finish(polling: Polling<'_>) {
    match polling.finish() {
        Finished::Awaited { joiner, .. } => {
            if let Some(Joiner::Foreign(joiner)) = joiner {
                let _panic = guarded(|| joiner.wake());
            }
        }
        Finished::Unwanted(mut rest) => {
            let _panic = guarded(|| rest.split().1.discard());
        }
    }
}

fn guarded<R>(f: impl FnOnce() -> R) -> Result<R, JoinFailure> {
    catch_unwind(AssertUnwindSafe(f)).map_err(|payload| JoinFailure::Panicked(payload, "".into()))
}

fn noop(_: Packed) -> Waker {
    Waker::noop().clone()
}

/// Whether that queued it.
fn wake(table: &Table, handle: Packed) -> bool {
    let before = table.queue().len();
    table.queue().schedule(handle, || 7);
    table.queue().len() > before
}

/// Unwinds without the noise of the panic hook.
fn explode(what: &'static str) -> ! {
    resume_unwind(Box::new(what))
}

/// Counts its drop, and panics in it if told so.
struct Probe {
    drops: Rc<Cell<u32>>,
    explodes: bool,
}

impl Probe {
    fn new(explodes: bool) -> (Probe, Rc<Cell<u32>>) {
        let drops = Rc::new(Cell::new(0));
        (Probe { drops: drops.clone(), explodes }, drops)
    }
}

impl Drop for Probe {
    fn drop(&mut self) {
        self.drops.set(self.drops.get() + 1);
        // Two fields of one future that both explode: that abort is the user's own.
        if self.explodes && !std::thread::panicking() {
            explode("drop");
        }
    }
}

fn shut_down(table: &Table) {
    table.close();
    while let Some(polling) = table.seize() {
        cancel(polling);
    }
}

/// The future's destructor panics when the output exists already: were the output dropped by that unwinding, its own panic
/// would abort the process.
#[test]
fn trap_16_an_output_is_not_dropped_while_its_future_unwinds() {
    struct Sober(Rc<Cell<u32>>);
    impl Drop for Sober {
        fn drop(&mut self) {
            self.0.set(self.0.get() + 1);
            assert!(!std::thread::panicking());
            explode("output");
        }
    }
    struct Ready(Option<Sober>, #[allow(dead_code, reason = "for its drop")] Probe);
    impl Future for Ready {
        type Output = Sober;
        fn poll(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Sober> {
            Poll::Ready(self.0.take().expect("once"))
        }
    }
    let table = table(0);
    let (probe, future_drops) = Probe::new(true);
    let output_drops = Rc::new(Cell::new(0));
    let (packed, ticket) = spawn(&table, Ready(Some(Sober(output_drops.clone())), probe));
    turn(&table, noop);
    assert_eq!((future_drops.get(), output_drops.get()), (1, 1));
    let joined = table.poll_join(packed, &ticket, None, Waker::noop());
    assert!(matches!(joined, Joined::Done(Err(JoinFailure::Panicked(..)))));
}

#[test]
fn a_panic_in_poll_reaches_the_handle_with_its_payload() {
    let table = table(0);
    let (packed, ticket) = spawn(&table, poll_fn(|_| -> Poll<u8> { explode("boom") }));
    turn(&table, noop);
    let Joined::Done(Err(JoinFailure::Panicked(payload, _))) =
        table.poll_join(packed, &ticket, None, Waker::noop())
    else {
        panic!("no payload")
    };
    assert_eq!(payload.downcast_ref(), Some(&"boom"));
    assert_eq!(table.len(), 0);
}

#[test]
fn a_table_dropped_as_it_is_drops_everything_whatever_explodes() {
    let table = table(0);
    let drops: Vec<_> = (0..4)
        .map(|n| {
            let (probe, drops) = Probe::new(n % 2 == 0);
            let _handle_kept = spawn(&table, async move {
                let probe = probe;
                if n < 2 { probe } else { pending().await }
            });
            drops
        })
        .collect();
    turn(&table, noop);
    drop(table);
    assert!(drops.iter().all(|drops| drops.get() == 1));
}

#[test]
fn an_unwind_through_the_executor_leaves_the_task_in_the_table() {
    let table = table(0);
    let (packed, ticket) = spawn(&table, poll_fn(|_| -> Poll<()> { explode("poll") }));
    let unwound = guarded(|| {
        table.next(|mut polling| {
            let caught = polling.split().1.poll(&mut Context::from_waker(Waker::noop()));
            assert!(caught.into_panic().is_some());
            explode("executor");
        })
    });
    assert!(unwound.is_err());
    assert!(!table.is_finished(packed, ticket.id()));
    assert!(table.abort(packed, ticket.id(), || 0));
    let unwound = guarded(|| {
        let Some(Next::Aborted(mut polling)) = table.next(|_| unreachable!()) else { unreachable!() };
        polling.split().1.discard();
        explode("executor");
    });
    assert!(unwound.is_err());
    assert!(matches!(
        table.poll_join(packed, &ticket, None, Waker::noop()),
        Joined::Done(Err(JoinFailure::Cancelled))
    ));
}

#[test]
fn trap_05_finished_tasks_free_their_slots_and_steady_state_allocates_nothing() {
    let table = table(0);
    let one_round = || {
        for n in 0..100_u64 {
            let (packed, ticket) = spawn(&table, async move { n });
            if n % 2 == 0 {
                table.detach(packed, ticket.id());
            }
            turn(&table, noop);
            if n % 2 == 1 {
                let joined = table.poll_join(packed, &ticket, None, Waker::noop());
                assert!(matches!(joined, Joined::Done(Ok(m)) if m == n));
            }
            assert_eq!(table.len(), 0);
        }
    };
    one_round();
    let refills = table.refills();
    one_round();
    if TASK_KEPT_MAX == 0 {
        assert_eq!(table.refills(), 2 * refills, "each task takes a block of its own");
    } else {
        assert!(refills <= 1, "one task at a time takes one block: {refills}");
        assert_eq!(table.refills(), refills);
    }
}

#[test]
fn memory_is_reused_within_its_size_class_only() {
    let table = table(0);
    let mut fresh = Vec::new();
    for bytes in [16, 400, 8000, 16, 400, 8000] {
        let before = table.refills();
        let (packed, id) = match bytes {
            16 => ends(spawn(&table, hold([0_u8; 16]))),
            400 => ends(spawn(&table, hold([0_u8; 400]))),
            _ => ends(spawn(&table, hold([0_u8; 8000]))),
        };
        table.detach(packed, id);
        turn(&table, noop);
        fresh.push(table.refills() - before);
    }
    let again = u64::from(TASK_KEPT_MAX == 0);
    assert_eq!(fresh, [1, 1, 1, again, again, 1], "big ones go straight to the allocator");
}

async fn hold<T>(value: T) {
    std::hint::black_box(&value);
}

fn ends<T>((packed, ticket): (Packed, Ticket<T>)) -> (Packed, u64) {
    (packed, ticket.id())
}

/// A waker that counts, and may explode.
struct Bell {
    rung: AtomicU32,
    explodes: bool,
}

impl Wake for Bell {
    fn wake(self: Arc<Self>) {
        self.rung.fetch_add(1, Ordering::Relaxed);
        if self.explodes {
            explode("wake");
        }
    }
}

#[test]
fn trap_16_a_joiner_that_explodes_does_not_hurt_the_task() {
    let table = table(0);
    let bell = Arc::new(Bell { rung: AtomicU32::new(0), explodes: true });
    let (packed, ticket) = spawn(&table, async { 3 });
    assert!(matches!(table.poll_join(packed, &ticket, None, &bell.clone().into()), Joined::Pending));
    turn(&table, noop);
    assert_eq!(bell.rung.load(Ordering::Relaxed), 1);
    assert!(matches!(table.poll_join(packed, &ticket, None, Waker::noop()), Joined::Done(Ok(3))));
}

#[test]
fn the_last_joiner_is_the_one_that_is_woken() {
    let table = table(0);
    let bells = [(); 2].map(|()| Arc::new(Bell { rung: AtomicU32::new(0), explodes: false }));
    let (packed, ticket) = spawn(&table, async {});
    for bell in &bells {
        for _ in 0..2 {
            assert!(matches!(table.poll_join(packed, &ticket, None, &bell.clone().into()), Joined::Pending));
        }
    }
    turn(&table, noop);
    assert_eq!(bells.each_ref().map(|bell| bell.rung.load(Ordering::Relaxed)), [0, 1]);
    table.detach(packed, ticket.id());
    assert!(bells.iter().all(|bell| Arc::strong_count(bell) == 1), "no joiner is left behind");
}

#[test]
fn a_task_that_joins_itself_waits_quietly_and_can_be_shut_down() {
    let table = Rc::new(table(0));
    let own: Rc<RefCell<Option<Spawned>>> = Rc::default();
    let (inner, ticket) = (table.clone(), own.clone());
    let spawned = spawn(
        &table,
        poll_fn(move |cx| {
            let own = ticket.borrow();
            let (packed, ticket) = own.as_ref().unwrap();
            assert!(matches!(inner.poll_join(*packed, ticket, None, cx.waker()), Joined::Pending));
            Poll::<()>::Pending
        }),
    );
    *own.borrow_mut() = Some(spawned);
    turn(&table, noop);
    assert_eq!(table.queue().len(), 0);
    shut_down(&table);
    assert_eq!(Rc::strong_count(&table), 1);
}

#[test]
fn a_poll_may_spawn_thousands() {
    let table = Rc::new(table(0));
    let (inner, done) = (table.clone(), Rc::new(Cell::new(0)));
    let count = done.clone();
    let (packed, ticket) = spawn(&table, async move {
        for _ in 0..5_000 {
            let count = count.clone();
            let (packed, ticket) = spawn(&inner, async move { count.set(count.get() + 1) });
            inner.detach(packed, ticket.id());
        }
    });
    table.detach(packed, ticket.id());
    turn(&table, noop);
    assert_eq!((table.len(), done.get()), (5_000, 0), "what is spawned in a turn waits for the next");
    turn(&table, noop);
    assert_eq!((table.len(), done.get()), (0, 5_000));
}

#[test]
fn trap_11_aborting_and_waking_drop_nothing_by_themselves() {
    let table = table(0);
    let (probe, drops) = Probe::new(false);
    let (packed, ticket) = spawn(&table, async move {
        let _probe = probe;
        pending::<()>().await
    });
    turn(&table, noop);
    assert!(table.abort(packed, ticket.id(), || 0));
    assert!(!wake(&table, packed), "it is queued already");
    assert!(table.abort(packed, ticket.id(), || 0), "twice is once");
    assert_eq!(drops.get(), 0);
    turn(&table, noop);
    assert_eq!(drops.get(), 1);
    assert!(!table.abort(packed, ticket.id(), || 0), "too late");
    assert!(matches!(
        table.poll_join(packed, &ticket, None, Waker::noop()),
        Joined::Done(Err(JoinFailure::Cancelled))
    ));
}

/// Destructors which wake each other, abort each other and want to spawn: shutdown ends.
#[test]
fn trap_14_17_shutdown_ends_although_destructors_spawn_and_wake() {
    struct Restless {
        table: Rc<Table>,
        others: Rc<RefCell<Vec<Spawned>>>,
        refused: Rc<Cell<u32>>,
    }
    impl Drop for Restless {
        fn drop(&mut self) {
            for (packed, ticket) in self.others.borrow().iter() {
                wake(&self.table, *packed);
                self.table.abort(*packed, ticket.id(), || 0);
            }
            assert_eq!(self.table.admit().err(), Some(Refused::Closing));
            self.refused.set(self.refused.get() + 1);
        }
    }
    let (table, others, refused) = (Rc::new(table(0)), Rc::default(), Rc::new(Cell::new(0)));
    for _ in 0..10 {
        let restless =
            Restless { table: table.clone(), others: Rc::clone(&others), refused: refused.clone() };
        let spawned = spawn(&table, async move {
            let _restless = restless;
            pending::<()>().await
        });
        others.borrow_mut().push(spawned);
    }
    turn(&table, noop);
    shut_down(&table);
    assert_eq!(refused.get(), 10);
    turn(&table, noop);
    assert_eq!(table.queue().len(), 0);
    others.borrow_mut().drain(..).for_each(|(packed, ticket)| drop(table.detach(packed, ticket.id())));
    assert_eq!(table.len(), 0);
}

#[test]
fn trap_24_a_handle_that_outlives_2_to_the_24_reuses_is_a_spurious_wake_only() {
    let table = table(0);
    let (old, ticket) = spawn(&table, async { 1_u8 });
    table.detach(old, ticket.id());
    turn(&table, noop);
    assert!(!wake(&table, old), "stale");

    // As if the slot had been reused 2^24 - 2 times more.
    let slot = table.queue().slots.get(old.slot()).unwrap();
    slot.handle.set(Packed::new(0, GENERATION_MAX, old.slot()));
    let (last, last_ticket) = spawn(&table, async { [1_u64; 4] });
    assert_eq!((last.slot(), last.generation()), (old.slot(), GENERATION_MAX));
    table.detach(last, last_ticket.id());
    turn(&table, noop);

    let (new, new_ticket) = spawn(&table, async { [7_u64; 9] });
    assert_eq!(new, old, "the handle has come round again");
    turn(&table, noop);
    assert!(
        matches!(table.poll_join(old, &ticket, None, Waker::noop()), Joined::Gone),
        "but the ticket has not"
    );
    table.detach(old, ticket.id());
    assert!(!table.abort(old, ticket.id(), || 0));
    let joined = table.poll_join(new, &new_ticket, None, Waker::noop());
    assert!(matches!(joined, Joined::Done(Ok([7, ..]))));
}

#[test]
fn trap_08_a_ticket_of_another_table_fits_nothing() {
    let (one, two) = (table(3), table(3));
    let (packed, ticket) = spawn(&one, async { String::from("one") });
    let (same, other) = spawn(&two, async { 2_u8 });
    assert_eq!(packed, same, "an index reused, as after a runtime's end");
    turn(&two, noop);
    assert!(matches!(two.poll_join(packed, &ticket, None, Waker::noop()), Joined::Gone));
    two.detach(packed, ticket.id());
    assert!(matches!(two.poll_join(same, &other, None, Waker::noop()), Joined::Done(Ok(2))));
}

#[test]
fn a_finished_task_gives_up_its_context_before_its_handle_ends() {
    let table = table(0);
    let held = share();
    let context = held.context();
    let finished = std::sync::Arc::new(std::sync::atomic::AtomicBool::new(false));
    let seen = finished.clone();
    context.on_finish(move |_| seen.store(true, Relaxed));
    let (packed, ticket) = table.admit().ok().unwrap().insert(async {}, held, Location::caller(), || 0);
    drop(context);
    assert!(!finished.load(Relaxed), "the task holds it");
    turn(&table, noop);
    assert!(finished.load(Relaxed), "the last holder went, so it finished");
    assert!(matches!(table.poll_join(packed, &ticket, None, Waker::noop()), Joined::Done(Ok(()))));
}

#[test]
fn a_bare_slot_is_woken_and_given_back() {
    let table = table(9);
    let bare = table.reserve(33);
    assert_eq!(bare.runtime(), 9);
    assert!(table.next(|_| unreachable!()).is_none(), "not queued by itself");
    assert!(wake(&table, bare) && !wake(&table, bare));
    assert!(matches!(table.next(|_| unreachable!()), Some(Next::Bare { woken: 7 })));
    wake(&table, bare);
    table.close();
    assert!(table.seize().is_none(), "it has no task to drop");
    table.unreserve(bare);
    assert!(matches!(table.next(|_| unreachable!()), Some(Next::Stale)));
    assert_eq!((table.len(), wake(&table, bare)), (0, false));
}
