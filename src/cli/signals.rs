//! Listens for the signals that ask a process to end.
//!
//! Serves the daemon and the commands that clean up before they end. From the creation of [`Signals`] on, these
//! signals no longer kill the process.

use std::io;
use std::time::{Duration, Instant};

#[cfg(unix)]
use nix::sys::signal::Signal;
#[cfg(unix)]
use tokio::signal::unix::{Signal as Listener, SignalKind, signal};
#[cfg(windows)]
use tokio::signal::windows::{CtrlC, ctrl_c};

use super::failure::Failure;

/// Signals within this time count as one, because a terminal, a shell and a package manager may each pass on the same
/// Ctrl-C.
pub const TOGETHER: Duration = Duration::from_millis(500);

/// Receives SIGINT, SIGTERM and SIGHUP, which a closing terminal sends; on Windows, Ctrl-C. From its creation on,
/// they no longer end the process by themselves.
///
/// SIGHUP and SIGINT stay ignored where they were ignored when the process began: this is how `nohup`, or a script
/// with a background job, asks for that. SIGTERM is always received, because it is sent to one process deliberately.
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
    /// Starts to listen for the signals.
    ///
    /// # Errors
    ///
    /// [`Failure::Failed`] when the system can't register a handler. The caller can only give up.
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

    /// Waits for the first signal. When called again, waits for a signal that asks to hurry, which is one that
    /// arrives at least [`TOGETHER`] after the first.
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
    /// Waits for the next signal of any kind.
    async fn any(&mut self) {
        tokio::select! {
            () = recv_unless_ignored(&mut self.interrupt) => {}
            _ = self.terminate.recv() => {}
            () = recv_unless_ignored(&mut self.hang_up) => {}
        }
    }

    #[cfg(windows)]
    /// Waits for the next Ctrl-C.
    async fn any(&mut self) {
        self.interrupt.recv().await;
    }
}

/// Waits for a signal that may be ignored, in which case it never resolves.
#[cfg(unix)]
async fn recv_unless_ignored(listener: &mut Option<Listener>) {
    match listener {
        Some(listener) => drop(listener.recv().await),
        None => std::future::pending().await,
    }
}

/// Returns whether this process ignores a signal. Only Linux reports that without unsafe code; elsewhere no signal
/// counts as ignored.
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
    fn ignored_signals_are_read_from_the_system() {
        // Every Rust program ignores SIGPIPE.
        assert!(is_ignored(Signal::SIGPIPE));
        assert!(!is_ignored(Signal::SIGTERM));
    }
}
