//! The registration of an access server in the registry: a record with a lease, which heartbeats renew.
//!
//! Serves the access server, which creates a registration at each start. A registry that can't be reached does not end
//! the server: its sessions go on, and each heartbeat tries again.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::available_parallelism;
use std::time::Duration;

use tokio::sync::Mutex;

use crate::clock::Ticks;
use crate::lab::{Action, FrameContext, Lab, Site};
use crate::registry::{Lease, Record, Registry, RenewError, Unreachable};
use crate::session::SessionManager;

/// The registration of one access server, from one start of the server to its next stop or kill.
#[derive(Debug)]
pub(super) struct Registration {
    pub registry: Arc<dyn Registry>,
    /// May delay heartbeats or make them fail.
    pub lab: Arc<Lab>,
    /// The server's name in the registry.
    pub name: String,
    /// The address that clients are given, as host:port. The host may be unspecified, such as 0.0.0.0.
    pub advertised: String,
    /// The manager of the server's sessions. Their number is part of each record, and the registration ends when the
    /// manager's tasks are asked to end.
    pub manager: Arc<SessionManager>,
    /// How long the lease lasts after each heartbeat.
    pub ttl: Duration,
    /// The time between two heartbeats.
    pub heartbeat: Duration,
    /// How many records the server has made so far. A restart does not reset it.
    pub renewals: Arc<AtomicU64>,
    /// The lease that is held. None before the first registration, and after the lease was given back. Locked during
    /// each call to the registry, so that renewals do not overlap.
    pub lease: Mutex<Option<Lease>>,
    /// Whether the last renewal has failed. Only the first failure of a series is logged.
    pub is_disconnected: AtomicBool,
}

impl Registration {
    /// Makes a new record of the server, with its current number of sessions, and counts it in `renewals`.
    fn new_record(&self) -> Record {
        Record {
            name: self.name.clone(),
            addr: self.advertised.clone(),
            cpu: available_parallelism().map_or(1, usize::from),
            sessions: self.manager.len(),
            renewals: self.renewals.fetch_add(1, Ordering::Relaxed),
        }
    }

    /// Renews the lease, or registers the server if it holds none. If the registry can't be reached, the next heartbeat
    /// tries again.
    pub async fn renew(&self) {
        self.renew_for(self.ttl).await;
    }

    /// Renews the lease for `ttl`, and logs when the registry can't be reached and when it can be reached again.
    async fn renew_for(&self, ttl: Duration) {
        let renewed = self.try_renew(ttl).await;
        let was_disconnected = self
            .is_disconnected
            .swap(renewed.is_err(), Ordering::Relaxed);
        match renewed {
            Err(error) if !was_disconnected => {
                tracing::warn!(access = self.name, %error, "not registered: each heartbeat tries again");
            }
            Ok(()) if was_disconnected => {
                tracing::info!(access = self.name, "the registry can be reached again");
            }
            _ => {}
        }
    }

    /// Renews the lease for `ttl`. Registers the server if it holds no lease, or if the registry has lost it.
    ///
    /// # Errors
    ///
    /// [`Unreachable`], when the registry can't be reached. The lease is kept then, since the registry may still have
    /// it.
    async fn try_renew(&self, ttl: Duration) -> Result<(), Unreachable> {
        let mut lease = self.lease.lock().await;
        if let Some(held) = &*lease {
            match self.registry.renew(held, self.new_record(), ttl).await {
                Ok(()) => return Ok(()),
                // The registry may still have the lease, so the server must not register again.
                Err(RenewError::Unreachable(error)) => return Err(error),
                Err(RenewError::LeaseLost) => {
                    tracing::warn!(access = self.name, "the lease was lost: registering again");
                }
            }
            *lease = None;
        }
        *lease = Some(self.registry.register(self.new_record(), ttl).await?);
        Ok(())
    }

    /// Renews the lease at every tick until the server's shutdown begins, and then gives it back. A paused server does
    /// not renew its lease, and a killed one leaves it to expire.
    pub async fn keep(self: Arc<Self>, mut ticks: Box<dyn Ticks>) {
        let tasks = self.manager.tasks();
        loop {
            let until_next = tokio::select! {
                () = tasks.shutdown_begun() => break,
                until_next = ticks.tick() => until_next,
            };
            if self.manager.is_paused() {
                continue;
            }
            // The clock may be about to leap over heartbeats, and the lease must not expire before the next one.
            let ttl = self.ttl + until_next.saturating_sub(self.heartbeat);
            tokio::select! {
                () = tasks.shutdown_begun() => break,
                () = self.beat(ttl) => {}
            }
        }
        if self.manager.is_killed() {
            return;
        }
        tokio::select! {
            biased;
            () = self.deregister() => {}
            () = tasks.hurried() => {}
        }
    }

    /// Does one heartbeat. A fault of the site `registry.lease` can delay it, drop it, or make the server lose its
    /// lease.
    async fn beat(self: &Arc<Self>, ttl: Duration) {
        let context = FrameContext {
            access: Some(&self.name),
            ..FrameContext::default()
        };
        let at = Site::RegistryLease;
        let Some(mut hit) = self.lab.find_and_record_call_hit(at, &context, |_| true) else {
            return self.renew_for(ttl).await;
        };
        match hit.action {
            // The delay is a task of its own. A manual clock does not advance until the work of a tick is done, so a
            // delay within the tick would never end.
            Action::Delay { .. } => {
                let delayed = Arc::clone(self);
                self.manager.tasks().spawn(async move {
                    let tasks = delayed.manager.tasks();
                    tokio::select! {
                        () = tasks.shutdown_begun() => return,
                        () = hit.hold.wait() => {}
                    }
                    if !delayed.manager.is_paused() {
                        delayed.renew_for(ttl).await;
                    }
                });
            }
            // The server gives its lease back, and registers again at the next heartbeat.
            Action::Error(_) => self.deregister().await,
            _ => {}
        }
    }

    /// Gives the lease back, if one is held. If the registry can't be reached, the lease expires.
    async fn deregister(&self) {
        let Some(lease) = self.lease.lock().await.take() else {
            return;
        };
        if let Err(error) = self.registry.revoke(&lease).await {
            tracing::warn!(access = self.name, %error, "not deregistered: the lease has to run out");
        }
    }
}
