//! The handlers that list, add and end faults.
//!
//! Serves `routes`. A fault that was added here stays in force until it is removed by name, with all faults, or by a reset.

use std::sync::Arc;

use axum::extract::State;
use axum::http::StatusCode;
use serde_json::{Value, json};

use super::Deps;
use super::answer::{Json, JsonBody, PathParams, Problem};
use crate::lab::{Fault, FaultError, FaultStatus, Site};
use crate::proto::{Cmd, Code};

/// Answers the faults in force, with their hits.
pub async fn list(State(deps): State<Arc<Deps>>) -> Json<Vec<FaultStatus>> {
    Json(deps.core.lab.faults().list())
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
        Err(Problem::missing(format!("there is no fault {name:?}")))
    }
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
