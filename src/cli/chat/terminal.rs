//! The terminal: lines are edited below, what arrives is printed above.

use std::mem;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc as std_mpsc;
use std::thread;
use std::time::Duration;

use rustyline::error::ReadlineError;
use rustyline::{DefaultEditor, ExternalPrinter};
use tokio::sync::mpsc;

use super::input::Input;
use super::line::Line;
use crate::cli::output;

/// A person does not type faster than that.
const TYPED_AHEAD: usize = 64;

/// How long what was printed last may take to appear.
const FINAL_WRITE_TIMEOUT: Duration = Duration::from_millis(300);

/// Prints above the line that is being edited. Dropping it leaves the terminal as it was found.
pub struct Terminal {
    /// None once it is to end.
    to_print: Option<std_mpsc::Sender<String>>,
    /// Disconnected when everything is printed.
    printed: std_mpsc::Receiver<()>,
    editing: Arc<AtomicBool>,
    found: Mode,
}

impl Terminal {
    /// Takes the terminal over.
    ///
    /// # Errors
    ///
    /// When it can't edit lines.
    pub fn open() -> rustyline::Result<(Terminal, Input)> {
        let found = Mode::read();
        // Pasted lines are lines.
        let config = rustyline::Config::builder().bracketed_paste(false).build();
        let mut editor = DefaultEditor::with_config(config)?;
        let printer = editor.create_external_printer()?;
        let (to_print, texts) = std_mpsc::channel();
        let (done, printed) = std_mpsc::channel();
        // Both the editor and its printer block.
        thread::spawn(move || print(printer, texts, done));
        let (send, lines) = mpsc::channel(TYPED_AHEAD);
        let editing = Arc::new(AtomicBool::new(true));
        let still_editing = Arc::clone(&editing);
        thread::spawn(move || {
            edit(editor, &send);
            still_editing.store(false, Ordering::Release);
        });
        let terminal = Terminal {
            to_print: Some(to_print),
            printed,
            editing,
            found,
        };
        Ok((terminal, Input::typed(lines)))
    }

    /// Prints a line, soon.
    pub fn say(&self, line: &str) {
        if let Some(to_print) = &self.to_print {
            // Fails only when the terminal is gone; then the input ends too.
            let _ = to_print.send(format!("{line}\n"));
        }
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        self.to_print = None;
        let _ = self.printed.recv_timeout(FINAL_WRITE_TIMEOUT);
        if self.editing.load(Ordering::Acquire) {
            let found = mem::replace(&mut self.found, Mode::none());
            let (done, restored) = std_mpsc::channel();
            // A terminal that was stopped blocks this thread alone.
            thread::spawn(move || {
                found.restore();
                // The shell's prompt begins on a line of its own.
                let _ = output::line("");
                let _ = done.send(());
            });
            let _ = restored.recv_timeout(output::FINAL_WRITE_TIMEOUT);
        }
    }
}

fn print(
    mut printer: impl ExternalPrinter,
    texts: std_mpsc::Receiver<String>,
    _done: std_mpsc::Sender<()>,
) {
    for text in texts {
        if printer.print(text).is_err() {
            return;
        }
    }
}

/// Reads lines until the user wants to leave. The prompt is gone by then, so that the last words stand below it.
fn edit(mut editor: DefaultEditor, lines: &mpsc::Sender<String>) {
    loop {
        match editor.readline("> ") {
            Ok(line) => {
                // Without a history the chat is still a chat.
                let _ = editor.add_history_entry(line.as_str());
                let leaves = Line::parse(&line) == Line::Quit;
                if lines.blocking_send(line).is_err() || leaves {
                    return;
                }
            }
            Err(ReadlineError::Signal(_)) => {}
            // Ctrl-C, Ctrl-D, or the terminal is gone.
            Err(_) => return,
        }
    }
}

/// How the terminal was set. The editor restores it too, but not while it waits for a key.
#[cfg(unix)]
struct Mode(Option<nix::sys::termios::Termios>);

#[cfg(unix)]
impl Mode {
    fn none() -> Self {
        Mode(None)
    }

    fn read() -> Self {
        Mode(nix::sys::termios::tcgetattr(std::io::stdin()).ok())
    }

    fn restore(&self) {
        if let Some(found) = &self.0 {
            use nix::sys::termios::{SetArg, tcsetattr};
            // There is nothing else to try.
            let _ = tcsetattr(std::io::stdin(), SetArg::TCSADRAIN, found);
        }
    }
}

/// Windows' consoles are set again by the shell.
#[cfg(not(unix))]
struct Mode;

#[cfg(not(unix))]
impl Mode {
    fn none() -> Self {
        Mode
    }

    fn read() -> Self {
        Mode
    }

    fn restore(&self) {}
}
