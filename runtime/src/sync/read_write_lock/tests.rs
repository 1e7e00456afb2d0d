use super::super::trace::{Gate, Trace, clean, settle, task};
use super::*;
use crate::JoinHandle;

struct Stage {
    lock: ReadWriteLock<&'static str>,
    trace: Trace,
}

impl Stage {
    fn new() -> Self {
        Self { lock: ReadWriteLock::new("test"), trace: Trace::default() }
    }

    /// A reader if its name begins with `r`, else a writer. Stays until the gate opens.
    async fn enter(&self, name: &'static str) -> (JoinHandle<()>, Gate) {
        let gate = Gate::default();
        let (stay, trace) = (gate.clone(), self.trace.clone());
        let turn = if name.starts_with('r') { self.lock.read("key") } else { self.lock.write("key") };
        let handle = task(name, async move {
            let _turn = turn.await;
            trace.say(format_args!("{name}+"));
            stay.pass().await;
            trace.say(format_args!("{name}-"));
        });
        // So that they queue in this order.
        settle().await;
        (handle, gate)
    }

    async fn open(&self, gates: &[&Gate]) -> String {
        gates.iter().for_each(|gate| gate.open());
        settle().await;
        self.trace.take()
    }
}

#[test]
fn w01_readers_share_writers_wait_in_order() {
    clean("w01", async {
        let stage = Stage::new();
        let (_task_1, r1) = stage.enter("r1").await;
        let (_task_2, r2) = stage.enter("r2").await;
        let (_task_3, w3) = stage.enter("w3").await;
        let (_task_4, w4) = stage.enter("w4").await;
        let (_task_5, r5) = stage.enter("r5").await;
        let (_task_6, r6) = stage.enter("r6").await;
        let (_task_7, w7) = stage.enter("w7").await;
        assert_eq!(stage.trace.take(), "r1+ r2+");
        assert_eq!(stage.open(&[&r2]).await, "r2-", "the writer waits for all earlier readers");
        assert_eq!(stage.open(&[&r1]).await, "r1- w3+");
        assert_eq!(stage.open(&[&w3]).await, "w3- w4+", "later readers wait for earlier writers");
        assert_eq!(stage.open(&[&w4]).await, "w4- r5+ r6+");
        assert_eq!(stage.open(&[&r5, &r6]).await, "r5- r6- w7+");
        assert_eq!(stage.open(&[&w7]).await, "w7-");
        assert_eq!(stage.lock.keys(), 0);
        let (_task_8, r8) = stage.enter("r8").await;
        assert_eq!(stage.open(&[&r8]).await, "r8+ r8-", "reusable");
    });
}

#[test]
fn w02_hand_off_to_a_writer_that_completes_at_once() {
    clean("w02", async {
        let stage = Stage::new();
        let (_task_1, r1) = stage.enter("r1").await;
        let (_task_2, w2) = stage.enter("w2").await;
        let (_task_3, w3) = stage.enter("w3").await;
        w2.open();
        w3.open();
        assert_eq!(stage.open(&[&r1]).await, "r1+ r1- w2+ w2- w3+ w3-");
        assert_eq!(stage.lock.keys(), 0);
    });
}

#[test]
fn w03_cancelling_a_reader_that_holds_passes_on() {
    clean("w03", async {
        let stage = Stage::new();
        let (reader, _) = stage.enter("r1").await;
        let (_task_2, w2) = stage.enter("w2").await;
        reader.abort();
        assert_eq!(stage.open(&[&w2]).await, "r1+ w2+ w2-");
    });
}

#[test]
fn w04_cancelling_a_writer_that_holds_passes_on() {
    clean("w04", async {
        let stage = Stage::new();
        let (writer, _) = stage.enter("w1").await;
        let (_task_2, r2) = stage.enter("r2").await;
        let (_task_3, w3) = stage.enter("w3").await;
        writer.abort();
        assert_eq!(stage.open(&[]).await, "w1+ r2+");
        assert_eq!(stage.open(&[&r2, &w3]).await, "r2- w3+ w3-");
    });
}

#[test]
fn w05_cancelling_a_waiting_reader_harms_nobody() {
    clean("w05", async {
        let stage = Stage::new();
        let (_task_1, w1) = stage.enter("w1").await;
        let (r2, _) = stage.enter("r2").await;
        let (_task_3, r3) = stage.enter("r3").await;
        let (_task_4, w4) = stage.enter("w4").await;
        r2.abort();
        assert_eq!(stage.open(&[]).await, "w1+", "the next writer does not jump ahead");
        assert_eq!(stage.open(&[&w1]).await, "w1- r3+");
        assert_eq!(stage.open(&[&r3, &w4]).await, "r3- w4+ w4-");
        assert_eq!(stage.lock.keys(), 0);
    });
}

#[test]
fn w06_cancelling_a_waiting_writer_leaves_nothing_stuck() {
    clean("w06", async {
        let stage = Stage::new();
        let (_task_1, r1) = stage.enter("r1").await;
        let (w2, _) = stage.enter("w2").await;
        let (_task_3, r3) = stage.enter("r3").await;
        let (w4, _) = stage.enter("w4").await;
        let (_task_5, w5) = stage.enter("w5").await;
        assert_eq!(stage.trace.take(), "r1+");
        w4.abort();
        assert_eq!(stage.open(&[]).await, "", "earlier and later ones are unaffected");
        w2.abort();
        assert_eq!(stage.open(&[]).await, "r3+", "it waited for that writer only");
        assert_eq!(stage.open(&[&r1, &r3, &w5]).await, "r1- r3- w5+ w5-");
        assert_eq!(stage.lock.keys(), 0);
    });
}

#[test]
fn the_wait_of_a_writer_is_counted() {
    clean("waited", async {
        let stage = Stage::new();
        let (_task_1, r1) = stage.enter("r1").await;
        let (_task_2, w2) = stage.enter("w2").await;
        assert_eq!(stage.open(&[&r1, &w2]).await, "r1+ r1- w2+ w2-");
        let stats = stage.lock.stats();
        assert_eq!((stats.acquired, stats.contended, stats.abandoned), (2, 1, 0));
    });
}
