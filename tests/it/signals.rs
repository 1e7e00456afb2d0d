//! Signals that ask a process to end, as `#[runtime::main]` takes them. Each case is a process of its own: this program, called to
//! run one test that only does something if a variable says so.

use runtime::Runtime;
use std::io::{BufRead, BufReader, Read};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::time::{Duration, Instant};

const VARIABLE: &str = "BURSAR_TEST_PROGRAM";

/// A program, by the name of its test.
struct Program {
    child: Child,
    out: BufReader<ChildStdout>,
}

impl Program {
    /// Starts it, and waits until it has said `ready`.
    fn start(name: &str) -> Self {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", &format!("signals::{name}"), "--nocapture"])
            .env(VARIABLE, name)
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let out = BufReader::new(child.stdout.take().unwrap());
        let mut program = Self { child, out };
        program.wait_for("ready");
        program
    }

    #[track_caller]
    fn wait_for(&mut self, word: &str) {
        let mut line = String::new();
        while !line.contains(word) {
            line.clear();
            assert!(self.out.read_line(&mut line).unwrap() > 0, "it ended before it said {word}");
        }
    }

    fn signal(&self, name: &str) {
        let pid = self.child.id().to_string();
        assert!(Command::new("kill").args(["-s", name, &pid]).status().unwrap().success());
    }

    /// Its exit status, and what it has said until then.
    fn end(mut self) -> (Option<i32>, String) {
        let mut said = String::new();
        self.out.read_to_string(&mut said).unwrap();
        (self.child.wait().unwrap().code(), said)
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Whether this process is to be that program.
fn is(name: &str) -> bool {
    std::env::var(VARIABLE).is_ok_and(|program| program == name)
}

struct Says(&'static str);

impl Drop for Says {
    fn drop(&mut self) {
        println!("{} dropped in {}", self.0, context::Context::current().class());
    }
}

#[test]
fn starting() {
    if is("starting") {
        Runtime::new().unwrap().run_main(async {
            let _main = Says("main");
            let _task = runtime::background("worker", async {
                let _task = Says("task");
                std::future::pending::<Result<(), String>>().await
            });
            runtime::yield_now().await;
            println!("ready");
            std::future::pending::<()>().await;
        });
    }
}

#[test]
fn v6_a_signal_that_the_program_does_not_listen_for_ends_it_in_order() {
    for (name, status) in [("TERM", 143), ("INT", 130), ("HUP", 129)] {
        let program = Program::start("starting");
        program.signal(name);
        let (code, said) = program.end();
        assert_eq!(code, Some(status), "{said}");
        assert!(said.contains("main dropped in main") && said.contains("task dropped in worker"), "{said}");
    }
}

/// Longer than the test has patience for.
fn block() {
    let begin = Instant::now();
    while begin.elapsed() < Duration::from_secs(60) {
        std::hint::spin_loop();
    }
}

#[test]
fn spinning() {
    if is("spinning") {
        Runtime::new().unwrap().run_main(async {
            println!("ready");
            block();
        });
    }
}

#[test]
fn listening() {
    if is("listening") {
        Runtime::new().unwrap().run_main(async {
            let ended = runtime::signal::terminate();
            println!("ready");
            let kind = ended.await.unwrap();
            println!("heard {}", kind.as_raw_value());
            block();
        });
    }
}

#[test]
fn v6_a_second_signal_ends_the_process_at_once() {
    let begin = Instant::now();
    let mut program = Program::start("listening");
    program.signal("HUP");
    program.wait_for("heard 1");
    program.signal("INT");
    assert_eq!(program.end().0, Some(130));

    // Also one that has never heard of the first, since a task holds the thread.
    let program = Program::start("spinning");
    program.signal("TERM");
    // Two of a kind may be merged while the first is pending.
    while program.is_pending(15) {
        std::thread::yield_now();
    }
    program.signal("INT");
    assert_eq!(program.end().0, Some(130));
    assert!(begin.elapsed() < Duration::from_secs(30));
}

impl Program {
    /// Whether a signal was sent to it that it has not been given.
    fn is_pending(&self, number: u32) -> bool {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id())).unwrap();
        let pending = status.lines().find_map(|line| line.strip_prefix("ShdPnd:")).unwrap().trim();
        u64::from_str_radix(pending, 16).unwrap() & (1 << (number - 1)) != 0
    }
}

/// A program that listens in its own way is not ended, by any number of them.
#[test]
fn counting() {
    if is("counting") {
        Runtime::new().unwrap().run_main(async {
            use runtime::signal::unix::{SignalKind, signal};
            let mut interrupts = signal(SignalKind::interrupt()).unwrap();
            println!("ready");
            for n in 1..=3 {
                interrupts.recv().await;
                println!("heard {n}");
            }
        });
    }
}

#[test]
fn v6_a_program_that_listens_in_its_own_way_goes_on() {
    let mut program = Program::start("counting");
    for n in 1..=3 {
        program.signal("INT");
        program.wait_for(&format!("heard {n}"));
    }
    assert_eq!(program.end().0, Some(0));
}
