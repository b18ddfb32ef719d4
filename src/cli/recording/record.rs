//! Runs `imd record`: writes the frames of a running stack to a file that `imd replay` reads.
//!
//! The file holds whole lines only, and it has no gaps: when events are lost, the record ends before them with an
//! error.

use std::collections::HashSet;
use std::fs::{File, OpenOptions};
use std::io::{ErrorKind, Write};
use std::path::{Path, PathBuf};

use serde::Deserialize;
use serde_json::{Value, json};

use super::args::RecordArgs;
use super::format::{EventKind, Header, Line};
use crate::cli::api::StreamItem;
use crate::cli::existing;
use crate::cli::failure::Failure;
use crate::cli::lab::Admin;
use crate::cli::output::StatusLines;
use crate::cli::signals::Signals;

/// Records events until a signal arrives, the count or the time is reached, or the stack ends.
///
/// # Errors
///
/// When the admin API can't be reached or the stack records nothing, when events were lost because they were not read
/// in time, and when the file can't be written. The file then still holds whole lines.
pub async fn run(args: &RecordArgs) -> Result<(), Failure> {
    existing::check("--to ", &args.to, args.force)?;
    let mut signals = Signals::listen()?;
    let admin = Admin::find(&args.admin)?;
    let mut events = admin.events("/v1/journal?bytes=true").await?;
    let state = admin.get("/v1/state").await?;
    if state.pointer("/journal/records") == Some(&json!(false)) {
        let why = "this stack records nothing: [journal] capture is \"off\" in its config";
        return Err(Failure::Usage(why.into()));
    }
    if args.force {
        existing::clear(&args.to)?;
    }
    let mut file = Writer::create(&args.to)?;
    let path = args.to.display();
    let status_lines = StatusLines::begin(format!("Recording to {path}. Ctrl-C ends it."));
    let mut recorder = Recorder::new(args);
    let over = async {
        match args.lasting {
            Some(time) => tokio::time::sleep(time).await,
            None => std::future::pending().await,
        }
    };
    let mut over = std::pin::pin!(over);
    while args.count.is_none_or(|count| recorder.frames < count) {
        let event = tokio::select! {
            biased;
            () = signals.next() => break,
            () = &mut over => break,
            event = events.next() => event?,
        };
        match event {
            Some(StreamItem::Event(event)) => {
                if let Some(line) = recorder.convert(&event)? {
                    file.write_line(&line)?;
                }
            }
            Some(StreamItem::Gap(parsed)) => {
                let parsed: Value = serde_json::from_str(&parsed).unwrap_or_default();
                return Err(gap_failure(parsed.get("count").unwrap_or(&Value::Null)));
            }
            None => break,
        }
    }
    let frames = recorder.frames;
    status_lines
        .end(format!("{frames} frames are recorded."))
        .await
}

/// An event of the journal, as the admin API sends it.
#[derive(Deserialize)]
struct JournalEvent {
    seq: u64,
    us: u64,
    what: String,
    detail: Value,
    server: String,
    session: Option<u64>,
    uid: Option<i64>,
    cmd: Option<String>,
    frame: Option<Value>,
    bytes: Option<String>,
}

/// Selects the events to record, and converts them to lines.
struct Recorder<'a> {
    args: &'a RecordArgs,
    /// Open sessions of the users that were selected with `--uid`.
    selected_sessions: HashSet<u64>,
    /// The time of the first recorded event, which the times of all lines are relative to.
    first_us: Option<u64>,
    /// The sequence number that the next event should have; a higher one means that events were lost.
    next_seq: Option<u64>,
    frames: u64,
}

impl<'a> Recorder<'a> {
    fn new(args: &'a RecordArgs) -> Self {
        Recorder {
            args,
            selected_sessions: HashSet::new(),
            first_us: None,
            next_seq: None,
            frames: 0,
        }
    }

    /// Converts an event to a line, or returns `None` if it is not to be recorded.
    ///
    /// # Errors
    ///
    /// When the event can't be parsed, or when events before it were lost.
    fn convert(&mut self, event: &str) -> Result<Option<Line>, Failure> {
        let bad = |why: String| Failure::Failed(format!("an event can't be read: {why}"));
        let parsed: JournalEvent =
            serde_json::from_str(event).map_err(|error| bad(error.to_string()))?;
        if let Some(lost) = self.next_seq.map(|next| parsed.seq.saturating_sub(next))
            && lost > 0
        {
            return Err(gap_failure(&lost));
        }
        self.next_seq = Some(parsed.seq + 1);
        let what = match parsed.what.as_str() {
            "opened" => EventKind::Opened,
            "in" => EventKind::In,
            "out" => EventKind::Out,
            "closed" => EventKind::Closed,
            _ => return Ok(None),
        };
        let Some(session) = parsed.session else {
            return Ok(None);
        };
        let bytes = parsed.bytes.as_deref().map(base16ct::mixed::decode_vec);
        let bytes = bytes.transpose().map_err(|error| bad(error.to_string()))?;
        let mut line = Line {
            us: parsed.us,
            session,
            server: parsed.server,
            uid: parsed.uid,
            what,
            reason: parsed.detail.as_str().map(str::to_owned),
            cmd: parsed.cmd,
            bytes: bytes.map(Into::into),
            frame: parsed.frame.map(without_id_texts),
        };
        line.check().map_err(bad)?;
        if !self.is_selected(&line) {
            return Ok(None);
        }
        let first_us = *self.first_us.get_or_insert(line.us);
        line.us = line.us.saturating_sub(first_us);
        self.frames += u64::from(line.bytes.is_some());
        Ok(Some(line))
    }

    /// Returns whether a line belongs to a selected session, and keeps track of the sessions of selected users.
    fn is_selected(&mut self, line: &Line) -> bool {
        let RecordArgs { uid, session, .. } = self.args;
        if uid.is_empty() && session.is_empty() {
            return true;
        }
        // The session of a login has no user yet, but the request names one.
        let named = line.uid.or_else(|| Some(line.login()?.uid));
        if let Some(named) = named {
            if uid.contains(&named) {
                self.selected_sessions.insert(line.session);
            } else {
                self.selected_sessions.remove(&line.session);
            }
        }
        let is_theirs = match line.what {
            EventKind::Closed => self.selected_sessions.remove(&line.session),
            _ => self.selected_sessions.contains(&line.session),
        };
        is_theirs || session.contains(&line.session)
    }
}

/// Returns the failure of a record that ends early because `count` events were lost.
fn gap_failure(count: &dyn std::fmt::Display) -> Failure {
    Failure::Failed(format!(
        "{count} events fell out of the journal before they were read; the record ends before them. Make [journal] \
         events and bytes larger"
    ))
}

/// Removes the string forms of ids from a frame. The admin API adds them for clients in JavaScript.
fn without_id_texts(frame: Value) -> Value {
    match frame {
        Value::Object(fields) => fields
            .into_iter()
            .filter(|(key, _)| !key.ends_with("_str"))
            .map(|(key, value)| (key, without_id_texts(value)))
            .collect(),
        Value::Array(items) => items.into_iter().map(without_id_texts).collect(),
        other => other,
    }
}

/// Writes lines to the record, each of them whole or not at all.
struct Writer {
    file: File,
    path: PathBuf,
    /// Length of the whole lines in the file, in bytes.
    len: u64,
}

impl Writer {
    /// Creates the file, readable by its owner only, and writes the header.
    fn create(path: &Path) -> Result<Writer, Failure> {
        let mut options = OpenOptions::new();
        // An existing file would keep its permissions, so only a new one is accepted.
        options.write(true).create_new(true);
        #[cfg(unix)]
        std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
        let file = options.open(path).map_err(|error| match error.kind() {
            ErrorKind::AlreadyExists => Failure::Usage(format!(
                "--to {}: File exists, and a record is not written over: name a new file",
                path.display()
            )),
            _ => Failure::of_file("--to ", path, &error),
        })?;
        let mut writer = Writer {
            file,
            path: path.to_owned(),
            len: 0,
        };
        writer.write_line(&Header::new())?;
        Ok(writer)
    }

    /// Writes a value as a line, and removes what was written of it on failure.
    fn write_line(&mut self, line: &impl serde::Serialize) -> Result<(), Failure> {
        let mut text = serde_json::to_vec(line).map_err(|error| self.failed(&error))?;
        text.push(b'\n');
        if let Err(error) = self.file.write_all(&text) {
            // On a full disk, a part of the line may have been written.
            let _ = self.file.set_len(self.len);
            return Err(self.failed(&error));
        }
        self.len += text.len() as u64;
        Ok(())
    }

    /// Returns the failure for an error of the file.
    fn failed(&self, why: &dyn std::fmt::Display) -> Failure {
        Failure::Failed(format!("{}: {why}", self.path.display()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    #[derive(Parser)]
    struct Flags {
        #[command(flatten)]
        record: RecordArgs,
    }

    fn args(flags: &[&str]) -> RecordArgs {
        let fixed = ["record", "--to", "x"];
        Flags::parse_from([&fixed, flags].concat()).record
    }

    fn event(seq: u64, session: u64, uid: Option<i64>, what: &str, bytes: Option<&str>) -> String {
        json!({
            "seq": seq, "us": 1_000 + seq, "what": what, "detail": null, "server": "access-1",
            "session": session, "uid": uid, "cmd": null, "frame": null, "bytes": bytes,
        })
        .to_string()
    }

    /// A login request of user 7.
    const LOGIN: Option<&str> = Some("08a19c011807");
    const PING: Option<&str> = Some("08a29c01");

    fn recorded(flags: &[&str], events: &[String]) -> Vec<(u64, u64)> {
        let args = args(flags);
        let mut recorder = Recorder::new(&args);
        let lines = events
            .iter()
            .filter_map(|event| recorder.convert(event).unwrap());
        lines.map(|line| (line.us, line.session)).collect()
    }

    #[test]
    fn sessions_of_a_selected_user_are_recorded_from_login_to_close() {
        let events = [
            event(0, 1, None, "opened", None),
            event(1, 2, None, "in", LOGIN),
            event(2, 1, None, "in", PING),
            event(3, 2, Some(7), "out", PING),
            event(4, 1, None, "in", LOGIN),
            event(5, 3, Some(8), "in", PING),
            event(6, 1, None, "out", PING),
            event(7, 2, Some(7), "closed", None),
            event(8, 2, None, "in", PING),
            event(9, 4, Some(7), "in", PING),
        ];
        let of_7 = [(0, 2), (2, 2), (3, 1), (5, 1), (6, 2), (8, 4)];
        assert_eq!(recorded(&["--uid", "7"], &events), of_7);
        assert_eq!(recorded(&[], &events).len(), 10);
        assert_eq!(recorded(&["--session", "3"], &events), [(0, 3)]);
        let both = recorded(&["--session", "3", "--uid", "7"], &events);
        assert_eq!(both.len(), 7);
    }

    #[test]
    fn lost_events_end_the_record() {
        let args = args(&[]);
        let mut recorder = Recorder::new(&args);
        recorder.convert(&event(5, 1, None, "in", PING)).unwrap();
        recorder.convert(&event(6, 1, None, "fault", None)).unwrap();
        let lost = recorder
            .convert(&event(9, 1, None, "in", PING))
            .unwrap_err();
        assert!(lost.to_string().contains("2 events"), "{lost}");
    }

    #[test]
    fn an_existing_file_is_kept_and_a_new_one_is_private() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.rec");
        Writer::create(&path).unwrap();
        #[cfg(unix)]
        {
            use std::os::unix::fs::PermissionsExt;
            let mode = path.metadata().unwrap().permissions().mode();
            assert_eq!(mode & 0o777, 0o600);
        }
        assert!(matches!(Writer::create(&path), Err(Failure::Usage(_))));
    }
}
