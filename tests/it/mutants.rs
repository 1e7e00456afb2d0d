//! The faults that `.ci/mutants` plants: that they can still be planted. Whoever changes such a line changes the fault.

use crate::house::tree::text;

struct Mutant {
    id: &'static str,
    file: &'static str,
    test: &'static str,
    old: String,
    new: String,
}

fn lines_with(block: &str, sign: char) -> String {
    block.lines().filter_map(|line| line.strip_prefix(sign)).flat_map(|line| [line, "\n"]).collect()
}

fn mutants() -> Vec<Mutant> {
    let blocks = text(".ci/mutants.txt").split("\n\n");
    let field = |block: &'static str, name: &str| {
        let mut lines = block.lines();
        lines
            .find_map(|line| line.strip_prefix(name)?.strip_prefix(' '))
            .unwrap_or_else(|| panic!("{name} in {block}"))
    };
    let blocks = blocks.filter(|block| block.lines().any(|line| line.starts_with("id ")));
    blocks
        .map(|block| Mutant {
            id: field(block, "id"),
            file: field(block, "file"),
            test: field(block, "test"),
            old: lines_with(block, '-'),
            new: lines_with(block, '+'),
        })
        .collect()
}

#[test]
fn every_planted_fault_can_still_be_planted() {
    let mutants = mutants();
    assert!(mutants.len() >= 40, "{}", mutants.len());
    for Mutant { id, file, test, old, new } in mutants {
        assert_eq!(text(file).matches(&old).count(), 1, "{id}: in {file}:\n{old}");
        assert_ne!(old, new, "{id}");
        assert!(test.starts_with("-p "), "{id}: `cargo test` of one package: {test}");
    }
}
