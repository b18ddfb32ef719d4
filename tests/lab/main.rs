//! The lab, through the Rust API and the admin API: each fault, lie and pause does what was asked for, where it was
//! asked for, and nothing else.

#[path = "../support/mod.rs"]
#[allow(dead_code, unused_imports, reason = "each suite uses a part of it")]
mod support;

use imd::lab::{EventKind, FaultGuard, Mark};

/// Waits until a fault has acted once.
async fn wait_for_hit(imd: &imd::Imd, fault: &FaultGuard) {
    let is_meant =
        |what: &EventKind| matches!(what, EventKind::Fault(name, _) if name == fault.name());
    let hit = imd.wait_for(Mark(0), |event| is_meant(&event.what), support::PATIENCE);
    hit.await.unwrap();
}

mod add_access;
mod admin;
mod admin_hosts;
mod advance;
mod bad_snapshots;
mod console;
mod contents;
mod described;
mod first_notify;
mod fixtures;
mod half_open;
mod hung_up;
mod journal;
mod kill_and_stop;
mod leaps;
mod leases;
mod lists;
mod marks;
mod matrix;
mod metrics;
mod notified;
mod pause;
mod pushed;
mod quirks;
mod refused;
mod registry;
mod release;
mod replies;
mod report;
mod requests;
mod reset;
mod restart;
mod rules;
mod scenarios;
mod servers;
mod services;
mod states;
mod transports;
mod unreachable;
