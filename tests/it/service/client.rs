//! A client of HTTP/1.1, as small as it gets.

use serde_json::Value;
use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

/// Long enough for a busy machine; a test that runs into it has failed.
const PATIENCE: Duration = Duration::from_secs(60);

#[derive(Debug)]
pub(super) struct Answer {
    pub(super) status: u16,
    head: String,
    pub(super) body: String,
    /// Our own address, as the server logs it.
    pub(super) from: SocketAddr,
}

impl Answer {
    fn header(&self, name: &str) -> Option<&str> {
        let mut lines = self.head.lines();
        lines.find_map(|line| line.split_once(": ").filter(|(key, _)| *key == name)).map(|(_, value)| value)
    }

    #[track_caller]
    pub(super) fn json(&self) -> Value {
        assert_eq!(self.status, 200, "{self:?}");
        serde_json::from_str(&self.body).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }

    /// `Server-Timing`, in milliseconds.
    #[track_caller]
    pub(super) fn timing(&self) -> BTreeMap<&str, f64> {
        let timing = self.header("server-timing").unwrap_or_else(|| panic!("no timing: {self:?}"));
        let entries = timing.split(", ").map(|entry| entry.split_once(";dur=").unwrap());
        entries.map(|(name, ms)| (name, ms.parse().unwrap())).collect()
    }
}

pub(super) struct Client {
    stream: BufReader<TcpStream>,
}

pub(super) fn request(path: &str) -> String {
    format!("GET {path} HTTP/1.1\r\nhost: test\r\n\r\n")
}

impl Client {
    pub(super) fn connect(to: SocketAddr) -> std::io::Result<Self> {
        let stream = TcpStream::connect(to)?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        Ok(Self { stream: BufReader::new(stream) })
    }

    pub(super) fn send(&mut self, text: &str) {
        self.stream.get_mut().write_all(text.as_bytes()).unwrap();
    }

    #[track_caller]
    pub(super) fn ask(&mut self, text: &str) -> Answer {
        self.send(text);
        self.answer()
    }

    #[track_caller]
    pub(super) fn get(&mut self, path: &str) -> Answer {
        self.ask(&request(path))
    }

    #[track_caller]
    pub(super) fn answer(&mut self) -> Answer {
        let mut head = String::new();
        while !head.ends_with("\r\n\r\n") {
            let read = self.stream.read_line(&mut head).unwrap();
            assert!(read > 0, "the connection ended after {head:?}");
        }
        let status = head.split(' ').nth(1).unwrap().parse().unwrap();
        let from = self.stream.get_ref().local_addr().unwrap();
        let mut answer = Answer { status, head, body: String::new(), from };
        let length = answer.header("content-length").map_or(0, |length| length.parse().unwrap());
        let mut body = vec![0; length];
        self.stream.read_exact(&mut body).unwrap();
        answer.body = String::from_utf8(body).unwrap();
        answer
    }

    /// Waits for the server to close the connection, which is all that is left of it.
    pub(super) fn is_closed(&mut self) -> bool {
        matches!(self.stream.read(&mut [0]), Ok(0))
    }
}
