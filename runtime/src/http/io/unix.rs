//! The same for Unix sockets.

use super::{FillsOnly, impl_hyper};
use crate::net::UnixStream;

// SAFETY: as for `TcpStream`.
unsafe impl FillsOnly for UnixStream {}

impl_hyper!(UnixStream);
