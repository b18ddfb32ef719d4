//! The record of an access server in the registry: heartbeats keep its lease, and a failing registry does not end the
//! server.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::available_parallelism;
use std::time::Duration;

use tokio::sync::Mutex;

use crate::clock::Ticks;
use crate::lab::{Action, Lab, Passing, Site};
use crate::registry::{Lease, Record, Registry, RenewError, Unreachable};
use crate::session::Manager;

/// The membership of one access server in the registry, from one start of the server to its next stop or kill.
#[derive(Debug)]
pub(super) struct Membership {
    pub registry: Arc<dyn Registry>,
    pub lab: Arc<Lab>,
    /// The server's name in the registry.
    pub name: String,
    /// What clients are told to dial; the host may be unspecified.
    pub advertised: String,
    /// The server's sessions. Their number is part of each record.
    pub manager: Arc<Manager>,
    /// How long the lease lasts after each heartbeat.
    pub ttl: Duration,
    /// The time between two heartbeats.
    pub heartbeat: Duration,
    /// How many records were made so far, also before the last restart.
    pub renewals: Arc<AtomicU64>,
    /// None before the first registration and after the lease was given back. Held over a call of the registry, so that
    /// renewals do not overlap.
    pub lease: Mutex<Option<Lease>>,
    /// Whether the last call of the registry has failed: only the first failure of a series is logged.
    pub is_cut_off: AtomicBool,
}

impl Membership {
    fn record(&self) -> Record {
        Record {
            name: self.name.clone(),
            addr: self.advertised.clone(),
            cpu: available_parallelism().map_or(1, usize::from),
            sessions: self.manager.len(),
            renewals: self.renewals.fetch_add(1, Ordering::Relaxed),
        }
    }

    /// Renews the lease, or registers where there is none. If the registry can't be reached, the next heartbeat tries
    /// again.
    pub async fn renew(&self) {
        self.renew_for(self.ttl).await;
    }

    async fn renew_for(&self, ttl: Duration) {
        let renewed = self.try_renew(ttl).await;
        let was_cut_off = self.is_cut_off.swap(renewed.is_err(), Ordering::Relaxed);
        match renewed {
            Err(error) if !was_cut_off => {
                tracing::warn!(access = self.name, %error, "not registered: each heartbeat tries again");
            }
            Ok(()) if was_cut_off => {
                tracing::info!(access = self.name, "the registry can be reached again");
            }
            _ => {}
        }
    }

    async fn try_renew(&self, ttl: Duration) -> Result<(), Unreachable> {
        let mut lease = self.lease.lock().await;
        if let Some(held) = &*lease {
            match self.registry.renew(held, self.record(), ttl).await {
                Ok(()) => return Ok(()),
                // The lease may still be held: to register anew would only be right if it were lost.
                Err(RenewError::Unreachable(error)) => return Err(error),
                Err(RenewError::LeaseLost) => {
                    tracing::warn!(access = self.name, "the lease was lost: registering again");
                }
            }
            *lease = None;
        }
        *lease = Some(self.registry.register(self.record(), ttl).await?);
        Ok(())
    }

    /// Renews the lease at every tick until the shutdown begins, then gives it back at once. A paused server renews nothing,
    /// and a killed one leaves its lease to run out.
    pub async fn keep(self: Arc<Self>, mut ticks: Box<dyn Ticks>) {
        let shutdown = self.manager.shutdown();
        loop {
            let apart = tokio::select! {
                () = shutdown.begun() => break,
                apart = ticks.tick() => apart,
            };
            if self.manager.is_paused() {
                continue;
            }
            // A clock that leaps over heartbeats must not let the lease run out meanwhile.
            let ttl = self.ttl + apart.saturating_sub(self.heartbeat);
            tokio::select! {
                () = shutdown.begun() => break,
                () = self.beat(ttl) => {}
            }
        }
        if self.manager.is_killed() {
            return;
        }
        tokio::select! {
            biased;
            () = self.leave() => {}
            () = shutdown.hurried() => {}
        }
    }

    /// Does one heartbeat, or what a fault makes of it.
    async fn beat(self: &Arc<Self>, ttl: Duration) {
        let passing = Passing {
            access: Some(&self.name),
            ..Passing::default()
        };
        let at = Site::RegistryLease;
        if !self.lab.watches([at]) {
            return self.renew_for(ttl).await;
        }
        let Some(mut hit) = self.lab.meet(at, &passing, |_| true) else {
            return self.renew_for(ttl).await;
        };
        match hit.action {
            // In a task of its own, because a manual clock moves on only when the work of its tick is done.
            Action::Delay { .. } => {
                let late = Arc::clone(self);
                self.manager.shutdown().spawn(async move {
                    let shutdown = late.manager.shutdown();
                    tokio::select! {
                        () = shutdown.begun() => return,
                        () = hit.hold.wait() => {}
                    }
                    if !late.manager.is_paused() {
                        late.renew_for(ttl).await;
                    }
                });
            }
            // The lease is lost. The next heartbeat registers again.
            Action::Error(_) => self.leave().await,
            _ => {}
        }
    }

    /// Gives the lease back, if there is one. Where that fails, the lease runs out.
    async fn leave(&self) {
        let Some(lease) = self.lease.lock().await.take() else {
            return;
        };
        if let Err(error) = self.registry.revoke(&lease).await {
            tracing::warn!(access = self.name, %error, "not deregistered: the lease has to run out");
        }
    }
}
