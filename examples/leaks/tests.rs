use super::main;
use context::ReportKind;
use std::collections::BTreeSet;

/// Line by line what the comments announce.
fn announced() -> BTreeSet<(u32, String)> {
    let lines = (1..).zip(include_str!("../leaks.rs").lines());
    let comments = lines.filter_map(|(number, line)| Some((number, line.split_once("; // ")?.1)));
    comments.flat_map(|(line, kinds)| kinds.split(", ").map(move |kind| (line, kind.to_owned()))).collect()
}

#[test]
fn each_leak_is_reported_with_the_line_that_leaks() {
    main().unwrap();
    let announced = announced();
    let reports = context::sentinel::reports();
    let here = reports.iter().filter(|report| report.place.file().ends_with("leaks.rs"));
    let mut said: BTreeSet<_> =
        here.map(|report| (report.place.line(), format!("{:?}", report.kind))).collect();
    // On a busy machine any poll may take long.
    let timing = [ReportKind::SlowPoll, ReportKind::BlockingCall].map(|kind| format!("{kind:?}"));
    said.retain(|entry| announced.contains(entry) || !timing.contains(&entry.1));
    assert_eq!(said, announced);
    let kinds: BTreeSet<_> = announced.iter().map(|(_, kind)| kind).collect();
    assert_eq!(kinds.len(), 13, "one kind is missing: {kinds:?}");
}
