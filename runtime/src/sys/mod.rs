//! Thin wrappers of system calls that neither `std` nor mio has. No policy here; whoever calls has the reasons.

#[cfg(all(not(miri), any(target_os = "linux", target_os = "android")))]
pub(crate) mod timerfd;

#[cfg(all(target_os = "linux", target_env = "gnu"))]
pub(crate) mod memory;
#[cfg(not(all(target_os = "linux", target_env = "gnu")))]
#[path = "memory_elsewhere.rs"]
pub(crate) mod memory;
