//! Runs the command of `imd exec` on systems without Unix signals.
//!
//! Serves [`exec`](super), and has the interface of `running`, its counterpart for Unix. The console tells every process of
//! Ctrl-C itself, so nothing is passed on.

use std::io;
use std::process::Command;

use crate::cli::failure::FAILED;
use crate::cli::signals;

/// Receives Ctrl-C.
pub struct Signals(signals::Signals);

impl Signals {
    /// Starts to listen for Ctrl-C.
    ///
    /// # Errors
    ///
    /// When the system can't register a handler.
    pub fn listen() -> io::Result<Signals> {
        let signals = signals::Signals::listen();
        Ok(Signals(
            signals.map_err(|error| io::Error::other(error.to_string()))?,
        ))
    }

    /// Resolves when the process is asked to end.
    pub async fn ending(&mut self) {
        self.0.next().await;
    }
}

/// A running command. It is killed when dropped.
pub struct Running(tokio::process::Child);

impl Running {
    /// Starts a command.
    ///
    /// # Errors
    ///
    /// When the system can't start the command.
    pub fn start(command: Command) -> io::Result<Running> {
        let mut command = tokio::process::Command::from(command);
        Ok(Running(command.kill_on_drop(true).spawn()?))
    }

    /// Waits for the command to end, and returns its exit code.
    ///
    /// # Errors
    ///
    /// When the system can't tell how the command ended.
    pub async fn ended(&mut self, _: &mut Signals) -> io::Result<u8> {
        let code = self.0.wait().await?.code();
        Ok(code
            .and_then(|code| u8::try_from(code).ok())
            .unwrap_or(FAILED))
    }
}
