//! Pins the server to one core and the load to another.
//!
//! Serves [`serve`](crate::serve) and the load: neither takes time from the other, and one core is what is measured, whichever
//! server it is. A broker inherits the core of the process that it replaces. With one core in all, nothing is pinned.

/// The core of the server.
pub const SERVER: usize = 0;
/// The core of the load.
pub const LOAD: usize = 1;

/// Pins this process to a core. Returns whether the system has done so.
#[cfg(target_os = "linux")]
pub fn pin(core: usize) -> bool {
    use nix::sched::{CpuSet, sched_setaffinity};
    use nix::unistd::Pid;
    let mut cores = CpuSet::new();
    cores.set(core).is_ok() && sched_setaffinity(Pid::from_raw(0), &cores).is_ok()
}

/// Only Linux pins processes here.
#[cfg(not(target_os = "linux"))]
pub fn pin(_: usize) -> bool {
    false
}
