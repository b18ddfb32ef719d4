//! `imd record`: the frames of a running stack, written to a file that `imd replay` reads.

use std::collections::HashSet;
use std::fs::{File, OpenOptions};
use std::io::{ErrorKind, Write};
use std::path::{Path, PathBuf};

use serde::Deserialize;
use serde_json::{Value, json};

use super::args::RecordArgs;
use super::format::{Header, Line, What};
use crate::cli::api::StreamItem;
use crate::cli::existing;
use crate::cli::failure::Failure;
use crate::cli::lab::Admin;
use crate::cli::output::StatusLines;
use crate::cli::signals::Signals;

/// Writes down what passes, until a signal, the count, the time, or the stack's end.
///
/// # Errors
///
/// When there is no admin API, it records nothing, or it lost events that were not read in time; and when the file can't
/// be written. What stands in it then is whole lines all the same.
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
    let said = StatusLines::begin(format!("Recording to {path}. Ctrl-C ends it."));
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
                if let Some(line) = recorder.take(&event)? {
                    file.line(&line)?;
                }
            }
            Some(StreamItem::Gap(told)) => {
                let told: Value = serde_json::from_str(&told).unwrap_or_default();
                return Err(lost(told.get("count").unwrap_or(&Value::Null)));
            }
            None => break,
        }
    }
    let frames = recorder.frames;
    said.end(format!("{frames} frames are recorded.")).await
}

/// An event, as the admin API tells it.
#[derive(Deserialize)]
struct Told {
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

/// Chooses what is written down.
struct Recorder<'a> {
    args: &'a RecordArgs,
    /// Open sessions of the users that are meant.
    theirs: HashSet<u64>,
    /// When the first line was.
    began: Option<u64>,
    /// The number of the next event.
    next: Option<u64>,
    frames: u64,
}

impl<'a> Recorder<'a> {
    fn new(args: &'a RecordArgs) -> Self {
        Recorder {
            args,
            theirs: HashSet::new(),
            began: None,
            next: None,
            frames: 0,
        }
    }

    fn take(&mut self, event: &str) -> Result<Option<Line>, Failure> {
        let bad = |why: String| Failure::Failed(format!("an event can't be read: {why}"));
        let told: Told = serde_json::from_str(event).map_err(|error| bad(error.to_string()))?;
        if let Some(lost) = self.next.map(|next| told.seq.saturating_sub(next))
            && lost > 0
        {
            return Err(self::lost(&lost));
        }
        self.next = Some(told.seq + 1);
        let what = match told.what.as_str() {
            "opened" => What::Opened,
            "in" => What::In,
            "out" => What::Out,
            "closed" => What::Closed,
            _ => return Ok(None),
        };
        let Some(session) = told.session else {
            return Ok(None);
        };
        let bytes = told.bytes.as_deref().map(base16ct::mixed::decode_vec);
        let bytes = bytes.transpose().map_err(|error| bad(error.to_string()))?;
        let mut line = Line {
            us: told.us,
            session,
            server: told.server,
            uid: told.uid,
            what,
            reason: told.detail.as_str().map(str::to_owned),
            cmd: told.cmd,
            bytes: bytes.map(Into::into),
            frame: told.frame.map(without_texts),
        };
        line.check().map_err(bad)?;
        if !self.is_meant(&line) {
            return Ok(None);
        }
        let began = *self.began.get_or_insert(line.us);
        line.us = line.us.saturating_sub(began);
        self.frames += u64::from(line.bytes.is_some());
        Ok(Some(line))
    }

    fn is_meant(&mut self, line: &Line) -> bool {
        let RecordArgs { uid, session, .. } = self.args;
        if uid.is_empty() && session.is_empty() {
            return true;
        }
        // A login names a user whom the session has not yet.
        let named = line.uid.or_else(|| Some(line.login()?.uid));
        if let Some(named) = named {
            if uid.contains(&named) {
                self.theirs.insert(line.session);
            } else {
                self.theirs.remove(&line.session);
            }
        }
        let is_theirs = match line.what {
            What::Closed => self.theirs.remove(&line.session),
            _ => self.theirs.contains(&line.session),
        };
        is_theirs || session.contains(&line.session)
    }
}

/// Why a record ends early.
fn lost(count: &dyn std::fmt::Display) -> Failure {
    Failure::Failed(format!(
        "{count} events fell out of the journal before they were read; the record ends before them. Make [journal] \
         events and bytes larger"
    ))
}

/// A frame without the texts of its ids, which the admin API adds for clients in JavaScript.
fn without_texts(frame: Value) -> Value {
    match frame {
        Value::Object(fields) => fields
            .into_iter()
            .filter(|(key, _)| !key.ends_with("_str"))
            .map(|(key, value)| (key, without_texts(value)))
            .collect(),
        Value::Array(items) => items.into_iter().map(without_texts).collect(),
        other => other,
    }
}

/// Writes lines, each whole or not at all.
struct Writer {
    file: File,
    path: PathBuf,
    /// How long it is.
    len: u64,
}

impl Writer {
    fn create(path: &Path) -> Result<Writer, Failure> {
        let mut options = OpenOptions::new();
        // An older file would keep its mode.
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
        writer.line(&Header::new())?;
        Ok(writer)
    }

    fn line(&mut self, line: &impl serde::Serialize) -> Result<(), Failure> {
        let mut text = serde_json::to_vec(line).map_err(|error| self.failed(&error))?;
        text.push(b'\n');
        if let Err(error) = self.file.write_all(&text) {
            // On a full disk a part may have fit.
            let _ = self.file.set_len(self.len);
            return Err(self.failed(&error));
        }
        self.len += text.len() as u64;
        Ok(())
    }

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

    /// ReqLogin of user 7.
    const LOGIN: Option<&str> = Some("08a19c011807");
    const PING: Option<&str> = Some("08a29c01");

    fn recorded(flags: &[&str], events: &[String]) -> Vec<(u64, u64)> {
        let args = args(flags);
        let mut recorder = Recorder::new(&args);
        let lines = events
            .iter()
            .filter_map(|event| recorder.take(event).unwrap());
        lines.map(|line| (line.us, line.session)).collect()
    }

    #[test]
    fn a_users_sessions_are_recorded_from_their_logins_to_their_ends() {
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
    fn what_was_lost_ends_the_record() {
        let args = args(&[]);
        let mut recorder = Recorder::new(&args);
        recorder.take(&event(5, 1, None, "in", PING)).unwrap();
        recorder.take(&event(6, 1, None, "fault", None)).unwrap();
        let lost = recorder.take(&event(9, 1, None, "in", PING)).unwrap_err();
        assert!(lost.to_string().contains("2 events"), "{lost}");
    }

    #[test]
    fn a_file_is_not_written_over_and_is_its_owners_alone() {
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
