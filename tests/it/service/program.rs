//! The program under test, and what it has to work on.

use super::client::{Answer, Client};
use std::fs;
use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Condvar, LazyLock, Mutex};
use std::time::Duration;

const PATIENCE: Duration = Duration::from_secs(60);

/// Built once, by the cargo that runs this test, with the profile of this test.
static PROGRAM: LazyLock<PathBuf> = LazyLock::new(|| {
    // target/PROFILE/deps/it-HASH, or target/TRIPLE/PROFILE/deps/it-HASH where cargo was told a triple.
    let test = std::env::current_exe().unwrap();
    let target = test.ancestors().nth(2).unwrap();
    let mut build = Command::new(env!("CARGO"));
    build.args(["build", "--quiet", "--package", "examples", "--example", "service"]);
    if target.ends_with("release") {
        build.arg("--release");
    }
    let mut folder = target.parent().unwrap();
    let above = folder.file_name().and_then(|name| name.to_str());
    if let Some(triple) = above.filter(|name| name.starts_with(&format!("{}-", std::env::consts::ARCH))) {
        build.args(["--target", triple]);
        folder = folder.parent().unwrap();
    }
    build.arg("--target-dir").arg(folder);
    let built = build.current_dir(env!("CARGO_MANIFEST_DIR")).status().unwrap();
    assert!(built.success());
    target.join("examples").join("service")
});

/// A directory with something of everything, removed at the end.
pub(super) struct Folder(PathBuf);

impl Folder {
    pub(super) fn new(test: &str) -> Self {
        let base = Path::new(env!("CARGO_TARGET_TMPDIR")).join(test);
        let _ = fs::remove_dir_all(&base);
        let folder = base.join("files");
        fs::create_dir_all(folder.join("sub")).unwrap();
        let write = |name: &str, bytes: &[u8]| fs::write(folder.join(name), bytes).unwrap();
        write("notes.md", b"# Notes\n\nThe sentinel stands for nobody.\n");
        write("large.md", large().as_bytes());
        write("huge.txt", &vec![b'x'; 2 * 1024 * 1024]);
        write("picture.bin", &[0xff, 0xfe, 0x00, 0x01]);
        fs::write(base.join("secret"), "outside").unwrap();
        std::os::unix::fs::symlink(base.join("secret"), folder.join("link")).unwrap();
        Self(base)
    }

    /// The file of the index.
    pub(super) fn database(&self) -> PathBuf {
        self.0.join("index.sqlite")
    }

    /// The one to be served.
    pub(super) fn path(&self) -> PathBuf {
        self.0.join("files")
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// Markdown of some 300 KB.
fn large() -> String {
    let chapter = |n| {
        format!(
            "# Chapter {n}\n\nSome *text* with `code`, <script>alert({n})</script>\n\n- one\n- [two](x)\n\n"
        )
    };
    (1..=4_000).map(chapter).collect()
}

/// A service that runs, ended with the test.
pub(super) struct Service {
    child: Child,
    addr: SocketAddr,
    log: Arc<Log>,
    /// Removed after the program has ended.
    _folder: Folder,
}

#[derive(Default)]
struct Log {
    lines: Mutex<Vec<String>>,
    grown: Condvar,
}

impl Service {
    /// Starts it, and waits until everything is indexed.
    pub(super) fn start(folder: Folder) -> Self {
        let mut service = Self::begin(folder, |_| ());
        service.read_address();
        service.wait_for(|line| line.contains(" index#") && line.contains("done, "));
        service
    }

    /// Starts it with a log that nobody reads.
    pub(super) fn begin_unread(folder: Folder) -> Self {
        let mut service = Self::spawn(folder, |_| ());
        service.read_address();
        service
    }

    /// Starts it, and waits for nothing.
    pub(super) fn begin(folder: Folder, configure: impl FnOnce(&mut Command)) -> Self {
        let mut service = Self::spawn(folder, configure);
        let (errors, kept) = (service.child.stderr.take().unwrap(), service.log.clone());
        std::thread::spawn(move || {
            for line in BufReader::new(errors).lines().map_while(Result::ok) {
                kept.lines.lock().unwrap().push(line);
                kept.grown.notify_all();
            }
        });
        service
    }

    fn spawn(folder: Folder, configure: impl FnOnce(&mut Command)) -> Self {
        let mut command = Command::new(&*PROGRAM);
        command
            .args(["--listen", "127.0.0.1:0", "--index"])
            .arg(folder.path())
            .arg("--db")
            .arg(folder.database());
        command.env_remove("RUST_LOG").stdout(Stdio::piped()).stderr(Stdio::piped());
        configure(&mut command);
        let child = command.spawn().unwrap();
        Self { child, addr: ([127, 0, 0, 1], 0).into(), log: Arc::default(), _folder: folder }
    }

    /// Waits until it listens.
    fn read_address(&mut self) {
        let mut first = String::new();
        BufReader::new(self.child.stdout.take().unwrap()).read_line(&mut first).unwrap();
        let addr = first.trim_end().strip_prefix("listening on http://").map(str::parse);
        self.addr = addr.unwrap_or_else(|| panic!("it said {first:?}: {}", self.log())).unwrap();
    }

    /// What it has logged.
    pub(super) fn log(&self) -> String {
        self.log.lines.lock().unwrap().join("\n")
    }

    /// Waits until it has a handler for this signal.
    pub(super) fn wait_until_it_hears(&self, name: &str) {
        let number = ["HUP", "INT", "QUIT", "TERM"].into_iter().zip([1, 2, 3, 15]);
        let (_, number) = number.into_iter().find(|(known, _)| *known == name).unwrap();
        let caught = || {
            let status = fs::read_to_string(format!("/proc/{}/status", self.child.id())).unwrap();
            let caught =
                status.lines().find_map(|line| line.strip_prefix("SigCgt:")).unwrap().trim().to_owned();
            u64::from_str_radix(&caught, 16).unwrap() & (1 << (number - 1)) != 0
        };
        let begin = std::time::Instant::now();
        while !caught() {
            assert!(begin.elapsed() < PATIENCE, "it does not listen for {name}");
            std::thread::yield_now();
        }
    }

    pub(super) fn connect(&self) -> Client {
        Client::connect(self.addr).unwrap()
    }

    pub(super) fn accepts(&self) -> bool {
        Client::connect(self.addr).is_ok()
    }

    #[track_caller]
    pub(super) fn get(&self, path: &str) -> Answer {
        self.connect().get(path)
    }

    /// The line of the log that is wanted, as soon as it is there.
    #[track_caller]
    pub(super) fn wait_for(&self, wanted: impl Fn(&str) -> bool) -> String {
        let lines = self.log.lines.lock().unwrap();
        let missing = |lines: &mut Vec<String>| !lines.iter().any(|line| wanted(line));
        let (lines, timeout) = self.log.grown.wait_timeout_while(lines, PATIENCE, missing).unwrap();
        assert!(!timeout.timed_out(), "no such line in:\n{}", lines.join("\n"));
        lines.iter().find(|line| wanted(line)).unwrap().clone()
    }

    /// The line of the request that `answer` answers.
    #[track_caller]
    pub(super) fn line(&self, answer: &Answer, class: &str) -> Line {
        let begin = format!(" http::request: {} {class}#", answer.from);
        Line { text: self.wait_for(|line| line.contains(&begin)) }
    }

    /// Asks until so many requests of that class are open.
    #[track_caller]
    pub(super) fn wait_until_open(&self, class: &str, count: u64) {
        let begin = std::time::Instant::now();
        let mut client = self.connect();
        while begin.elapsed() < PATIENCE {
            let books = client.get("/accounts").json();
            let classes = books["classes"].as_array().unwrap();
            if classes.iter().any(|found| found["class"] == class && found["open"] == count) {
                return;
            }
        }
        panic!("no {class} is open");
    }

    pub(super) fn signal(&self, name: &str) {
        let pid = self.child.id().to_string();
        assert!(Command::new("kill").args(["-s", name, &pid]).status().unwrap().success());
    }

    pub(super) fn exit_code(&mut self) -> Option<i32> {
        self.child.wait().unwrap().code()
    }

    /// What it has in memory.
    pub(super) fn resident_kib(&self) -> u64 {
        let status = fs::read_to_string(format!("/proc/{}/status", self.child.id())).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
        line.trim().trim_end_matches(" kB").parse().unwrap()
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The line of a request.
pub(super) struct Line {
    pub(super) text: String,
}

impl Line {
    /// `class#id`, which has a space in it.
    pub(super) fn name(&self) -> String {
        let words: Vec<&str> = self.said().split(' ').collect();
        format!("{} {}", words[1], words[2])
    }

    /// From the peer on.
    fn said(&self) -> &str {
        self.text.split_once(" http::request: ").unwrap().1
    }

    pub(super) fn elapsed_ms(&self) -> f64 {
        let word = self.said().split(' ').nth(5).unwrap();
        word.trim_end_matches("ms").parse().unwrap_or_else(|error| panic!("{error}: {}", self.text))
    }

    /// The third figure of `db=(waiting/in transaction/transactions/rows)`.
    pub(super) fn transactions(&self) -> u64 {
        let (_, db) = self.text.split_once(" db=(").unwrap();
        db.split('/').nth(2).unwrap().parse().unwrap()
    }

    /// The figure after `name`.
    pub(super) fn ms(&self, name: &str) -> f64 {
        let (_, rest) = self.text.split_once(name).unwrap();
        rest.split("ms").next().unwrap().parse().unwrap()
    }
}

/// Runs the program with arguments that do not let it serve.
pub(super) fn run_to_end(arguments: &[&str]) -> (Option<i32>, String) {
    let output = Command::new(&*PROGRAM).args(arguments).env_remove("RUST_LOG").output().unwrap();
    let said = [output.stdout, output.stderr].concat();
    (output.status.code(), String::from_utf8_lossy(&said).into_owned())
}
