//! Signals of the operating system.

pub mod unix;

use std::io;

use unix::SignalKind;

/// Waits for `SIGINT`, which is what Ctrl-C sends.
///
/// It counts from the first poll. From then on the signal does not end the process any more, also when nobody waits: to
/// miss none, keep a [`unix::Signal`].
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
