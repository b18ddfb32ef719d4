//! What a process or a thread has used, as the system says. Where it does not say, nothing is known.

use std::time::Duration;

/// The CPU time of a process.
#[cfg(target_os = "linux")]
pub fn process_cpu(pid: u32) -> Option<Duration> {
    let pid = nix::unistd::Pid::from_raw(i32::try_from(pid).ok()?);
    let clock = nix::time::clock_getcpuclockid(pid).ok()?;
    Some(clock.now().ok()?.into())
}

/// The CPU time of a process.
#[cfg(not(target_os = "linux"))]
pub fn process_cpu(_pid: u32) -> Option<Duration> {
    None
}

/// The CPU time of the calling thread.
#[cfg(unix)]
pub fn thread_cpu() -> Option<Duration> {
    let clock = nix::time::ClockId::CLOCK_THREAD_CPUTIME_ID;
    Some(clock.now().ok()?.into())
}

/// The CPU time of the calling thread.
#[cfg(not(unix))]
pub fn thread_cpu() -> Option<Duration> {
    None
}

/// How long the calling thread has waited for a core while it had something to do.
#[cfg(target_os = "linux")]
pub fn thread_waited() -> Option<Duration> {
    let figures = std::fs::read_to_string("/proc/thread-self/schedstat").ok()?;
    let waited = figures.split_whitespace().nth(1)?.parse().ok()?;
    Some(Duration::from_nanos(waited))
}

/// How long the calling thread has waited for a core while it had something to do.
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
        assert!(imd::metrics::resident(pid) > Some(100_000));
        assert!(process_cpu(pid) >= thread_cpu() && thread_cpu() > Some(Duration::ZERO));
        assert_eq!(process_cpu(u32::MAX), None);
    }
}
