//! The handler of `/metrics`: the counters of the stack, and gauges that are read at each request.
//!
//! Serves `routes`. The counters belong to the crate's module `metrics`. A gauge needs no counter, because a part of the stack
//! holds its value anyway. docs/metrics.md lists every metric, which a test checks.

use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::SystemTime;

use axum::extract::State;
use axum::http::{HeaderMap, header};
use axum::response::IntoResponse;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::{Registry, Unit};

use super::Deps;
use super::accept::Format;
use super::answer::Problem;
use crate::metrics::{At, classic, open_files, resident};
use crate::store::{ReclaimProgress, ReclaimStep};

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct FaultLabel {
    rule: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct StepLabel {
    step: &'static str,
}

/// Answers all metrics in the format that the request prefers.
///
/// # Errors
///
/// 500 if the metrics can't be written as text.
pub async fn metrics(
    State(deps): State<Arc<Deps>>,
    headers: HeaderMap,
) -> Result<impl IntoResponse, Problem> {
    let text = deps
        .core
        .metrics
        .text(&gauges(&deps))
        .map_err(Problem::broken)?;
    let format = Format::preferred(&headers);
    let text = match format {
        Format::OpenMetrics => text,
        Format::Classic => classic(&text),
    };
    let about = [
        (header::CONTENT_TYPE, format.content_type()),
        (header::VARY, "accept"),
    ];
    Ok((about, text))
}

/// Reads the values that need no counter, because a part of the stack holds them anyway.
fn gauges(deps: &Deps) -> Registry {
    let mut registry = Registry::default();

    let sessions = Family::<At, Gauge>::default();
    let set = |server: &str, count: usize| {
        let gauge = sessions.get_or_create_owned(&at(server));
        gauge.set(i64::try_from(count).unwrap_or(i64::MAX));
    };
    set("gateway", deps.stack.gateway.session_manager().len());
    for server in deps.stack.access.all() {
        set(server.name(), server.sessions().len());
    }
    registry.register("imd_sessions", "Connections that are open", sessions);

    let room = deps.core.admission.room();
    for (name, about, value) in [
        ("imd_places", "Limit of connections", room.places),
        (
            "imd_places_taken",
            "Connections that count against the limit",
            room.taken,
        ),
    ] {
        let gauge = Gauge::<i64>::default();
        gauge.set(i64::try_from(value).unwrap_or(i64::MAX));
        registry.register(name, about, gauge);
    }

    certificate_end(deps, &mut registry);

    let (leases, remaining) = (
        Gauge::<i64>::default(),
        Family::<At, Gauge<f64, AtomicU64>>::default(),
    );
    for (server, left) in deps.core.registry.leases() {
        leases.inc();
        remaining
            .get_or_create(&at(&server))
            .set(left.as_secs_f64());
    }
    registry.register("imd_leases", "Leases that have not run out", leases);
    registry.register_with_unit(
        "imd_lease_remaining",
        "Seconds until a lease runs out, unless it is renewed",
        Unit::Seconds,
        remaining,
    );

    let hits = Family::<FaultLabel, Counter>::default();
    for fault in deps.core.lab.faults().list() {
        let rule = fault.name().to_owned();
        hits.get_or_create(&FaultLabel { rule }).inc_by(fault.hits);
    }
    registry.register("imd_fault_hits", "How often each fault has fired", hits);

    let dropped = Counter::<u64>::default();
    dropped.inc_by(deps.core.lab.journal().dropped());
    registry.register(
        "imd_journal_dropped",
        "Events that the journal dropped to make room",
        dropped,
    );
    // A store in memory has no disk space to reclaim.
    let reclaim = deps.core.store.reclaim_progress().unwrap_or_default();
    reclaimed_space(reclaim, &mut registry);
    process(&mut registry);
    registry
}

/// Adds the gauge of when the certificate ends.
fn certificate_end(deps: &Deps, registry: &mut Registry) {
    let gauge = Gauge::<i64>::default();
    let end = deps.core.acceptor.certificate_end();
    let end = end.and_then(|end| end.duration_since(SystemTime::UNIX_EPOCH).ok());
    let end = end.map_or(0, |end| end.as_secs());
    gauge.set(i64::try_from(end).unwrap_or(i64::MAX));
    registry.register_with_unit(
        "imd_tls_certificate_end_timestamp",
        "Unix time at which the certificate ends",
        Unit::Seconds,
        gauge,
    );
}

/// Adds the gauges of how the store gives space back to the disk.
fn reclaimed_space(reclaim: ReclaimProgress, registry: &mut Registry) {
    let reclaimable = Gauge::<i64>::default();
    reclaimable.set(i64::try_from(reclaim.reclaimable).unwrap_or(i64::MAX));
    registry.register_with_unit(
        "imd_store_reclaimable",
        "What the store can give back to the disk, as an estimate",
        Unit::Bytes,
        reclaimable,
    );
    let reclaimed = Counter::<u64>::default();
    reclaimed.inc_by(reclaim.reclaimed);
    registry.register_with_unit(
        "imd_store_reclaimed",
        "What the store has given back to the disk",
        Unit::Bytes,
        reclaimed,
    );
    let doing = Family::<StepLabel, Gauge>::default();
    for step in ReclaimStep::ALL {
        let label = StepLabel {
            step: step.as_str(),
        };
        let is_now = step == reclaim.step;
        doing.get_or_create_owned(&label).set(is_now.into());
    }
    registry.register(
        "imd_store_reclaiming",
        "1 for the current step of giving space back to the disk",
        doing,
    );
}

fn at(server: &str) -> At {
    At {
        server: Arc::new(server.to_owned()),
    }
}

/// Adds the gauges of this process, such as its memory and its open files, as far as the system tells them.
fn process(registry: &mut Registry) {
    let values = [
        (
            "process_resident_memory_bytes",
            "Memory that the process holds",
            resident(std::process::id()),
        ),
        (
            "process_open_fds",
            "Files that the process has open",
            open_files().map(|files| files as u64),
        ),
    ];
    for (name, about, value) in values {
        if let Some(value) = value {
            let gauge = Gauge::<i64>::default();
            gauge.set(i64::try_from(value).unwrap_or(i64::MAX));
            registry.register(name, about, gauge);
        }
    }
}
