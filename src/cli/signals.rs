//! The signals that end a process with manners.

use std::io;

#[cfg(unix)]
use tokio::signal::unix::{Signal, SignalKind, signal};
#[cfg(windows)]
use tokio::signal::windows::{CtrlC, ctrl_c};

use super::failure::Failure;

/// SIGINT, SIGTERM, and SIGHUP, which a closed terminal sends; on Windows, Ctrl-C. From its creation on they no longer end the process by themselves.
pub struct Signals {
    #[cfg(unix)]
    interrupt: Signal,
    #[cfg(unix)]
    terminate: Signal,
    #[cfg(unix)]
    hang_up: Signal,
    #[cfg(windows)]
    interrupt: CtrlC,
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
        Ok(Signals {
            interrupt: signal(SignalKind::interrupt())?,
            terminate: signal(SignalKind::terminate())?,
            hang_up: signal(SignalKind::hangup())?,
        })
    }

    #[cfg(windows)]
    fn try_listen() -> io::Result<Self> {
        Ok(Signals {
            interrupt: ctrl_c()?,
        })
    }

    /// Waits for the next one.
    #[cfg(unix)]
    pub async fn next(&mut self) {
        self.next_kind().await;
    }

    /// The same, and says which it was.
    #[cfg(unix)]
    pub async fn next_kind(&mut self) -> nix::sys::signal::Signal {
        use nix::sys::signal::Signal::{SIGHUP, SIGINT, SIGTERM};
        tokio::select! {
            _ = self.interrupt.recv() => SIGINT,
            _ = self.terminate.recv() => SIGTERM,
            _ = self.hang_up.recv() => SIGHUP,
        }
    }

    /// The same: there is one kind only.
    #[cfg(windows)]
    pub async fn next_kind(&mut self) {
        self.next().await;
    }

    /// Waits for the next one.
    #[cfg(windows)]
    pub async fn next(&mut self) {
        self.interrupt.recv().await;
    }
}
