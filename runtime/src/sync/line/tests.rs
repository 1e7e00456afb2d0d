//! The lines against a model that is too simple to be wrong, by random operations.

use super::*;
use std::collections::VecDeque;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::Wake;

/// A pseudo-random sequence (xorshift*).
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: usize) -> usize {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 33) as usize % sides
    }
}

#[derive(Default)]
struct Bell(AtomicBool);

impl Wake for Bell {
    fn wake(self: Arc<Self>) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// One who queued: what we have of it, and what the model says.
struct Person {
    name: usize,
    takes: u32,
    bell: Arc<Bell>,
    ours: Ours,
}

enum Ours {
    Waiting(Pin<Box<Turn<u8>>>),
    Holding { _guard: KeyGuard<u8> },
}

impl Person {
    fn poll(&mut self) {
        let Ours::Waiting(turn) = &mut self.ours else { return };
        self.bell.0.store(false, Ordering::Relaxed);
        let waker = Waker::from(self.bell.clone());
        if let Poll::Ready(guard) = turn.as_mut().poll(&mut task::Context::from_waker(&waker)) {
            self.ours = Ours::Holding { _guard: guard };
        }
    }

    fn holds(&self) -> bool {
        matches!(self.ours, Ours::Holding { .. })
    }
}

/// Names in the order of their coming, and how much they take: whoever fits from the front is inside.
struct Model {
    capacity: u32,
    line: VecDeque<(usize, u32)>,
    inside: Vec<(usize, u32)>,
}

impl Model {
    fn admit(&mut self) {
        while let Some((name, takes)) = self.line.front().copied() {
            let taken: u64 = self.inside.iter().map(|(_, takes)| u64::from(*takes)).sum();
            if taken + u64::from(takes) > u64::from(self.capacity) {
                return;
            }
            self.line.pop_front();
            self.inside.push((name, takes));
        }
    }

    fn leave(&mut self, name: usize) {
        self.line.retain(|(other, _)| *other != name);
        self.inside.retain(|(other, _)| *other != name);
        self.admit();
    }

    fn is_inside(&self, name: usize) -> bool {
        self.inside.iter().any(|(other, _)| *other == name)
    }
}

/// Queue, poll, drop - in any order, with polls delayed after the hand-off.
fn interleave(seed: u64, capacity: u32) {
    let mut dice = Dice(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1);
    let lines = Lines::new("test", capacity);
    let mut models = [(); 2].map(|()| Model { capacity, line: VecDeque::new(), inside: Vec::new() });
    let mut people: Vec<(u8, Person)> = Vec::new();
    for name in 0..120 {
        match dice.roll(5) {
            0 | 1 => {
                let key = dice.roll(2) as u8;
                let takes = if dice.roll(3) == 0 { capacity } else { 1 };
                let turn = Box::pin(lines.turn(key, takes, Location::caller()));
                let mut person = Person { name, takes, bell: Arc::default(), ours: Ours::Waiting(turn) };
                person.poll();
                models[usize::from(key)].line.push_back((name, person.takes));
                models[usize::from(key)].admit();
                people.push((key, person));
            }
            2 | 3 if !people.is_empty() => {
                let index = dice.roll(people.len());
                people[index].1.poll();
            }
            _ if !people.is_empty() => {
                let index = dice.roll(people.len());
                let (key, person) = people.swap_remove(index);
                let name = person.name;
                drop(person);
                models[usize::from(key)].leave(name);
            }
            _ => {}
        }
        check(seed, &lines, &models, &people);
    }
    drop(people);
    assert_eq!(lines.keys(), 0, "seed {seed}: a key was left behind");
}

fn check(seed: u64, lines: &Lines<u8>, models: &[Model; 2], people: &[(u8, Person)]) {
    for (key, person) in people {
        let model = &models[usize::from(*key)];
        let rung = person.bell.0.load(Ordering::Relaxed);
        // Whoever is inside by the model holds the key, or was woken to take it; nobody else does or was.
        assert_eq!(
            person.holds() || rung,
            model.is_inside(person.name),
            "seed {seed}: {} of key {key}",
            person.name
        );
    }
    for (key, model) in (0u8..).zip(models) {
        assert_eq!(lines.holders(&key).len(), model.inside.len(), "seed {seed}");
        assert_eq!(lines.waiters(&key).len(), model.line.len(), "seed {seed}");
        assert_eq!(lines.is_queued(&key), !model.line.is_empty(), "seed {seed}");
    }
    let used = models.iter().filter(|model| !model.inside.is_empty()).count();
    assert_eq!(lines.keys(), used, "seed {seed}");
}

#[test]
fn n06_w06_no_hand_off_is_lost_in_any_interleaving() {
    for seed in 0..1_000 {
        interleave(seed, [1, 2, 3, u32::MAX][seed as usize % 4]);
    }
}

/// Tasks that queue, hold across some polls and leave, in a shuffled run queue, while others of them are aborted.
async fn crowd(seed: u64, max: u32) {
    let mut dice = Dice(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1);
    let lines = Lines::<u8>::new("test", max);
    let inside = std::rc::Rc::new(std::cell::Cell::new(0));
    struct Inside(std::rc::Rc<std::cell::Cell<u32>>, u32);
    impl Drop for Inside {
        fn drop(&mut self) {
            self.0.set(self.0.get() - self.1);
        }
    }
    let mut tasks = Vec::new();
    for _ in 0..30 {
        let takes = if dice.roll(4) == 0 { max } else { 1 };
        let (turn, stay, inside) = (lines.turn(0, takes, Location::caller()), dice.roll(4), inside.clone());
        tasks.push(super::super::trace::task("one", async move {
            let guard = turn.await;
            inside.set(inside.get() + takes);
            assert!(inside.get() <= max, "too many at a time");
            let _here = (Inside(inside, takes), guard);
            for _ in 0..stay {
                crate::yield_now().await;
            }
        }));
        if dice.roll(2) == 0 {
            tasks[dice.roll(tasks.len())].abort();
        }
        if dice.roll(3) == 0 {
            crate::yield_now().await;
        }
    }
    for task in tasks {
        assert!(task.await.err().is_none_or(|error| error.is_cancelled()), "seed {seed}");
    }
    assert_eq!((lines.keys(), inside.get()), (0, 0), "seed {seed}");
}

#[test]
fn n05_n06_w03_tasks_in_any_order_with_aborts_all_get_their_turn() {
    for seed in 0..200 {
        let options = crate::testing::Options {
            name: "crowd",
            paused: true,
            seed: Some(seed),
            ..crate::testing::Options::default()
        };
        crate::testing::run(options, crowd(seed, 1 + seed as u32 % 3));
    }
}

/// A foreign waker that panics keeps nobody else asleep.
#[test]
fn trap_16_a_panicking_waker_does_not_stop_the_hand_off() {
    struct Bomb;
    impl Wake for Bomb {
        fn wake(self: Arc<Self>) {
            panic!("a waker")
        }
    }
    let lines = Lines::new("test", u32::MAX);
    let place = Location::caller();
    let poll =
        |turn: &mut Turn<u8>, waker: &Waker| Pin::new(turn).poll(&mut task::Context::from_waker(waker));
    let mut writer = lines.turn(0, u32::MAX, place);
    let Poll::Ready(guard) = poll(&mut writer, Waker::noop()) else { panic!("it is free") };
    let (mut one, mut two) = (lines.turn(0, 1, place), lines.turn(0, 1, place));
    let bell = Arc::new(Bell::default());
    assert!(poll(&mut one, &Waker::from(Arc::new(Bomb))).is_pending());
    assert!(poll(&mut two, &Waker::from(bell.clone())).is_pending());
    drop(guard);
    assert!(bell.0.load(Ordering::Relaxed));
}

/// A destructor of a waker may use the lock.
#[test]
fn trap_11_wakers_are_dropped_outside_the_lock() {
    struct Asks(Arc<Lines<u8>>);
    impl Wake for Asks {
        fn wake(self: Arc<Self>) {}
    }
    impl Drop for Asks {
        fn drop(&mut self) {
            self.0.keys();
        }
    }
    let lines = Lines::new("test", 1);
    let mut held = lines.turn(0, 1, Location::caller());
    let asks = || Waker::from(Arc::new(Asks(lines.clone())));
    let mut waits = lines.turn(0, 1, Location::caller());
    let poll = |turn: &mut Turn<u8>| Pin::new(turn).poll(&mut task::Context::from_waker(&asks()));
    let Poll::Ready(guard) = poll(&mut held) else { panic!("it is free") };
    assert!(poll(&mut waits).is_pending());
    assert!(poll(&mut waits).is_pending());
    drop(waits);
    drop(guard);
    assert_eq!(lines.keys(), 0);
}
