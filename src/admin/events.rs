use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::extract::{Query, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::sse::{self, Sse};
use axum::response::{IntoResponse, Response};
use futures_util::stream;
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::answer::{Problem, query};
use super::{LISTENERS, Parts};
use crate::lab::{Event, Mark, What, describe};
use crate::proto::Cmd;

/// A wait lasts so long, unless it is told otherwise.
const PATIENCE: Duration = Duration::from_secs(30);

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
    since: Option<u64>,
    uid: Option<i64>,
    cmd: Option<String>,
    server: Option<String>,
    session: Option<u64>,
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
    fn filter(self) -> Result<Filter, Problem> {
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
            since: self.since.map(Mark),
            uid: self.uid,
            cmd: cmd.transpose()?,
            server: self.server,
            session: self.session,
            what: self.what,
            bytes: self.bytes,
        })
    }
}

impl Filter {
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
        told
    }
}

/// What has passed, or what passes.
pub async fn journal(
    State(parts): State<Arc<Parts>>,
    meant: Result<Query<Meant>, axum::extract::rejection::QueryRejection>,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let filter = query(meant)?.filter()?;
    let journal = parts.lab.journal();
    let accepts = headers
        .get(header::ACCEPT)
        .and_then(|accept| accept.to_str().ok());
    if accepts.is_some_and(|accept| accept.contains("text/event-stream")) {
        let place = parts.listeners.place()?;
        let mark = filter.since.unwrap_or_else(|| journal.mark());
        let reader = (journal.read(mark), filter, parts.ending.clone(), place);
        let events = stream::unfold(reader, |(mut reader, filter, ending, place)| async {
            loop {
                let event = tokio::select! {
                    // What has passed is told before the end.
                    biased;
                    event = reader.next() => event,
                    () = ending.begun() => return None,
                };
                if filter.takes(&event) {
                    let told = sse::Event::default()
                        .id(event.seq.to_string())
                        .data(filter.tell(&event).to_string());
                    return Some((Ok::<_, Infallible>(told), (reader, filter, ending, place)));
                }
            }
        });
        let alive = sse::KeepAlive::default();
        return Ok(Sse::new(events).keep_alive(alive).into_response());
    }
    let (events, mark, dropped) = journal.read_on(filter.since.unwrap_or(Mark(0)));
    let events: Vec<Value> = events
        .iter()
        .filter(|event| filter.takes(event))
        .map(|event| filter.tell(event))
        .collect();
    let told = json!({
        "mark": mark.0,
        "dropped": dropped,
        "events": events,
    });
    Ok(Json(told).into_response())
}

/// Waits for one.
pub async fn wait(
    State(parts): State<Arc<Parts>>,
    meant: Result<Query<Meant>, axum::extract::rejection::QueryRejection>,
) -> Result<Json<Value>, Problem> {
    let mut meant = query(meant)?;
    let timeout = match meant.timeout.take() {
        None => PATIENCE,
        Some(text) => humantime::parse_duration(&text)
            .map_err(|error| Problem::bad(format!("timeout: {text:?} is no duration: {error}")))?,
    };
    let filter = meant.filter()?;
    let _place = parts.listeners.place()?;
    let journal = parts.lab.journal();
    let mut reader = journal.read(filter.since.unwrap_or_else(|| journal.mark()));
    let seen = async {
        loop {
            let event = reader.next().await;
            if filter.takes(&event) {
                return event;
            }
        }
    };
    let seen = async {
        tokio::select! {
            event = seen => Some(event),
            () = parts.ending.begun() => None,
        }
    };
    match tokio::time::timeout(timeout, seen).await {
        Ok(None) => {
            let why = "the stack ends";
            Err(Problem::new(StatusCode::SERVICE_UNAVAILABLE, why))
        }
        Ok(Some(event)) => Ok(Json(filter.tell(&event))),
        Err(_) => {
            let why = format!("not seen within {}", humantime::format_duration(timeout));
            Err(Problem::new(StatusCode::REQUEST_TIMEOUT, why))
        }
    }
}
