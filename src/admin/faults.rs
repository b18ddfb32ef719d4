//! The handlers that list, add and end faults.
//!
//! Serves `routes`. A fault that was added here stays in force until it is removed by name, with all faults, or by a reset.

use std::sync::Arc;

use axum::extract::State;
use axum::http::StatusCode;
use serde::Deserialize;
use serde_json::{Value, json};

use super::Deps;
use super::answer::{Json, JsonBody, PathParams, Problem, QueryParams};
use super::contents;
use crate::lab::{Fault, FaultError, FaultStatus, Site};
use crate::proto::{Cmd, Code};

/// The query of a request for a page of the faults: at most `limit` of them, behind the one with the name `after`.
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct FaultQuery {
    after: Option<String>,
    limit: Option<usize>,
}

/// Answers a page of the faults in force, with their hits, in the order in which they were added. A page that is not full
/// is the last one.
///
/// # Errors
///
/// 400 for a wrong `limit`, and 404 if there is no fault with the name `after`.
pub async fn list(
    State(deps): State<Arc<Deps>>,
    QueryParams(FaultQuery { after, limit }): QueryParams<FaultQuery>,
) -> Result<Json<Vec<FaultStatus>>, Problem> {
    let limit = contents::limit(limit)?;
    let mut listed = deps.core.lab.faults().list();
    if let Some(name) = after {
        let found = listed.iter().position(|fault| fault.name() == name);
        let found = found.ok_or_else(|| no_such_fault(&name))?;
        listed.drain(..=found);
    }
    listed.truncate(limit);
    Ok(Json(listed))
}

/// Puts a fault in force, and answers its name.
///
/// # Errors
///
/// 409 if the name is taken, and 400 if the rule is not valid.
pub async fn add(
    State(deps): State<Arc<Deps>>,
    JsonBody(fault): JsonBody<Fault>,
) -> Result<(StatusCode, Json<Value>), Problem> {
    let injected = deps.core.lab.faults().inject(fault);
    let guard = injected.map_err(|error| match error {
        FaultError::NameTaken(_) => Problem::conflict(error),
        _ => Problem::bad(error),
    })?;
    let name = guard.name().to_owned();
    guard.keep();
    Ok((StatusCode::CREATED, Json(json!({ "name": name }))))
}

/// Ends all faults, and releases what they hold back.
pub async fn clear(State(deps): State<Arc<Deps>>) -> Json<Value> {
    deps.core.lab.faults().clear();
    Json(json!({}))
}

/// Ends the fault with a name, and releases what it holds back.
///
/// # Errors
///
/// 404 if no fault has the name.
pub async fn remove(
    State(deps): State<Arc<Deps>>,
    PathParams(name): PathParams<String>,
) -> Result<Json<Value>, Problem> {
    if deps.core.lab.faults().remove(&name) {
        Ok(Json(json!({})))
    } else {
        Err(no_such_fault(&name))
    }
}

fn no_such_fault(name: &str) -> Problem {
    Problem::missing(format!("there is no fault {name:?}"))
}

/// Answers the values that a fault can have: sites with their actions and filters, commands, and error codes.
pub async fn menu() -> Json<Value> {
    let sites = Site::ALL.map(|site| {
        let cmds: Vec<&str> = site.cmds().iter().map(|cmd| cmd.name()).collect();
        json!({
            "name": site.name(),
            "actions": site.actions(),
            "filters": site.filters(),
            "cmds": cmds,
            "has_user": site.has_user(),
            "has_access": site.has_access(),
            "has_frames": site.has_frames(),
        })
    });
    let cmds = Cmd::ALL.map(|cmd| json!({ "number": cmd.number(), "name": cmd.name() }));
    let codes = Code::ALL.map(|code| json!({ "number": code.number(), "text": code.text() }));
    Json(json!({ "sites": sites, "cmds": cmds, "codes": codes }))
}
