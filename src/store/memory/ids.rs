//! The message ids of one inbox or one group, by which a message that is sent again is recognised. Serves `inbox` and
//! `groups`.

use std::hash::BuildHasher;

use hashbrown::DefaultHashBuilder;

use super::table::{Slot, Table, VacantSlot};
use crate::id::{MsgId, Uid};
use crate::store::{Kind, Message};

/// Identifies a message among those of one inbox or group: a second message with this kind, sender and id is the first one,
/// sent again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Identity<'a> {
    pub kind: Kind,
    pub source: Uid,
    pub msg_id: MsgId<'a>,
}

impl<'a> Identity<'a> {
    /// Returns the identity of a message.
    pub fn of(message: &'a Message) -> Self {
        Identity {
            kind: message.kind,
            source: message.source,
            msg_id: message.msg_id(),
        }
    }
}

/// A table of messages by identity. `T` is what is kept of a message; the closure `is_it` of a method tells whether a `T` has
/// the identity.
pub(super) struct Ids<T> {
    /// What is kept of each message, with the hash of its identity.
    known: Table<(u64, T)>,
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

/// The place in the table for a message that was not sent before.
pub(super) struct VacantId<'a, T> {
    hash: u64,
    vacant: VacantSlot<'a, (u64, T)>,
}

impl<T> VacantId<'_, T> {
    /// Adds the message, which must be the one that the place was made for.
    pub fn insert(self, kept: T) {
        // The hash is kept, since to compute it again when the table grows would read every message, and since it tells most
        // messages apart without reading them.
        self.vacant.insert((self.hash, kept));
    }
}

impl<T> Ids<T> {
    fn hash(&self, identity: Identity<'_>) -> u64 {
        self.hasher.hash_one(identity)
    }

    /// Returns whether no message is known.
    pub fn is_empty(&self) -> bool {
        self.known.len() == 0
    }

    /// Returns the place for a message; none if the message was sent before.
    pub fn vacancy(
        &mut self,
        identity: Identity<'_>,
        is_it: impl Fn(&T) -> bool,
    ) -> Option<VacantId<'_, T>> {
        let hash = self.hash(identity);
        let is_it = with_hash(hash, is_it);
        match self.known.slot(hash, is_it, |(hash, _)| *hash) {
            Slot::Occupied(_) => None,
            Slot::Vacant(vacant) => Some(VacantId { hash, vacant }),
        }
    }

    /// Returns the known message with this identity for which `is_it` is true.
    pub fn get(&self, identity: Identity<'_>, is_it: impl Fn(&T) -> bool) -> Option<&T> {
        let hash = self.hash(identity);
        let is_it = with_hash(hash, is_it);
        self.known.find(hash, is_it).map(|(_, kept)| kept)
    }

    /// Returns the known message with this identity for which `is_it` is true.
    pub fn get_mut(
        &mut self,
        identity: Identity<'_>,
        is_it: impl Fn(&T) -> bool,
    ) -> Option<&mut T> {
        let hash = self.hash(identity);
        let is_it = with_hash(hash, is_it);
        self.known.find_mut(hash, is_it).map(|(_, kept)| kept)
    }

    /// Forgets the message with this identity for which `is_it` is true.
    pub fn forget(&mut self, identity: Identity<'_>, is_it: impl Fn(&T) -> bool) {
        let hash = self.hash(identity);
        self.known.remove(hash, with_hash(hash, is_it));
    }

    /// Returns the number of messages.
    #[cfg(test)]
    pub fn len(&self) -> usize {
        self.known.len()
    }
}

/// Returns the check of an item of the table, which compares the hashes first.
fn with_hash<T>(hash: u64, is_it: impl Fn(&T) -> bool) -> impl Fn(&(u64, T)) -> bool {
    move |(known, kept)| *known == hash && is_it(kept)
}
