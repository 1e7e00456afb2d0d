//! The attribute macros of `bursar-runtime`, which re-exports them as `runtime::main` and `runtime::test`.
//!
//! Both turn an `async fn` into an ordinary one: the `async fn` moves inside, with its name, and the outer function
//! runs it. Nothing else is rewritten; the body is not even parsed. The code they emit names `::runtime::Runtime`,
//! `::runtime::Clock` and `::runtime::testing::run`.
//!
//! | file | what it knows |
//! |---|---|
//! | `args.rs` | the options of each attribute, and what a wrong one is told |
//! | `parse.rs` | the function under the attribute, and what it must look like |
//! | `expand.rs` | the code that comes out |
//! | `errors.rs` | that every mistake is told at once |

mod args;
mod errors;
mod expand;
mod parse;

use proc_macro::TokenStream;

/// Runs an `async fn` as the program: builds a [`Runtime`] and runs the function's future on it (`Runtime::run_main`).
///
/// `SIGINT`, `SIGTERM` and `SIGHUP` are heard from its first line on. One that the program does not listen for drops the
/// future and the tasks in order, and ends the process with the status 128 + its number; a second one does so at once.
///
/// ```text
/// #[runtime::main(name = "api", blocking_threads = 4)]
/// async fn main() -> Result<(), Box<dyn std::error::Error>> {
///     serve("127.0.0.1:8080").await
/// }
/// ```
///
/// becomes
///
/// ```text
/// fn main() -> Result<(), Box<dyn std::error::Error>> {
///     async fn main() -> Result<(), Box<dyn std::error::Error>> { serve("127.0.0.1:8080").await }
///     match ::runtime::Runtime::builder().name("api").blocking_threads(4).build() {
///         Ok(runtime) => runtime.run_main(main()),
///         Err(error) => panic!("bursar: the runtime cannot start: {error}"),
///     }
/// }
/// ```
///
/// # Options
///
/// Every value is a literal. For a computed one, use `Runtime::builder()` in a plain `fn main`.
///
/// | option | meaning |
/// |---|---|
/// | `name = "api"` | the runtime's name, in reports and metrics |
/// | `class = "main"` | the class of the context in which the function runs |
/// | `blocking_threads = 4` | the most threads the blocking pool may have, at least 1 |
/// | `slow_poll_ms = 50` | a poll that takes longer, in milliseconds, is reported; at least 1 |
/// | `clock = "auto"` | the source of CPU time: `"auto"`, `"rseq"`, `"perf-page"` or `"thread-clock"` |
/// | `seed = 7` | shuffles the run queue from this seed |
///
/// # Panics
///
/// The emitted function panics if the runtime cannot be built, for instance because the process has no file
/// descriptors left.
///
/// [`Runtime`]: https://docs.rs/bursar-runtime/latest/runtime/struct.Runtime.html
#[proc_macro_attribute]
pub fn main(args: TokenStream, item: TokenStream) -> TokenStream {
    expand::main(args.into(), item.into()).into()
}

/// Runs an `async fn` as a test, which fails if anything was reported to the sentinel meanwhile.
///
/// ```text
/// #[runtime::test(paused)]
/// async fn a_year_passes() {
///     runtime::time::sleep(std::time::Duration::from_secs(365 * 86_400)).await;
/// }
/// ```
///
/// The function may return whatever a `#[test]` may return. Other attributes (`#[should_panic]`, `#[cfg(..)]`,
/// documentation) stay on the test.
///
/// # Options
///
/// | option | meaning |
/// |---|---|
/// | `class = "GET /x"` | the class of a context in which the test runs; without it the test runs in none, and what it spawns by `spawn` is reported |
/// | `paused` | time stands still and jumps to the next deadline whenever the runtime is idle |
/// | `seed = 7` | shuffles the run queue from this seed |
/// | `shuffle` | shuffles the run queue from a seed that is drawn, and printed if the test fails |
/// | `allow_reports` | reports to the sentinel do not fail the test |
///
/// Without `seed` and `shuffle`, tasks run in the order in which they are woken. The environment variable `BURSAR_SEED` is the
/// seed of all tests that have none.
#[proc_macro_attribute]
pub fn test(args: TokenStream, item: TokenStream) -> TokenStream {
    expand::test(args.into(), item.into()).into()
}
