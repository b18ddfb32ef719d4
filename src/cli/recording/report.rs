//! Reports the differences of a replay as they are found, and the totals at its end.
//!
//! Serves the player in `replay`, which passes it every completed exchange. The exit code of a replay depends on its counts.

use imd::lab::{Direction, describe_frame};
use imd::proto::Cmd;
use serde::Serialize;
use serde_json::{Value, json};

use super::compare::{Difference, differences, fields};
use super::exchanges::{Exchange, Side};
use super::format::Line;
use crate::cli::escape::escape;
use crate::cli::failure::{FAILED, Failure};
use crate::cli::output;

/// Number of differing fields that are printed per reply.
const MAX_FIELDS: usize = 20;

/// The session in which something differs.
#[derive(Debug, Clone)]
pub struct SessionInfo {
    /// Number of the session in the record.
    pub session: u64,
    /// Name of the server that it was recorded at.
    pub server: String,
    /// The user of the session, if it is known.
    pub uid: Option<i64>,
}

impl SessionInfo {
    /// Returns the session of a line.
    pub fn of(line: &Line) -> SessionInfo {
        SessionInfo {
            session: line.session,
            server: line.server.clone(),
            uid: line.uid,
        }
    }
}

/// Counts of what was compared.
#[derive(Debug, Default, PartialEq, Eq, Serialize)]
pub struct Totals {
    /// Requests that were sent to the stack.
    pub requests: u64,
    /// Replies, notifies and closes that are as recorded.
    pub alike: u64,
    /// Replies, notifies and closes that differ, are missing, or were not recorded.
    pub different: u64,
}

/// The last line of JSON: the totals, and why the replay ended early, if it did.
#[derive(Serialize)]
struct Summary<'a> {
    #[serde(flatten)]
    totals: &'a Totals,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<String>,
}

/// Prints differences as they are found, and counts.
pub struct Report {
    as_json: bool,
    /// Fields that are not compared, by their name or by command and name.
    ignored: Vec<String>,
    pub totals: Totals,
}

impl Report {
    /// Creates a report without any comparisons.
    pub fn new(as_json: bool, ignored: Vec<String>) -> Report {
        Report {
            as_json,
            ignored,
            totals: Totals::default(),
        }
    }

    /// Compares both sides of an exchange, and prints the difference. `end` is why the connection has ended, if it
    /// has.
    ///
    /// # Errors
    ///
    /// The errors of [`output::line`].
    pub fn exchange(
        &mut self,
        info: &SessionInfo,
        exchange: &Exchange,
        end: Option<&str>,
    ) -> Result<(), Failure> {
        let silence = end.unwrap_or("no reply");
        let (recorded, got, found) = match (&exchange.recorded, &exchange.got) {
            (Side::Frame(recorded), Side::Frame(got)) => {
                let found = differences(recorded, got, &self.ignored);
                (shown(recorded), shown(got), found)
            }
            (Side::Frame(recorded), _) => {
                let found = vec![command_difference(command(recorded), Value::Null)];
                (shown(recorded), json!(silence), found)
            }
            (_, Side::Frame(got)) => {
                let found = vec![command_difference(Value::Null, command(got))];
                (json!("nothing"), shown(got), found)
            }
            _ => return Ok(()),
        };
        if found.is_empty() {
            self.totals.alike += 1;
            return Ok(());
        }
        let request = exchange.request.as_ref();
        let request = request.map(|request| {
            let cmd = Cmd::of(request);
            (cmd, describe_frame(Direction::In, cmd, request))
        });
        self.report_difference(info, exchange.line, request, &recorded, &got, &found)
    }

    /// Counts an event of the record that is not a reply, and prints the difference if `is_alike` is false.
    ///
    /// # Errors
    ///
    /// The errors of [`output::line`].
    pub fn event(
        &mut self,
        info: &SessionInfo,
        line: usize,
        is_alike: bool,
        recorded: &str,
        got: &str,
    ) -> Result<(), Failure> {
        if is_alike {
            self.totals.alike += 1;
            return Ok(());
        }
        let (recorded, got) = (json!(recorded), json!(got));
        self.report_difference(info, line, None, &recorded, &got, &[])
    }

    /// Counts and prints a difference.
    fn report_difference(
        &mut self,
        info: &SessionInfo,
        line: usize,
        request: Option<(Option<Cmd>, Value)>,
        recorded: &Value,
        got: &Value,
        found: &[Difference],
    ) -> Result<(), Failure> {
        self.totals.different += 1;
        let (cmd, request) = request.unwrap_or_default();
        let cmd = cmd.map(Cmd::name);
        if self.as_json {
            let shown_fields = found.iter().take(MAX_FIELDS);
            let differ = shown_fields
                .map(|it| json!({ "field": it.field, "recorded": it.recorded, "got": it.got }))
                .collect::<Vec<_>>();
            return output::json(&json!({
                "line": line, "session": info.session, "server": info.server, "uid": info.uid,
                "cmd": cmd, "request": request, "recorded": recorded, "got": got, "differ": differ,
            }));
        }
        let SessionInfo {
            session, server, ..
        } = info;
        let uid = info.uid.map(|uid| format!(", uid {uid}"));
        let uid = uid.unwrap_or_default();
        let line = match line {
            0 => String::new(),
            line => format!("line {line}, "),
        };
        let mut text = format!("{line}session {session} at {server}{uid}");
        if let Some(cmd) = cmd {
            text += &format!(": {cmd}\n  request   {request}");
        }
        text += &format!("\n  recorded  {recorded}\n  got       {got}");
        for Difference {
            field,
            recorded,
            got,
        } in found.iter().take(MAX_FIELDS)
        {
            text += &format!("\n  differs   {field}: {recorded}, got {got}");
        }
        if found.len() > MAX_FIELDS {
            let more = found.len() - MAX_FIELDS;
            text += &format!("\n  differs   {more} fields more");
        }
        text.lines()
            .try_for_each(|line| output::line(&escape(line)))
    }

    /// Prints the totals, even where the replay ended early; `played` says why it did.
    ///
    /// # Errors
    ///
    /// The error of `played` comes first, so that the exit code tells of it. [`Failure::Exit`] when something
    /// differs, and the errors of [`output::line`].
    pub fn end(self, played: Result<(), Failure>) -> Result<(), Failure> {
        if matches!(played, Err(Failure::OutputClosed)) {
            // The reader of stdout has gone before the end. Since only differences are printed before it, there was
            // one.
            return Err(Failure::Exit(FAILED));
        }
        let Totals {
            requests,
            alike,
            different,
        } = self.totals;
        let printed = if self.as_json {
            let error = played.as_ref().err().map(ToString::to_string);
            output::json(&Summary {
                totals: &self.totals,
                error,
            })
        } else {
            output::line(&format!(
                "{requests} requests; of what the server said, {alike} alike, {different} different"
            ))
        };
        // The exit code has to be right even if the totals can't be printed.
        played?;
        match different {
            0 => printed,
            _ => Err(printed
                .err()
                .filter(Failure::needs_report)
                .unwrap_or(Failure::Exit(FAILED))),
        }
    }
}

/// Returns a difference in the command, for a reply that only one side has.
fn command_difference(recorded: Value, got: Value) -> Difference {
    Difference {
        field: "cmd".into(),
        recorded,
        got,
    }
}

/// Describes a frame by its command and its fields.
fn shown(frame: &[u8]) -> Value {
    json!({ "cmd": command(frame), "fields": fields(frame) })
}

/// Returns the name of a frame's command as JSON.
fn command(frame: &[u8]) -> Value {
    json!(Cmd::of(frame).map(Cmd::name))
}
