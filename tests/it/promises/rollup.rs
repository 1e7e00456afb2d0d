//! P8: charges go to the node itself; a closed child is folded into its parent once.

use crate::books::{lives, manual_runtime, ns, on_manual_clock, on_own_thread, pass, work};
use context::{Context, Usage};
use runtime::yield_now;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::thread;

fn cpu(context: &Context) -> (u64, u64) {
    (context.own_usage().cpu.as_nanos() as u64, context.usage().cpu.as_nanos() as u64)
}

#[test]
fn p08_own_and_total_at_every_height_of_the_tree() {
    on_manual_clock(|| {
        let root = Context::root("p08 root");
        let child = root.child("p08 child");
        let (leaf, sibling) = (child.child("p08 leaf"), root.child("p08 sibling"));
        for (context, cost) in [(&root, 1), (&child, 10), (&leaf, 100), (&sibling, 1_000)] {
            context.scope(|| pass(cost));
        }
        assert_eq!(
            [&root, &child, &leaf, &sibling].map(cpu),
            [(1, 1_111), (10, 110), (100, 100), (1_000, 1_000)]
        );
    });
}

#[test]
fn p08_a_child_that_is_gone_is_folded_into_its_parent_once() {
    on_manual_clock(|| {
        let root = Context::root("p08 root");
        let child = root.child("p08 child");
        let leaf = child.child("p08 leaf");
        leaf.scope(|| pass(100));
        child.scope(|| pass(10));
        let (child_id, leaf_id) = (child.id(), leaf.id());
        drop(child);
        assert!(lives(child_id), "its child holds it");
        assert_eq!(cpu(&root), (0, 110));
        drop(leaf);
        assert!(!lives(child_id) && !lives(leaf_id));
        assert_eq!(cpu(&root), (0, 110));
        assert_eq!(root.finish().cpu, ns(110));
        assert_eq!(cpu(&root), (0, 110));
    });
}

#[test]
fn p08_every_field_is_rolled_up() {
    on_manual_clock(|| {
        let root = Context::root("p08 root");
        let child = root.child("p08 child");
        let mut usage = Usage::default();
        usage.polls = 2;
        usage.queued = ns(3);
        usage.blocked = ns(4);
        usage.late_cpu = ns(5);
        usage.blocking.jobs = 6;
        usage.blocking.queued = ns(7);
        usage.blocking.running = ns(8);
        usage.db.transactions = 9;
        usage.db.in_transaction = ns(10);
        usage.db.waiting = ns(11);
        usage.db.rows = 12;
        child.charge(usage);
        assert_eq!((root.own_usage(), root.usage()), (Usage::default(), usage));
        drop(child);
        assert_eq!((root.own_usage(), root.usage()), (Usage::default(), usage));
    });
}

#[test]
fn p08_the_running_slice_is_included() {
    on_manual_clock(|| {
        manual_runtime().block_on(async {
            let root = Context::root("p08 root");
            let part = root.child("p08 part");
            let (outer, inner) = (root.clone(), part.clone());
            let live = part.run(async move {
                pass(5);
                assert_eq!((cpu(&inner), cpu(&outer)), ((5, 5), (0, 5)));
                pass(5);
                assert_eq!((cpu(&inner), cpu(&outer)), ((10, 10), (0, 10)));
                yield_now().await;
                assert_eq!(cpu(&outer), (0, 10));
            });
            live.await;
        });
    });
}

#[test]
fn p08_the_running_slice_shows_in_the_class_and_in_the_list_of_the_living() {
    on_manual_clock(|| {
        let class = || context::classes().into_iter().find(|class| class.class == "p08 listed").unwrap();
        let context = Context::root("p08 listed");
        context.scope(|| {
            pass(9);
            assert_eq!((class().own.cpu, class().opened, class().open), (ns(9), 1, 1));
            let live = context::live().into_iter().find(|snapshot| snapshot.id == context.id()).unwrap();
            assert_eq!((live.own.cpu, live.finished, live.parent), (ns(9), false, None));
            assert_eq!((live.name, live.class), (context.to_string(), "p08 listed"));
        });
        assert_eq!(class().total, Usage::default(), "only of those that are gone");
        drop(context);
        assert_eq!((class().own.cpu, class().total.cpu, class().open), (ns(9), ns(9), 0));
    });
}

/// A context works on one thread, in slices of all lengths, until another has read it often enough.
#[test]
fn p08_usage_read_from_another_thread_never_decreases_and_is_never_torn() {
    let root = Context::root("p08 root");
    let child = root.child("p08 child");
    let done = AtomicBool::new(false);
    thread::scope(|scope| {
        scope.spawn(|| {
            for n in 0_u64.. {
                child.scope(|| work(n % 40 * 50));
                if done.load(Relaxed) {
                    break;
                }
            }
        });
        let mut last = (Usage::default(), Usage::default());
        for reading in 0.. {
            let now = (child.own_usage(), root.usage());
            for (before, after) in [(last.0, now.0), (last.1, now.1)] {
                assert_eq!(before - after, Usage::default(), "{before:?} {after:?}");
                // A torn value would be off by 2^32 ns or so.
                assert!(after.cpu < std::time::Duration::from_secs(60), "{after:?}");
            }
            last = now;
            if reading > 1_000 && now.0.cpu > ns(10_000_000) {
                break;
            }
        }
        done.store(true, Relaxed);
    });
}

/// The slice is not over, and nobody but the reader reads.
#[test]
fn p08_the_running_slice_of_another_thread_is_included() {
    let request = Context::root("p08 running");
    let done = AtomicBool::new(false);
    thread::scope(|scope| {
        scope.spawn(|| {
            request.scope(|| {
                while !done.load(Relaxed) {
                    work(1_000);
                }
            });
        });
        let mut last = ns(0);
        for _ in 0..5 {
            while request.own_usage().cpu <= last {
                thread::yield_now();
            }
            last = request.own_usage().cpu;
        }
        done.store(true, Relaxed);
    });
}

#[test]
fn p08_the_tree_may_be_deep() {
    on_own_thread(|| {
        let root = Context::root("p08 root");
        let mut deepest = root.clone();
        for _ in 0..100_000 {
            deepest = deepest.child("p08 deep");
        }
        deepest.scope(|| work(1_000));
        assert!(root.usage().cpu >= deepest.own_usage().cpu);
        root.cancel(context::Reason::Disconnected);
        assert_eq!(deepest.cancel_reason(), Some(context::Reason::Disconnected));
        let spent = deepest.own_usage().cpu;
        drop(deepest);
        assert!(root.usage().cpu >= spent && !spent.is_zero());
    });
}

#[test]
fn p08_the_total_is_never_less_than_own_and_children_while_children_come_and_go() {
    let root = Context::root("p08 root");
    let done = AtomicBool::new(false);
    // The sum of what the children had in the end.
    let breed = || {
        let mut sum = ns(0);
        for _ in 0..500 {
            let child = root.child("p08 child");
            child.scope(|| work(100));
            sum += child.own_usage().cpu;
            drop(child);
            assert!(root.usage().cpu >= sum);
        }
        done.store(true, Relaxed);
        sum
    };
    let sum = thread::scope(|scope| {
        let breeders = [scope.spawn(breed), scope.spawn(breed)];
        let mut last = root.usage().cpu;
        while !done.load(Relaxed) {
            let now = root.usage().cpu;
            assert!(now >= last);
            last = now;
        }
        breeders.map(|breeder| breeder.join().unwrap()).into_iter().sum::<std::time::Duration>()
    });
    // What was read of a running slice may have been some nanoseconds more.
    let total = root.usage().cpu;
    assert!(total >= sum && total <= sum + sum / 100 && !sum.is_zero(), "{total:?} of {sum:?}");
}

/// In whatever way two threads share a child and its end.
#[test]
fn p08_a_child_that_ends_on_another_thread_is_folded_into_its_parent() {
    on_manual_clock(|| {
        let root = Context::root("p08 root");
        let made_here = root.child("p08 child");
        made_here.scope(|| pass(1));
        let id = made_here.id();
        let root_there = root.clone();
        let made_there = on_manual_clock(move || {
            made_here.scope(|| pass(10));
            drop(made_here);
            let (made_there, gone) = (root_there.child("p08 child"), root_there.child("p08 child"));
            made_there.scope(|| pass(100));
            gone.scope(|| pass(1_000));
            made_there
        });
        assert!(!lives(id));
        assert_eq!(cpu(&root), (0, 1_111));
        drop(made_there);
        assert_eq!((cpu(&root), root.finish().cpu), ((0, 1_111), ns(1_111)));
    });
}

/// What polls write, and what they do not, each kind alone and both.
#[test]
fn p08_a_new_context_has_nothing_of_the_one_whose_memory_it_has() {
    on_manual_clock(|| {
        manual_runtime().block_on(async {
            let polled = |context: &Context| {
                let task = runtime::spawn_in(context, async {
                    pass(3);
                    context::harness::advance_manual_clock(1, 50);
                });
                pass(7);
                task
            };
            let mut charged = Usage::default();
            charged.db.rows = 4;
            charged.blocking.jobs = 5;
            for (polls, charges) in [(true, false), (false, true), (true, true), (true, false)] {
                let context = Context::root("p08 old");
                if polls {
                    polled(&context).await.unwrap();
                    let used = context.own_usage();
                    assert_eq!((used.cpu, used.polls, used.queued, used.blocked), (ns(4), 1, ns(7), ns(49)));
                }
                if charges {
                    context.charge(charged);
                    assert_eq!(context.own_usage().db.rows, 4);
                }
                drop(context);
                let new = Context::root("p08 new");
                assert_eq!((new.own_usage(), new.usage()), (Usage::default(), Usage::default()));
            }
        });
    });
}
