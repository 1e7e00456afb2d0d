//! The example `service` as a user meets it: the program itself, real HTTP from another process.

mod client;
mod database;
mod ends;
mod program;

use client::{Answer, Client};
use program::{Folder, Service};
use serde_json::Value;
use std::time::{Duration, Instant};

/// The books of the server's thread balance to 0.01 % (and 1 us).
#[track_caller]
fn assert_balanced(books: &Value) {
    let ns = |name: &str| books[name].as_i64().unwrap_or_else(|| panic!("no {name} in {books}"));
    let parts = ns("contexts_ns") + ns("late_ns") + ns("sentinel_ns") + ns("runtime_ns");
    let (whole, correction) = (ns("thread_cpu_ns"), ns("correction_ns"));
    assert_eq!(parts + correction, whole, "{books}");
    assert!(correction.abs() <= whole / 10_000 + 1_000, "{correction} of {whole} ns are missing");
}

fn class<'a>(books: &'a Value, name: &str) -> &'a Value {
    let classes = books["classes"].as_array().unwrap();
    classes
        .iter()
        .find(|class| class["class"] == name)
        .unwrap_or_else(|| panic!("no class {name} in {books}"))
}

#[test]
fn a_search_is_billed_from_end_to_end() {
    let service = Service::start(Folder::new("search"));
    let answer = service.get("/search?q=sentinel");
    assert_eq!(answer.status, 200);
    let found: Value = answer.json();
    assert_eq!(found["hits"][0]["path"], "notes.md", "{found}");
    assert!(found["hits"][0]["snippet"].as_str().unwrap().contains("[sentinel]"), "{found}");
    let timing = answer.timing();
    assert!(timing["cpu"] > 0.0 && timing["db"] > 0.0 && timing["total"] >= timing["db"], "{timing:?}");
    assert!(timing.contains_key("queued") && timing.contains_key("blocked"), "{timing:?}");

    let line = service.line(&answer, "GET /search");
    let name = line.name();
    assert!(line.text.contains(&format!(" {name} 200 {}B ", answer.body.len())), "{}", line.text);
    assert_eq!(line.transactions(), 1, "{}", line.text);
    // What the handler logged in between carries the name of its request.
    let between = service.wait_for(|line| line.contains("1 hits"));
    assert!(between.contains(&format!(" {name} ")), "{between}");
}

#[test]
fn rendering_costs_cpu_and_sleeping_costs_none() {
    let service = Service::start(Folder::new("cost"));
    let rendered = service.get("/render?path=large.md");
    assert_eq!(rendered.status, 200);
    assert!(rendered.body.contains("<h1>Chapter 1</h1>") && !rendered.body.contains("<script>"));
    let slept = service.get("/sleep?ms=200");
    let render = service.line(&rendered, "GET /render");
    let sleep = service.line(&slept, "GET /sleep");
    let [render_cpu, sleep_cpu] = [render.ms("cpu="), sleep.ms("cpu=")];
    assert!(sleep_cpu < 1.0 && render_cpu > sleep_cpu, "{}\n{}", render.text, sleep.text);
    assert!(sleep.elapsed_ms() >= 200.0, "{}", sleep.text);
    assert!(slept.timing()["total"] >= 200.0 && slept.timing()["cpu"] < 1.0);
    // The file was read on the blocking pool.
    assert!(render.text.contains("ms/1)"), "{}", render.text);
}

#[test]
fn the_parts_of_a_fanout_are_contexts_of_their_own() {
    let service = Service::start(Folder::new("fanout"));
    let answer = service.get("/fanout?q=sentinel,Chapter,nothing");
    let parts: Value = answer.json();
    let hits: Vec<usize> =
        parts.as_array().unwrap().iter().map(|part| part["hits"].as_array().unwrap().len()).collect();
    assert_eq!(hits, [1, 1, 0]);
    // The whole is in the total of the request.
    let line = service.line(&answer, "GET /fanout");
    assert_eq!(line.transactions(), 3, "{}", line.text);
    let books = service.get("/accounts").json();
    let part = class(&books, "fanout part");
    assert_eq!((&part["opened"], &part["open"]), (&3.into(), &0.into()));
    assert_eq!(part["own"]["db"]["transactions"], 3);
    assert_eq!(class(&books, "GET /fanout")["own"]["db"]["transactions"], 0);
    assert_eq!(class(&books, "GET /fanout")["total"]["db"]["transactions"], 3);
}

#[test]
fn bad_input_is_told_what_is_wrong() {
    let service = Service::start(Folder::new("bad input"));
    let long = format!("/search?q={}", "x".repeat(201));
    let parts = format!("/fanout?q={}", ["a"; 17].join(","));
    for (path, status, message) in [
        ("/search", 400, "missing field `q`"),
        ("/search?q=", 400, "no words"),
        ("/search?q=%00", 400, "control characters"),
        (long.as_str(), 400, "200 bytes at most"),
        ("/search?q=%22%28AND", 200, ""),
        ("/file", 400, "missing field `path`"),
        ("/file?path=missing", 404, "no such file"),
        ("/file?path=sub", 400, "not a file"),
        ("/file?path=../../Cargo.toml", 403, "leaves the directory"),
        ("/file?path=%2e%2e/%2e%2e/Cargo.toml", 403, "leaves the directory"),
        ("/file?path=/etc/passwd", 403, "leaves the directory"),
        ("/file?path=link", 403, "leaves the directory"),
        ("/render?path=link", 403, "leaves the directory"),
        ("/file?path=huge.txt", 413, "1048576 bytes"),
        ("/file?path=picture.bin", 415, "not text"),
        ("/sleep?ms=10001", 400, "10000 at most"),
        ("/sleep?ms=-1", 400, "ms"),
        ("/sleep?ms=soon", 400, "ms"),
        ("/fanout?q=,", 400, "1 to 16"),
        (parts.as_str(), 400, "1 to 16"),
        ("/nowhere", 404, "nothing here"),
    ] {
        let answer = service.get(path);
        assert!(answer.status == status && answer.body.contains(message), "{path}: {answer:?}");
    }
    let posted = service.connect().ask("POST /search HTTP/1.1\r\nhost: t\r\ncontent-length: 0\r\n\r\n");
    assert_eq!(posted.status, 405);
    assert_balanced(&service.get("/accounts").json());
}

#[test]
fn a_connection_is_kept_and_may_pipeline() {
    let service = Service::start(Folder::new("pipeline"));
    let mut client = service.connect();
    assert_eq!(client.get("/").status, 200);
    client.send(&["/file?path=notes.md", "/sleep?ms=1", "/nowhere"].map(client::request).concat());
    let statuses = [client.answer(), client.answer(), client.answer()].map(|answer| answer.status);
    assert_eq!(statuses, [200, 200, 404]);
    // Garbage after that costs the connection, and nothing else.
    assert_eq!(client.ask("what?\r\n\r\n").status, 400);
    let mut other = service.connect();
    assert_eq!(other.ask(&format!("GET / HTTP/1.1\r\nx: {}\r\n\r\n", "x".repeat(40_000))).status, 431);
    assert_eq!(service.get("/").status, 200);
}

#[test]
fn a_client_that_goes_away_is_logged_as_499() {
    let service = Service::start(Folder::new("gone"));
    let mut client = service.connect();
    client.send(&client::request("/sleep?ms=10000"));
    service.wait_until_open("GET /sleep", 1);
    drop(client);
    let line = service.wait_for(|line| line.contains("http::request") && line.contains("GET /sleep#"));
    assert!(line.contains(" 499 0B ") && line.ends_with("(client gone)"), "{line}");
    assert_eq!(class(&service.get("/accounts").json(), "GET /sleep")["open"], 0);
}

/// None is lost, the books balance, the sentinel has next to nothing, and memory does not grow.
#[test]
fn ten_thousand_requests_balance_and_leave_no_trace() {
    const CONNECTIONS: usize = 4;
    const REQUESTS: usize = 10_000;
    let service = Service::start(Folder::new("ten thousand"));
    let mut clients: Vec<Client> = (0..CONNECTIONS).map(|_| service.connect()).collect();
    let paths = ["/search?q=sentinel", "/", "/file?path=notes.md", "/nowhere", "/sleep?ms=0"];
    let half: usize = run(&mut clients, &paths, REQUESTS / 2);
    let between = service.resident_kib();
    let other_half = run(&mut clients, &paths, REQUESTS / 2);
    let after = service.resident_kib();
    assert_eq!(half + other_half, REQUESTS);
    assert!(after <= between + 512, "memory grew from {between} to {after} KiB");

    let books = service.get("/accounts").json();
    assert_balanced(&books);
    let (whole, sentinel) =
        (books["thread_cpu_ns"].as_i64().unwrap(), books["sentinel_ns"].as_i64().unwrap());
    assert!(sentinel * 1_000 <= whole, "{sentinel} of {whole} ns were spent in no context");
    let finished: i64 = ["GET /search", "GET /", "GET /file", "GET (unmatched)", "GET /sleep"]
        .map(|name| {
            class(&books, name)["opened"].as_i64().unwrap() - class(&books, name)["open"].as_i64().unwrap()
        })
        .iter()
        .sum();
    assert_eq!(finished, REQUESTS as i64);
    // Writing the log may block the thread: the pipe's other end is this test.
    let reports = books["reports"].as_array().unwrap();
    assert!(reports.iter().all(|report| report["kind"] == "BlockingCall"), "{reports:?}");
}

/// Keeps all connections busy; how many answers came.
fn run(clients: &mut [Client], paths: &[&str], requests: usize) -> usize {
    let mut answered = 0;
    for round in 0..requests / clients.len() {
        let path = paths[round % paths.len()];
        clients.iter_mut().for_each(|client| client.send(&client::request(path)));
        for client in clients.iter_mut() {
            let Answer { status, .. } = client.answer();
            assert_eq!(status, if path == "/nowhere" { 404 } else { 200 });
            answered += 1;
        }
    }
    answered
}

#[test]
fn sigterm_finishes_what_is_in_flight() {
    let mut service = Service::start(Folder::new("sigterm"));
    let mut busy = service.connect();
    busy.send(&client::request("/sleep?ms=500"));
    service.wait_until_open("GET /sleep", 1);
    let mut idle = service.connect();
    assert_eq!(idle.get("/").status, 200);
    let begin = Instant::now();
    service.signal("TERM");
    let answer = busy.answer();
    assert_eq!((answer.status, answer.body.as_str()), (200, "slept 500 ms\n"));
    assert!(idle.is_closed() && busy.is_closed());
    assert_eq!(service.exit_code(), Some(0));
    assert!(begin.elapsed() < Duration::from_secs(5));
    assert!(!service.accepts());
}

#[test]
fn sigint_ends_an_idle_service() {
    let mut service = Service::start(Folder::new("sigint"));
    service.signal("INT");
    assert_eq!(service.exit_code(), Some(0));
}

#[test]
fn what_cannot_be_served_is_said_at_once() {
    let folder = Folder::new("cannot");
    let path = folder.path();
    let path = path.to_str().unwrap();
    for (arguments, code, message) in [
        (&["--help"][..], 0, "usage"),
        (&["--port", "80"], 2, "what is --port?"),
        (&["--listen"], 2, "--listen needs a value"),
        (&["--index", "no/such/folder"], 1, "cannot read the directory no/such/folder"),
        (&["--index", path, "--db", path], 1, "cannot open the database"),
        (
            &["--index", path, "--db", &format!("{path}/db"), "--listen", "nonsense"],
            1,
            "cannot listen on nonsense",
        ),
    ] {
        let (status, said) = program::run_to_end(arguments);
        assert!(status == Some(code) && said.contains(message), "{arguments:?}: {status:?} {said}");
    }
}
