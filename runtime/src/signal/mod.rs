//! Signals of the operating system.
//!
//! A program that is to end in order listens for [`terminate`]: Ctrl-C, `SIGTERM` and the loss of its terminal. Under
//! `#[runtime::main]` a program that listens for nothing ends in order as well.

mod end;
pub mod unix;

pub use end::{Terminate, terminate};
pub(crate) use end::{Unheard, was_asked};

use std::io;

use unix::SignalKind;

/// Waits for `SIGINT`, which is what Ctrl-C sends.
///
/// It counts from the first poll. From then on the signal does not end the process any more, also when nobody waits: to
/// miss none, keep a [`unix::Signal`]. To wait for the end of the program use [`terminate`], which hears `SIGTERM` as well.
///
/// ```no_run
/// # fn main() -> std::io::Result<()> {
/// # runtime::Runtime::new()?.block_on(async {
/// runtime::signal::ctrl_c().await?;
/// println!("going down");
/// # Ok(())
/// # })
/// # }
/// ```
///
/// # Errors
///
/// When the process is out of file descriptors, and if no runtime runs on this thread.
pub async fn ctrl_c() -> io::Result<()> {
    unix::signal(SignalKind::interrupt())?.recv().await;
    Ok(())
}
