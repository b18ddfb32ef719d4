use std::io::{self, IsTerminal};

use super::input::Input;
use super::terminal::Terminal;
use crate::cli::escape::escape;
use crate::cli::failure::Failure;
use crate::cli::output;

/// Where the chat is shown.
pub enum Screen {
    /// Above the line that is being edited.
    Terminal(Terminal),
    /// Line after line on stdout.
    Plain,
}

impl Screen {
    /// The terminal, when there is one at both ends; else plain lines.
    pub fn open() -> (Screen, Input) {
        if io::stdin().is_terminal() && io::stdout().is_terminal() {
            match Terminal::open() {
                Ok((terminal, input)) => return (Screen::Terminal(terminal), input),
                Err(error) => tracing::info!(%error, "this terminal can't edit lines"),
            }
        }
        (Screen::Plain, Input::piped())
    }

    /// Shows a line. It may hold what others wrote, so it is escaped.
    ///
    /// # Errors
    ///
    /// When nobody can see it any more.
    pub async fn say(&self, line: &str) -> Result<(), Failure> {
        let line = escape(line);
        match self {
            Screen::Terminal(terminal) => {
                terminal.say(&line);
                Ok(())
            }
            Screen::Plain => output::print(line).await,
        }
    }
}
