use super::super::trace::{Gate, Trace, clean, settle, task};
use super::*;
use crate::time::sleep;
use context::Context;
use std::cell::Cell;
use std::rc::Rc;

const SECOND: Duration = Duration::from_secs(1);

type Cache = ExpiringCache<&'static str, u32, &'static str>;

/// What was fetched, by number: each fetch gives the next one.
#[derive(Clone, Default)]
struct Source {
    fetched: Rc<Cell<u32>>,
    gate: Gate,
}

impl Source {
    fn open() -> Self {
        let source = Self::default();
        source.gate.open();
        source
    }

    fn fetch(
        &self,
    ) -> impl FnOnce() -> std::pin::Pin<Box<dyn Future<Output = Result<u32, &'static str>>>> + use<> {
        let Self { fetched, gate } = self.clone();
        move || {
            Box::pin(async move {
                fetched.set(fetched.get() + 1);
                let number = fetched.get();
                gate.pass().await;
                Ok(number)
            })
        }
    }
}

fn cache(max_entries: usize) -> Cache {
    Cache::new("test", SECOND * 10, max_entries)
}

#[test]
fn e06_single_flight_hit_and_expiry() {
    clean("e06", async {
        let (cache, source) = (cache(10), Source::default());
        let ask = || task("ask", cache.get_or_try_insert_with("key", source.fetch()));
        let (one, two) = (ask(), ask());
        settle().await;
        source.gate.open();
        assert_eq!((one.await.unwrap(), two.await.unwrap()), (Ok(Ok(1)), Ok(Ok(1))));
        assert_eq!(source.fetched.get(), 1, "single flight");
        assert_eq!(ask().await.unwrap(), Ok(Ok(1)), "hit");
        sleep(SECOND * 9).await;
        assert_eq!(cache.get("key"), Some(1));
        sleep(SECOND * 2).await;
        assert_eq!((cache.get("key"), cache.len()), (None, 0), "expired, and taken out");
        assert_eq!(ask().await.unwrap(), Ok(Ok(2)));
        let stats = cache.stats();
        assert_eq!((stats.hits, stats.misses, stats.expired), (2, 4, 1));
    });
}

#[test]
fn e06_errors_go_to_all_waiters_and_are_not_cached() {
    clean("e06", async {
        let (cache, gate) = (cache(10), Gate::default());
        let ask = || {
            let gate = gate.clone();
            let fetch = || async move {
                gate.pass().await;
                Err("no disk")
            };
            task("ask", cache.get_or_try_insert_with("key", fetch))
        };
        let (one, two) = (ask(), ask());
        settle().await;
        gate.open();
        assert_eq!((one.await.unwrap(), two.await.unwrap()), (Ok(Err("no disk")), Ok(Err("no disk"))));
        assert!(cache.is_empty());
        let again = cache.get_or_try_insert_with("key", Source::open().fetch());
        assert_eq!(task("again", again).await.unwrap(), Ok(Ok(1)));
    });
}

#[test]
fn e06_cancelling_the_first_waiter_lets_the_work_go_on_while_anyone_waits() {
    clean("e06", async {
        let source = Source::default();
        let cache: Cache = ExpiringCache::builder("test", SECOND * 10, 10).stop_when_unwanted().build();
        let ask = || task("ask", cache.get_or_try_insert_with("key", source.fetch()));
        let (one, two) = (ask(), ask());
        settle().await;
        one.abort();
        settle().await;
        source.gate.open();
        assert_eq!(two.await.unwrap(), Ok(Ok(1)));
        assert_eq!(cache.get("key"), Some(1));
    });
}

#[test]
fn what_is_removed_while_it_is_fetched_is_not_kept() {
    clean("removed", async {
        let (cache, old, new) = (cache(10), Source::default(), Source::open());
        let stale = task("stale", cache.get_or_try_insert_with("key", old.fetch()));
        settle().await;
        assert_eq!(cache.remove("key"), None);
        let fresh = task("fresh", cache.get_or_try_insert_with("key", new.fetch()));
        assert_eq!(fresh.await.unwrap(), Ok(Ok(1)));
        cache.insert("key", 77);
        old.gate.open();
        assert_eq!(stale.await.unwrap(), Ok(Ok(1)), "who waited gets what was fetched");
        assert_eq!(cache.get("key"), Some(77), "but nobody else does");
        assert_eq!(cache.remove("key"), Some(77));
        cache.clear();
        assert!(cache.is_empty());
    });
}

#[test]
fn the_least_recently_used_goes_when_it_is_full() {
    clean("lru", async {
        let cache = cache(3);
        ["a", "b", "c"].into_iter().zip(1..).for_each(|(key, value)| cache.insert(key, value));
        assert_eq!(cache.get("a"), Some(1));
        cache.insert("d", 4);
        assert_eq!(["a", "b", "c", "d"].map(|key| cache.get(key)), [Some(1), None, Some(3), Some(4)]);
        cache.insert("c", 33);
        assert_eq!((cache.len(), cache.get("c"), cache.stats().evicted), (3, Some(33), 1));
    });
}

#[test]
fn g05_the_reaper_begins_and_ends_with_the_cache_in_a_context_of_its_own() {
    struct Says(Trace);
    impl Drop for Says {
        fn drop(&mut self) {
            self.0.say(Context::current().class());
        }
    }
    let reapers = || context::live().iter().filter(|snapshot| snapshot.class == "cache:reaped").count();
    clean("g05", async move {
        let trace = Trace::default();
        let cache: ExpiringCache<u32, Rc<Says>> = ExpiringCache::new("reaped", SECOND, 1_000);
        settle().await;
        assert_eq!(reapers(), 1);
        (0..600).for_each(|key| cache.insert(key, Rc::new(Says(trace.clone()))));
        sleep(SECOND * 2).await;
        assert_eq!(cache.len(), 0);
        assert!(trace.take().split(' ').all(|class| class == "cache:reaped"), "dropped on its account");
        cache.insert(1, Rc::new(Says(trace.clone())));
        drop(cache);
        settle().await;
        assert_eq!((reapers(), trace.take().as_str()), (0, "cache:reaped"));
    });
}

#[test]
fn g05_the_reaper_is_no_straggler() {
    let rt = crate::Runtime::builder().paused(true).build().unwrap();
    let cache = rt.block_on(async {
        let cache = cache(10);
        cache.insert("key", 1);
        cache
    });
    assert!(rt.shutdown_timeout(SECOND).is_empty());
    assert_eq!(cache.len(), 1);
}

/// Against a list that does everything the slow way.
#[test]
fn random_operations_agree_with_a_model() {
    clean("model", async {
        for seed in 1..=50u64 {
            compare(seed).await;
        }
    });
}

async fn compare(seed: u64) {
    const MAX: usize = 5;
    let mut dice = seed;
    let mut roll = |sides: u64| {
        dice = dice.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (dice >> 33) % sides
    };
    let cache: ExpiringCache<u64, u64> = ExpiringCache::new("model", SECOND * 10, MAX);
    // Key, value, second of expiry; the one used last is at the end.
    let mut model: Vec<(u64, u64, u64)> = Vec::new();
    let mut now = 0;
    for step in 0..200 {
        let key = roll(8);
        match roll(8) {
            0..3 => {
                cache.insert(key, step);
                model.retain(|entry| entry.0 != key);
                if model.len() == MAX {
                    model.remove(0);
                }
                model.push((key, step, now + 10));
            }
            3..6 => {
                let found = model.iter().position(|entry| entry.0 == key).map(|at| model.remove(at));
                model.extend(found);
                assert_eq!(cache.get(&key), found.map(|entry| entry.1), "seed {seed}, step {step}");
            }
            6 => {
                let found = model.iter().position(|entry| entry.0 == key).map(|at| model.remove(at));
                assert_eq!(cache.remove(&key), found.map(|entry| entry.1), "seed {seed}, step {step}");
            }
            _ => {
                let seconds = roll(4);
                // A little more, so that timers that are rounded up have fired.
                sleep(SECOND * seconds as u32 + Duration::from_millis(1)).await;
                now += seconds;
                model.retain(|entry| entry.2 > now);
            }
        }
        assert_eq!(cache.len(), model.len(), "seed {seed}, step {step}");
    }
}
