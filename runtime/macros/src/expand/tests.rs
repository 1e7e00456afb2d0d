//! The messages are drawn as the compiler draws them: the line, and under it what is wrong where. (Not trybuild: it
//! would compile everything that the tests depend on a second time, and its pictures change with the compiler.)

use super::*;
use proc_macro2::{Delimiter, TokenTree};

/// Expands `source`, an attribute and the item under it, and draws the errors.
fn complaints(source: &str) -> String {
    let mut errors = Errors::default();
    expand(source, &mut errors);
    let mut drawing = String::new();
    for error in errors {
        let (start, end) = (error.span().start(), error.span().end());
        let line = source.lines().nth(start.line - 1).unwrap();
        let width =
            if start.line == end.line { end.column - start.column } else { line.len() - start.column };
        let (indent, carets) = (" ".repeat(start.column), "^".repeat(width));
        drawing += &format!("{line}\n{indent}{carets} {error}\n");
    }
    drawing
}

/// Expands `source`, which must be free of errors, and prints the tokens.
fn expansion(source: &str) -> String {
    let mut errors = Errors::default();
    let tokens = expand(source, &mut errors);
    assert_eq!(errors.into_iter().map(|error| error.to_string()).collect::<Vec<_>>(), [""; 0]);
    tokens.to_string()
}

fn expand(source: &str, errors: &mut Errors) -> TokenStream {
    let mut tokens = source.parse::<TokenStream>().unwrap().into_iter();
    let attribute = tokens.nth(1).unwrap();
    let TokenTree::Group(attribute) = attribute else { panic!("no attribute: {attribute}") };
    let path = attribute.stream().to_string();
    let args = attribute.stream().into_iter().find_map(|token| match token {
        TokenTree::Group(args) if args.delimiter() == Delimiter::Parenthesis => Some(args.stream()),
        _ => None,
    });
    let run = if path.starts_with("runtime :: main") { main_or_stub } else { test_or_stub };
    run(args.unwrap_or_default(), tokens.collect(), errors)
}

#[track_caller]
fn assert_drawn(source: &str, expected: &str) {
    assert_eq!(complaints(source).trim_end(), expected.trim_matches('\n'));
}

#[track_caller]
fn assert_same_tokens(actual: &str, expected: &str) {
    assert_eq!(actual, expected.parse::<TokenStream>().unwrap().to_string());
}

#[test]
fn main_becomes_a_builder_and_run_main() {
    assert_same_tokens(
        &expansion("#[runtime::main] pub async fn main() -> u8 { x.await }"),
        r#"pub fn main() -> u8 {
               async fn main() -> u8 { x.await }
               match ::runtime::Runtime::builder().build() {
                   ::core::result::Result::Ok(runtime) => runtime.run_main(main()),
                   ::core::result::Result::Err(error) => {
                       ::core::panic!("bursar: the runtime cannot start: {}", error)
                   }
               }
           }"#,
    );
}

#[test]
fn every_option_of_main_becomes_a_call() {
    let expanded = expansion(
        r#"#[runtime::main(name = "api", class = "main", blocking_threads = 4, slow_poll_ms = 5_0,
                            clock = "thread-clock", seed = 0x7,)]
           async fn main() {}"#,
    );
    let calls = r#":: runtime :: Runtime :: builder () . name ("api") . class ("main") . blocking_threads (4) . slow_poll (:: core :: time :: Duration :: from_millis (50)) . clock (:: runtime :: Clock :: ThreadTime) . seed (7) . build ()"#;
    assert!(expanded.contains(calls), "{expanded}");
}

#[test]
fn every_clock_has_a_variant() {
    for (text, variant) in
        [("auto", "Auto"), ("rseq", "Rseq"), ("perf-page", "PerfPage"), ("thread-clock", "ThreadTime")]
    {
        let expanded = expansion(&format!("#[runtime::main(clock = {text:?})] async fn main() {{}}"));
        assert!(expanded.contains(&format!("Clock :: {variant})")), "{expanded}");
    }
}

#[test]
fn test_becomes_a_test_with_options() {
    assert_same_tokens(
        &expansion(
            r#"#[runtime::test(class = "GET /x", paused, seed = 7, shuffle, allow_reports)] #[should_panic]
               async fn boom() { body }"#,
        ),
        r#"#[::core::prelude::v1::test]
           #[should_panic]
           fn boom() {
               async fn boom() { body }
               ::runtime::testing::run(
                   ::runtime::testing::Options {
                       name: ::core::concat!(::core::module_path!(), "::", ::core::stringify!(boom)),
                       class: ::core::option::Option::Some("GET /x"),
                       paused: true,
                       seed: ::core::option::Option::Some(7),
                       shuffle: true,
                       allow_reports: true,
                   },
                   boom(),
               )
           }"#,
    );
}

#[test]
fn options_of_test_are_off_by_default() {
    let expanded = expansion("#[runtime::test] async fn quiet() {}");
    let options = "class : :: core :: option :: Option :: None , paused : false , seed : :: core :: option :: Option :: None , shuffle : false , allow_reports : false ,";
    assert!(expanded.contains(options), "{expanded}");
}

#[test]
fn an_unknown_option_is_told_the_known_ones() {
    assert_drawn(
        r#"#[runtime::main(nam = "api", seed = 7)] async fn main() {}"#,
        r#"
#[runtime::main(nam = "api", seed = 7)] async fn main() {}
                ^^^ unknown option `nam`; `#[runtime::main]` knows `name`, `class`, `blocking_threads`, `slow_poll_ms`, `clock`, `seed`
"#,
    );
    assert_drawn(
        "#[runtime::test(pause)] async fn t() {}",
        "
#[runtime::test(pause)] async fn t() {}
                ^^^^^ unknown option `pause`; `#[runtime::test]` knows `class`, `paused`, `seed`, `shuffle`, `allow_reports`
",
    );
}

#[test]
fn a_wrong_value_is_told_the_right_form() {
    assert_drawn(
        r#"
#[runtime::main(
    name = env!("CARGO_PKG_NAME"),
    class = 'm',
    blocking_threads = 0,
    slow_poll_ms = "50",
    clock = "sundial",
    seed = -7,
)]
async fn main() {}"#,
        r#"
    name = env!("CARGO_PKG_NAME"),
           ^^^^^^^^^^^^^^^^^^^^^^ `name` takes a string literal, as in `name = "api"`
    class = 'm',
            ^^^ `class` takes a string literal, as in `class = "main"`
    blocking_threads = 0,
                       ^ `blocking_threads` takes an integer literal of at least 1, as in `blocking_threads = 4`
    slow_poll_ms = "50",
                   ^^^^ `slow_poll_ms` takes an integer literal of at least 1, as in `slow_poll_ms = 50`
    clock = "sundial",
            ^^^^^^^^^ unknown clock "sundial"; there are "auto", "rseq", "perf-page", "thread-clock"
    seed = -7,
           ^^ `seed` takes an integer literal that fits in 64 bits, as in `seed = 7`
"#,
    );
}

#[test]
fn a_missing_or_superfluous_value_is_told() {
    assert_drawn(
        "#[runtime::test(paused = true, seed)] async fn t() {}",
        "
#[runtime::test(paused = true, seed)] async fn t() {}
                         ^^^^ `paused` takes no value
#[runtime::test(paused = true, seed)] async fn t() {}
                               ^^^^ `seed` takes an integer literal that fits in 64 bits, as in `seed = 7`
",
    );
}

#[test]
fn an_option_given_twice_is_told() {
    assert_drawn(
        "#[runtime::main(seed = 7, seed = 8)] async fn main() {}",
        "
#[runtime::main(seed = 7, seed = 8)] async fn main() {}
                          ^^^^ `seed` is given twice
",
    );
}

#[test]
fn what_is_no_option_at_all_is_told() {
    assert_drawn(
        r#"#[runtime::main("api")] async fn main() {}"#,
        r#"
#[runtime::main("api")] async fn main() {}
                ^^^^^ expected identifier
"#,
    );
}

#[test]
fn everything_in_the_way_is_told_at_once() {
    assert_drawn(
        r#"
#[runtime::main]
const unsafe extern "C" fn main<T>(argc: T, argv: u8) where T: Copy {}"#,
        r#"
const unsafe extern "C" fn main<T>(argc: T, argv: u8) where T: Copy {}
                        ^^ `#[runtime::main]` runs an `async fn`: write `async fn main`
const unsafe extern "C" fn main<T>(argc: T, argv: u8) where T: Copy {}
                                   ^^^^^^^^^^^^^^^^^ a function under `#[runtime::main]` takes no arguments
const unsafe extern "C" fn main<T>(argc: T, argv: u8) where T: Copy {}
                                ^ a function under `#[runtime::main]` takes no generic parameters
const unsafe extern "C" fn main<T>(argc: T, argv: u8) where T: Copy {}
                                                      ^^^^^^^^^^^^^ a function under `#[runtime::main]` has no `where` clause
const unsafe extern "C" fn main<T>(argc: T, argv: u8) where T: Copy {}
^^^^^ a function under `#[runtime::main]` is not `const`
const unsafe extern "C" fn main<T>(argc: T, argv: u8) where T: Copy {}
             ^^^^^^^^^^ a function under `#[runtime::main]` is not `extern`
const unsafe extern "C" fn main<T>(argc: T, argv: u8) where T: Copy {}
      ^^^^^^ a function under `#[runtime::main]` is not `unsafe`
"#,
    );
}

#[test]
fn a_second_test_attribute_is_told() {
    assert_drawn(
        "#[runtime::test] #[test] async fn t() {}",
        "
#[runtime::test] #[test] async fn t() {}
                 ^^^^^^^ `#[runtime::test]` makes this a test already: remove `#[test]`
",
    );
}

#[test]
fn an_item_that_is_no_function_is_told_and_kept() {
    assert_drawn(
        "#[runtime::main] struct Main;",
        "
#[runtime::main] struct Main;
                 ^^^^^^ expected `fn`
",
    );
    let mut errors = Errors::default();
    assert_eq!(expand("#[runtime::main] struct Main;", &mut errors).to_string(), "struct Main ;");
}

#[test]
fn the_item_survives_a_wrong_option() {
    let mut errors = Errors::default();
    let tokens = expand("#[runtime::main(nam, seed = 7)] async fn main() { body }", &mut errors);
    assert!(tokens.to_string().contains("builder () . seed (7) . build ()"), "{tokens}");
}

#[test]
fn the_item_survives_a_wrong_signature_under_its_name() {
    let mut errors = Errors::default();
    let tokens = expand("#[runtime::main] /** docs */ pub async fn main(x: u8) -> u8 { body }", &mut errors);
    assert_same_tokens(
        &tokens.to_string(),
        "#[allow(dead_code)]
         pub fn main() {
             #[allow(dead_code)]
             /** docs */ pub async fn main(x: u8) -> u8 { body }
         }",
    );
}

#[test]
fn errors_become_compile_errors_before_the_item() {
    let tokens = main("nam".parse().unwrap(), "async fn main() {}".parse().unwrap()).to_string();
    let (error, item) = tokens.split_once("fn main").unwrap();
    assert!(error.contains("compile_error ! {") && error.contains("unknown option `nam`"), "{error}");
    assert!(item.contains("run_main (main ())"), "{item}");
}
