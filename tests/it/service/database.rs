//! The database of the service: one service each, and searches that cost what they must.

use super::program::{Folder, Service, run_to_end};
use std::fs;

#[test]
fn v10_a_second_service_on_one_database_ends_with_a_clear_line() {
    let folder = Folder::new("second");
    let (files, database) = (folder.path(), folder.path().with_file_name("index.sqlite"));
    let mut first = Service::start(folder);
    let [files, database] = [&files, &database].map(|path| path.to_str().unwrap());
    let arguments = ["--listen", "127.0.0.1:0", "--index", files, "--db", database];
    let (code, said) = run_to_end(&arguments);
    assert_eq!(code, Some(1), "{said}");
    let told = format!("another service is at work on the database {database}");
    assert!(said.contains(&told) && !said.contains("listening"), "{said}");
    // The first one's index is untouched.
    assert_eq!(first.get("/search?q=sentinel").json()["hits"][0]["path"], "notes.md");
    let ready = first.get("/ready");
    assert!(ready.status == 200 && ready.body.starts_with("index done"), "{ready:?}");
    first.signal("TERM");
    assert_eq!(first.exit_code(), Some(0));
}

/// A megabyte of one word: the search for it held a connection for minutes.
#[test]
fn v4_the_cost_of_a_search_grows_with_its_hits_and_no_faster() {
    let folder = Folder::new("dear");
    fs::write(folder.path().join("log.txt"), "ERROR ".repeat(170_000)).unwrap();
    fs::write(folder.path().join("short.txt"), "WARNING ".repeat(1_700)).unwrap();
    let service = Service::start(folder);
    let cost = |word: &str| {
        let answer = service.get(&format!("/search?q={word}"));
        let found = answer.json();
        assert!(found["hits"][0]["snippet"].as_str().unwrap().starts_with(&format!("[{word}] [")), "{found}");
        service.line(&answer, "GET /search").ms(" cpu=")
    };
    let (short, long) = (cost("WARNING"), cost("ERROR"));
    // Ranking 100 times the hits, and cutting out the beginning. By pairs of hits it would be 10,000 times as much.
    assert!(long < short * 300.0 + 100.0, "{short} ms for 1,700 hits, {long} ms for 170,000");
}
