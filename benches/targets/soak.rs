//! The example `service` under mixed use for a while: every answer is checked, and afterwards that nothing has grown, that the
//! books balance, and that the log and the books say the same.
//!
//! - `cargo bench -p benches --no-default-features --bench soak`: 60 s;
//! - `BURSAR_SOAK_SECONDS=600 cargo bench ..`: as long as that.
//!
//! Bounds: no wrong answer; resident memory of the last quarter at most 2 % and 1 MiB above that of the second; descriptors as
//! before; the sentinel below 0.1 % of the CPU, the correction below 0.01 %; the CPU of the lines within 1 % of that of the classes.

mod service;

use serde_json::Value;
use service::{Connection, NoAnswer, Service, ask};
use std::cell::RefCell;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::rc::Rc;
use std::time::{Duration, Instant};
use std::{env, fs};
use tokio::task::{LocalSet, spawn_local};

const CLIENTS: usize = 16;
const PATIENCE: Duration = Duration::from_secs(30);
/// What is asked, how often relative to the others, and the status that is right.
const ASKED: [(&str, u32, u16); 10] = [
    ("/sleep?ms=0", 6, 200),
    ("/sleep?ms=7", 5, 200),
    ("/file?path=notes.md", 6, 200),
    ("/file?path=large.txt", 1, 200),
    ("/render?path=notes.md", 5, 200),
    ("/search?q=sentinel", 5, 200),
    ("/fanout?q=sentinel,marmalade,nothing", 2, 200),
    ("/nowhere", 1, 404),
    ("/file?path=../x", 1, 403),
    ("/sleep?ms=soon", 1, 400),
];

/// A sequence that is always the same (SplitMix64).
struct Draws(u64);

impl Draws {
    fn below(&mut self, limit: u32) -> u32 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((mixed ^ (mixed >> 31)) % u64::from(limit)) as u32
    }

    fn path(&mut self) -> usize {
        let mut at = self.below(ASKED.iter().map(|(_, weight, _)| weight).sum());
        let found = ASKED.iter().position(|(_, weight, _)| {
            let is_here = at < *weight;
            at = at.saturating_sub(*weight);
            is_here
        });
        found.expect("the weights add up")
    }
}

#[derive(Default)]
struct Seen {
    answers: u64,
    left: u64,
    wrong: Vec<String>,
}

/// Some texts, removed at the end.
struct Texts(PathBuf);

impl Texts {
    fn new() -> Self {
        let folder = env::temp_dir().join(format!("bursar-soak-{}", std::process::id()));
        fs::create_dir_all(&folder).expect("a folder for texts");
        let write = |name: &str, text: String| fs::write(folder.join(name), text).expect("a text is written");
        write("notes.md", "# Notes\n\nThe *sentinel* stands for nobody.\n\n".repeat(20));
        write("large.txt", "sentinel and marmalade\n".repeat(20_000));
        for number in 0..200 {
            write(&format!("text-{number}.md"), format!("text {number} has marmalade\n").repeat(8));
        }
        Self(folder)
    }
}

impl Drop for Texts {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn main() {
    let seconds =
        env::var("BURSAR_SOAK_SECONDS").map_or(60, |text| text.parse().expect("a number of seconds"));
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    LocalSet::new().block_on(&runtime, soak(Duration::from_secs(seconds)));
}

async fn soak(length: Duration) {
    let texts = Texts::new();
    let service = Service::start(&texts.0).await;
    let expected = Rc::new(expected(service.address).await);
    let descriptors = idle_descriptors(&service, usize::MAX).await;
    let seen = Rc::new(RefCell::new(Seen::default()));
    let begin = Instant::now();
    let clients: Vec<_> = (0..CLIENTS)
        .map(|number| {
            let (expected, seen) = (expected.clone(), seen.clone());
            spawn_local(client(service.address, number as u64, begin + length, expected, seen))
        })
        .collect();
    let resident = watch(&service, begin, length).await;
    for client in clients {
        client.await.expect("a client does not panic");
    }
    let seen = seen.take();
    println!("{} answers, {} requests left by their clients", seen.answers, seen.left);
    assert!(seen.wrong.is_empty(), "{} wrong answers: {:?}", seen.wrong.len(), &seen.wrong[..1]);
    assert!(seen.answers > 0, "nothing was answered");
    let after = idle_descriptors(&service, descriptors).await;
    assert!(after <= descriptors, "descriptors: {descriptors} before, {after} after");
    judge_memory(&resident);
    let books = ask(service.address, "/accounts", PATIENCE).await.expect("the books");
    let (status, took, log) = service.end();
    assert_eq!(status, Some(0), "the service ended badly:\n{log}");
    println!("the service ended in order within {took:?}");
    judge_books(&serde_json::from_slice(&books.body).expect("JSON"), &log);
}

/// The right body of each path, where it does not change.
async fn expected(address: SocketAddr) -> Vec<Vec<u8>> {
    let mut bodies = Vec::new();
    for (path, _, status) in ASKED {
        let answer = ask(address, path, PATIENCE).await.expect("an answer");
        assert_eq!(answer.status, status, "{path}");
        bodies.push(answer.body);
    }
    bodies
}

async fn client(
    address: SocketAddr,
    number: u64,
    end: Instant,
    expected: Rc<Vec<Vec<u8>>>,
    seen: Rc<RefCell<Seen>>,
) {
    let mut draws = Draws(number);
    while Instant::now() < end {
        let Ok(mut connection) = Connection::open(address).await else {
            seen.borrow_mut().wrong.push("no connection".to_owned());
            return;
        };
        for _ in 0..=draws.below(40) {
            let at = draws.path();
            let (path, _, status) = ASKED[at];
            if draws.below(100) < 3 {
                // A client that goes while it is waited for.
                let _ = connection.send(path).await;
                tokio::time::sleep(Duration::from_micros(draws.below(10_000).into())).await;
                seen.borrow_mut().left += 1;
                break;
            }
            let asked = tokio::time::timeout(PATIENCE, connection.ask(path)).await;
            let answer = asked.unwrap_or(Err(NoAnswer::TimedOut));
            let mut seen = seen.borrow_mut();
            seen.answers += 1;
            match answer {
                Ok(answer) if answer.status == status && answer.body == expected[at] => {}
                wrong => seen.wrong.push(format!("{path}: {wrong:?}")),
            }
        }
        tokio::time::sleep(Duration::from_micros(draws.below(20_000).into())).await;
    }
}

/// Resident KiB, ten times a second.
async fn watch(service: &Service, begin: Instant, length: Duration) -> Vec<u64> {
    let mut resident = Vec::new();
    while begin.elapsed() < length {
        tokio::time::sleep(Duration::from_millis(100)).await;
        resident.push(service.status("VmRSS"));
    }
    resident
}

/// The number of open descriptors when clients have gone, and threads: at most `wanted`, or what is left after a while.
async fn idle_descriptors(service: &Service, wanted: usize) -> usize {
    let begin = Instant::now();
    loop {
        tokio::time::sleep(Duration::from_millis(200)).await;
        let open = service.descriptors();
        if open <= wanted && wanted != usize::MAX || begin.elapsed() > Duration::from_secs(3) {
            return open;
        }
    }
}

fn judge_memory(resident: &[u64]) {
    let quarter = resident.len() / 4;
    let mean = |part: &[u64]| part.iter().sum::<u64>() / part.len().max(1) as u64;
    let (second, last) = (mean(&resident[quarter..2 * quarter]), mean(&resident[3 * quarter..]));
    println!("resident: {second} KiB in the second quarter, {last} KiB in the last");
    assert!(last <= second + second / 50 + 1024, "memory grew from {second} to {last} KiB");
}

fn judge_books(books: &Value, log: &str) {
    let ns = |name: &str| books[name].as_i64().unwrap_or_else(|| panic!("no {name} in {books}"));
    let whole = ns("thread_cpu_ns");
    let parts =
        ns("contexts_ns") + ns("late_ns") + ns("sentinel_ns") + ns("runtime_ns") + ns("correction_ns");
    assert_eq!(parts, whole, "the books do not balance");
    let percent = |part: i64| 100.0 * part as f64 / whole as f64;
    let (sentinel, correction) = (percent(ns("sentinel_ns")), percent(ns("correction_ns").abs()));
    println!(
        "CPU of the loop: {:.1} s; sentinel {sentinel:.4} %, correction {correction:.4} %",
        whole as f64 / 1e9
    );
    assert!(sentinel < 0.1, "the sentinel has {sentinel} %");
    assert!(correction < 0.01, "the correction is {correction} %");
    assert_eq!(ns("log_lines_lost"), 0, "lines of the log were lost");
    let classes: f64 = books["classes"]
        .as_array()
        .expect("classes")
        .iter()
        // The one that reads the books is not over when it does.
        .filter(|class| {
            class["class"].as_str().is_some_and(|name| name.starts_with("GET ") && name != "GET /accounts")
        })
        .map(|class| class["total"]["cpu_ns"].as_f64().expect("a number") / 1e6)
        .sum();
    let lines: f64 = log.lines().filter_map(cpu_of_line).sum();
    println!("requests: {lines:.1} ms in the lines, {classes:.1} ms in the classes");
    assert!(
        (lines - classes).abs() <= classes / 100.0,
        "{lines} ms in the lines, {classes} ms in the classes"
    );
}

/// The CPU that the line of a request tells, in milliseconds.
fn cpu_of_line(line: &str) -> Option<f64> {
    let (_, request) = line.split_once(" http::request: ")?;
    if request.contains(" GET /accounts#") {
        return None;
    }
    let (_, rest) = request.split_once(" cpu=")?;
    rest.split_once("ms")?.0.parse().ok()
}
