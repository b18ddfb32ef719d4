//! Reads records line by line, and surveys a whole record before it is replayed.
//!
//! Serves `replay`. Every error names the file and the number of the line.

use std::collections::{HashMap, HashSet, VecDeque};
use std::fmt;
use std::fs::{self, File};
use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};

use imd::proto::{Cmd, Code, Reply};
use imd::text;

use super::format::{EventKind, FORMAT, GATEWAY, Header, Line, VERSION};
use crate::cli::failure::Failure;

/// Longest line that is read, in bytes. The longest line of a recorder has a page with as many empty entries as fit a
/// frame, and is far shorter.
const MAX_LINE_BYTES: u64 = 16 << 20;

/// Maximum number of connections of a replay: as many as a stack accepts, unless its config says otherwise.
pub const MAX_CONNECTIONS: usize = 65_536;

/// Reads a record line by line.
pub struct Lines {
    file: BufReader<File>,
    path: PathBuf,
    /// Number of the line that was read last, counted from 1.
    number: usize,
}

impl Lines {
    /// Opens a record, and checks its header.
    ///
    /// # Errors
    ///
    /// [`Failure::Usage`] when the file can't be read, is not a regular file, or is not a record of this version.
    pub fn open(path: &Path) -> Result<Lines, Failure> {
        let unreadable =
            |why: &dyn fmt::Display| Failure::Usage(format!("{}: {why}", path.display()));
        // The check comes before opening the file, because opening a pipe waits for its writer.
        let found = fs::metadata(path).map_err(|error| unreadable(&error))?;
        if !found.is_file() {
            let why = "this is no regular file; a record is read twice, so write it to one first";
            return Err(unreadable(&why));
        }
        let file = File::open(path).map_err(|error| unreadable(&error))?;
        let mut lines = Lines {
            file: BufReader::new(file),
            path: path.to_owned(),
            number: 0,
        };
        let first = lines.read()?.unwrap_or_default();
        let first = text::read_lines(&first).map_err(|error| lines.damaged(error))?;
        let header = serde_json::from_str::<Header>(first).ok();
        let Some(header) = header.filter(|header| header.format == FORMAT) else {
            let why = "this is no record; imd record --to FILE writes one";
            return Err(lines.damaged(why));
        };
        if header.version != VERSION {
            let version = header.version;
            return Err(lines.damaged(format!(
                "a record of version {version}, and this imd knows {VERSION}"
            )));
        }
        Ok(lines)
    }

    /// Returns the next line and its number, or `None` at the end.
    ///
    /// # Errors
    ///
    /// [`Failure::Usage`] when the line is damaged. The caller can't read on.
    pub fn next(&mut self) -> Result<Option<(usize, Line)>, Failure> {
        let Some(text) = self.read()? else {
            return Ok(None);
        };
        if text.trim_ascii().is_empty() {
            return self.end();
        }
        let line: Line = serde_json::from_slice(text.trim_ascii_end()).map_err(|error| {
            // The failure names the line by its number in the file, so the number in the parser's text would mislead.
            let why = error.to_string();
            self.damaged(why.replace(" at line 1 column ", " at column "))
        })?;
        line.check().map_err(|why| self.damaged(why))?;
        Ok(Some((self.number, line)))
    }

    /// Skips empty lines at the end of the file, which an editor may have left.
    fn end(&mut self) -> Result<Option<(usize, Line)>, Failure> {
        let empty = self.damaged("it is empty, and not the last line");
        while let Some(text) = self.read()? {
            if !text.trim_ascii().is_empty() {
                return Err(empty);
            }
        }
        Ok(None)
    }

    /// Reads one line as bytes, or returns `None` at the end of the file.
    fn read(&mut self) -> Result<Option<Vec<u8>>, Failure> {
        let mut text = Vec::new();
        self.number += 1;
        let read = (&mut self.file)
            .take(MAX_LINE_BYTES)
            .read_until(b'\n', &mut text);
        match read {
            Err(error) => Err(self.damaged(error)),
            Ok(0) => Ok(None),
            Ok(_) if text.len() as u64 == MAX_LINE_BYTES => Err(self.damaged("it is too long")),
            Ok(_) => Ok(Some(text)),
        }
    }

    /// Returns the failure for the line that was read last.
    fn damaged(&self, why: impl std::fmt::Display) -> Failure {
        let path = self.path.display();
        Failure::Usage(format!("{path}: line {}: {why}", self.number))
    }
}

/// Error codes of a login that is refused because of its token.
const BAD_TOKEN: [u32; 2] = [Code::NoToken.number(), Code::CalcTokenFailed.number()];

/// What a replay has to know of the whole record before it sends the first frame.
#[derive(Debug, Default)]
pub struct Survey {
    /// Lines of logins whose token was refused. These are sent with the recorded token, so that they are refused
    /// again.
    pub refused: HashSet<usize>,
    /// Set when the record has sessions of more than one user.
    pub has_many_users: bool,
}

/// Limits for the sessions of a record that are open at once.
#[derive(Debug, Clone, Copy)]
pub struct SessionLimits {
    /// Number of connections that the replay can have.
    pub connections: usize,
    /// Set when sessions at the gateway are skipped, so that they need no connection.
    pub without_gateway: bool,
}

impl SessionLimits {
    /// Updates the set of open sessions by a line.
    ///
    /// # Errors
    ///
    /// A text that says what to do when more sessions are open than connections are possible.
    fn count(self, open: &mut HashSet<u64>, line: &Line) -> Result<(), String> {
        if line.what == EventKind::Closed {
            open.remove(&line.session);
        } else if !(self.without_gateway && line.server == GATEWAY) {
            open.insert(line.session);
        }
        let SessionLimits { connections, .. } = self;
        if open.len() > connections {
            return Err(format!(
                "more than {connections} sessions are open at once here, and each takes a connection. A replay has at most \
                 {MAX_CONNECTIONS}, and fewer where the open-file limit allows no more (ulimit -n): record for a shorter \
                 time, or fewer users (--uid)"
            ));
        }
        Ok(())
    }
}

impl Survey {
    /// Surveys a whole record.
    ///
    /// # Errors
    ///
    /// [`Failure::Usage`] when a line is damaged, or when more sessions are open at once than the limits allow.
    pub fn of(path: &Path, limits: SessionLimits) -> Result<Survey, Failure> {
        let mut survey = Survey::default();
        let mut user = None;
        // Logins without an answer, by the session, oldest first.
        let mut unanswered: HashMap<u64, VecDeque<usize>> = HashMap::new();
        let mut open = HashSet::new();
        let mut lines = Lines::open(path)?;
        while let Some((number, line)) = lines.next()? {
            limits
                .count(&mut open, &line)
                .map_err(|why| lines.damaged(why))?;
            let login = line.login();
            if login.is_some() {
                let logins = unanswered.entry(line.session).or_default();
                logins.push_back(number);
            }
            let uid = line.uid.or_else(|| Some(login?.uid));
            survey.has_many_users |= uid.is_some_and(|uid| *user.get_or_insert(uid) != uid);
            match line.what {
                EventKind::Out => {
                    if let Some(code) = line.bytes.as_deref().and_then(login_code)
                        && let Some(logins) = unanswered.get_mut(&line.session)
                        && let Some(login) = logins.pop_front()
                        && BAD_TOKEN.contains(&code)
                    {
                        survey.refused.insert(login);
                    }
                }
                EventKind::Closed => {
                    unanswered.remove(&line.session);
                }
                EventKind::Opened | EventKind::In => {}
            }
        }
        Ok(survey)
    }
}

/// Returns the error code of a frame that answers a login, and `None` for other frames.
fn login_code(frame: &[u8]) -> Option<u32> {
    if Cmd::of(frame) != Some(Cmd::Login) {
        return None;
    }
    match Reply::decode(Cmd::Login, frame)? {
        Reply::Error(answer) => Some(answer.err_code),
        Reply::Login(answer) => Some(answer.err_code),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEADER: &str = r#"{"format":"imd-record","version":1}"#;

    fn survey(text: &str) -> Result<Survey, String> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.rec");
        fs::write(&path, text).unwrap();
        let limits = SessionLimits {
            connections: 3,
            without_gateway: true,
        };
        Survey::of(&path, limits).map_err(|error| {
            assert!(matches!(error, Failure::Usage(_)));
            error.to_string()
        })
    }

    #[test]
    fn an_error_names_the_damaged_line() {
        let good = r#"{"us":0,"session":1,"server":"a","what":"opened"}"#;
        let whole = format!("{HEADER}\n{good}\n");
        survey(&whole).unwrap();
        survey(whole.trim_end()).unwrap();
        survey(&format!("{whole}\r\n\n")).unwrap();
        for (text, says) in [
            ("".to_owned(), "line 1: this is no record"),
            ("{}\n".to_owned(), "line 1: this is no record"),
            (HEADER.replace('1', "2"), "line 1: a record of version 2"),
            (format!("{whole}{good}x\n"), "line 3: trailing"),
            (format!("{whole}\n{good}\n"), "line 3: it is empty"),
            (
                format!("{whole}{}", &good[..20]),
                "line 3: EOF while parsing a value at column 20",
            ),
            (format!("{whole}{{\"us\":-1"), "line 3: invalid value"),
            (format!("{HEADER}\n\u{0}\u{fffd}\n"), "line 2: "),
        ] {
            let error = survey(&text).unwrap_err();
            assert!(error.contains(says), "{error}");
        }
    }

    #[test]
    fn more_open_sessions_than_connections_are_refused() {
        let line = |session: u64, server: &str, what: &str| {
            format!(
                "{{\"us\":0,\"session\":{session},\"server\":\"{server}\",\"what\":\"{what}\"}}\n"
            )
        };
        let mut text = format!("{HEADER}\n");
        for session in 1..=100 {
            text += &line(session, "gateway", "opened");
            text += &line(1_000 + session, "a", "opened");
            text += &line(1_000 + session, "a", "closed");
        }
        for session in 1..=3 {
            text += &line(2_000 + session, "a", "opened");
        }
        survey(&text).unwrap();
        let error = survey(&format!("{text}{}", line(3_000, "a", "opened"))).unwrap_err();
        assert!(error.contains("line 305: more than 3 sessions"), "{error}");
    }

    #[test]
    fn a_line_that_is_too_long_is_refused() {
        let endless = "x".repeat(usize::try_from(MAX_LINE_BYTES).unwrap() + 10);
        let error = survey(&format!("{HEADER}\n{endless}\n")).unwrap_err();
        assert!(error.contains("line 2: it is too long"), "{error}");
    }

    #[test]
    fn logins_with_a_refused_token_are_found() {
        let frame = |session: u64, what: &str, bytes: &str| {
            format!(
                "{{\"us\":0,\"session\":{session},\"server\":\"a\",\"what\":\"{what}\",\"bytes\":\"{bytes}\"}}\n"
            )
        };
        let login = "08a19c011807";
        // errCode 93002, 94002 and 0
        let (wrong, unknown, ok) = ("08a19c0110cad605", "08a19c0110b2de05", "08a19c01");
        let text = [
            HEADER.to_owned() + "\n",
            frame(1, "in", login),
            frame(2, "in", login),
            frame(1, "out", wrong),
            frame(2, "out", unknown),
            frame(1, "in", login),
            frame(1, "out", ok),
        ];
        let survey = survey(&text.concat()).unwrap();
        assert_eq!(survey.refused, HashSet::from([2]));
        assert!(!survey.has_many_users);
    }
}
