//! A map in parts, each with a lock of its own: for what all threads look up, but seldom in the same part.

use hashbrown::HashMap;
use parking_lot::Mutex;

/// How many parts there are.
pub const SHARDS: usize = 32;

/// A map in parts. Which one a key is in comes from a number that its owner derives from it.
#[derive(Debug)]
pub struct Sharded<K, V>([Mutex<HashMap<K, V>>; SHARDS]);

impl<K, V> Default for Sharded<K, V> {
    fn default() -> Self {
        Sharded(std::array::from_fn(|_| Mutex::default()))
    }
}

impl<K, V> Sharded<K, V> {
    /// The part of the keys with this number.
    pub fn of(&self, number: u64) -> &Mutex<HashMap<K, V>> {
        let index = usize::try_from(number % SHARDS as u64).unwrap_or_default();
        #[allow(clippy::indexing_slicing, reason = "the index is less than SHARDS")]
        &self.0[index]
    }

    /// All parts.
    pub fn iter(&self) -> impl Iterator<Item = &Mutex<HashMap<K, V>>> {
        self.0.iter()
    }
}
