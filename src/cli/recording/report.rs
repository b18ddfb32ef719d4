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

/// So many fields of one reply are told.
const MOST_FIELDS: usize = 20;

/// Where something differs.
#[derive(Debug, Clone)]
pub struct Place {
    /// The recorded session.
    pub session: u64,
    /// Where it was.
    pub server: String,
    /// Whose it is.
    pub uid: Option<i64>,
}

impl Place {
    /// A line's.
    pub fn of(line: &Line) -> Place {
        Place {
            session: line.session,
            server: line.server.clone(),
            uid: line.uid,
        }
    }
}

/// What has been compared.
#[derive(Debug, Default, PartialEq, Eq, Serialize)]
pub struct Totals {
    /// Requests that were sent.
    pub requests: u64,
    /// Replies, notifies and closes that are as recorded.
    pub alike: u64,
    /// Those that are not.
    pub different: u64,
}

/// The totals at the end, and why the replay came to none.
#[derive(Serialize)]
struct Ended<'a> {
    #[serde(flatten)]
    totals: &'a Totals,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<String>,
}

/// Tells of what differs as it is found.
pub struct Report {
    as_json: bool,
    ignored: Vec<String>,
    pub totals: Totals,
}

impl Report {
    pub fn new(as_json: bool, ignored: Vec<String>) -> Report {
        Report {
            as_json,
            ignored,
            totals: Totals::default(),
        }
    }

    /// Compares both sides of an exchange. `end` is why nothing comes any more, if so.
    ///
    /// # Errors
    ///
    /// When nobody reads stdout any more.
    pub fn exchange(
        &mut self,
        place: &Place,
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
                let found = vec![missing(command(recorded), Value::Null)];
                (shown(recorded), json!(silence), found)
            }
            (_, Side::Frame(got)) => {
                let found = vec![missing(Value::Null, command(got))];
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
        self.tell(place, exchange.line, request, &recorded, &got, &found)
    }

    /// Something that is in the record, and whether it was the same this time.
    ///
    /// # Errors
    ///
    /// When nobody reads stdout any more.
    pub fn event(
        &mut self,
        place: &Place,
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
        self.tell(place, line, None, &recorded, &got, &[])
    }

    fn tell(
        &mut self,
        place: &Place,
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
            let told = found.iter().take(MOST_FIELDS);
            let differ = told
                .map(|it| json!({ "field": it.field, "recorded": it.recorded, "got": it.got }))
                .collect::<Vec<_>>();
            return output::json(&json!({
                "line": line, "session": place.session, "server": place.server, "uid": place.uid,
                "cmd": cmd, "request": request, "recorded": recorded, "got": got, "differ": differ,
            }));
        }
        let Place {
            session, server, ..
        } = place;
        let uid = place.uid.map(|uid| format!(", uid {uid}"));
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
        } in found.iter().take(MOST_FIELDS)
        {
            text += &format!("\n  differs   {field}: {recorded}, got {got}");
        }
        if found.len() > MOST_FIELDS {
            let more = found.len() - MOST_FIELDS;
            text += &format!("\n  differs   {more} fields more");
        }
        text.lines()
            .try_for_each(|line| output::line(&escape(line)))
    }

    /// Tells of the totals, also where the replay came to no end: `played` says why not.
    ///
    /// # Errors
    ///
    /// What `played` says; else when something differs, with that; and when nobody reads stdout any more.
    pub fn end(self, played: Result<(), Failure>) -> Result<(), Failure> {
        if matches!(played, Err(Failure::OutputClosed)) {
            // Nobody reads on. Something was to be told, and that is a difference.
            return Err(Failure::Exit(FAILED));
        }
        let Totals {
            requests,
            alike,
            different,
        } = self.totals;
        let said = if self.as_json {
            let error = played.as_ref().err().map(ToString::to_string);
            output::json(&Ended {
                totals: &self.totals,
                error,
            })
        } else {
            output::line(&format!(
                "{requests} requests; of what the server said, {alike} alike, {different} different"
            ))
        };
        // Who does not read the totals learns by the code how it went.
        played?;
        match different {
            0 => said,
            _ => Err(said
                .err()
                .filter(Failure::needs_report)
                .unwrap_or(Failure::Exit(FAILED))),
        }
    }
}

fn missing(recorded: Value, got: Value) -> Difference {
    Difference {
        field: "cmd".into(),
        recorded,
        got,
    }
}

/// A frame's command, and its fields.
fn shown(frame: &[u8]) -> Value {
    json!({ "cmd": command(frame), "fields": fields(frame) })
}

fn command(frame: &[u8]) -> Value {
    json!(Cmd::of(frame).map(Cmd::name))
}
