//! The README says what is.

use std::fs;
use std::path::Path;

fn read(path: &str) -> String {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    fs::read_to_string(root.join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

#[test]
fn the_program_of_the_readme_is_the_example_hello() {
    let readme = read("README.md");
    let program = readme.split("```rust\n").nth(1).and_then(|rest| rest.split("```").next());
    let example = read("examples/hello.rs");
    let (_, code) = example.split_once("\n\n").expect("a module comment, then the code");
    assert_eq!(program, Some(code));
}

#[test]
fn the_test_command_of_the_readme_is_the_one_of_the_gate() {
    let command = "cargo test --workspace";
    assert!(read("README.md").contains(&format!("\n{command} ")));
    assert!(read(".ci/run").contains(&format!("step 'tests' {command}\n")));
}
