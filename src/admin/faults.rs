use std::sync::Arc;

use axum::extract::State;
use axum::http::StatusCode;
use serde_json::{Value, json};

use super::Parts;
use super::answer::{Body, InPath, Json, Problem};
use crate::lab::{Fault, FaultError, Listed, Site};
use crate::proto::{Cmd, Code};

/// The faults in force.
pub async fn list(State(parts): State<Arc<Parts>>) -> Json<Vec<Listed>> {
    Json(parts.core.lab.faults().list())
}

/// One more.
pub async fn add(
    State(parts): State<Arc<Parts>>,
    Body(fault): Body<Fault>,
) -> Result<(StatusCode, Json<Value>), Problem> {
    let injected = parts.core.lab.faults().inject(fault);
    let guard = injected.map_err(|error| match error {
        FaultError::NameTaken(_) => Problem::conflict(error),
        _ => Problem::bad(error),
    })?;
    let name = guard.name().to_owned();
    guard.keep();
    Ok((StatusCode::CREATED, Json(json!({ "name": name }))))
}

/// Ends all.
pub async fn clear(State(parts): State<Arc<Parts>>) -> Json<Value> {
    parts.core.lab.faults().clear();
    Json(json!({}))
}

/// Ends one.
pub async fn remove(
    State(parts): State<Arc<Parts>>,
    InPath(name): InPath<String>,
) -> Result<Json<Value>, Problem> {
    if parts.core.lab.faults().remove(&name) {
        Ok(Json(json!({})))
    } else {
        Err(Problem::missing(format!("there is no fault {name:?}")))
    }
}

/// Of what a fault can be made.
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
