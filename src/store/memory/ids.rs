//! The message ids of one inbox or one group, by which a message that is sent again is recognised.

use std::hash::BuildHasher;
use std::sync::Arc;

use hashbrown::DefaultHashBuilder;

use super::table::{Slot, Table, VacantSlot};
use crate::id::{MsgId, Uid};
use crate::store::{Kind, Message};

/// Messages by kind, sender and id. A message stays when no inbox holds it any more, until its id is forgotten. `T` is
/// what else is known of each.
pub(super) struct Ids<T> {
    known: Table<KnownId<T>>,
    hasher: DefaultHashBuilder,
}

impl<T> Default for Ids<T> {
    fn default() -> Self {
        Ids {
            known: Table::default(),
            hasher: DefaultHashBuilder::default(),
        }
    }
}

/// A message whose id is known.
pub(super) struct KnownId<T> {
    /// The hash of the id. To compute it again when the table grows would read every message, which are far apart in
    /// memory.
    hash: u64,
    /// The message; without its text if no inbox holds it any more.
    pub message: Arc<Message>,
    pub detail: T,
}

impl<T> KnownId<T> {
    /// Returns whether this is the message with an id and its hash. The hash is compared first, which tells most
    /// messages apart without reading them.
    fn is(&self, hash: u64, id: (Kind, Uid, MsgId<'_>)) -> bool {
        self.hash == hash && identity(&self.message) == id
    }
}

/// The place in the table for a message that was not sent before.
pub(super) struct VacantId<'a, T> {
    hash: u64,
    vacant: VacantSlot<'a, KnownId<T>>,
}

impl<T> VacantId<'_, T> {
    /// Adds the message, which must be the one that the place was made for.
    pub fn insert(self, message: Arc<Message>, detail: T) {
        let hash = self.hash;
        self.vacant.insert(KnownId {
            hash,
            message,
            detail,
        });
    }
}

/// Returns what a message has in common with one that is sent again.
fn identity(message: &Message) -> (Kind, Uid, MsgId<'_>) {
    (message.kind, message.source, message.msg_id())
}

impl<T> Ids<T> {
    fn hash(&self, id: (Kind, Uid, MsgId<'_>)) -> u64 {
        self.hasher.hash_one(id)
    }

    /// Returns the place for a message; none if the message was sent before.
    pub fn vacancy(&mut self, message: &Message) -> Option<VacantId<'_, T>> {
        let id = identity(message);
        let hash = self.hash(id);
        let is_it = |known: &KnownId<T>| known.is(hash, id);
        match self.known.slot(hash, is_it, |known| known.hash) {
            Slot::Occupied(_) => None,
            Slot::Vacant(vacant) => Some(VacantId { hash, vacant }),
        }
    }

    /// Returns a message by its id.
    pub fn get(&self, kind: Kind, source: Uid, msg_id: MsgId<'_>) -> Option<&KnownId<T>> {
        let id = (kind, source, msg_id);
        let hash = self.hash(id);
        self.known.find(hash, |known| known.is(hash, id))
    }

    /// Returns the stored message with the id of `message`.
    pub fn get_mut(&mut self, message: &Message) -> Option<&mut KnownId<T>> {
        let id = identity(message);
        let hash = self.hash(id);
        self.known.find_mut(hash, |known| known.is(hash, id))
    }

    /// Forgets the id of a message.
    pub fn forget(&mut self, message: &Message) {
        let id = identity(message);
        let hash = self.hash(id);
        self.known.remove(hash, |known| known.is(hash, id));
    }

    /// Returns the number of messages.
    #[cfg(test)]
    pub fn len(&self) -> usize {
        self.known.len()
    }
}
