//! The handlers of marks, of the journal (as one answer, or streamed as server-sent events), and of waiting for an event.
//!
//! Serves `routes`. A client that reads a stream is told of every event that it misses, also over a reconnect, and a shutdown
//! ends all streams.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::sse::{self, Sse};
use axum::response::{IntoResponse, Response};
use futures_util::{StreamExt, stream};
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::answer::{Json, Problem, QueryParams, STREAMED};
use super::{Deps, exact};
use crate::clock::running;
use crate::lab::{
    Capture, Event, GATEWAY, Journal, MARKED, Mark, Missed, Page, Reader, Site, Step, Unknowable,
};
use crate::lab::{EventKind, describe};
use crate::number::{Id, Whole};
use crate::proto::Cmd;
use crate::task_group::TaskGroup;

/// How long `/v1/wait` waits, if the request sets no timeout.
const DEFAULT_TIMEOUT: Duration = Duration::from_secs(30);

/// The time after which a client is told to reconnect when its stream has ended.
const RECONNECT_AFTER: Duration = Duration::from_secs(1);

/// How long everything is still recorded after a stream has ended. It is longer than [`RECONNECT_AFTER`], so that a client
/// that reconnects misses nothing.
const RECORD_AFTER_STREAM: Duration = Duration::from_secs(3);

/// The header in which a client that reconnects names the last event that it received.
const LAST_EVENT_ID: &str = "last-event-id";

/// How many requests may follow the journal or wait for an event at a time.
const MAX_FOLLOWERS: usize = 32;

/// Limits the requests that follow the journal or wait for an event to fewer than there are connections, so that other
/// requests are still answered.
#[derive(Debug, Clone)]
pub struct Followers(Arc<Semaphore>);

impl Default for Followers {
    fn default() -> Self {
        Followers(Arc::new(Semaphore::new(MAX_FOLLOWERS)))
    }
}

impl Followers {
    fn acquire(&self) -> Result<OwnedSemaphorePermit, Problem> {
        Arc::clone(&self.0).try_acquire_owned().map_err(|_| {
            let why =
                format!("{MAX_FOLLOWERS} follow the journal or wait already: end one of them");
            Problem::new(StatusCode::SERVICE_UNAVAILABLE, why)
        })
    }
}

/// The query of a request for events: conditions that each of them meets.
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct EventQuery {
    since: Option<Whole<u64>>,
    /// The instance of the `imd` that returned the mark in `since`. Another instance refuses the mark.
    instance: Option<String>,
    uid: Option<Id>,
    cmd: Option<String>,
    server: Option<String>,
    session: Option<Whole<u64>>,
    what: Option<String>,
    /// How long `/v1/wait` waits; ignored elsewhere.
    timeout: Option<String>,
    /// Whether the bytes of frames are answered too, tokens included.
    bytes: bool,
}

/// An [`EventQuery`] whose values have been checked.
struct Filter {
    since: Option<Mark>,
    uid: Option<i64>,
    cmd: Option<Cmd>,
    server: Option<String>,
    session: Option<u64>,
    what: Option<String>,
    bytes: bool,
}

impl EventQuery {
    /// Checks the values, for the run of `imd` that is called `instance`.
    ///
    /// # Errors
    ///
    /// 409 if the mark is from another instance, and 400 for another value that is wrong.
    fn filter(self, instance: &str) -> Result<Filter, Problem> {
        if let Some(other) = self.instance.filter(|other| other != instance) {
            return Err(Problem::conflict(format!(
                "instance: this imd is {instance}, and not {other:?}: its event numbers are others; take a new mark"
            )));
        }
        let cmd = self.cmd.map(|cmd| {
            let named = match cmd.parse() {
                Ok(number) => Cmd::from_number(number),
                Err(_) => Cmd::named(&cmd),
            };
            named.ok_or_else(|| Problem::bad(format!("{cmd:?} is no command")))
        });
        let is_known = |what: &String| EventKind::NAMES.contains(&what.as_str());
        if let Some(what) = self.what.as_ref().filter(|what| !is_known(what)) {
            let all = EventKind::NAMES.join(", ");
            return Err(Problem::bad(format!("what: {what:?} is none of {all}")));
        }
        Ok(Filter {
            since: self.since.map(|Whole(since)| Mark(since)),
            uid: self.uid.map(|Whole(uid)| uid),
            cmd: cmd.transpose()?,
            server: self.server,
            session: self.session.map(|Whole(session)| session),
            what: self.what,
            bytes: self.bytes,
        })
    }
}

impl Filter {
    /// Checks that the server of the filter exists, because no event of another one would ever come.
    ///
    /// # Errors
    ///
    /// 400 if there is no such server.
    fn check_server(&self, deps: &Deps) -> Result<(), Problem> {
        let Some(server) = self.server.as_deref() else {
            return Ok(());
        };
        // The events of a fault that is not at a server have the name of the fault's site in place of a server's.
        if server == GATEWAY || Site::ALL.iter().any(|site| site.name() == server) {
            return Ok(());
        }
        if deps.stack.access.get(server).is_some() {
            return Ok(());
        }
        let mut known = vec![GATEWAY.to_owned()];
        known.extend(
            deps.stack
                .access
                .all()
                .iter()
                .map(|server| server.name().to_owned()),
        );
        let known = known.join(", ");
        Err(Problem::bad(format!(
            "server: {server:?} is none of {known}"
        )))
    }

    fn matches(&self, event: &Event) -> bool {
        self.uid.is_none_or(|uid| event.uid == Some(uid))
            && self.cmd.is_none_or(|cmd| event.cmd == Some(cmd))
            && self
                .session
                .is_none_or(|session| event.session == Some(session))
            && (self.server.as_deref()).is_none_or(|server| &*event.server == server)
            && (self.what.as_deref()).is_none_or(|what| event.what.name() == what)
    }

    /// Returns an event as JSON, with the bytes of its frame if they are wanted.
    fn to_json(&self, event: &Event) -> Value {
        let mut described = describe(event);
        if let (true, EventKind::Frame(_), Some(fields)) =
            (self.bytes, &event.what, described.as_object_mut())
        {
            let bytes = base16ct::lower::encode_string(&event.frame);
            fields.insert("bytes".into(), json!(bytes));
        }
        exact::add_texts(&mut described);
        described
    }

    /// Returns the mark at which a stream begins: after the event in the header of a client that reconnects, else at the
    /// mark of the query. `None` is the present.
    ///
    /// # Errors
    ///
    /// 400 if the header is no number, and 409 if this journal has not given out the mark.
    fn start(&self, headers: &HeaderMap, journal: &Journal) -> Result<Option<Mark>, Problem> {
        let header = headers.get(LAST_EVENT_ID).filter(|id| !id.is_empty());
        let Some(id) = header else {
            let checked = self.since.map(|since| journal.check(since).map(|()| since));
            return checked.transpose().map_err(unknown_mark("since"));
        };
        let id = String::from_utf8_lossy(id.as_bytes());
        let Ok(last) = id.parse::<u64>() else {
            let why = format!("Last-Event-ID: {id:?} is not the number of an event");
            return Err(Problem::bad(why));
        };
        let mark = Mark(last.saturating_add(1));
        match journal.check(mark) {
            Ok(()) => Ok(Some(mark)),
            Err(Unknowable::Beyond { next, .. }) => {
                let why = Unknowable::Beyond { mark: last, next };
                Err(unknown_mark("Last-Event-ID")(why))
            }
            Err(why) => Err(Problem::conflict(why)),
        }
    }
}

/// Returns a function that creates the refusal of a mark. `place` is the key or the header of the request that has it.
fn unknown_mark(place: &str) -> impl Fn(Unknowable) -> Problem {
    move |why| Problem::conflict(format!("{place}: {why}"))
}

/// Answers a new mark, after which everything is recorded for a while.
///
/// # Errors
///
/// 409 if the config has turned the journal off.
pub async fn mark(State(deps): State<Arc<Deps>>) -> Result<Json<Value>, Problem> {
    let journal = deps.core.lab.journal();
    let recorded = match journal.capture() {
        Capture::Off => return Err(Problem::conflict(Unknowable::Off)),
        Capture::Auto => Some(u64::try_from(MARKED.as_millis()).unwrap_or(u64::MAX)),
        Capture::Always => None,
    };
    Ok(Json(json!({
        "instance": deps.instance,
        "mark": journal.mark().0,
        "recorded_ms": recorded,
    })))
}

/// Answers the events since a mark; with `accept: text/event-stream`, streams the events as they happen.
///
/// # Errors
///
/// 400 for a filter that no event can pass, 409 for a mark that this journal has not given out, and 503 if too many requests
/// follow the journal already.
pub async fn journal(
    State(deps): State<Arc<Deps>>,
    QueryParams(query): QueryParams<EventQuery>,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let filter = query.filter(&deps.instance)?;
    filter.check_server(&deps)?;
    let journal = deps.core.lab.journal();
    let accepts = headers
        .get(header::ACCEPT)
        .and_then(|accept| accept.to_str().ok());
    if accepts.is_some_and(|accept| accept.contains("text/event-stream")) {
        return follow(&deps, filter, &headers);
    }
    let since = filter.start(&HeaderMap::new(), journal)?;
    let (large_answers, deps) = (deps.large_answers.clone(), Arc::clone(&deps));
    let answer = move || Json(recorded(&deps, &filter, since.unwrap_or(Mark(0))));
    large_answers.make(answer).await
}

/// Returns the recorded events that match the filter, from a mark on.
fn recorded(deps: &Deps, filter: &Filter, since: Mark) -> Value {
    let journal = deps.core.lab.journal();
    // The answer has a mark, so what follows is recorded as after any other mark.
    journal.mark();
    let Page {
        events,
        mark,
        missed,
        dropped,
    } = journal.read_on(since);
    let events = events.iter().filter(|event| filter.matches(event));
    json!({
        "instance": deps.instance,
        "mark": mark.0,
        "dropped": dropped,
        "missed": missed.dropped,
        "unrecorded": missed.unrecorded,
        "events": events.map(|event| filter.to_json(event)).collect::<Vec<_>>(),
    })
}

/// Streams events as they happen, until the client disconnects or the stack shuts down.
fn follow(deps: &Deps, filter: Filter, headers: &HeaderMap) -> Result<Response, Problem> {
    let journal = deps.core.lab.journal();
    let permit = deps.followers.acquire()?;
    let mark = filter.start(headers, journal)?;
    let follower = Follower {
        reader: mark.map_or_else(|| journal.read_new(), |mark| journal.read(mark)),
        journal: Arc::clone(journal),
        filter,
        tasks: deps.tasks.clone(),
        _permit: permit,
    };
    let events = stream::unfold(follower, async |mut follower| {
        let event = follower.next().await?;
        Some((event, follower))
    });
    // Some proxies hold back the head of an answer until the first bytes of its body.
    let first = stream::iter([sse::Event::default().retry(RECONNECT_AFTER)]);
    let events = first.chain(events).map(Ok::<_, Infallible>);
    let events = Sse::new(events).keep_alive(sse::KeepAlive::default());
    Ok((STREAMED, events).into_response())
}

/// The state of a stream: a position in the journal, and the filter of its events.
struct Follower {
    reader: Reader,
    journal: Arc<Journal>,
    filter: Filter,
    tasks: TaskGroup,
    _permit: OwnedSemaphorePermit,
}

impl Follower {
    /// Returns the next event that matches, or the gap before it; `None` when the stack shuts down.
    async fn next(&mut self) -> Option<sse::Event> {
        loop {
            let step = tokio::select! {
                // Events that have already happened are sent before the stream ends.
                biased;
                step = self.reader.step() => step,
                () = self.tasks.shutdown_begun() => return None,
            };
            match step {
                Step::Gap { missed, last } => return Some(gap(missed, last)),
                Step::Event(event) if self.filter.matches(&event) => {
                    let data = self.filter.to_json(&event).to_string();
                    let id = event.seq.to_string();
                    return Some(sse::Event::default().id(id).data(data));
                }
                Step::Event(_) => {}
            }
        }
    }
}

impl Drop for Follower {
    fn drop(&mut self) {
        // A client whose connection broke reconnects, and must not miss anything.
        self.journal.stay_on(RECORD_AFTER_STREAM);
    }
}

/// Returns the event that reports missing events. It has the number of the `last` of them as its id, so that a client that
/// reconnects does not get it again.
fn gap(missed: Missed, last: u64) -> sse::Event {
    let data = json!({ "count": missed.total(), "unrecorded": missed.unrecorded });
    let event = sse::Event::default().event("gap").id(last.to_string());
    event.data(data.to_string())
}

/// Waits for an event that matches, and answers it.
///
/// # Errors
///
/// 408 if no event matched in time, 409 if the journal can't tell whether one did, 503 if the stack ends or too many requests
/// wait already, and 400 for a filter that no event can pass.
pub async fn wait(
    State(deps): State<Arc<Deps>>,
    QueryParams(mut query): QueryParams<EventQuery>,
) -> Result<Json<Value>, Problem> {
    let timeout = match query.timeout.take() {
        None => DEFAULT_TIMEOUT,
        Some(text) => humantime::parse_duration(&text)
            .map_err(|error| Problem::bad(format!("timeout: {text:?} is no duration: {error}")))?,
    };
    let filter = query.filter(&deps.instance)?;
    filter.check_server(&deps)?;
    let _permit = deps.followers.acquire()?;
    let journal = deps.core.lab.journal();
    let mut reader = match filter.since {
        Some(since) => {
            let reader = journal.read_for(since, |event| filter.matches(event));
            reader.map_err(unknown_mark("since"))?
        }
        None if journal.capture() == Capture::Off => {
            return Err(Problem::conflict(Unknowable::Off));
        }
        None => journal.read_new(),
    };
    let mut missed = 0;
    let seen = async {
        loop {
            match reader.step().await {
                Step::Event(event) if filter.matches(&event) => return event,
                Step::Event(_) => {}
                Step::Gap { missed: more, .. } => missed += more.total(),
            }
        }
    };
    let seen = async {
        tokio::select! {
            event = seen => Some(event),
            () = deps.tasks.shutdown_begun() => None,
        }
    };
    match running::timeout(timeout, seen).await {
        Ok(None) => {
            let why = "the stack ends";
            Err(Problem::new(StatusCode::SERVICE_UNAVAILABLE, why))
        }
        Ok(Some(event)) => Ok(Json(filter.to_json(&event))),
        Err(_) => {
            let mut why = format!("not seen within {}", humantime::format_duration(timeout));
            if missed > 0 {
                why += &format!("; {missed} events since the mark are no longer in the journal");
            }
            Err(Problem::new(StatusCode::REQUEST_TIMEOUT, why))
        }
    }
}
