//! The example `service`, optimised, as a process of its own; and a client of it.

use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};
use std::{env, fs};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

/// Long enough for a busy machine.
const PATIENCE: Duration = Duration::from_secs(120);

/// A service that runs, ended with this value.
pub(crate) struct Service {
    child: Child,
    pub(crate) address: SocketAddr,
    /// With the index, and with the log.
    folder: PathBuf,
}

impl Service {
    /// Builds it, lets it index `files`, and waits until that is done.
    pub(crate) async fn start(files: &Path) -> Self {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the workspace");
        let mut build = Command::new(env!("CARGO"));
        build.args(["build", "--quiet", "--release", "--package", "examples", "--example", "service"]);
        assert!(
            build.current_dir(root).status().expect("cargo runs").success(),
            "the service does not build"
        );
        // target/release/deps/THIS
        let this = env::current_exe().expect("the path of this program");
        let target = this.ancestors().nth(3).expect("the target folder");
        let folder = env::temp_dir().join(format!("bursar-bench-{}", std::process::id()));
        fs::create_dir_all(&folder).expect("a folder for the index");
        let log = fs::File::create(folder.join("log")).expect("a file for the log");
        let mut child = Command::new(target.join("release/examples/service"))
            .args(["--listen", "127.0.0.1:0", "--index"])
            .arg(files)
            .arg("--db")
            .arg(folder.join("index.sqlite"))
            .env_remove("RUST_LOG")
            .stdout(Stdio::piped())
            .stderr(log)
            .spawn()
            .expect("the service starts");
        let mut first = String::new();
        let out = child.stdout.take().expect("it is piped");
        BufReader::new(out).read_line(&mut first).expect("a first line");
        let address =
            first.trim_end().strip_prefix("listening on http://").and_then(|text| text.parse().ok());
        let address = address.unwrap_or_else(|| panic!("the service said {first:?}"));
        let service = Self { child, address, folder };
        service.wait_for_index().await;
        service
    }

    async fn wait_for_index(&self) {
        let begin = Instant::now();
        while begin.elapsed() < PATIENCE {
            let answer = ask(self.address, "/ready", PATIENCE).await;
            if answer.is_ok_and(|answer| answer.body_text().contains("done")) {
                return;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        panic!("the index is not done after {PATIENCE:?}");
    }

    /// A value of `/proc/PID/status`.
    pub(crate) fn status(&self, name: &str) -> u64 {
        let status = fs::read_to_string(format!("/proc/{}/status", self.child.id())).expect("it lives");
        let line = status.lines().find_map(|line| line.strip_prefix(name)).expect("a line of that name");
        line.trim_start_matches(':').split_whitespace().next().and_then(|n| n.parse().ok()).expect("a number")
    }

    pub(crate) fn descriptors(&self) -> usize {
        fs::read_dir(format!("/proc/{}/fd", self.child.id())).expect("it lives").count()
    }

    /// Ends it by SIGTERM; its exit status, how long that took, and its log.
    pub(crate) fn end(mut self) -> (Option<i32>, Duration, String) {
        let begin = Instant::now();
        let pid = self.child.id().to_string();
        assert!(Command::new("kill").arg(pid).status().expect("kill runs").success());
        let status = self.child.wait().expect("it ends").code();
        let took = begin.elapsed();
        (status, took, fs::read_to_string(self.folder.join("log")).expect("its log"))
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        let _ = fs::remove_dir_all(&self.folder);
    }
}

/// An answer.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) body: Vec<u8>,
}

impl Answer {
    pub(crate) fn body_text(&self) -> &str {
        std::str::from_utf8(&self.body).unwrap_or("")
    }
}

/// Why there is none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum NoAnswer {
    TimedOut,
    Broken,
}

/// One request on a connection of its own, given up after `patience`.
pub(crate) async fn ask(address: SocketAddr, path: &str, patience: Duration) -> Result<Answer, NoAnswer> {
    let asked = async {
        let mut connection = Connection::open(address).await?;
        connection.ask(path).await
    };
    timeout(patience, asked).await.unwrap_or(Err(NoAnswer::TimedOut))
}

/// A connection that is kept.
pub(crate) struct Connection {
    stream: TcpStream,
    read: Vec<u8>,
}

impl Connection {
    pub(crate) async fn open(address: SocketAddr) -> Result<Self, NoAnswer> {
        let stream = TcpStream::connect(address).await.map_err(|_| NoAnswer::Broken)?;
        let _ = stream.set_nodelay(true);
        Ok(Self { stream, read: Vec::new() })
    }

    pub(crate) async fn ask(&mut self, path: &str) -> Result<Answer, NoAnswer> {
        self.send(path).await?;
        self.answer().await
    }

    pub(crate) async fn send(&mut self, path: &str) -> Result<(), NoAnswer> {
        let request = format!("GET {path} HTTP/1.1\r\nhost: bench\r\n\r\n");
        self.stream.write_all(request.as_bytes()).await.map_err(|_| NoAnswer::Broken)
    }

    /// The next answer, whose head says its length.
    pub(crate) async fn answer(&mut self) -> Result<Answer, NoAnswer> {
        let end = loop {
            if let Some(at) = self.read.windows(4).position(|bytes| bytes == b"\r\n\r\n") {
                break at + 4;
            }
            self.read_more().await?;
        };
        let head = String::from_utf8_lossy(&self.read[..end]).to_ascii_lowercase();
        let status = head.get(9..12).and_then(|status| status.parse().ok()).ok_or(NoAnswer::Broken)?;
        let length = head.lines().find_map(|line| line.strip_prefix("content-length: "));
        let length: usize = length.and_then(|length| length.parse().ok()).unwrap_or(0);
        while self.read.len() < end + length {
            self.read_more().await?;
        }
        let rest = self.read.split_off(end + length);
        let body = std::mem::replace(&mut self.read, rest).split_off(end);
        Ok(Answer { status, body })
    }

    async fn read_more(&mut self) -> Result<(), NoAnswer> {
        match self.stream.read_buf(&mut self.read).await {
            Ok(read) if read > 0 => Ok(()),
            _ => Err(NoAnswer::Broken),
        }
    }
}
