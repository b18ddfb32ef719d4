//! The CPU time of processes and threads.
//!
//! Serves the reports of `imd bench` and `examples/side_by_side`, which say whether the server, the load or the machine was
//! the limit. Nothing is returned where the system does not tell it.

use std::time::Duration;

/// Returns the CPU time that a process has used so far.
#[cfg(target_os = "linux")]
pub fn process_cpu(pid: u32) -> Option<Duration> {
    let pid = nix::unistd::Pid::from_raw(i32::try_from(pid).ok()?);
    let clock = nix::time::clock_getcpuclockid(pid).ok()?;
    Some(clock.now().ok()?.into())
}

/// Returns the CPU time that a process has used so far.
#[cfg(not(target_os = "linux"))]
pub fn process_cpu(_pid: u32) -> Option<Duration> {
    None
}

/// Returns the CPU time that the calling thread has used so far.
#[cfg(unix)]
pub fn thread_cpu() -> Option<Duration> {
    let clock = nix::time::ClockId::CLOCK_THREAD_CPUTIME_ID;
    Some(clock.now().ok()?.into())
}

/// Returns the CPU time that the calling thread has used so far.
#[cfg(not(unix))]
pub fn thread_cpu() -> Option<Duration> {
    None
}

/// Returns how long the calling thread has waited for a core so far while it could run.
#[cfg(target_os = "linux")]
pub fn thread_waited() -> Option<Duration> {
    let figures = std::fs::read_to_string("/proc/thread-self/schedstat").ok()?;
    let waited = figures.split_whitespace().nth(1)?.parse().ok()?;
    Some(Duration::from_nanos(waited))
}

/// Returns how long the calling thread has waited for a core so far while it could run.
#[cfg(not(target_os = "linux"))]
pub fn thread_waited() -> Option<Duration> {
    None
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;

    #[test]
    fn the_system_says_what_this_process_uses() {
        let pid = std::process::id();
        assert!(crate::metrics::resident(pid) > Some(100_000));
        assert!(process_cpu(pid) >= thread_cpu() && thread_cpu() > Some(Duration::ZERO));
        assert_eq!(process_cpu(u32::MAX), None);
    }
}
