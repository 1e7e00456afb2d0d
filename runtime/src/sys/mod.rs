//! Thin wrappers of system calls that neither `std` nor mio has. No policy here; whoever calls has the reasons.

#[cfg(all(not(miri), any(target_os = "linux", target_os = "android")))]
pub(crate) mod timerfd;
