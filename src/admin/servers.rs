use std::sync::Arc;
use std::time::Duration;

use axum::extract::rejection::QueryRejection;
use axum::extract::{Query, State};
use axum::http::StatusCode;
use serde::Deserialize;
use serde_json::{Value, json};

use super::Parts;
use super::answer::{Body, InPath, Json, Problem, query};
use super::contents;
use crate::access::{AccessServer, AddError};
use crate::config::Host;
use crate::lab::GATEWAY;
use crate::number::{Id, Whole};
use crate::session::{CloseReason, Session};

/// The name of a new server.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct New {
    name: String,
}

/// What clients are to be told.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Advertised {
    addr: Option<String>,
}

/// How a session is to end.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct End {
    #[serde(default)]
    how: How,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "lowercase")]
enum How {
    #[default]
    Fin,
    Rst,
    HalfOpen,
}

/// The access servers as values.
pub fn listed(parts: &Parts) -> Vec<Value> {
    parts
        .stack
        .access
        .all()
        .iter()
        .map(|server| told(server))
        .collect()
}

fn told(server: &AccessServer) -> Value {
    json!({
        "name": server.name(),
        "state": server.state().name(),
        "addr": server.addr().to_string(),
        "advertised": server.advertised(),
        "sessions": server.sessions().len(),
    })
}

/// The registry's records as values.
pub async fn records(parts: &Parts) -> Value {
    let records = parts.core.registry.list().await;
    let leases = parts.core.registry.leases().into_iter();
    let left =
        |(name, left): (String, Duration)| json!({ "name": name, "remaining_ms": millis(left) });
    json!({
        "frozen": parts.core.registry.is_frozen(),
        "lease_ms": millis(parts.lease),
        "records": records,
        "leases": leases.map(left).collect::<Vec<_>>(),
    })
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

/// Which sessions are meant.
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Which {
    after: Option<Whole<u64>>,
    limit: Option<usize>,
    server: Option<String>,
    uid: Option<Id>,
}

/// The sessions, in the order in which they were opened.
pub async fn sessions(
    State(parts): State<Arc<Parts>>,
    which: Result<Query<Which>, QueryRejection>,
) -> Result<Json<Value>, Problem> {
    let which = query(which)?;
    let limit = contents::limit(which.limit)?;
    let after = which.after.map_or(0, |Whole(after)| after);
    let servers = parts.stack.access.all();
    let servers = servers
        .iter()
        .map(|server| (server.name(), server.sessions()));
    let all = std::iter::once((GATEWAY, Arc::clone(parts.stack.gateway.sessions()))).chain(servers);
    let mut found = Vec::new();
    let mut is_known = false;
    for (name, manager) in all {
        if which.server.as_deref().is_none_or(|server| server == name) {
            is_known = true;
            let sessions = manager.sessions().filter(|session| {
                let uid = which.uid.as_ref();
                session.id().0 > after && uid.is_none_or(|&Whole(uid)| session.uid() == Some(uid))
            });
            found.extend(sessions.map(|session| (name, session)));
        }
    }
    if let (false, Some(server)) = (is_known, &which.server) {
        let why = format!("server: {server:?} is neither {GATEWAY} nor an access server");
        return Err(Problem::bad(why));
    }
    let id = |(_, session): &(&str, Arc<Session>)| session.id().0;
    found.sort_unstable_by_key(id);
    let tell = |(name, session): (&str, Arc<Session>)| seen(name, &session);
    Ok(contents::list("sessions", found, limit, id, tell))
}

fn seen(server: &str, session: &Session) -> Value {
    json!({
        "id": session.id().0,
        "server": server,
        "peer": session.peer().to_string(),
        "uid": session.uid(),
        "queued": session.queued(),
        "half_open": session.is_half_open(),
    })
}

/// Ends one.
pub async fn end_session(
    State(parts): State<Arc<Parts>>,
    InPath(Whole(id)): InPath<Whole<u64>>,
    end: Result<Query<End>, QueryRejection>,
) -> Result<Json<Value>, Problem> {
    let End { how } = query(end)?;
    let servers = parts.stack.access.all();
    let managers = servers.iter().map(|server| server.sessions());
    let found = std::iter::once(Arc::clone(parts.stack.gateway.sessions()))
        .chain(managers)
        .find_map(|manager| manager.sessions().find(|session| session.id().0 == id));
    let session = found.ok_or_else(|| Problem::missing(format!("there is no session {id}")))?;
    match how {
        How::Fin => session.close(CloseReason::Dropped),
        How::Rst => session.close(CloseReason::Reset),
        How::HalfOpen => session.half_open(),
    }
    Ok(Json(json!({})))
}

/// One more access server.
pub async fn add(
    State(parts): State<Arc<Parts>>,
    Body(New { name }): Body<New>,
) -> Result<(StatusCode, Json<Value>), Problem> {
    let added = parts
        .stack
        .access
        .add(&name)
        .await
        .map_err(|error| match error {
            AddError::Config(_) => Problem::bad(error),
            AddError::NoRole | AddError::NameTaken { .. } | AddError::System(_) => {
                Problem::conflict(error)
            }
        })?;
    Ok((StatusCode::CREATED, Json(told(&added))))
}

fn server(parts: &Parts, name: &str) -> Result<Arc<AccessServer>, Problem> {
    let found = parts.stack.access.get(name);
    found.ok_or_else(|| Problem::missing(format!("there is no access server {name:?}")))
}

/// What can be done to an access server.
#[derive(Clone, Copy)]
pub enum Change {
    /// [`AccessServer::try_kill`]
    Kill,
    /// [`AccessServer::try_stop`]
    Stop,
    /// [`AccessServer::try_pause`]
    Pause,
    /// [`AccessServer::try_resume`]
    Resume,
    /// [`AccessServer::restart`]
    Restart,
}

/// Does it to one of them.
pub async fn change(
    State(parts): State<Arc<Parts>>,
    InPath(name): InPath<String>,
    change: Change,
) -> Result<Json<Value>, Problem> {
    let server = server(&parts, &name)?;
    match change {
        Change::Kill => server.try_kill().await.map_err(Problem::conflict)?,
        Change::Stop => server.try_stop().await.map_err(Problem::conflict)?,
        Change::Pause => server.try_pause().await.map_err(Problem::conflict)?,
        Change::Resume => server.try_resume().await.map_err(Problem::conflict)?,
        // In any state: one that runs or rests is stopped first.
        Change::Restart => server.restart().await.map_err(Problem::conflict)?,
    }
    Ok(Json(told(&server)))
}

/// The records.
pub async fn registry(State(parts): State<Arc<Parts>>) -> Json<Value> {
    Json(records(&parts).await)
}

/// Holds the list still.
pub async fn freeze(State(parts): State<Arc<Parts>>) -> Json<Value> {
    parts.core.registry.freeze();
    Json(records(&parts).await)
}

/// Lets it go.
pub async fn thaw(State(parts): State<Arc<Parts>>) -> Json<Value> {
    parts.core.registry.thaw();
    Json(records(&parts).await)
}

/// Ends a lease.
pub async fn expire(
    State(parts): State<Arc<Parts>>,
    InPath(name): InPath<String>,
) -> Result<Json<Value>, Problem> {
    if parts.core.registry.expire(&name) {
        Ok(Json(records(&parts).await))
    } else {
        Err(Problem::missing(format!(
            "nothing is registered as {name:?}"
        )))
    }
}

/// Has clients told another address.
pub async fn advertise(
    State(parts): State<Arc<Parts>>,
    InPath(name): InPath<String>,
    Body(Advertised { addr }): Body<Advertised>,
) -> Result<Json<Value>, Problem> {
    let server = server(&parts, &name)?;
    match addr {
        Some(addr) => {
            let host = Host::dialable(&addr).map_err(|bad| Problem::bad(format!("addr: {bad}")))?;
            let addr = host.at(server.addr().port());
            parts
                .core
                .registry
                .advertise(&name, addr)
                .map_err(Problem::bad)?;
        }
        None => parts.core.registry.advertise_itself(&name),
    }
    Ok(Json(records(&parts).await))
}
