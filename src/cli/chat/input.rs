use std::collections::VecDeque;
use std::io::{self, BufRead, Read};
use std::thread;

use imd::text::{self, NotText};
use tokio::sync::mpsc;

use super::line::Line;
use crate::cli::failure;

/// How many bytes of a line of a script are kept: more than any frame has.
const LONGEST_LINE: u64 = 128 << 10;

/// So many lines may be read before they are carried out.
const AHEAD: usize = 1024;

/// The lines that the user types, or that a script sends.
pub struct Input {
    lines: mpsc::Receiver<String>,
    /// Read while the connection was down, for later.
    ahead: VecDeque<String>,
    ended: bool,
    by_hand: bool,
}

impl Input {
    /// The lines of a terminal.
    pub fn typed(lines: mpsc::Receiver<String>) -> Self {
        Input {
            lines,
            ahead: VecDeque::new(),
            ended: false,
            by_hand: true,
        }
    }

    /// The lines of stdin as it is.
    pub fn piped() -> Self {
        let (send, lines) = mpsc::channel(AHEAD);
        // A thread of its own: a read of stdin can't be given up, and must not keep the runtime from ending.
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
            by_hand: false,
            ..Input::typed(lines)
        }
    }

    /// Whether a person types them.
    pub fn is_by_hand(&self) -> bool {
        self.by_hand
    }

    /// Whether it is known that nothing more comes.
    pub fn has_ended(&self) -> bool {
        self.ended
    }

    /// The next line; none at the end. Nothing is lost when the wait is given up.
    pub async fn next(&mut self) -> Option<String> {
        if let Some(line) = self.ahead.pop_front() {
            return Some(line);
        }
        if self.ended {
            return None;
        }
        let line = self.lines.recv().await;
        self.ended = line.is_none();
        line
    }

    /// Reads ahead until a person wants to leave. Of a script, nothing is carried out before its turn.
    pub async fn wants_to_leave(&mut self) {
        while !self.ended && self.ahead.len() < AHEAD {
            match self.lines.recv().await {
                None => self.ended = true,
                Some(line) if self.by_hand && Line::parse(&line) == Line::Quit => return,
                Some(line) => self.ahead.push_back(line),
            }
        }
        if !(self.ended && self.by_hand) {
            std::future::pending::<()>().await;
        }
    }
}

/// Reads a line, of which it keeps [`LONGEST_LINE`] bytes: what is left is still too long to be sent. Returns how many bytes
/// it keeps; 0 at the end.
fn read_line(input: &mut impl BufRead, line: &mut Vec<u8>) -> io::Result<usize> {
    let kept = (&mut *input).take(LONGEST_LINE).read_until(b'\n', line)?;
    if kept as u64 == LONGEST_LINE && !line.ends_with(b"\n") {
        input.skip_until(b'\n')?;
    }
    Ok(kept)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_a_line_that_is_too_long_the_beginning_is_kept_and_the_rest_passed_over() {
        let long = io::repeat(b'x').take(10 * LONGEST_LINE);
        let mut input = io::BufReader::new(long.chain(&b"\nnext\nlast"[..]));
        let mut lines = Vec::new();
        loop {
            let mut line = Vec::new();
            if read_line(&mut input, &mut line).unwrap() == 0 {
                break;
            }
            lines.push(line);
        }
        assert_eq!(lines[0].len() as u64, LONGEST_LINE);
        assert_eq!(lines[1..], [&b"next\n"[..], b"last"]);
    }
}
