//! The command of `imd exec` where there are no Unix signals: the console tells every process itself.

use std::io;
use std::process::Command;

use crate::cli::failure::FAILED;
use crate::cli::signals;

/// Ctrl-C.
pub struct Signals(signals::Signals);

impl Signals {
    /// Begins to listen.
    ///
    /// # Errors
    ///
    /// When the system refuses.
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

/// A command that runs. It is killed when dropped.
pub struct Running(tokio::process::Child);

impl Running {
    /// Starts a command.
    ///
    /// # Errors
    ///
    /// What the system says.
    pub fn start(command: Command) -> io::Result<Running> {
        let mut command = tokio::process::Command::from(command);
        Ok(Running(command.kill_on_drop(true).spawn()?))
    }

    /// Waits for its end, and returns its code.
    ///
    /// # Errors
    ///
    /// What the system says.
    pub async fn ended(&mut self, _: &mut Signals) -> io::Result<u8> {
        let code = self.0.wait().await?.code();
        Ok(code
            .and_then(|code| u8::try_from(code).ok())
            .unwrap_or(FAILED))
    }
}
