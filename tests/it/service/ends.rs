//! How the service ends: in order and in time, whatever is at work.

use super::client::{self, Client};
use super::program::{Folder, Service};
use std::time::{Duration, Instant};

/// What the service promises.
const GRACE: Duration = Duration::from_secs(10);

#[track_caller]
fn assert_ends_in_time(service: &mut Service, begin: Instant) {
    assert_eq!(service.exit_code(), Some(0), "{}", service.log());
    assert!(begin.elapsed() < GRACE, "{:?}", begin.elapsed());
}

/// Somebody else writes to the database, and does not end.
fn lock(folder: &Folder) -> rusqlite::Connection {
    let lock = rusqlite::Connection::open(folder.database()).unwrap();
    lock.execute_batch("PRAGMA journal_mode = WAL; CREATE TABLE IF NOT EXISTS other (x)").unwrap();
    lock.execute_batch("BEGIN IMMEDIATE").unwrap();
    lock
}

#[test]
fn v6_sigterm_ends_a_start_that_waits_for_the_database() {
    let folder = Folder::new("locked start");
    let lock = lock(&folder);
    let mut service = Service::begin(folder, |_| ());
    service.wait_until_it_hears("TERM");
    let begin = Instant::now();
    service.signal("TERM");
    assert_ends_in_time(&mut service, begin);
    drop(lock);
}

#[test]
fn v6_sigterm_under_load_with_half_sent_heads_and_a_locked_database() {
    let folder = Folder::new("locked end");
    let database = folder.database();
    let mut service = Service::start(folder);
    let lock = rusqlite::Connection::open(database).unwrap();
    lock.execute_batch("BEGIN IMMEDIATE").unwrap();
    let half: Vec<Client> = (0..20)
        .map(|_| {
            let mut client = service.connect();
            client.send("GET /sleep?ms=0 HTTP/1.1\r\nhost:");
            client
        })
        .collect();
    let mut whole: Vec<Client> = (0..40).map(|_| service.connect()).collect();
    for (n, client) in whole.iter_mut().enumerate() {
        client.send(&client::request(["/sleep?ms=700", "/search?q=sentinel"][n % 2]));
    }
    service.wait_until_open("GET /sleep", 20);
    let begin = Instant::now();
    service.signal("TERM");
    for client in &mut whole {
        assert_eq!(client.answer().status, 200);
    }
    for mut client in half {
        assert!(client.is_closed());
    }
    assert_ends_in_time(&mut service, begin);
    drop(lock);
}

#[test]
fn v6_a_second_signal_ends_the_service_at_once() {
    let mut service = Service::start(Folder::new("second signal"));
    let mut busy = service.connect();
    busy.send(&client::request("/sleep?ms=9000"));
    service.wait_until_open("GET /sleep", 1);
    let begin = Instant::now();
    service.signal("TERM");
    service.wait_for(|line| line.contains("shutting down"));
    service.signal("TERM");
    assert_eq!(service.exit_code(), Some(143));
    assert!(begin.elapsed() < Duration::from_secs(5));
}

#[test]
fn v8_it_is_not_ready_while_it_shuts_down() {
    let service = Service::start(Folder::new("ready"));
    let mut probe = service.connect();
    assert_eq!(probe.get("/ready").status, 200);
    let mut busy = service.connect();
    busy.send(&client::request("/sleep?ms=3000"));
    service.wait_until_open("GET /sleep", 1);
    service.signal("TERM");
    service.wait_for(|line| line.contains("shutting down"));
    assert_eq!(probe.get("/ready").status, 503);
    assert_eq!(busy.answer().status, 200);
}

#[test]
fn v14_sighup_ends_it_in_order() {
    let mut service = Service::start(Folder::new("hangup"));
    let mut busy = service.connect();
    busy.send(&client::request("/sleep?ms=500"));
    service.wait_until_open("GET /sleep", 1);
    let begin = Instant::now();
    service.signal("HUP");
    assert_eq!(busy.answer().status, 200);
    assert_ends_in_time(&mut service, begin);
}

/// The pipe is full, and so is the queue of lines behind it.
#[test]
fn v9_a_log_that_nobody_reads_stops_nothing() {
    const REQUESTS: usize = 12_000;
    let mut service = Service::begin_unread(Folder::new("unread log"));
    let mut client = service.connect();
    for _ in 0..REQUESTS / 100 {
        client.send(&client::request("/nowhere").repeat(100));
        for _ in 0..100 {
            assert_eq!(client.answer().status, 404);
        }
    }
    let books = client.get("/accounts").json();
    let lost = books["log_lines_lost"].as_u64().unwrap();
    assert!(lost > 0 && lost < REQUESTS as u64, "{lost}");
    let begin = Instant::now();
    service.signal("TERM");
    assert_ends_in_time(&mut service, begin);
}
