use std::collections::{HashMap, HashSet, VecDeque};
use std::fmt;
use std::fs::{self, File};
use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};

use imd::proto::{Cmd, Code, Reply};
use imd::text;

use super::format::{FORMAT, GATEWAY, Header, Line, VERSION, What};
use crate::cli::failure::Failure;

/// No line of a recorder comes near it: the longest has a page with as many empty entries as fit a frame.
const LONGEST_LINE: u64 = 16 << 20;

/// How many connections a replay has at most: as many as a stack takes, unless its config says otherwise.
pub const MOST_CONNECTIONS: usize = 65_536;

/// Reads a record, line by line.
pub struct Lines {
    file: BufReader<File>,
    path: PathBuf,
    /// The number of the line that was read last, from 1.
    number: usize,
}

impl Lines {
    /// Opens a record.
    ///
    /// # Errors
    ///
    /// When it can't be read, is no regular file, or is no record of this version.
    pub fn open(path: &Path) -> Result<Lines, Failure> {
        let unreadable =
            |why: &dyn fmt::Display| Failure::Usage(format!("{}: {why}", path.display()));
        // Before it is opened: a pipe would wait for who writes into it.
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

    /// The next line, and its number.
    ///
    /// # Errors
    ///
    /// When it is damaged.
    pub fn next(&mut self) -> Result<Option<(usize, Line)>, Failure> {
        let Some(text) = self.read()? else {
            return Ok(None);
        };
        if text.trim_ascii().is_empty() {
            return self.end();
        }
        let line: Line = serde_json::from_slice(text.trim_ascii_end()).map_err(|error| {
            // The line is named already, by its number in the file.
            let why = error.to_string();
            self.damaged(why.replace(" at line 1 column ", " at column "))
        })?;
        line.check().map_err(|why| self.damaged(why))?;
        Ok(Some((self.number, line)))
    }

    /// Passes over the empty lines that an editor may have left at the end.
    fn end(&mut self) -> Result<Option<(usize, Line)>, Failure> {
        let empty = self.damaged("it is empty, and not the last line");
        while let Some(text) = self.read()? {
            if !text.trim_ascii().is_empty() {
                return Err(empty);
            }
        }
        Ok(None)
    }

    fn read(&mut self) -> Result<Option<Vec<u8>>, Failure> {
        let mut text = Vec::new();
        self.number += 1;
        let read = (&mut self.file)
            .take(LONGEST_LINE)
            .read_until(b'\n', &mut text);
        match read {
            Err(error) => Err(self.damaged(error)),
            Ok(0) => Ok(None),
            Ok(_) if text.len() as u64 == LONGEST_LINE => Err(self.damaged("it is too long")),
            Ok(_) => Ok(Some(text)),
        }
    }

    fn damaged(&self, why: impl std::fmt::Display) -> Failure {
        let path = self.path.display();
        Failure::Usage(format!("{path}: line {}: {why}", self.number))
    }
}

/// How a login is answered whose token is at fault.
const BAD_TOKEN: [u32; 2] = [Code::NoToken.number(), Code::CalcTokenFailed.number()];

/// What has to be known before the first frame is sent.
#[derive(Debug, Default)]
pub struct Survey {
    /// The lines of logins whose token was refused: it is sent as it was.
    pub refused: HashSet<usize>,
    /// Whether there are logins of more than one user.
    pub has_many_users: bool,
}

/// How many sessions of a record may be open at once.
#[derive(Debug, Clone, Copy)]
pub struct Room {
    /// How many connections the replay can have.
    pub connections: usize,
    /// Whether the sessions at the gateway are left out.
    pub without_gateway: bool,
}

impl Room {
    /// Counts a line's session among those that are open, or no longer.
    ///
    /// # Errors
    ///
    /// When more are open than there may be.
    fn count(self, open: &mut HashSet<u64>, line: &Line) -> Result<(), String> {
        if line.what == What::Closed {
            open.remove(&line.session);
        } else if !(self.without_gateway && line.server == GATEWAY) {
            open.insert(line.session);
        }
        let Room { connections, .. } = self;
        if open.len() > connections {
            return Err(format!(
                "more than {connections} sessions are open at once here, and each takes a connection. A replay has at most \
                 {MOST_CONNECTIONS}, and fewer where the open-file limit allows no more (ulimit -n): record for a shorter \
                 time, or fewer users (--uid)"
            ));
        }
        Ok(())
    }
}

impl Survey {
    /// Reads all of a record.
    ///
    /// # Errors
    ///
    /// When a line is damaged, or more sessions are open at once than there is room for.
    pub fn of(path: &Path, room: Room) -> Result<Survey, Failure> {
        let mut survey = Survey::default();
        let mut user = None;
        // The logins of open sessions that have no answer yet.
        let mut unanswered: HashMap<u64, VecDeque<usize>> = HashMap::new();
        let mut open = HashSet::new();
        let mut lines = Lines::open(path)?;
        while let Some((number, line)) = lines.next()? {
            room.count(&mut open, &line)
                .map_err(|why| lines.damaged(why))?;
            let login = line.login();
            if login.is_some() {
                let logins = unanswered.entry(line.session).or_default();
                logins.push_back(number);
            }
            let uid = line.uid.or_else(|| Some(login?.uid));
            survey.has_many_users |= uid.is_some_and(|uid| *user.get_or_insert(uid) != uid);
            match line.what {
                What::Out => {
                    if let Some(code) = line.bytes.as_deref().and_then(login_code)
                        && let Some(logins) = unanswered.get_mut(&line.session)
                        && let Some(login) = logins.pop_front()
                        && BAD_TOKEN.contains(&code)
                    {
                        survey.refused.insert(login);
                    }
                }
                What::Closed => {
                    unanswered.remove(&line.session);
                }
                What::Opened | What::In => {}
            }
        }
        Ok(survey)
    }
}

/// The code with which a frame answers a login, if it does.
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
        let room = Room {
            connections: 3,
            without_gateway: true,
        };
        Survey::of(&path, room).map_err(|error| {
            assert!(matches!(error, Failure::Usage(_)));
            error.to_string()
        })
    }

    #[test]
    fn a_damaged_line_is_named() {
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
    fn a_record_with_more_open_sessions_than_connections_is_refused_by_its_line() {
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
    fn a_line_without_end_is_not_read_to_its_end() {
        let endless = "x".repeat(usize::try_from(LONGEST_LINE).unwrap() + 10);
        let error = survey(&format!("{HEADER}\n{endless}\n")).unwrap_err();
        assert!(error.contains("line 2: it is too long"), "{error}");
    }

    #[test]
    fn logins_with_a_wrong_token_are_known() {
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
