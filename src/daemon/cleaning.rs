//! The removal of old messages from the store.

use std::sync::Arc;
use std::time::Duration;

use crate::clock::{Clock, Ticks};
use crate::shutdown::Shutdown;
use crate::store::StoreAdmin;

/// The time between two cleanings of the store.
pub(super) const EVERY: Duration = Duration::from_secs(60);

/// Removes at each tick, and when the store has too little room, what its retention lets go, until the shutdown begins. A
/// cleaning that is under way then has the grace period to end: the store is closed after it.
pub(super) async fn keep_clean(
    store: Arc<dyn StoreAdmin>,
    clock: Arc<dyn Clock>,
    mut ticks: Box<dyn Ticks>,
    shutdown: Shutdown,
) {
    loop {
        tokio::select! {
            () = shutdown.begun() => return,
            _ = ticks.tick() => {}
            () = store.short() => {}
        }
        let cleaned = tokio::select! {
            () = shutdown.hurried() => return,
            cleaned = store.clean(clock.unix_ms()) => cleaned,
        };
        match cleaned {
            Ok(0) => {}
            Ok(removed) => tracing::debug!(removed, "old messages were removed"),
            Err(error) => tracing::error!(%error, "old messages were not removed"),
        }
    }
}
