//! Reads the lines that the user types, or that a script sends through a pipe.
//!
//! Serves [`Chat`](super::Chat). Lines are carried out in order and none is lost, even while the connection is down.

use std::collections::VecDeque;
use std::io::{self, BufRead, Read};
use std::thread;

use imd::text::{self, NotText};
use tokio::sync::mpsc;

use super::line::Line;
use crate::cli::failure;

/// Number of bytes of a line that are kept: more than fit any frame, so that a cut line is still refused as too long.
const MAX_LINE_BYTES: u64 = 128 << 10;

/// Number of lines that may be read before they are carried out.
const MAX_READ_AHEAD: usize = 1024;

/// The lines of the user or the script, in order.
pub struct Input {
    lines: mpsc::Receiver<String>,
    /// Lines that were read while the connection was down. They come before those in `lines`.
    read_ahead: VecDeque<String>,
    /// Set once the input has ended; `read_ahead` may still hold lines.
    ended: bool,
    /// Set when a person types the lines.
    is_typed: bool,
}

impl Input {
    /// Creates the input of a terminal, whose editor sends `lines`.
    pub fn typed(lines: mpsc::Receiver<String>) -> Self {
        Input {
            lines,
            read_ahead: VecDeque::new(),
            ended: false,
            is_typed: true,
        }
    }

    /// Creates the input of a pipe or a file, and starts the thread that reads stdin.
    pub fn piped() -> Self {
        let (send, lines) = mpsc::channel(MAX_READ_AHEAD);
        // Stdin is read by a dedicated thread: a blocking read can't be cancelled, and must not keep the runtime from
        // ending.
        thread::spawn(move || {
            let mut stdin = io::stdin().lock();
            let mut line = Vec::new();
            let mut is_first = true;
            while let Ok(1..) = read_line(&mut stdin, &mut line) {
                let text = String::from_utf8_lossy(&line);
                let text = match (is_first, text::read(&line)) {
                    (true, Ok(text)) => text.to_owned(),
                    (true, Err(error @ NotText::Encoded(_))) => {
                        failure::warn(&format!("stdin: {error}"));
                        text.into_owned()
                    }
                    _ => text.into_owned(),
                };
                is_first = false;
                line.clear();
                if send.blocking_send(text).is_err() {
                    return;
                }
            }
        });
        Input {
            is_typed: false,
            ..Input::typed(lines)
        }
    }

    /// Returns whether a person types the lines. A script must be told of every line that was not carried out.
    pub fn is_interactive(&self) -> bool {
        self.is_typed
    }

    /// Returns whether the end of the input was read.
    pub fn has_ended(&self) -> bool {
        self.ended
    }

    /// Returns the next line, or `None` at the end. Cancel safe: a cancelled wait loses no line.
    pub async fn next(&mut self) -> Option<String> {
        if let Some(line) = self.read_ahead.pop_front() {
            return Some(line);
        }
        if self.ended {
            return None;
        }
        let line = self.lines.recv().await;
        self.ended = line.is_none();
        line
    }

    /// Reads lines ahead, and resolves when a person asks to leave. For a script it never resolves, because its lines
    /// are carried out in order.
    pub async fn wants_to_leave(&mut self) {
        while !self.ended && self.read_ahead.len() < MAX_READ_AHEAD {
            match self.lines.recv().await {
                None => self.ended = true,
                Some(line) if self.is_typed && Line::parse(&line) == Line::Quit => return,
                Some(line) => self.read_ahead.push_back(line),
            }
        }
        if !(self.ended && self.is_typed) {
            std::future::pending::<()>().await;
        }
    }
}

/// Reads a line, and keeps at most [`MAX_LINE_BYTES`] of it, which is still too long to be sent. Returns the number
/// of bytes that were kept, which is 0 at the end.
fn read_line(input: &mut impl BufRead, line: &mut Vec<u8>) -> io::Result<usize> {
    let kept = (&mut *input).take(MAX_LINE_BYTES).read_until(b'\n', line)?;
    if kept as u64 == MAX_LINE_BYTES && !line.ends_with(b"\n") {
        input.skip_until(b'\n')?;
    }
    Ok(kept)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_that_is_too_long_is_cut_and_the_next_one_is_read() {
        let long = io::repeat(b'x').take(10 * MAX_LINE_BYTES);
        let mut input = io::BufReader::new(long.chain(&b"\nnext\nlast"[..]));
        let mut lines = Vec::new();
        loop {
            let mut line = Vec::new();
            if read_line(&mut input, &mut line).unwrap() == 0 {
                break;
            }
            lines.push(line);
        }
        assert_eq!(lines[0].len() as u64, MAX_LINE_BYTES);
        assert_eq!(lines[1..], [&b"next\n"[..], b"last"]);
    }
}
