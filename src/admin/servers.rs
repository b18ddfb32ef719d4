//! The handlers of access servers, of their sessions, and of the registry.
//!
//! Serves `routes`, and with [`servers_json`] and [`registry_json`] the overview in `state`. An operation that the state of a
//! server does not allow is answered with 409, and has changed nothing.

use std::sync::Arc;
use std::time::Duration;

use axum::extract::State;
use axum::http::StatusCode;
use serde::Deserialize;
use serde_json::{Value, json};

use super::Deps;
use super::answer::{Json, JsonBody, PathParams, Problem, QueryParams};
use super::contents;
use crate::access::{AccessServer, AddError};
use crate::config::Host;
use crate::id::Uid;
use crate::lab::GATEWAY;
use crate::number::{Id, Whole};
use crate::session::{CloseReason, Session};

/// The body of a request for a new access server.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NewServer {
    name: String,
}

/// The body of a request that changes the address which the gateway gives to clients. Without an address, it is the
/// server's own again.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AdvertisedAddress {
    addr: Option<String>,
}

/// The query of a request to end a session.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EndQuery {
    #[serde(default)]
    how: EndKind,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "lowercase")]
enum EndKind {
    /// The connection is closed.
    #[default]
    Fin,
    /// The connection is reset.
    Rst,
    /// The connection stays open, and nothing more is read from it or written to it.
    HalfOpen,
}

/// Returns all access servers as JSON.
pub fn servers_json(deps: &Deps) -> Vec<Value> {
    deps.stack
        .access
        .all()
        .iter()
        .map(|server| server_json(server))
        .collect()
}

fn server_json(server: &AccessServer) -> Value {
    json!({
        "name": server.name(),
        "state": server.state().name(),
        "addr": server.addr().to_string(),
        "advertised": server.advertised(),
        "sessions": server.sessions().len(),
    })
}

/// Returns the registry as JSON: the records that the gateway sees, and the leases.
pub async fn registry_json(deps: &Deps) -> Value {
    let records = deps.core.registry.list().await;
    let leases = deps.core.registry.leases().into_iter();
    let leases =
        leases.map(|(name, remaining)| json!({ "name": name, "remaining_ms": millis(remaining) }));
    json!({
        "frozen": deps.core.registry.is_frozen(),
        "lease_ms": millis(deps.lease),
        "records": records,
        "leases": leases.collect::<Vec<_>>(),
    })
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

/// The query of a request for sessions: a page, and conditions that each of its sessions meets.
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct SessionQuery {
    after: Option<Whole<u64>>,
    limit: Option<usize>,
    server: Option<String>,
    uid: Option<Id>,
}

/// Answers a page of the sessions, the gateway's too, in the order in which they were opened.
///
/// # Errors
///
/// 400 for a wrong `limit`, or a server that does not exist.
pub async fn sessions(
    State(deps): State<Arc<Deps>>,
    QueryParams(wanted): QueryParams<SessionQuery>,
) -> Result<Json<Value>, Problem> {
    let limit = contents::limit(wanted.limit)?;
    let after = wanted.after.map_or(0, |Whole(after)| after);
    let servers = deps.stack.access.all();
    let servers = servers
        .iter()
        .map(|server| (server.name(), server.sessions()));
    let all =
        std::iter::once((GATEWAY, Arc::clone(deps.stack.gateway.session_manager()))).chain(servers);
    let mut found = Vec::new();
    let mut is_known = false;
    for (name, manager) in all {
        if wanted.server.as_deref().is_none_or(|server| server == name) {
            is_known = true;
            let sessions = manager.sessions().filter(|session| {
                let uid = wanted.uid.as_ref();
                session.id().0 > after
                    && uid.is_none_or(|&Whole(uid)| session.uid() == Some(Uid(uid)))
            });
            found.extend(sessions.map(|session| (name, session)));
        }
    }
    if let (false, Some(server)) = (is_known, &wanted.server) {
        let why = format!("server: {server:?} is neither {GATEWAY} nor an access server");
        return Err(Problem::bad(why));
    }
    let id = |(_, session): &(&str, Arc<Session>)| session.id().0;
    found.sort_unstable_by_key(id);
    let to_json = |(name, session): (&str, Arc<Session>)| session_json(name, &session);
    Ok(contents::page("sessions", found, limit, id, to_json))
}

fn session_json(server: &str, session: &Session) -> Value {
    json!({
        "id": session.id().0,
        "server": server,
        "peer": session.peer().to_string(),
        "uid": session.uid(),
        "queued": session.queued(),
        "half_open": session.is_half_open(),
    })
}

/// Closes or resets a session of any server, or leaves it half-open.
///
/// # Errors
///
/// 404 if there is no such session.
pub async fn end_session(
    State(deps): State<Arc<Deps>>,
    PathParams(Whole(id)): PathParams<Whole<u64>>,
    QueryParams(EndQuery { how }): QueryParams<EndQuery>,
) -> Result<Json<Value>, Problem> {
    let servers = deps.stack.access.all();
    let managers = servers.iter().map(|server| server.sessions());
    let found = std::iter::once(Arc::clone(deps.stack.gateway.session_manager()))
        .chain(managers)
        .find_map(|manager| manager.sessions().find(|session| session.id().0 == id));
    let session = found.ok_or_else(|| Problem::missing(format!("there is no session {id}")))?;
    match how {
        EndKind::Fin => session.close(CloseReason::Dropped),
        EndKind::Rst => session.close(CloseReason::Reset),
        EndKind::HalfOpen => session.half_open(),
    }
    Ok(Json(json!({})))
}

/// Starts one more access server.
///
/// # Errors
///
/// 400 if the name is not valid, and 409 if it is taken or the server can't be started.
pub async fn add(
    State(deps): State<Arc<Deps>>,
    JsonBody(NewServer { name }): JsonBody<NewServer>,
) -> Result<(StatusCode, Json<Value>), Problem> {
    let added = deps
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
    Ok((StatusCode::CREATED, Json(server_json(&added))))
}

fn server(deps: &Deps, name: &str) -> Result<Arc<AccessServer>, Problem> {
    let found = deps.stack.access.get(name);
    found.ok_or_else(|| Problem::missing(format!("there is no access server {name:?}")))
}

/// A change to the state of an access server.
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

/// Makes a change to an access server, and answers its new state.
///
/// # Errors
///
/// 404 if there is no such server, and 409 if its state does not allow the change.
pub async fn change(
    State(deps): State<Arc<Deps>>,
    PathParams(name): PathParams<String>,
    change: Change,
) -> Result<Json<Value>, Problem> {
    let server = server(&deps, &name)?;
    match change {
        Change::Kill => server.try_kill().await.map_err(Problem::conflict)?,
        Change::Stop => server.try_stop().await.map_err(Problem::conflict)?,
        Change::Pause => server.try_pause().await.map_err(Problem::conflict)?,
        Change::Resume => server.try_resume().await.map_err(Problem::conflict)?,
        // A restart is allowed in any state: a server that runs or is paused is stopped first.
        Change::Restart => server.restart().await.map_err(Problem::conflict)?,
    }
    Ok(Json(server_json(&server)))
}

/// Answers the records that the gateway sees, and the leases.
pub async fn registry(State(deps): State<Arc<Deps>>) -> Json<Value> {
    Json(registry_json(&deps).await)
}

/// Freezes the list that the gateway sees: changes of the registry do not reach it until the freeze ends.
pub async fn freeze(State(deps): State<Arc<Deps>>) -> Json<Value> {
    deps.core.registry.freeze();
    Json(registry_json(&deps).await)
}

/// Ends the freeze of the list that the gateway sees.
pub async fn thaw(State(deps): State<Arc<Deps>>) -> Json<Value> {
    deps.core.registry.thaw();
    Json(registry_json(&deps).await)
}

/// Ends the lease of an access server before its time.
///
/// # Errors
///
/// 404 if no server is registered under the name.
pub async fn expire(
    State(deps): State<Arc<Deps>>,
    PathParams(name): PathParams<String>,
) -> Result<Json<Value>, Problem> {
    if deps.core.registry.expire(&name) {
        Ok(Json(registry_json(&deps).await))
    } else {
        Err(Problem::missing(format!(
            "nothing is registered as {name:?}"
        )))
    }
}

/// Makes the gateway send clients to another address than the server's own, or to its own again.
///
/// # Errors
///
/// 404 if there is no such server, and 400 if no client can connect to the address.
pub async fn advertise(
    State(deps): State<Arc<Deps>>,
    PathParams(name): PathParams<String>,
    JsonBody(AdvertisedAddress { addr }): JsonBody<AdvertisedAddress>,
) -> Result<Json<Value>, Problem> {
    let server = server(&deps, &name)?;
    match addr {
        Some(addr) => {
            let host = Host::dialable(&addr).map_err(|bad| Problem::bad(format!("addr: {bad}")))?;
            let addr = host.at(server.addr().port());
            deps.core
                .registry
                .advertise(&name, addr)
                .map_err(Problem::bad)?;
        }
        None => deps.core.registry.advertise_itself(&name),
    }
    Ok(Json(registry_json(&deps).await))
}
