//! What the macros emit compiles, runs, and passes its options on. This crate plays the part of the runtime: to the
//! emitted code it *is* `::runtime`, with the few names that the code mentions.

extern crate self as runtime;

pub use bursar_macros::{main, test};

use std::pin::pin;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

/// Stands in for `runtime::Runtime`.
pub struct Runtime;

/// Stands in for `runtime::Clock`.
#[derive(Debug)]
pub enum Clock {
    /// The one that the test below asks for.
    PerfPage,
}

/// Stands in for `runtime::Builder`: remembers the calls.
pub struct Builder(String);

impl Runtime {
    /// As the real one.
    pub fn builder() -> Builder {
        Builder(String::new())
    }

    /// As the real one.
    pub fn run_main<F: Future>(self, future: F) -> F::Output {
        self.block_on(future)
    }

    /// Polls once: the futures of these tests never wait.
    pub fn block_on<F: Future>(&self, future: F) -> F::Output {
        match pin!(future).poll(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(output) => output,
            Poll::Pending => panic!("the future waits"),
        }
    }
}

impl Builder {
    /// As the real one.
    pub fn name(self, name: &str) -> Self {
        self.called(format!("name {name}"))
    }

    /// As the real one.
    pub fn class(self, class: &'static str) -> Self {
        self.called(format!("class {class}"))
    }

    /// As the real one.
    pub fn blocking_threads(self, threads: usize) -> Self {
        self.called(format!("blocking_threads {threads}"))
    }

    /// As the real one.
    pub fn slow_poll(self, limit: Duration) -> Self {
        self.called(format!("slow_poll {limit:?}"))
    }

    /// As the real one.
    pub fn clock(self, clock: Clock) -> Self {
        self.called(format!("clock {clock:?}"))
    }

    /// As the real one.
    pub fn seed(self, seed: u64) -> Self {
        self.called(format!("seed {seed}"))
    }

    /// Fails with the calls, if there were any, so that a test can see them in the panic.
    pub fn build(self) -> Result<Runtime, String> {
        if self.0.is_empty() { Ok(Runtime) } else { Err(self.0) }
    }

    fn called(self, call: String) -> Self {
        Self(format!("{}[{call}]", self.0))
    }
}

/// Stands in for `runtime::testing`.
pub mod testing {
    /// As the real one.
    #[derive(Debug)]
    pub struct Options {
        /// As the real one.
        pub name: &'static str,
        /// As the real one.
        pub class: Option<&'static str>,
        /// As the real one.
        pub paused: bool,
        /// As the real one.
        pub seed: Option<u64>,
        /// As the real one.
        pub shuffle: bool,
        /// As the real one.
        pub allow_reports: bool,
    }

    std::thread_local! {
        pub(crate) static LAST: std::cell::RefCell<String> = const { std::cell::RefCell::new(String::new()) };
    }

    /// Leaves the options in `LAST`.
    pub fn run<F: Future>(options: Options, future: F) -> F::Output {
        LAST.set(format!("{options:?}"));
        crate::Runtime.block_on(future)
    }
}

fn options_of_this_test() -> String {
    testing::LAST.with_borrow(String::clone)
}

mod programs {
    /// Documented, and returns through `?`.
    #[runtime::main]
    pub(crate) async fn fallible() -> Result<u8, Box<dyn std::error::Error>> {
        let number = std::future::ready("12").await.parse::<u8>()?;
        Ok(number)
    }

    #[runtime::main]
    pub(crate) async fn opaque() -> impl std::process::Termination {
        std::process::ExitCode::SUCCESS
    }

    #[runtime::main(
        name = "api",
        class = "main",
        blocking_threads = 4,
        slow_poll_ms = 50,
        clock = "perf-page",
        seed = 7
    )]
    pub(crate) async fn configured() {}

    #[test]
    fn main_returns_what_the_function_returns() {
        assert_eq!(fallible().unwrap(), 12);
        let _ = opaque();
    }

    #[test]
    #[should_panic(expected = "bursar: the runtime cannot start: [name api][class main][blocking_threads 4]\
                               [slow_poll 50ms][clock PerfPage][seed 7]")]
    fn options_reach_the_builder_and_a_failed_build_is_a_clear_panic() {
        configured();
    }
}

mod tests {
    use super::options_of_this_test;

    #[runtime::test]
    async fn a_plain_test_has_its_full_name_and_nothing_set() {
        let name = "expansion::tests::a_plain_test_has_its_full_name_and_nothing_set";
        assert_eq!(
            options_of_this_test(),
            format!(
                "Options {{ name: {name:?}, class: None, paused: false, seed: None, shuffle: false, \
                 allow_reports: false }}"
            )
        );
    }

    #[runtime::test(class = "x", paused, seed = 7, shuffle, allow_reports)]
    async fn options_reach_the_run() -> Result<(), std::num::ParseIntError> {
        "1".parse::<u8>()?;
        let options = options_of_this_test();
        let expected =
            "class: Some(\"x\"), paused: true, seed: Some(7), shuffle: true, allow_reports: true }";
        assert!(options.ends_with(expected), "{options}");
        Ok(())
    }

    #[runtime::test]
    #[should_panic(expected = "as it should")]
    async fn other_attributes_stay() {
        panic!("as it should");
    }

    #[runtime::test]
    #[cfg(any())]
    async fn a_test_that_is_configured_out() {
        let () = "no types are checked here";
    }
}
