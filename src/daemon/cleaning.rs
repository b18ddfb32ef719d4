//! Removes old messages from the store once a minute, and whenever the store runs short of room.
//!
//! Serves `start`, which spawns this task unless the store keeps everything for ever. What is old enough to be removed is
//! decided by the store's retention, not here.

use std::sync::Arc;
use std::time::Duration;

use crate::clock::{Clock, Ticks};
use crate::shutdown::Shutdown;
use crate::store::StoreAdmin;

/// The time between two cleanings of the store, on the clock of the stack.
pub(super) const INTERVAL: Duration = Duration::from_secs(60);

/// Has the store remove what its retention no longer keeps, at each tick and whenever the store has too little room. Ends
/// when the shutdown begins. A cleaning that is in progress then may go on until the shutdown is hurried, since the store
/// is closed only after it.
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
