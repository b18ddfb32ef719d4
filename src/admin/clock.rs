//! The handlers that show the clock of the stack, and move it.
//!
//! Serves `routes`, and with [`clock_json`] the overview in `state`. Only a manual clock can be advanced; the wall clock of
//! either kind can be skewed.

use std::sync::Arc;
use std::time::Duration;

use axum::extract::State;
use serde::Deserialize;
use serde_json::{Value, json};

use super::Deps;
use super::answer::{Json, JsonBody, Problem};
use crate::clock::ClockControl;
use crate::clock::written::duration;

/// The body of a request that moves a manual clock.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Advance {
    #[serde(with = "duration")]
    by: Duration,
}

/// The body of a request that moves the wall clock alone, by a number of milliseconds of either sign.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Skew {
    ms: i64,
}

/// Answers the time.
pub async fn show(State(deps): State<Arc<Deps>>) -> Json<Value> {
    Json(clock_json(deps.core.clock_control.as_ref()))
}

/// Returns the time of a clock as JSON.
pub fn clock_json(clock: &dyn ClockControl) -> Value {
    json!({
        "kind": if clock.is_manual() { "manual" } else { "real" },
        "now_ms": u64::try_from(clock.now().as_millis()).unwrap_or(u64::MAX),
        "unix_ms": clock.unix_ms(),
    })
}

/// Advances a manual clock, and answers when everything that was due on the way is done. The clock advances all the way
/// even if the client disconnects.
///
/// # Errors
///
/// 409 if the clock is not a manual one, and 400 if it can't be advanced so far.
pub async fn advance(
    State(deps): State<Arc<Deps>>,
    JsonBody(Advance { by }): JsonBody<Advance>,
) -> Result<Json<Value>, Problem> {
    if !deps.core.clock_control.is_manual() {
        let why = "the clock is the machine's, which nobody moves: start with --manual-clock or [clock] kind = \"manual\"";
        return Err(Problem::conflict(why));
    }
    let advanced = deps.core.clock_control.try_advance(by).await;
    advanced.map_err(|error| Problem::bad(format!("by: {error}")))?;
    Ok(Json(clock_json(deps.core.clock_control.as_ref())))
}

/// Moves the wall clock alone: timers and leases are not touched.
///
/// # Errors
///
/// 400 if the wall clock can't be moved so far.
pub async fn skew(
    State(deps): State<Arc<Deps>>,
    JsonBody(Skew { ms }): JsonBody<Skew>,
) -> Result<Json<Value>, Problem> {
    let skewed = deps.core.clock_control.skew(ms);
    skewed.map_err(|error| Problem::bad(format!("ms: {error}")))?;
    Ok(Json(clock_json(deps.core.clock_control.as_ref())))
}
