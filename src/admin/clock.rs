use std::sync::Arc;
use std::time::Duration;

use axum::extract::State;
use serde::Deserialize;
use serde_json::{Value, json};

use super::Parts;
use super::answer::{Body, Json, Problem};
use crate::clock::ClockControl;
use crate::clock::written::duration;

/// How far a clock is moved.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Advance {
    #[serde(with = "duration")]
    by: Duration,
}

/// How far a wall clock is moved.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Skew {
    ms: i64,
}

/// The time.
pub async fn show(State(parts): State<Arc<Parts>>) -> Json<Value> {
    Json(clock(parts.core.clock_control.as_ref()))
}

/// The same as a value.
pub fn clock(clock: &dyn ClockControl) -> Value {
    json!({
        "kind": if clock.is_manual() { "manual" } else { "real" },
        "now_ms": u64::try_from(clock.now().as_millis()).unwrap_or(u64::MAX),
        "unix_ms": clock.unix_ms(),
    })
}

/// Moves it, and answers when the work of every tick on the way is done. It goes all the way also when whoever asked has
/// gone.
pub async fn advance(
    State(parts): State<Arc<Parts>>,
    Body(Advance { by }): Body<Advance>,
) -> Result<Json<Value>, Problem> {
    if !parts.core.clock_control.is_manual() {
        let why = "the clock is the machine's, which nobody moves: start with --manual-clock or [clock] kind = \"manual\"";
        return Err(Problem::conflict(why));
    }
    let gone = parts.core.clock_control.try_advance(by).await;
    gone.map_err(|error| Problem::bad(format!("by: {error}")))?;
    Ok(Json(clock(parts.core.clock_control.as_ref())))
}

/// Moves the wall clock alone.
pub async fn skew(
    State(parts): State<Arc<Parts>>,
    Body(Skew { ms }): Body<Skew>,
) -> Result<Json<Value>, Problem> {
    let skewed = parts.core.clock_control.skew(ms);
    skewed.map_err(|error| Problem::bad(format!("ms: {error}")))?;
    Ok(Json(clock(parts.core.clock_control.as_ref())))
}
