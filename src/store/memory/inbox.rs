//! The inboxes of a memory store. Serves `state`, which holds them, and the modules that read or append entries.
//!
//! A message or an ack to one user that is sent again is recognised by its id. Where the store finds the id depends on
//! whether it is [ordered](crate::store::ordered_id), and on whether the entry was removed:
//!
//! | id | the entry is present | the entry was removed |
//! |---|---|---|
//! | ordered | the entry itself, by [`Entries::find_ordered`] | [`Inbox::removed_ids`], which a cleaning shortens |
//! | other | [`Inbox::ids`], as [`KnownId::Entry`] | [`Inbox::ids`], as [`KnownId::Removed`]; `State::expiring_ids` has the time of its end |
//!
//! The ids of messages to a group are in `Group::ids`, and in `State::expiring_ids` when no inbox holds the message.

use std::collections::VecDeque;
use std::sync::Arc;

use super::entries::{Entries, RemovedEntry};
use super::ids::{Identity, Ids, VacantId};
use crate::id::{MsgId, Uid, Version};
use crate::proto::MeasuredEntry;
use crate::store::ordered_id::{may_be_ordered, number_of};
use crate::store::page_builder::PageBuilder;
use crate::store::{EncodedPage, InboxState, Kind, Ledger, Message, Page, PageLimit};

/// The page of an inbox that has never had an entry.
pub(super) const EMPTY_PAGE: Page = Page {
    entries: Vec::new(),
    current: Version::START,
    total: Version::START,
};

/// The memory that the ordered id of a removed entry takes, in bytes. The list may have room for twice its ids.
pub(super) const REMOVED_ID: usize = 2 * size_of::<RemovedId>();

/// An inbox: the entries that are left, and what is known of those that were removed.
#[derive(Default)]
pub(super) struct Inbox {
    /// The entries that are left.
    pub entries: Entries,
    /// The read mark. It is never below the newest version that was removed.
    pub read: Version,
    /// The newest version that was in a page, or that was restored from a snapshot.
    pub delivered_through: Version,
    /// The counts of this inbox.
    pub ledger: Ledger,
    /// The messages and acks to this user alone that can't be found by an ordered id.
    pub ids: Ids<KnownId>,
    /// The ordered ids of removed entries, in order.
    pub removed_ids: VecDeque<RemovedId>,
    /// The number of the last commit that has grown the inbox.
    pub grown_by_commit: u64,
    /// The index of this inbox among those that the commit `grown_by_commit` has grown.
    pub grown_index: usize,
}

/// A message whose id is known: its entry, or, if that was removed, the message without its text.
pub(super) enum KnownId {
    Entry(Version),
    Removed(Arc<Message>),
}

/// The ordered id of a removed entry, by which its message is recognised if it is sent again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct RemovedId {
    pub id: i64,
    pub source: Uid,
    /// When the message was sent, in Unix milliseconds.
    pub sent_at: i64,
}

/// The place for the id of a message that was not sent before.
pub(super) enum IdPlace<'a> {
    /// The id is higher than all ordered ones of the inbox, so the entry itself is found by it.
    Ordered(i64),
    InTable(VacantId<'a, KnownId>),
}

impl RemovedId {
    /// Returns the message without its text.
    pub fn message(&self) -> Message {
        let id = self.id.to_string();
        Message::new(Kind::P2p, self.source, None, MsgId(&id), "", self.sent_at)
    }
}

impl Inbox {
    /// Returns what a client is told of the inbox, which is that of `uid`.
    pub fn inbox_state(&self, uid: Uid) -> InboxState {
        InboxState {
            uid,
            read: self.read,
            total: self.entries.total(),
        }
    }

    /// Returns the entries, and the place for the id of `message`; none if the message was sent before.
    ///
    /// The server gives increasing ids, and most clients leave the id to the server. Such a message costs no place in the table
    /// of ids, and no lookup while the table is empty.
    pub fn place_of_id(&mut self, message: &Message) -> Option<(&mut Entries, IdPlace<'_>)> {
        let Inbox {
            entries,
            ids,
            removed_ids,
            ..
        } = self;
        let new = message.msg_id();
        let number = number_of(new);
        let ordered = number.filter(|number| {
            *number > entries.highest_ordered_id() && may_be_ordered(message, *number)
        });
        if let Some(number) = ordered
            && ids.is_empty()
        {
            return Some((entries, IdPlace::Ordered(number)));
        }
        let identity = Identity::of(message);
        if number.is_some_and(|number| is_known_by_order(entries, removed_ids, number, identity)) {
            return None;
        }
        let vacant = ids.vacancy(identity, |known| known.is(entries, identity))?;
        let place = ordered.map_or(IdPlace::InTable(vacant), IdPlace::Ordered);
        Some((entries, place))
    }

    /// Returns whether a message with this identity was stored, and its id was not forgotten.
    pub fn has(&self, identity: Identity<'_>) -> bool {
        let is_known =
            |number| is_known_by_order(&self.entries, &self.removed_ids, number, identity);
        number_of(identity.msg_id).is_some_and(is_known)
            || self
                .ids
                .get(identity, |known| known.is(&self.entries, identity))
                .is_some()
    }

    /// Counts a new entry, and reports the inbox in `grown_inboxes`: those that the commit with the number `commit` has grown,
    /// each of them once unless another batch has grown it in between. Returns the version of the entry.
    pub fn count_entry(
        &mut self,
        uid: Uid,
        commit: u64,
        grown_inboxes: &mut Vec<InboxState>,
    ) -> Version {
        self.ledger.stored += 1;
        let state = self.inbox_state(uid);
        match grown_inboxes.get_mut(self.grown_index) {
            Some(known) if self.grown_by_commit == commit => *known = state,
            _ => {
                (self.grown_by_commit, self.grown_index) = (commit, grown_inboxes.len());
                grown_inboxes.push(state);
            }
        }
        state.total
    }

    /// Removes and returns the oldest entry. The read mark is at that entry at least.
    pub fn remove_oldest(&mut self) -> Option<RemovedEntry> {
        let removed = self.entries.pop_front()?;
        self.read = self.read.max(removed.version);
        Some(removed)
    }

    /// Returns the version after which a page begins that was asked for with `after`.
    fn start(&self, after: Version) -> Version {
        match after <= self.entries.total() {
            true => self.entries.trimmed_through().max(after),
            false => self.entries.trimmed_through(),
        }
    }

    /// Returns the entries after version `after` as a page for `uid`.
    pub fn page(&self, uid: Uid, after: Version, limit: PageLimit) -> Page {
        let start = self.start(after);
        let mut page = PageBuilder::new(uid, start, limit);
        for entry in self.entries.after(start) {
            if page.is_full() || !page.add(entry) {
                break;
            }
        }
        page.finish(self.entries.total())
    }

    /// Returns the page that [`page`](Self::page) returns, encoded.
    pub fn encoded_page(&self, uid: Uid, after: Version, limit: PageLimit) -> EncodedPage {
        let start = self.start(after);
        let mut entries = Vec::new();
        let count = self.entries.copy_after(uid, start, limit, &mut entries);
        EncodedPage {
            entries,
            current: start + count.cast_signed() as i64,
            total: self.entries.total(),
        }
    }

    /// Records that a page of the entries after `after`, up to `current`, was read: moves the read mark to `after`, and counts
    /// the entries as delivered. Returns how many of them were not counted before.
    pub fn record_page_read(&mut self, after: Version, current: Version) -> u64 {
        let start = self.start(after);
        if after <= self.entries.total() {
            self.read = self.read.max(start);
        }
        let delivered_through = self.delivered_through.max(start);
        if current <= delivered_through {
            return 0;
        }
        let new = (current - delivered_through).unsigned_abs();
        self.ledger.delivered += new;
        self.delivered_through = current;
        new
    }
}

impl KnownId {
    /// Returns whether this is the message with the identity `identity`, in an inbox with these entries.
    fn is(&self, entries: &Entries, identity: Identity<'_>) -> bool {
        match self {
            KnownId::Entry(version) => {
                let entry = entries.get_encoded(*version);
                entry.is_some_and(|entry| {
                    entry.msg_type == identity.kind.msg_type()
                        && entry.source_uid == identity.source.0
                        && entry.msg_id == identity.msg_id.0
                })
            }
            KnownId::Removed(_) => self.is_removed(identity),
        }
    }

    /// Returns whether this is a removed message, with the identity `identity`.
    pub fn is_removed(&self, identity: Identity<'_>) -> bool {
        matches!(self, KnownId::Removed(message) if Identity::of(message) == identity)
    }
}

impl IdPlace<'_> {
    /// Returns whether the id takes a place in the table.
    pub fn is_in_table(&self) -> bool {
        matches!(self, IdPlace::InTable(_))
    }

    /// Appends the entry of the message for which this place was made.
    pub fn append(self, entries: &mut Entries, entry: &MeasuredEntry<'_>) {
        match self {
            IdPlace::Ordered(id) => entries.push(entry, Some(id)),
            IdPlace::InTable(vacant) => {
                entries.push(entry, None);
                vacant.insert(KnownId::Entry(entries.total()));
            }
        }
    }
}

/// Returns whether the entry with the ordered id `number` has this identity, or had it before it was removed.
fn is_known_by_order(
    entries: &Entries,
    removed: &VecDeque<RemovedId>,
    number: i64,
    identity: Identity<'_>,
) -> bool {
    if identity.kind != Kind::P2p || number > entries.highest_ordered_id() {
        return false;
    }
    let is_removed = || {
        let index = removed.binary_search_by_key(&number, |removed| removed.id);
        let found = index.ok().and_then(|index| removed.get(index));
        found.is_some_and(|removed| removed.source == identity.source)
    };
    let entry = entries.find_ordered(number);
    entry.is_some_and(|entry| entry.source_uid == identity.source.0) || is_removed()
}
