//! The signals that end a process with manners.

use std::io;
use std::time::{Duration, Instant};

#[cfg(unix)]
use nix::sys::signal::Signal;
#[cfg(unix)]
use tokio::signal::unix::{Signal as Listener, SignalKind, signal};
#[cfg(windows)]
use tokio::signal::windows::{CtrlC, ctrl_c};

use super::failure::Failure;

/// Signals that come so close together mean one thing: a terminal, a shell and a package manager all pass the same Ctrl-C
/// on.
pub const TOGETHER: Duration = Duration::from_millis(500);

/// SIGINT, SIGTERM, and SIGHUP, which a closed terminal sends; on Windows, Ctrl-C. From its creation on they no longer end
/// the process by themselves.
///
/// SIGHUP and SIGINT stay ignored where they were ignored when the process began: so do `nohup` and a background job of a
/// script ask for it. SIGTERM is meant for this process alone, and is always heard.
pub struct Signals {
    #[cfg(unix)]
    interrupt: Option<Listener>,
    #[cfg(unix)]
    terminate: Listener,
    #[cfg(unix)]
    hang_up: Option<Listener>,
    #[cfg(windows)]
    interrupt: CtrlC,
    first: Option<Instant>,
}

impl Signals {
    /// Begins to listen.
    ///
    /// # Errors
    ///
    /// When the system refuses.
    pub fn listen() -> Result<Self, Failure> {
        Signals::try_listen()
            .map_err(|error| Failure::Failed(format!("can't listen for signals: {error}")))
    }

    #[cfg(unix)]
    fn try_listen() -> io::Result<Self> {
        let unless_ignored = |which, kind| match is_ignored(which) {
            true => Ok(None),
            false => signal(kind).map(Some),
        };
        Ok(Signals {
            interrupt: unless_ignored(Signal::SIGINT, SignalKind::interrupt())?,
            terminate: signal(SignalKind::terminate())?,
            hang_up: unless_ignored(Signal::SIGHUP, SignalKind::hangup())?,
            first: None,
        })
    }

    #[cfg(windows)]
    fn try_listen() -> io::Result<Self> {
        Ok(Signals {
            interrupt: ctrl_c()?,
            first: None,
        })
    }

    /// Waits for the first signal, and when called again, for one that is meant to hurry: it comes at least half a second
    /// after the first.
    pub async fn next(&mut self) {
        loop {
            self.any().await;
            match self.first {
                Some(first) if first.elapsed() < TOGETHER => {}
                Some(_) => return,
                None => {
                    self.first = Some(Instant::now());
                    return;
                }
            }
        }
    }

    #[cfg(unix)]
    async fn any(&mut self) {
        tokio::select! {
            () = heard(&mut self.interrupt) => {}
            _ = self.terminate.recv() => {}
            () = heard(&mut self.hang_up) => {}
        }
    }

    #[cfg(windows)]
    async fn any(&mut self) {
        self.interrupt.recv().await;
    }
}

#[cfg(unix)]
async fn heard(listener: &mut Option<Listener>) {
    match listener {
        Some(listener) => drop(listener.recv().await),
        None => std::future::pending().await,
    }
}

/// Whether a signal is ignored by this process. Only Linux says so without unsafe code: elsewhere none counts as ignored.
#[cfg(unix)]
pub fn is_ignored(signal: Signal) -> bool {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    let mask = mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok());
    mask.is_some_and(|mask| mask >> (signal as i32 - 1) & 1 == 1)
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;

    #[test]
    fn what_is_ignored_is_read_from_the_system() {
        // Every Rust program ignores SIGPIPE.
        assert!(is_ignored(Signal::SIGPIPE));
        assert!(!is_ignored(Signal::SIGTERM));
    }
}
