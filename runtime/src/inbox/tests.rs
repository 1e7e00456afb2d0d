use super::*;
use std::thread;

fn inbox() -> (mio::Poll, Inbox) {
    let poll = mio::Poll::new().unwrap();
    let notifier = mio::Waker::new(poll.registry(), mio::Token(0)).unwrap();
    let inbox = Inbox::new(notifier).unwrap();
    // What late wakers of other tests left for the runtime that had the endpoint before.
    while inbox.is_waiting() {
        inbox.take_wakes(|_, _| ());
        while inbox.next_message().is_some() {}
    }
    (poll, inbox)
}

/// The slots of the wakes that one look takes.
fn look(inbox: &Inbox) -> Vec<(u32, u64)> {
    let mut all = Vec::new();
    inbox.take_wakes(|woken, stamp| {
        let Woken::Task(task) = woken else { panic!("{woken:?}") };
        assert_eq!((task.runtime(), task.generation()), (inbox.id().index(), 7));
        all.push((task.slot(), stamp));
    });
    all
}

fn task(inbox: &Inbox, slot: u32) -> Packed {
    Packed::new(inbox.id().index(), 7, slot)
}

#[test]
fn wakes_and_messages_are_waiting_until_they_are_taken() {
    let (_poll, inbox) = inbox();
    assert!(!inbox.is_waiting() && inbox.fall_asleep());
    let (told, hear) = std::sync::mpsc::channel();
    for n in 0..3 {
        let told = told.clone();
        assert!(inbox.remote().send(Box::new(move || told.send(n).unwrap())).is_ok());
        wake(task(&inbox, n), || u64::from(n) + 40);
    }
    assert!(inbox.is_waiting() && !inbox.fall_asleep());
    assert_eq!(look(&inbox), [(0, 40), (1, 41), (2, 42)]);
    assert!(inbox.is_waiting() && !inbox.fall_asleep(), "the messages are left");
    while let Some(message) = inbox.next_message() {
        message();
    }
    assert_eq!(hear.try_iter().collect::<Vec<_>>(), [0, 1, 2]);
    assert!(!inbox.is_waiting() && inbox.fall_asleep());
}

#[test]
fn a_message_to_a_runtime_that_is_gone_comes_back() {
    let (_poll, inbox) = inbox();
    let (remote, id) = (inbox.remote().clone(), inbox.id());
    assert!(is_alive(id));
    assert!(send(id, Box::new(|| ())).is_ok());
    drop(inbox);
    assert!(remote.send(Box::new(|| ())).is_err());
    assert!(send(id, Box::new(|| ())).is_err() && !is_alive(id));
}

/// The runtime that has the index now is not the one that is meant.
#[test]
fn r3_a_message_to_a_runtime_whose_index_lives_on_comes_back() {
    let (_poll, dead) = inbox();
    let id = dead.id();
    drop(dead);
    let successor = loop {
        let next = inbox();
        if next.1.id().index() == id.index() {
            break next.1;
        }
    };
    assert_ne!(successor.id(), id);
    assert!(send(id, Box::new(|| unreachable!())).is_err() && !is_alive(id) && is_alive(successor.id()));
    // A wake reaches it: it is for a generation that its tasks do not have.
    wake(Packed::new(id.index(), id.first_handle().generation(), 0), || 0);
    let mut found = Vec::new();
    successor.take_wakes(|woken, _| found.push(woken));
    assert_eq!(found, [Woken::Task(id.first_handle())]);
    assert_ne!(id.first_handle(), successor.id().first_handle());
}

#[test]
fn p29_a_flood_of_wakes_is_taken_in_shares_and_its_memory_is_bounded_by_the_tasks() {
    const TASKS: u32 = 10_000;
    let (_poll, inbox) = inbox();
    let flood = || (0..10 * TASKS).for_each(|n| wake(task(&inbox, n % TASKS), || 1));
    flood();
    let (mut taken, mut looks) = (Vec::new(), 0);
    while taken.len() < TASKS as usize {
        assert!(inbox.is_waiting() && !inbox.fall_asleep());
        let share = look(&inbox);
        assert!(share.len() <= STEPS_PER_LOOK as usize);
        taken.extend(share.into_iter().map(|(slot, _)| slot));
        looks += 1;
        assert!(looks <= 2 * TASKS / STEPS_PER_LOOK + 1, "{looks}");
    }
    assert_eq!(taken, (0..TASKS).collect::<Vec<_>>());
    assert!(look(&inbox).is_empty());
}

#[test]
fn r3_the_end_of_a_runtime_in_the_middle_of_a_list_leaves_nothing_pending() {
    let (_poll, inbox) = inbox();
    (0..1_000).for_each(|slot| wake(task(&inbox, slot), || 1));
    assert!(look(&inbox).is_empty(), "the list is being turned round");
    let endpoint = inbox.registration.endpoint;
    drop(inbox);
    assert!((0..1_000).all(|slot| !endpoint.cells.is_pending(slot)));
}

/// With real threads and a real poll, which would hang if a wake were lost.
#[test]
fn trap_03_threads_that_wake_and_send_reach_a_loop_that_sleeps() {
    const EACH: u32 = 5_000;
    let (mut poll, inbox) = inbox();
    let mut events = mio::Events::with_capacity(4);
    let seen = [const { std::sync::atomic::AtomicU32::new(0) }; 3];
    let mut polled = [0; 3];
    thread::scope(|scope| {
        for (slot, seen) in [0, 1].into_iter().zip(&seen) {
            let task = task(&inbox, slot);
            scope.spawn(move || {
                for n in 1..=EACH {
                    // What is written before a wake is seen by the poll that follows it.
                    seen.store(n, std::sync::atomic::Ordering::Relaxed);
                    wake(task, || 1);
                }
            });
        }
        let (remote, sent) = (inbox.remote().clone(), &seen[2]);
        scope.spawn(move || {
            for n in 1..=EACH {
                sent.store(n, std::sync::atomic::Ordering::Relaxed);
                assert!(remote.send(Box::new(|| ())).is_ok());
            }
        });
        let mut messages = 0;
        while polled != [EACH; 3] || messages < EACH {
            if inbox.fall_asleep() {
                poll.poll(&mut events, None).unwrap();
            }
            for (slot, _) in look(&inbox) {
                polled[slot as usize] = seen[slot as usize].load(std::sync::atomic::Ordering::Relaxed);
            }
            while let Some(message) = inbox.next_message() {
                message();
                messages += 1;
                polled[2] = seen[2].load(std::sync::atomic::Ordering::Relaxed);
            }
        }
    });
    assert!(inbox.last_message().is_none());
}
