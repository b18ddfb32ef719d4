//! Reads text files that people write or pass on.
//!
//! Serves the config, snapshots, the records of `imd replay`, address files, and the standard input of the program.
//!
//! A text is UTF-8, with or without a byte order mark, and its lines end with LF or CRLF, so that a file that was
//! edited or piped on Windows is read as the same file. Text in UTF-16, the default of some Windows tools, is refused
//! with the name of its encoding.

use std::io::{self, BufRead, Read};

/// The byte order mark, as editors on Windows write it at the start of UTF-8.
const MARK: &str = "\u{feff}";

/// How many bytes are examined to detect UTF-16 without a byte order mark.
const SAMPLE: usize = 64;

/// How many bytes of a line are read before its limit is asked for, since the limit depends on how the line begins.
const BEGINNING: u64 = 1 << 10;

/// Why bytes are refused as text.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NotText {
    /// The text has another encoding: its name.
    #[error("this is {0} text, and only UTF-8 is read: save it as UTF-8")]
    Encoded(&'static str),
    /// A line is not valid UTF-8.
    #[error("this is no UTF-8 text")]
    NotUtf8 {
        /// Number of the first such line, from 1.
        line: usize,
    },
    /// The lines end with CR alone.
    #[error("its lines end with CR alone, and only LF or CRLF is read: convert the line ends")]
    CarriageReturns,
}

impl NotText {
    /// Returns the number of the line that is wrong, from 1.
    pub fn line(&self) -> usize {
        match self {
            NotText::NotUtf8 { line } => *line,
            NotText::Encoded(_) | NotText::CarriageReturns => 1,
        }
    }
}

/// Returns a text without its byte order mark.
///
/// # Errors
///
/// [`NotText`] if the bytes are no UTF-8.
pub fn read(bytes: &[u8]) -> Result<&str, NotText> {
    if let Some(name) = other_encoding(bytes) {
        return Err(NotText::Encoded(name));
    }
    let text = std::str::from_utf8(bytes).map_err(|error| {
        let good = bytes.get(..error.valid_up_to()).unwrap_or_default();
        let line = good.iter().filter(|&&byte| byte == b'\n').count() + 1;
        NotText::NotUtf8 { line }
    })?;
    Ok(without_mark(text))
}

/// Returns a text that consists of lines, without its byte order mark.
///
/// # Errors
///
/// [`NotText`] if the bytes are no UTF-8, or if the lines end with CR alone.
pub fn read_lines(bytes: &[u8]) -> Result<&str, NotText> {
    let text = read(bytes)?;
    if !text.contains('\n') && text.trim_end().contains('\r') {
        return Err(NotText::CarriageReturns);
    }
    Ok(text)
}

/// Reads an input to its end. Returns `None` if it has more than `limit` bytes, and leaves the rest unread.
///
/// # Errors
///
/// The error of the input.
pub fn read_within(limit: u64, input: impl Read) -> io::Result<Option<Vec<u8>>> {
    let mut bytes = Vec::new();
    let read = input
        .take(limit.saturating_add(1))
        .read_to_end(&mut bytes)?;
    Ok((read as u64 <= limit).then_some(bytes))
}

/// Reads a text line by line. Holds one line in memory at a time, and never one beyond the limit of its caller.
#[derive(Debug)]
pub struct LineReader<R> {
    input: R,
    line: Vec<u8>,
    /// Number of the line that was read last, from 1.
    number: usize,
}

/// Why a line can't be read.
#[derive(Debug, thiserror::Error)]
pub enum LineError {
    /// The input failed.
    #[error(transparent)]
    Io(#[from] io::Error),
    /// The line is no text.
    #[error(transparent)]
    NotText(#[from] NotText),
    /// The line is longer than its limit.
    #[error("it is longer than {limit} bytes, the limit for this line")]
    TooLong {
        /// The limit of this line, in bytes.
        limit: usize,
    },
}

impl<R: BufRead> LineReader<R> {
    /// Creates a reader that begins with the first line.
    pub fn new(input: R) -> Self {
        LineReader {
            input,
            line: Vec::new(),
            number: 0,
        }
    }

    /// Returns the number of the line that was read last, from 1; 0 before the first.
    pub fn number(&self) -> usize {
        self.number
    }

    /// Returns the next line without its line end, or `None` at the end of the input. The byte order mark of the first
    /// line is removed.
    ///
    /// `limit` gets the beginning of the line and returns how many bytes a line that begins like this may have. Of a
    /// longer line, no more than that is read.
    ///
    /// # Errors
    ///
    /// [`LineError`]. After that the reader may be in the middle of a line, and should not be used any more.
    pub fn next(&mut self, limit: impl Fn(&[u8]) -> usize) -> Result<Option<&str>, LineError> {
        self.line.clear();
        let mut begun = (&mut self.input).take(BEGINNING);
        if begun.read_until(b'\n', &mut self.line)? == 0 {
            return Ok(None);
        }
        let limit = limit(&self.line);
        if begun.limit() == 0 && !self.line.ends_with(b"\n") {
            // The limit does not count CRLF.
            let max = u64::try_from(limit).unwrap_or(u64::MAX).saturating_add(2);
            let mut rest = (&mut self.input).take(max.saturating_sub(BEGINNING));
            rest.read_until(b'\n', &mut self.line)?;
        }
        self.number += 1;
        let line = self.line.strip_suffix(b"\n");
        let is_cut = line.is_none();
        let line = line.map(|line| line.strip_suffix(b"\r").unwrap_or(line));
        let line = line.unwrap_or(&self.line);
        if self.number == 1 {
            if let Some(name) = other_encoding(line) {
                return Err(NotText::Encoded(name).into());
            }
            if is_cut && line.trim_ascii_end().contains(&b'\r') {
                return Err(NotText::CarriageReturns.into());
            }
        }
        if line.len() > limit {
            return Err(LineError::TooLong { limit });
        }
        let line = std::str::from_utf8(line);
        let line = line.map_err(|_| NotText::NotUtf8 { line: self.number })?;
        Ok(Some(match self.number {
            1 => without_mark(line),
            _ => line,
        }))
    }
}

/// Removes the byte order mark at the beginning of a text, if it has one.
pub fn without_mark(text: &str) -> &str {
    text.strip_prefix(MARK).unwrap_or(text)
}

/// Removes the CR at the end of a line, which precedes the LF in files of Windows.
pub fn without_return(line: &str) -> &str {
    line.strip_suffix('\r').unwrap_or(line)
}

/// Returns the name of UTF-16 or UTF-32, which are detected by the byte order mark or by the zero bytes between
/// letters.
fn other_encoding(bytes: &[u8]) -> Option<&'static str> {
    match bytes {
        [0xff, 0xfe, 0, 0, ..] | [0, 0, 0xfe, 0xff, ..] => return Some("UTF-32"),
        [0xff, 0xfe, ..] => return Some("UTF-16 (little-endian)"),
        [0xfe, 0xff, ..] => return Some("UTF-16 (big-endian)"),
        _ => {}
    }
    let (units, _) = bytes.get(..SAMPLE).unwrap_or(bytes).as_chunks::<2>();
    if units.len() < 2 {
        return None;
    }
    let all = |is_half: fn(&[u8; 2]) -> bool| units.iter().all(is_half);
    if all(|[low, high]| *low != 0 && *high == 0) {
        Some("UTF-16 (little-endian)")
    } else if all(|[high, low]| *high == 0 && *low != 0) {
        Some("UTF-16 (big-endian)")
    } else {
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn utf16(text: &str, bytes: fn(u16) -> [u8; 2]) -> Vec<u8> {
        text.encode_utf16().flat_map(bytes).collect()
    }

    #[test]
    fn a_byte_order_mark_is_no_part_of_the_text() {
        assert_eq!(read(b"\xef\xbb\xbfone\r\ntwo"), Ok("one\r\ntwo"));
        assert_eq!(read(b"\xef\xbb\xbf"), Ok(""));
        assert_eq!(read("gr\u{fc}\u{df}".as_bytes()), Ok("gr\u{fc}\u{df}"));
        assert_eq!(read(b""), Ok(""));
        assert_eq!(read(b"\0a"), Ok("\0a"));
    }

    #[test]
    fn other_encodings_are_named() {
        for text in ["\u{feff}[store]\r\n", "[store]\r\n", "\u{feff}"] {
            for (bytes, name) in [
                (utf16(text, u16::to_le_bytes), "UTF-16 (little-endian)"),
                (utf16(text, u16::to_be_bytes), "UTF-16 (big-endian)"),
            ] {
                let error = read(&bytes).unwrap_err();
                assert_eq!((error, error.line()), (NotText::Encoded(name), 1));
            }
        }
        let wide: Vec<u8> = "\u{feff}x"
            .chars()
            .flat_map(|c| u32::from(c).to_le_bytes())
            .collect();
        assert_eq!(read(&wide), Err(NotText::Encoded("UTF-32")));
    }

    #[test]
    fn a_line_that_is_no_text_is_named() {
        assert_eq!(
            read(b"one\ntwo\nthr\xff"),
            Err(NotText::NotUtf8 { line: 3 })
        );
    }

    /// An input without end that counts the bytes read from it.
    struct Endless(usize);

    impl Read for Endless {
        fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
            into.fill(b'x');
            self.0 += into.len();
            Ok(into.len())
        }
    }

    #[test]
    fn a_line_without_end_is_refused_at_its_limit() {
        let mut input = Endless(0);
        let mut lines = LineReader::new(io::BufReader::with_capacity(1_000, &mut input));
        let error = lines.next(|_| 5_000).unwrap_err().to_string();
        assert!(error.contains("longer than 5000 bytes"), "{error}");
        assert!(input.0 <= 7_000, "{} bytes were read", input.0);
    }

    #[test]
    fn lines_are_read_one_by_one() {
        let text: &[u8] = b"\xef\xbb\xbfone\r\n\ntwo\nthr\xff\n";
        let mut lines = LineReader::new(text);
        assert_eq!(lines.next(|_| 6).unwrap(), Some("one"));
        assert_eq!(lines.next(|_| 0).unwrap(), Some(""));
        assert_eq!(lines.next(|_| 3).unwrap(), Some("two"));
        let error = lines.next(|_| 9).unwrap_err();
        assert!(matches!(
            error,
            LineError::NotText(NotText::NotUtf8 { line: 4 })
        ));
        assert_eq!(lines.next(|_| 9).unwrap(), None);
        let error = LineReader::new(&b"one\rtwo\r"[..]).next(|_| 3).unwrap_err();
        assert!(matches!(
            error,
            LineError::NotText(NotText::CarriageReturns)
        ));
        let mut last = LineReader::new(&b"one"[..]);
        assert_eq!(last.next(|_| 3).unwrap(), Some("one"));
        assert_eq!(last.next(|_| 3).unwrap(), None);
    }

    #[test]
    fn lines_end_with_lf_or_crlf() {
        assert_eq!(read_lines(b"one\r\ntwo\r\n"), Ok("one\r\ntwo\r\n"));
        assert_eq!(read_lines(b"one"), Ok("one"));
        assert_eq!(read_lines(b"one\r"), Ok("one\r"));
        assert_eq!(read_lines(b"one\rtwo\r"), Err(NotText::CarriageReturns));
        assert_eq!(without_return("one\r"), "one");
    }
}
