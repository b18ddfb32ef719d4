//! The output of a chat: a terminal with an editor, or plain lines.
//!
//! Serves [`Chat`](super::Chat). Every line is escaped here, because it may hold text of other users.

use std::io::{self, IsTerminal};

use super::input::Input;
use super::terminal::Terminal;
use crate::cli::escape::escape;
use crate::cli::failure::Failure;
use crate::cli::output;

/// The place where the lines of a chat are shown.
pub enum Screen {
    /// A terminal: lines appear above the one that is being edited.
    Terminal(Terminal),
    /// Plain lines on stdout.
    Plain,
}

impl Screen {
    /// Opens the screen and its input: the terminal when stdin and stdout are one, and plain lines otherwise.
    pub fn open() -> (Screen, Input) {
        if io::stdin().is_terminal() && io::stdout().is_terminal() {
            match Terminal::open() {
                Ok((terminal, input)) => return (Screen::Terminal(terminal), input),
                Err(error) => tracing::info!(%error, "this terminal can't edit lines"),
            }
        }
        (Screen::Plain, Input::piped())
    }

    /// Shows a line, escaped.
    ///
    /// # Errors
    ///
    /// The errors of [`output::print`], for plain lines.
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
