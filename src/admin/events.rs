use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::rejection::QueryRejection;
use axum::extract::{Query, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::sse::{self, Sse};
use axum::response::{IntoResponse, Response};
use futures_util::{StreamExt, stream};
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::answer::{Json, Problem, STREAMED, query};
use super::{LISTENERS, Parts, exact};
use crate::clock::running;
use crate::lab::{
    Capture, Event, GATEWAY, Journal, MARKED, Mark, Missed, Page, Reader, Site, Step, Unknowable,
};
use crate::lab::{What, describe};
use crate::number::{Id, Whole};
use crate::proto::Cmd;
use crate::shutdown::Shutdown;

/// A wait lasts so long, unless it is told otherwise.
const PATIENCE: Duration = Duration::from_secs(30);

/// A client whose stream has ended comes back after this time.
const RETRY: Duration = Duration::from_secs(1);

/// So long everything is still recorded for a client whose stream has ended: it comes back within this time.
const RETURN: Duration = Duration::from_secs(3);

/// Says in a request which event its client got last.
const LAST_EVENT_ID: &str = "last-event-id";

/// Room for those who follow the journal or wait for an event: not all connections, so that others are answered too.
#[derive(Debug, Clone)]
pub struct Listeners(Arc<Semaphore>);

impl Default for Listeners {
    fn default() -> Self {
        Listeners(Arc::new(Semaphore::new(LISTENERS)))
    }
}

impl Listeners {
    fn place(&self) -> Result<OwnedSemaphorePermit, Problem> {
        Arc::clone(&self.0).try_acquire_owned().map_err(|_| {
            let why = format!("{LISTENERS} follow the journal or wait already: end one of them");
            Problem::new(StatusCode::SERVICE_UNAVAILABLE, why)
        })
    }
}

/// The events that are meant.
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Meant {
    since: Option<Whole<u64>>,
    /// The run of imd that has given out `since`.
    instance: Option<String>,
    uid: Option<Id>,
    cmd: Option<String>,
    server: Option<String>,
    session: Option<Whole<u64>>,
    what: Option<String>,
    timeout: Option<String>,
    /// Frames are told byte by byte too, tokens included.
    bytes: bool,
}

/// The same, understood.
struct Filter {
    since: Option<Mark>,
    uid: Option<i64>,
    cmd: Option<Cmd>,
    server: Option<String>,
    session: Option<u64>,
    what: Option<String>,
    bytes: bool,
}

impl Meant {
    /// Understands it, for the run of imd that is called `instance`.
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
        let is_known = |what: &String| What::NAMES.contains(&what.as_str());
        if let Some(what) = self.what.as_ref().filter(|what| !is_known(what)) {
            let all = What::NAMES.join(", ");
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
    /// Refuses a server that no event can be of: whoever waits for it would wait for ever.
    fn check_server(&self, parts: &Parts) -> Result<(), Problem> {
        let Some(server) = self.server.as_deref() else {
            return Ok(());
        };
        // What a fault does elsewhere than at a server is told under the name of its site.
        if server == GATEWAY || Site::ALL.iter().any(|site| site.name() == server) {
            return Ok(());
        }
        if parts.stack.access.get(server).is_some() {
            return Ok(());
        }
        let mut known = vec![GATEWAY.to_owned()];
        known.extend(
            parts
                .stack
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

    fn takes(&self, event: &Event) -> bool {
        self.uid.is_none_or(|uid| event.uid == Some(uid))
            && self.cmd.is_none_or(|cmd| event.cmd == Some(cmd))
            && self
                .session
                .is_none_or(|session| event.session == Some(session))
            && (self.server.as_deref()).is_none_or(|server| &*event.server == server)
            && (self.what.as_deref()).is_none_or(|what| event.what.name() == what)
    }

    /// The event as it was asked for.
    fn tell(&self, event: &Event) -> Value {
        let mut told = describe(event);
        if let (true, What::Frame(_), Some(told)) = (self.bytes, &event.what, told.as_object_mut())
        {
            let bytes = base16ct::lower::encode_string(&event.frame);
            told.insert("bytes".into(), json!(bytes));
        }
        exact::spell(&mut told);
        told
    }

    /// From where events are asked for: by the client's header if it comes back to a stream, else by its query.
    fn from(&self, headers: &HeaderMap, journal: &Journal) -> Result<Option<Mark>, Problem> {
        let header = headers.get(LAST_EVENT_ID).filter(|id| !id.is_empty());
        let Some(id) = header else {
            let checked = self.since.map(|since| journal.check(since).map(|()| since));
            return checked.transpose().map_err(not_ours("since"));
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
                Err(not_ours("Last-Event-ID")(why))
            }
            Err(why) => Err(Problem::conflict(why)),
        }
    }
}

/// The refusal of a mark, which stands at `place` in the request.
fn not_ours(place: &str) -> impl Fn(Unknowable) -> Problem {
    move |why| Problem::conflict(format!("{place}: {why}"))
}

/// A mark, after which everything is recorded for a while.
pub async fn mark(State(parts): State<Arc<Parts>>) -> Result<Json<Value>, Problem> {
    let journal = parts.core.lab.journal();
    let recorded = match journal.capture() {
        Capture::Off => return Err(Problem::conflict(Unknowable::Off)),
        Capture::Auto => Some(u64::try_from(MARKED.as_millis()).unwrap_or(u64::MAX)),
        Capture::Always => None,
    };
    Ok(Json(json!({
        "instance": parts.instance,
        "mark": journal.mark().0,
        "recorded_ms": recorded,
    })))
}

/// What has passed, or what passes.
pub async fn journal(
    State(parts): State<Arc<Parts>>,
    meant: Result<Query<Meant>, QueryRejection>,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let filter = query(meant)?.filter(&parts.instance)?;
    filter.check_server(&parts)?;
    let journal = parts.core.lab.journal();
    let accepts = headers
        .get(header::ACCEPT)
        .and_then(|accept| accept.to_str().ok());
    if accepts.is_some_and(|accept| accept.contains("text/event-stream")) {
        return follow(&parts, filter, &headers);
    }
    let since = filter.from(&HeaderMap::new(), journal)?;
    let (large_answers, told) = (parts.large_answers.clone(), Arc::clone(&parts));
    let told = move || Json(past(&told, &filter, since.unwrap_or(Mark(0))));
    large_answers.make(told).await
}

/// Returns the events that the filter takes, from a mark on.
fn past(parts: &Parts, filter: &Filter, since: Mark) -> Value {
    let journal = parts.core.lab.journal();
    // It answers a mark too.
    journal.mark();
    let Page {
        events,
        mark,
        missed,
        dropped,
    } = journal.read_on(since);
    let events = events.iter().filter(|event| filter.takes(event));
    json!({
        "instance": parts.instance,
        "mark": mark.0,
        "dropped": dropped,
        "missed": missed.dropped,
        "unrecorded": missed.unrecorded,
        "events": events.map(|event| filter.tell(event)).collect::<Vec<_>>(),
    })
}

/// Sends events as they pass, until the client or the stack ends it.
fn follow(parts: &Parts, filter: Filter, headers: &HeaderMap) -> Result<Response, Problem> {
    let journal = parts.core.lab.journal();
    let place = parts.listeners.place()?;
    let mark = filter.from(headers, journal)?;
    let follower = Follower {
        reader: mark.map_or_else(|| journal.read_new(), |mark| journal.read(mark)),
        journal: Arc::clone(journal),
        filter,
        ending: parts.ending.clone(),
        _place: place,
    };
    let events = stream::unfold(follower, async |mut follower| {
        let event = follower.next().await?;
        Some((event, follower))
    });
    // Its head alone would be kept back by some proxies.
    let first = stream::iter([sse::Event::default().retry(RETRY)]);
    let events = first.chain(events).map(Ok::<_, Infallible>);
    let events = Sse::new(events).keep_alive(sse::KeepAlive::default());
    Ok((STREAMED, events).into_response())
}

/// One who follows the journal.
struct Follower {
    reader: Reader,
    journal: Arc<Journal>,
    filter: Filter,
    ending: Shutdown,
    _place: OwnedSemaphorePermit,
}

impl Follower {
    /// The next event that is meant, or what is missing before it; `None` when the stack ends.
    async fn next(&mut self) -> Option<sse::Event> {
        loop {
            let step = tokio::select! {
                // What has passed is told before the end.
                biased;
                step = self.reader.step() => step,
                () = self.ending.begun() => return None,
            };
            match step {
                Step::Gap { missed, last } => return Some(gap(missed, last)),
                Step::Event(event) if self.filter.takes(&event) => {
                    let told = self.filter.tell(&event).to_string();
                    let id = event.seq.to_string();
                    return Some(sse::Event::default().id(id).data(told));
                }
                Step::Event(_) => {}
            }
        }
    }
}

impl Drop for Follower {
    fn drop(&mut self) {
        // A client whose connection broke comes back, and misses nothing.
        self.journal.stay_on(RETURN);
    }
}

/// Says that events are missing. A client that comes back after it is not told again: it has the number of the `last`.
fn gap(missed: Missed, last: u64) -> sse::Event {
    let told = json!({ "count": missed.total(), "unrecorded": missed.unrecorded });
    let event = sse::Event::default().event("gap").id(last.to_string());
    event.data(told.to_string())
}

/// Waits for one.
pub async fn wait(
    State(parts): State<Arc<Parts>>,
    meant: Result<Query<Meant>, QueryRejection>,
) -> Result<Json<Value>, Problem> {
    let mut meant = query(meant)?;
    let timeout = match meant.timeout.take() {
        None => PATIENCE,
        Some(text) => humantime::parse_duration(&text)
            .map_err(|error| Problem::bad(format!("timeout: {text:?} is no duration: {error}")))?,
    };
    let filter = meant.filter(&parts.instance)?;
    filter.check_server(&parts)?;
    let _place = parts.listeners.place()?;
    let journal = parts.core.lab.journal();
    let mut reader = match filter.since {
        Some(since) => {
            let reader = journal.read_for(since, |event| filter.takes(event));
            reader.map_err(not_ours("since"))?
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
                Step::Event(event) if filter.takes(&event) => return event,
                Step::Event(_) => {}
                Step::Gap { missed: more, .. } => missed += more.total(),
            }
        }
    };
    let seen = async {
        tokio::select! {
            event = seen => Some(event),
            () = parts.ending.begun() => None,
        }
    };
    match running::timeout(timeout, seen).await {
        Ok(None) => {
            let why = "the stack ends";
            Err(Problem::new(StatusCode::SERVICE_UNAVAILABLE, why))
        }
        Ok(Some(event)) => Ok(Json(filter.tell(&event))),
        Err(_) => {
            let mut why = format!("not seen within {}", humantime::format_duration(timeout));
            if missed > 0 {
                why += &format!("; {missed} events since the mark are no longer in the journal");
            }
            Err(Problem::new(StatusCode::REQUEST_TIMEOUT, why))
        }
    }
}
