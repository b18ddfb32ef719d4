//! The handlers that show the stack as a whole: health, version, state, report and fidelity; and the tokens of users.
//!
//! Serves `routes`. None of these operations changes anything, and the health checks wait for nothing.

use std::sync::Arc;

use axum::extract::State;
use axum::http::StatusCode;
use serde_json::{Value, json};

use super::answer::{Json, PathParams, Problem};
use super::{Deps, clock, servers};
use crate::id::Uid;
use crate::number::{Id, Whole};
use crate::service::Report;

/// The document whose last section lists the differences from the original stack that no quirk removes.
const QUIRKS: &str = include_str!("../../docs/quirks.md");

/// Returns the list items of the last section of [`QUIRKS`], each in one line.
fn not_emulated() -> Vec<String> {
    let section = QUIRKS.split("\n## ").last().unwrap_or_default();
    let items = section.split("\n- ").skip(1);
    // A blank line ends an item: the title of the next list follows it.
    let items = items.filter_map(|item| item.split("\n\n").next());
    let in_one_line = |item: &str| item.split_whitespace().collect::<Vec<_>>().join(" ");
    items.map(in_one_line).collect()
}

/// Answers 200 for as long as the process runs.
pub async fn health() -> Json<Value> {
    Json(json!({ "status": "ok" }))
}

/// Answers 200 if the stack serves, with what its store does to give space back to the disk.
///
/// # Errors
///
/// 503 if the store has failed or has no room, or if every connection is taken.
pub async fn ready(State(deps): State<Arc<Deps>>) -> Result<Json<Value>, Problem> {
    // The future is ready at once if the store has failed, and pending for as long as it works.
    let failed = futures_util::FutureExt::now_or_never(deps.core.store.failed());
    if let Some(failed) = failed {
        return Err(not_ready(failed));
    }
    let reclaim = deps.core.store.reclaim_progress();
    if let Some(why) = deps.core.store.shortage() {
        let reclaimable = reclaim.map(|reclaim| {
            let (bytes, doing) = (reclaim.reclaimable, reclaim.step.as_str());
            format!("; about {bytes} bytes of removed data can be given back to the disk ({doing})")
        });
        return Err(not_ready(why + &reclaimable.unwrap_or_default()));
    }
    let room = deps.core.admission.room();
    if room.is_full() {
        return Err(not_ready(format!(
            "every place is taken, so a new connection has to wait: {room}"
        )));
    }
    let Some(reclaim) = reclaim else {
        return Ok(Json(json!({ "status": "ready" })));
    };
    Ok(Json(json!({
        "status": "ready",
        "reclaim": {
            "doing": reclaim.step.as_str(),
            "reclaimable": reclaim.reclaimable,
            "reclaimed": reclaim.reclaimed,
        },
    })))
}

fn not_ready(why: impl std::fmt::Display) -> Problem {
    Problem::new(StatusCode::SERVICE_UNAVAILABLE, why.to_string())
}

/// Answers the version of this program.
pub async fn version() -> Json<Value> {
    Json(json!({ "name": "imd", "version": env!("CARGO_PKG_VERSION") }))
}

/// Answers an overview of servers, registry, faults, clock, journal and ledger.
pub async fn state(State(deps): State<Arc<Deps>>) -> Json<Value> {
    let store = &deps.core.store;
    let ledger = store.ledger();
    let audited = deps.core.services.audited();
    let journal = deps.core.lab.journal();
    Json(json!({
        "version": env!("CARGO_PKG_VERSION"),
        "instance": deps.instance,
        "clock": clock::clock_json(deps.core.clock_control.as_ref()),
        "store": store.describe(),
        "durable": store.is_durable(),
        "gateway": {
            "addr": deps.gateway_addr.to_string(),
            "ws": deps.gateway_ws,
            "sessions": deps.stack.gateway.session_manager().len(),
        },
        "http": {
            "user_api": deps.user_api,
            "group_api": deps.group_api,
        },
        "access": servers::servers_json(&deps),
        "registry": servers::registry_json(&deps).await,
        "faults": deps.core.lab.faults().list(),
        "quirks": deps.quirks.on().collect::<Vec<_>>(),
        "journal": {
            "records": journal.is_recording(),
            "mark": journal.end().0,
            "dropped": journal.dropped(),
        },
        "ledger": {
            "stored": ledger.stored,
            "delivered": ledger.delivered,
            "pushed": deps.core.services.pushed(),
            "pending": ledger.pending(),
            "removed": ledger.removed,
            "refused": audited.refused,
            "lost": audited.lost,
            "repeated": audited.repeated,
            "swapped": audited.swapped,
        },
        "frames": deps.core.metrics.traffic().frames(),
    }))
}

/// Answers how many messages were stored, delivered, refused or lost, with each inbox and each kind of refusal.
pub async fn report(State(deps): State<Arc<Deps>>) -> Json<Report> {
    Json(deps.core.report())
}

/// Answers which quirks are on, and which behaviours of the original stack are not emulated.
pub async fn fidelity(State(deps): State<Arc<Deps>>) -> Json<Value> {
    Json(json!({ "quirks": deps.quirks.on().collect::<Vec<_>>(), "not_emulated": not_emulated() }))
}

/// Answers the token of a user, as existing clients compute it.
///
/// # Errors
///
/// 400 if the uid is not positive.
pub async fn token(
    State(deps): State<Arc<Deps>>,
    PathParams(Whole(uid)): PathParams<Id>,
) -> Result<Json<Value>, Problem> {
    if uid <= 0 {
        return Err(Problem::bad("a uid is more than 0"));
    }
    let token = deps.core.services.tokens().salted(Uid(uid));
    Ok(Json(json!({ "uid": uid, "token": token })))
}
