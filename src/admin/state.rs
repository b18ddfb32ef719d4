use std::sync::Arc;

use axum::extract::State;
use axum::http::StatusCode;
use serde_json::{Value, json};

use super::answer::{InPath, Json, Problem};
use super::{Parts, clock, servers};
use crate::number::{Id, Whole};
use crate::service::Report;

/// What is not as in the original, whatever the quirks: the end of this document.
const QUIRKS: &str = include_str!("../../docs/quirks.md");

/// The items of the lists in its last section.
fn not_emulated() -> Vec<String> {
    let section = QUIRKS.split("\n## ").last().unwrap_or_default();
    let items = section.split("\n- ").skip(1);
    // What follows a blank line is the title of the next list.
    let items = items.filter_map(|item| item.split("\n\n").next());
    let in_one_line = |item: &str| item.split_whitespace().collect::<Vec<_>>().join(" ");
    items.map(in_one_line).collect()
}

/// The process answers.
pub async fn health() -> Json<Value> {
    Json(json!({ "status": "ok" }))
}

/// The stack serves, sends too: its store has not failed, and has room.
pub async fn ready(State(parts): State<Arc<Parts>>) -> Result<Json<Value>, Problem> {
    // It is told at once or not at all.
    let failed = futures_util::FutureExt::now_or_never(parts.core.services.store().failed());
    if let Some(failed) = failed {
        return Err(not_ready(failed));
    }
    let reclaim = parts.core.services.store().reclaim();
    if let Some(why) = parts.core.services.store().shortage() {
        let given_back = reclaim.map(|reclaim| {
            let (bytes, doing) = (reclaim.reclaimable, reclaim.doing.as_str());
            format!("; about {bytes} bytes of removed data can be given back to the disk ({doing})")
        });
        return Err(not_ready(why + &given_back.unwrap_or_default()));
    }
    let room = parts.core.admission.room();
    if room.is_full() {
        return Err(not_ready(format!(
            "every place is taken, so who connects now has to wait: {room}"
        )));
    }
    let Some(reclaim) = reclaim else {
        return Ok(Json(json!({ "status": "ready" })));
    };
    Ok(Json(json!({
        "status": "ready",
        "reclaim": {
            "doing": reclaim.doing.as_str(),
            "reclaimable": reclaim.reclaimable,
            "reclaimed": reclaim.reclaimed,
        },
    })))
}

fn not_ready(why: impl std::fmt::Display) -> Problem {
    Problem::new(StatusCode::SERVICE_UNAVAILABLE, why.to_string())
}

/// Which imd this is.
pub async fn version() -> Json<Value> {
    Json(json!({ "name": "imd", "version": env!("CARGO_PKG_VERSION") }))
}

/// Everything at a glance.
pub async fn state(State(parts): State<Arc<Parts>>) -> Json<Value> {
    let store = parts.core.services.store();
    let ledger = store.ledger();
    let audited = parts.core.services.audited();
    let journal = parts.core.lab.journal();
    Json(json!({
        "version": env!("CARGO_PKG_VERSION"),
        "instance": parts.instance,
        "clock": clock::clock(parts.core.clock_control.as_ref()),
        "store": store.describe(),
        "durable": store.is_durable(),
        "gateway": { "addr": parts.gateway_addr.to_string(), "sessions": parts.stack.gateway.sessions().len() },
        "http": {
            "user_api": format!("http://{}", parts.user_api),
            "group_api": format!("http://{}", parts.group_api),
        },
        "access": servers::listed(&parts),
        "registry": servers::records(&parts).await,
        "faults": parts.core.lab.faults().list(),
        "quirks": parts.quirks.on().collect::<Vec<_>>(),
        "journal": {
            "records": journal.is_recording(),
            "mark": journal.end().0,
            "dropped": journal.dropped(),
        },
        "ledger": {
            "stored": ledger.stored,
            "delivered": ledger.delivered,
            "pending": ledger.pending(),
            "removed": ledger.removed,
            "refused": audited.refused,
            "lost": audited.lost,
            "repeated": audited.repeated,
            "swapped": audited.swapped,
        },
        "frames": parts.core.metrics.traffic().frames(),
    }))
}

/// What became of the messages, with each inbox and each kind of refusal.
pub async fn report(State(parts): State<Arc<Parts>>) -> Json<Report> {
    Json(parts.core.services.report())
}

/// What is as in the original, and what can't be.
pub async fn fidelity(State(parts): State<Arc<Parts>>) -> Json<Value> {
    Json(json!({ "quirks": parts.quirks.on().collect::<Vec<_>>(), "not_emulated": not_emulated() }))
}

/// The token that logs a user in: what existing clients compute.
pub async fn token(
    State(parts): State<Arc<Parts>>,
    InPath(Whole(uid)): InPath<Id>,
) -> Result<Json<Value>, Problem> {
    if uid <= 0 {
        return Err(Problem::bad("a uid is more than 0"));
    }
    let token = parts.core.services.tokens().salted(uid);
    Ok(Json(json!({ "uid": uid, "token": token })))
}
