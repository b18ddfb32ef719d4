//! Edits lines in a terminal, and prints messages above the line that is being edited.
//!
//! Serves [`Screen`](super::screen::Screen). The editor and the printer block, so each has a thread of its own; a
//! stopped terminal blocks these threads alone.

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

/// Number of typed lines that wait to be carried out. A person does not type faster than that.
const MAX_TYPED_AHEAD: usize = 64;

/// How long the end of a chat waits for its last lines to appear.
const FINAL_WRITE_TIMEOUT: Duration = Duration::from_millis(300);

/// A terminal with an editor. Dropping it restores the mode that the terminal had before.
pub struct Terminal {
    /// The queue of the printing thread. `None` once the terminal is being closed, which ends the thread.
    to_print: Option<std_mpsc::Sender<String>>,
    /// Disconnected when the printing thread has printed everything.
    printed: std_mpsc::Receiver<()>,
    /// Whether the editor still waits for a line, and has therefore not restored the terminal.
    editing: Arc<AtomicBool>,
    /// The mode of the terminal before the editor changed it.
    original_mode: Mode,
}

impl Terminal {
    /// Takes over the terminal, and starts the threads that edit and print.
    ///
    /// # Errors
    ///
    /// When the terminal can't edit lines. The caller then uses plain lines.
    pub fn open() -> rustyline::Result<(Terminal, Input)> {
        let original_mode = Mode::read();
        // Pasted text is taken line by line, as if it were typed.
        let config = rustyline::Config::builder().bracketed_paste(false).build();
        let mut editor = DefaultEditor::with_config(config)?;
        let printer = editor.create_external_printer()?;
        let (to_print, texts) = std_mpsc::channel();
        let (done, printed) = std_mpsc::channel();
        // Both the editor and its printer block, so neither may run on a thread of the runtime.
        thread::spawn(move || print(printer, texts, done));
        let (send, lines) = mpsc::channel(MAX_TYPED_AHEAD);
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
            original_mode,
        };
        Ok((terminal, Input::typed(lines)))
    }

    /// Queues a line to be printed.
    pub fn say(&self, line: &str) {
        if let Some(to_print) = &self.to_print {
            // This fails only when the terminal is gone, and then the input ends too.
            let _ = to_print.send(format!("{line}\n"));
        }
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        self.to_print = None;
        let _ = self.printed.recv_timeout(FINAL_WRITE_TIMEOUT);
        if self.editing.load(Ordering::Acquire) {
            let original_mode = mem::replace(&mut self.original_mode, Mode::none());
            let (done, restored) = std_mpsc::channel();
            // A stopped terminal blocks this thread instead of the end of the process.
            thread::spawn(move || {
                original_mode.restore();
                // This makes the prompt of the shell begin on a line of its own.
                let _ = output::line("");
                let _ = done.send(());
            });
            let _ = restored.recv_timeout(output::FINAL_WRITE_TIMEOUT);
        }
    }
}

/// Prints texts until the sender is dropped or the terminal fails. Dropping `_done` announces the end.
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

/// Reads lines until the user wants to leave. The prompt is gone when this returns, so that the last lines of the
/// chat stand below it.
fn edit(mut editor: DefaultEditor, lines: &mpsc::Sender<String>) {
    loop {
        match editor.readline("> ") {
            Ok(line) => {
                // A line that can't be added to the history is still carried out.
                let _ = editor.add_history_entry(line.as_str());
                let leaves = Line::parse(&line) == Line::Quit;
                if lines.blocking_send(line).is_err() || leaves {
                    return;
                }
            }
            Err(ReadlineError::Signal(_)) => {}
            // The user pressed Ctrl-C or Ctrl-D, or the terminal is gone.
            Err(_) => return,
        }
    }
}

/// The mode of the terminal. The editor restores it too, but not while it waits for a key.
#[cfg(unix)]
struct Mode(Option<nix::sys::termios::Termios>);

#[cfg(unix)]
impl Mode {
    /// Returns a mode that restores nothing.
    fn none() -> Self {
        Mode(None)
    }

    /// Reads the current mode. A terminal without one is not restored.
    fn read() -> Self {
        Mode(nix::sys::termios::tcgetattr(std::io::stdin()).ok())
    }

    /// Sets the terminal back to this mode.
    fn restore(&self) {
        if let Some(original_mode) = &self.0 {
            use nix::sys::termios::{SetArg, tcsetattr};
            // There is no other way to restore the terminal.
            let _ = tcsetattr(std::io::stdin(), SetArg::TCSADRAIN, original_mode);
        }
    }
}

/// Placeholder for Windows, where the shell restores the console.
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
