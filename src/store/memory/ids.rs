//! The ids of the messages that went to one inbox or one group: what makes a message the same one when it is sent again.

use std::hash::BuildHasher;
use std::sync::Arc;

use hashbrown::DefaultHashBuilder;
use hashbrown::hash_table::{Entry, HashTable, VacantEntry};

use crate::id::{MsgId, Uid};
use crate::store::{Kind, Message};

/// Messages by their kind, sender and id. A message stands here also when it is removed, until its id may be forgotten.
pub(super) struct Ids<T> {
    known: HashTable<Known<T>>,
    hasher: DefaultHashBuilder,
}

impl<T> Default for Ids<T> {
    fn default() -> Self {
        Ids {
            known: HashTable::new(),
            hasher: DefaultHashBuilder::default(),
        }
    }
}

/// A message that was stored.
pub(super) struct Known<T> {
    /// Kept, since to find it out again for all of them when the table grows would mean to look at every message.
    hash: u64,
    pub message: Arc<Message>,
    /// What else is known of it.
    pub more: T,
}

impl<T> Known<T> {
    /// The hash first: most other messages are told apart without a look at them, which would be far away in memory.
    fn is(&self, hash: u64, id: (Kind, Uid, MsgId<'_>)) -> bool {
        self.hash == hash && identity(&self.message) == id
    }
}

/// Where a new message is to be noted.
pub(super) struct Place<'a, T> {
    hash: u64,
    vacant: VacantEntry<'a, Known<T>>,
}

impl<T> Place<'_, T> {
    pub fn note(self, message: Arc<Message>, more: T) {
        let hash = self.hash;
        self.vacant.insert(Known {
            hash,
            message,
            more,
        });
    }
}

/// What makes a message the same one.
fn identity(message: &Message) -> (Kind, Uid, MsgId<'_>) {
    (message.kind, message.source, message.msg_id())
}

impl<T> Ids<T> {
    fn hash(&self, id: (Kind, Uid, MsgId<'_>)) -> u64 {
        self.hasher.hash_one(id)
    }

    /// The place of a message that was never here.
    pub fn place(&mut self, message: &Message) -> Option<Place<'_, T>> {
        let id = identity(message);
        let hash = self.hash(id);
        match self
            .known
            .entry(hash, |known| known.is(hash, id), |known| known.hash)
        {
            Entry::Occupied(_) => None,
            Entry::Vacant(vacant) => Some(Place { hash, vacant }),
        }
    }

    pub fn get(&self, kind: Kind, source: Uid, msg_id: MsgId<'_>) -> Option<&Known<T>> {
        let id = (kind, source, msg_id);
        let hash = self.hash(id);
        self.known.find(hash, |known| known.is(hash, id))
    }

    pub fn get_mut(&mut self, message: &Message) -> Option<&mut Known<T>> {
        let id = identity(message);
        let hash = self.hash(id);
        self.known.find_mut(hash, |known| known.is(hash, id))
    }

    /// Forgets a message. The buckets that get free stay for those to come: to make the table smaller would take long.
    pub fn forget(&mut self, message: &Message) {
        let id = identity(message);
        let hash = self.hash(id);
        if let Ok(found) = self.known.find_entry(hash, |known| known.is(hash, id)) {
            found.remove();
        }
    }

    /// All of them, in no order.
    pub fn iter(&self) -> impl Iterator<Item = &Known<T>> {
        self.known.iter()
    }

    /// How many there are.
    #[cfg(test)]
    pub fn len(&self) -> usize {
        self.known.len()
    }
}
