//! A map that is divided into shards, each with a lock of its own, so that threads rarely wait for each other.
//!
//! Serves the session manager (sessions by id) and the directory (sessions by user). No operation locks two shards at once;
//! an iteration over all shards therefore sees each shard at a different moment.

use hashbrown::HashMap;
use parking_lot::Mutex;

/// Number of shards of each map.
pub const SHARDS: usize = 32;

/// A map that is divided into shards. The caller derives a number from each key, which determines the key's shard.
#[derive(Debug)]
pub struct Sharded<K, V>([Mutex<HashMap<K, V>>; SHARDS]);

impl<K, V> Default for Sharded<K, V> {
    fn default() -> Self {
        Sharded(std::array::from_fn(|_| Mutex::default()))
    }
}

impl<K, V> Sharded<K, V> {
    /// Returns the shard of the keys whose number this is.
    pub fn of(&self, number: u64) -> &Mutex<HashMap<K, V>> {
        let index = usize::try_from(number % SHARDS as u64).unwrap_or_default();
        #[allow(clippy::indexing_slicing, reason = "the index is less than SHARDS")]
        &self.0[index]
    }

    /// Returns all shards.
    pub fn iter(&self) -> impl Iterator<Item = &Mutex<HashMap<K, V>>> {
        self.0.iter()
    }
}
