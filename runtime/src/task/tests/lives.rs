//! Every life of a task, by enumeration.

use super::*;

#[derive(Clone, Copy, PartialEq, Debug)]
enum Does {
    Complete,
    CompleteSecond,
    Panic,
    Pend,
}

#[derive(Clone, Copy, PartialEq, Debug)]
enum Ask {
    Nothing,
    AbortFirst,
    AbortIdle,
    AbortItself,
    Shutdown,
}

#[derive(Clone, Copy, PartialEq, Debug)]
enum Handle {
    DroppedFirst,
    DroppedInPoll,
    DroppedAfter,
    Joined,
    Outlives,
}

#[derive(Clone, Copy, PartialEq, Debug)]
enum Explodes {
    Nothing,
    Future,
    Output,
    Both,
}

/// Not `async`: the probe is dropped with the future, not before it is ready.
struct Subject {
    does: Does,
    polls: u32,
    table: Rc<Table>,
    in_poll: Rc<dyn Fn(&Table)>,
    output: Option<Probe>,
    _probe: Probe,
}

impl Future for Subject {
    type Output = Probe;

    fn poll(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Probe> {
        self.polls += 1;
        (self.in_poll)(&self.table);
        match self.does {
            Does::Panic => explode("poll"),
            Does::CompleteSecond if self.polls < 2 => Poll::Pending,
            Does::Complete | Does::CompleteSecond => Poll::Ready(self.output.take().expect("ready once")),
            Does::Pend => Poll::Pending,
        }
    }
}

fn every_case() -> impl Iterator<Item = (Does, Ask, Handle, Explodes)> {
    let does = [Does::Complete, Does::CompleteSecond, Does::Panic, Does::Pend];
    let ask = [Ask::Nothing, Ask::AbortFirst, Ask::AbortIdle, Ask::AbortItself, Ask::Shutdown];
    let handle =
        [Handle::DroppedFirst, Handle::DroppedInPoll, Handle::DroppedAfter, Handle::Joined, Handle::Outlives];
    let explodes = [Explodes::Nothing, Explodes::Future, Explodes::Output, Explodes::Both];
    (0..does.len() * ask.len() * handle.len() * explodes.len())
        .map(move |n| (does[n % 4], ask[n / 4 % 5], handle[n / 20 % 5], explodes[n / 100]))
}

#[test]
fn trap_16_everything_is_dropped_once_in_every_life() {
    every_case().for_each(|(does, ask, handle, explodes)| life(does, ask, handle, explodes));
}

fn life(does: Does, ask: Ask, handle: Handle, explodes: Explodes) {
    let case = format!("{does:?} {ask:?} {handle:?} {explodes:?}");
    let table = Rc::new(table(0));
    let (probe, future_drops) = Probe::new(matches!(explodes, Explodes::Future | Explodes::Both));
    let (output, output_drops) = Probe::new(matches!(explodes, Explodes::Output | Explodes::Both));
    let own: Rc<Cell<Option<(Packed, u64)>>> = Rc::default();
    let in_poll = {
        let own = own.clone();
        Rc::new(move |table: &Table| {
            let Some((packed, id)) = own.get() else { return };
            if ask == Ask::AbortItself {
                table.abort(packed, id, || 0);
            }
            if handle == Handle::DroppedInPoll {
                table.detach(packed, id);
            }
        })
    };
    let subject =
        Subject { does, polls: 0, table: table.clone(), in_poll, output: Some(output), _probe: probe };
    let (packed, ticket) = spawn(&table, subject);
    own.set(Some((packed, ticket.id())));

    live(&table, (packed, ticket.id()), ask, handle, &case);

    match handle {
        Handle::Joined => {
            let joined = table.poll_join(packed, &ticket, None, Waker::noop());
            let has_output = matches!(joined, Joined::Done(Ok(_)));
            let exploded = guarded(|| drop(joined)).is_err();
            assert_eq!(exploded, has_output && output_explodes(explodes), "{case}");
        }
        // In a poll that never came, now.
        Handle::DroppedAfter | Handle::DroppedInPoll => {
            let _panic = guarded(|| drop(table.detach(packed, ticket.id())));
        }
        _ => {}
    }

    let unfinished = !table.is_finished(packed, ticket.id());
    if future_drops.get() == 1 && handle != Handle::Outlives {
        assert_eq!(table.len(), 0, "the slot is back: {case}");
    }
    assert!(!unfinished || does == Does::Pend, "{case}");
    // The subject holds the table: a cycle, as long as it is pending.
    if future_drops.get() == 0 {
        shut_down(&table);
    }
    drop(own);
    assert_eq!(Rc::strong_count(&table), 1, "{case}");
    drop(table);
    assert_eq!((future_drops.get(), output_drops.get()), (1, 1), "{case}");
}

/// What is asked of the task, and when.
fn live(table: &Table, (packed, id): (Packed, u64), ask: Ask, handle: Handle, case: &str) {
    if handle == Handle::DroppedFirst {
        table.detach(packed, id);
    }
    if ask == Ask::AbortFirst {
        let in_time = table.abort(packed, id, || 0);
        assert_eq!(in_time, handle != Handle::DroppedFirst, "{case}");
    }
    turn(table, noop);
    if ask == Ask::AbortIdle {
        table.abort(packed, id, || 0);
    }
    wake(table, packed);
    turn(table, noop);
    turn(table, noop);
    if ask == Ask::Shutdown {
        shut_down(table);
        turn(table, noop);
    }
}

fn output_explodes(explodes: Explodes) -> bool {
    matches!(explodes, Explodes::Output | Explodes::Both)
}
