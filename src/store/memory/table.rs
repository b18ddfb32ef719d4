//! Hash tables that grow in steps. Serves `ids`, which knows every message of an inbox, and [`UidMap`], which holds the
//! inboxes.
//!
//! A usual table moves everything that it holds when it is full. With a million messages that takes a tenth of a second,
//! in which the store's lock is held and nobody is served. A [`Table`] is cut into segments, and moves one segment at a
//! time (the scheme is known as linear hashing).

use std::hash::BuildHasher;

use hashbrown::DefaultHashBuilder;
use hashbrown::hash_table::{Entry, HashTable, VacantEntry};

use crate::id::Uid;

/// How many items a segment has on average when the next is added. The segment whose last split is
/// longest ago has twice as many, which fit into 1,024 buckets.
const SEGMENT: usize = 448;

/// The first of the bits of a hash that select the segment. The segment itself uses the lowest and the highest bits.
const SEGMENT_BITS: u32 = 24;

/// A hash table of items that know their hashes.
pub(super) struct Table<T> {
    /// The first segment: the only one of a small table.
    first: HashTable<T>,
    /// The other segments.
    more: Vec<HashTable<T>>,
    /// The number of items in all segments.
    len: usize,
    /// The bits of an index: the lowest power of two that is at least the number of segments, less 1.
    mask: usize,
}

impl<T> Default for Table<T> {
    fn default() -> Self {
        Table {
            first: HashTable::new(),
            more: Vec::new(),
            len: 0,
            mask: 0,
        }
    }
}

/// The slot of an item that was looked up.
pub(super) enum Slot<'a, T> {
    Occupied(&'a mut T),
    Vacant(VacantSlot<'a, T>),
}

/// The slot of an item that is not in the table.
pub(super) struct VacantSlot<'a, T> {
    entry: VacantEntry<'a, T>,
    len: &'a mut usize,
}

impl<'a, T> VacantSlot<'a, T> {
    /// Adds the item, which must be the one that was looked up.
    pub fn insert(self, item: T) -> &'a mut T {
        *self.len += 1;
        self.entry.insert(item).into_mut()
    }
}

impl<T> Table<T> {
    /// Returns the number of items.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Returns the item with this hash for which `is_it` is true.
    pub fn find(&self, hash: u64, is_it: impl FnMut(&T) -> bool) -> Option<&T> {
        self.segment(hash).find(hash, is_it)
    }

    /// Returns the item with this hash for which `is_it` is true.
    pub fn find_mut(&mut self, hash: u64, is_it: impl FnMut(&T) -> bool) -> Option<&mut T> {
        self.segment_mut(hash).0.find_mut(hash, is_it)
    }

    /// Returns the slot of the item with this hash for which `is_it` is true. `hash_of` returns the hash of an item.
    pub fn slot(
        &mut self,
        hash: u64,
        is_it: impl FnMut(&T) -> bool,
        hash_of: impl Fn(&T) -> u64,
    ) -> Slot<'_, T> {
        if self.len >= SEGMENT * (self.more.len() + 2) {
            self.add_segment(&hash_of);
        }
        let (segment, len) = self.segment_mut(hash);
        match segment.entry(hash, is_it, hash_of) {
            Entry::Occupied(entry) => Slot::Occupied(entry.into_mut()),
            Entry::Vacant(entry) => Slot::Vacant(VacantSlot { entry, len }),
        }
    }

    /// Removes the item with this hash for which `is_it` is true. The table does not shrink, since that would take long:
    /// new items use the room.
    pub fn remove(&mut self, hash: u64, is_it: impl FnMut(&T) -> bool) {
        let (segment, len) = self.segment_mut(hash);
        if let Ok(found) = segment.find_entry(hash, is_it) {
            found.remove();
            *len -= 1;
        }
    }

    /// Returns all items, in no particular order.
    pub fn iter(&self) -> impl Iterator<Item = &T> {
        self.first.iter().chain(self.more.iter().flatten())
    }

    fn segment(&self, hash: u64) -> &HashTable<T> {
        let more = self.index(hash).checked_sub(1);
        more.and_then(|i| self.more.get(i)).unwrap_or(&self.first)
    }

    /// Returns the segment of a hash, and the number of items of the table.
    fn segment_mut(&mut self, hash: u64) -> (&mut HashTable<T>, &mut usize) {
        let more = self.index(hash).checked_sub(1);
        let segment = match more.and_then(|index| self.more.get_mut(index)) {
            Some(segment) => segment,
            None => &mut self.first,
        };
        (segment, &mut self.len)
    }

    /// Returns the index of the segment of a hash: 0 is the first, and 1 begins the others.
    fn index(&self, hash: u64) -> usize {
        let index = index_bits(hash) & self.mask;
        // The items of a segment that was not added yet are in the segment that will be split for it.
        if index <= self.more.len() {
            index
        } else {
            index & self.mask >> 1
        }
    }

    /// Adds a segment, and moves about half the items of one other segment to it.
    fn add_segment(&mut self, hash_of: &impl Fn(&T) -> u64) {
        let added = self.more.len() + 1;
        self.mask = (added + 1).next_power_of_two() - 1;
        // The two segments have all bits of the index in common but the highest.
        let highest = self.mask & !(self.mask >> 1);
        let mut segment = HashTable::with_capacity(SEGMENT);
        let source = match (added - highest).checked_sub(1) {
            Some(index) => self.more.get_mut(index),
            None => Some(&mut self.first),
        };
        let moved =
            source.map(|source| source.extract_if(|item| index_bits(hash_of(item)) & highest != 0));
        for item in moved.into_iter().flatten() {
            segment.insert_unique(hash_of(&item), item, hash_of);
        }
        self.more.push(segment);
    }
}

/// Returns the bits of a hash that select the segment, as the lowest bits of the result.
fn index_bits(hash: u64) -> usize {
    // Bits that a smaller machine cuts off would select a segment only if there were 2^32 of them.
    (hash >> SEGMENT_BITS) as usize
}

/// A map from users to what the store knows of them, which grows in steps.
pub(super) struct UidMap<V> {
    table: Table<(Uid, V)>,
    hasher: DefaultHashBuilder,
}

impl<V> Default for UidMap<V> {
    fn default() -> Self {
        UidMap {
            table: Table::default(),
            hasher: DefaultHashBuilder::default(),
        }
    }
}

impl<V> UidMap<V> {
    /// Returns the value of a user.
    pub fn get(&self, uid: Uid) -> Option<&V> {
        let found = self
            .table
            .find(self.hasher.hash_one(uid), |(u, _)| *u == uid);
        found.map(|(_, value)| value)
    }

    /// Returns the value of a user.
    pub fn get_mut(&mut self, uid: Uid) -> Option<&mut V> {
        let hash = self.hasher.hash_one(uid);
        let found = self.table.find_mut(hash, |(known, _)| *known == uid);
        found.map(|(_, value)| value)
    }

    /// Returns the slot of a user's value.
    pub fn slot(&mut self, uid: Uid) -> Slot<'_, (Uid, V)> {
        let UidMap { table, hasher } = self;
        let is_it = |(known, _): &(Uid, V)| *known == uid;
        table.slot(hasher.hash_one(uid), is_it, |(uid, _)| hasher.hash_one(uid))
    }

    /// Returns whether a user has a value.
    pub fn contains(&self, uid: Uid) -> bool {
        self.get(uid).is_some()
    }

    /// Returns all users with their values, in no particular order.
    pub fn iter(&self) -> impl Iterator<Item = (Uid, &V)> {
        self.table.iter().map(|(uid, value)| (*uid, value))
    }
}

impl<V: Default> UidMap<V> {
    /// Returns the value of a user, which is added if there is none.
    pub fn or_default(&mut self, uid: Uid) -> &mut V {
        match self.slot(uid) {
            Slot::Occupied((_, value)) => value,
            Slot::Vacant(slot) => &mut slot.insert((uid, V::default())).1,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MANY: i64 = 100_000;

    #[test]
    fn every_item_is_found_while_the_table_grows_and_empties() {
        let mut map = UidMap::default();
        for n in 1..=MANY {
            *map.or_default(Uid(n)) = n;
            // The ones that move are among the oldest and the newest.
            for known in [1, n / 2, n - 1, n] {
                assert_eq!(map.get(Uid(known)).copied(), (known > 0).then_some(known));
            }
            assert!(!map.contains(Uid(n + 1)));
        }
        let mut all: Vec<_> = map.iter().map(|(uid, n)| (uid.0, *n)).collect();
        all.sort_unstable();
        assert!(all.into_iter().eq((1..=MANY).map(|n| (n, n))));
        let UidMap { table, hasher } = &mut map;
        for n in (1..=MANY).step_by(2) {
            table.remove(hasher.hash_one(Uid(n)), |(uid, _)| uid.0 == n);
        }
        assert_eq!(map.table.len() as i64, MANY / 2);
        assert!((1..=MANY).all(|n| map.contains(Uid(n)) == (n % 2 == 0)));
    }

    #[test]
    fn no_segment_is_much_larger_than_another_and_none_is_lost() {
        let mut table = Table::default();
        let hasher = DefaultHashBuilder::default();
        let hash = |n: &i64| hasher.hash_one(n);
        for n in 0..MANY {
            let before = table.more.len();
            let Slot::Vacant(slot) = table.slot(hash(&n), |known| *known == n, hash) else {
                panic!("{n} was not inserted yet");
            };
            slot.insert(n);
            assert!(table.more.len() <= before + 1, "one segment at a time");
        }
        let segments = || std::iter::once(&table.first).chain(&table.more);
        assert_eq!(segments().map(HashTable::len).sum::<usize>() as i64, MANY);
        let largest = segments().map(HashTable::len).max();
        assert!(largest.is_some_and(|len| len < 3 * SEGMENT), "{largest:?}");
    }
}
