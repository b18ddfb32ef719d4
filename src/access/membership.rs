use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread::available_parallelism;
use std::time::Duration;

use tokio::sync::Mutex;

use crate::clock::Ticks;
use crate::lab::{Action, Lab, Passing, Site};
use crate::registry::{Lease, Record, Registry};
use crate::session::Manager;

/// The place of one access server in the registry, from one start to the next stop or kill.
#[derive(Debug)]
pub(super) struct Membership {
    pub registry: Arc<dyn Registry>,
    pub lab: Arc<Lab>,
    pub name: String,
    pub advertised: String,
    pub manager: Arc<Manager>,
    pub ttl: Duration,
    /// The time between two heartbeats.
    pub every: Duration,
    /// How many records were written, also before the last restart.
    pub renewals: Arc<AtomicU64>,
    /// None before the first registration and after the last word. Held over a call of the registry: two who renew do so
    /// one after the other.
    pub lease: Mutex<Option<Lease>>,
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

    /// Renews the lease, or registers where there is none.
    pub async fn renew(&self) {
        self.renew_for(self.ttl).await;
    }

    async fn renew_for(&self, ttl: Duration) {
        let mut lease = self.lease.lock().await;
        if let Some(held) = &*lease {
            let renewed = self.registry.renew(held, self.record(), ttl).await;
            if renewed.is_ok() {
                return;
            }
            tracing::warn!(access = self.name, "the lease was lost: registering again");
        }
        *lease = Some(self.registry.register(self.record(), ttl).await);
    }

    /// Renews the lease at every tick until the shutdown begins, then gives it back at once. A server that rests renews
    /// nothing; one that dies leaves its lease to run out.
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
            // A clock that leaves heartbeats out does not let the lease run out meanwhile.
            let ttl = self.ttl + apart.saturating_sub(self.every);
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

    /// One heartbeat, or what a fault makes of it.
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
            // A task of its own waits: the clock moves on only when the heartbeat is over.
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
            // The next heartbeat registers again.
            Action::Error(_) => self.leave().await,
            _ => {}
        }
    }

    async fn leave(&self) {
        if let Some(lease) = self.lease.lock().await.take() {
            self.registry.revoke(&lease).await;
        }
    }
}
