//! One core for the server, another for the load: neither takes time from the other, and what is measured is one core.

/// The server's core.
pub const SERVER: usize = 0;
/// The load's core.
pub const LOAD: usize = 1;

/// Keeps this process on one core; says whether it is.
#[cfg(target_os = "linux")]
pub fn pin(core: usize) -> bool {
    use nix::sched::{CpuSet, sched_setaffinity};
    use nix::unistd::Pid;
    let mut cores = CpuSet::new();
    cores.set(core).is_ok() && sched_setaffinity(Pid::from_raw(0), &cores).is_ok()
}

/// Elsewhere the system decides.
#[cfg(not(target_os = "linux"))]
pub fn pin(_: usize) -> bool {
    false
}
