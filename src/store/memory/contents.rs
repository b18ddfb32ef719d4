//! Copies the contents into a snapshot, and builds contents from a snapshot. Serves `MemoryStore::snapshot` and
//! `MemoryStore::replace`.

use std::sync::Arc;
use std::vec;

use hashbrown::{HashMap, hash_map};

use super::entries::Entries;
use super::groups::{Group, GroupMessage, GroupSummary};
use super::ids::{Identity, Ids};
use super::inbox::{Inbox, KnownId};
use super::state::{
    ALLOCATION, ENTRY, NEW_INBOX, State, WORK_AT_ONCE, above, body_size, id_size, with_room,
};
use crate::id::{GroupId, Uid, Version};
use crate::store::members::Members;
use crate::store::snapshot::{InboxSummary, SnapshotBuilder, StoredMessage};
use crate::store::{
    Entry, Kind, Message, Rejected, Retention, SaveError, Scope, Snapshot, StoreError, User,
};

/// How many bytes of a text are copied in the time that an entry takes, approximately.
const BYTES_PER_WORK: usize = 256;

/// What a snapshot contains besides messages, and how far each inbox goes: all as of one moment.
///
/// Entries and ids that are added later are left out by their versions and numbers, so the messages can be copied in
/// pieces. Nothing may be removed meanwhile.
pub(super) struct Outline {
    /// The generation of the contents.
    generation: u64,
    latest_time_ms: i64,
    users: Vec<(Uid, Arc<User>)>,
    groups: Vec<(GroupId, GroupSummary)>,
    inboxes: Vec<InboxSummary>,
    /// The value of [`State::expiring_count`] at that moment.
    expiring_count: u64,
}

/// The messages of a snapshot, as they are copied.
pub(super) struct MessageCopies {
    builder: SnapshotBuilder,
    /// The generation of the contents that are copied.
    generation: u64,
    /// The inboxes of which no entry was copied.
    inboxes: vec::IntoIter<InboxSummary>,
    /// The inbox of which some entries were copied.
    inbox: Option<RestOfInbox>,
    /// The key in [`State::expiring_ids`] up to which ids were copied.
    expiring: (i64, u64),
    /// The value of [`State::expiring_count`] at the outline; ids with a higher number are left out.
    expiring_count: u64,
    /// What was copied under the lock and is not in the builder yet.
    copied: Vec<Copied>,
    /// The index in the builder of each message to a group, by its address: many inboxes share it.
    indexes: HashMap<usize, usize>,
}

/// The entries of an inbox that are left to copy: the versions above `copied_through`, up to `total`.
struct RestOfInbox {
    uid: Uid,
    copied_through: Version,
    total: Version,
    /// How many of the ordered ids of removed entries were copied.
    copied_ids: usize,
}

/// An entry of an inbox, or the id of a removed message, which has no place.
struct Copied {
    message: Arc<Message>,
    receivers: CopiedReceivers,
    place: Option<(Uid, Version)>,
}

enum CopiedReceivers {
    One(Uid),
    Group(Members),
    /// Those of a message that is in the builder.
    Known(usize),
}

impl From<InboxSummary> for RestOfInbox {
    fn from(inbox: InboxSummary) -> Self {
        RestOfInbox {
            uid: inbox.uid,
            copied_through: inbox.trimmed_through,
            total: inbox.total,
            copied_ids: 0,
        }
    }
}

impl Outline {
    /// Returns the outline of the present contents.
    pub fn of(state: &State) -> Self {
        let users = state.users.iter();
        let groups = state.groups.iter();
        let inboxes = state.inboxes.iter().map(|(uid, inbox)| InboxSummary {
            uid,
            read: inbox.read,
            trimmed_through: inbox.entries.trimmed_through(),
            total: inbox.entries.total(),
        });
        Outline {
            generation: state.generation,
            latest_time_ms: state.latest_time_ms,
            users: users.map(|(&uid, user)| (uid, Arc::clone(user))).collect(),
            groups: groups.map(|(&gid, group)| (gid, group.summary())).collect(),
            inboxes: inboxes.collect(),
            expiring_count: state.expiring_count,
        }
    }

    /// Begins a snapshot of at most about `limit` bytes.
    ///
    /// # Errors
    ///
    /// [`SaveError::TooLarge`] when the contents take more without the messages.
    pub fn into_copies(self, limit: usize) -> Result<MessageCopies, SaveError> {
        let mut builder = SnapshotBuilder::new(limit, self.latest_time_ms);
        for (uid, user) in self.users {
            builder.user(uid, User::clone(&user))?;
        }
        for (gid, group) in self.groups {
            builder.group(group.into_group(gid))?;
        }
        for &summary in &self.inboxes {
            builder.inbox(summary)?;
        }
        Ok(MessageCopies {
            builder,
            generation: self.generation,
            inboxes: self.inboxes.into_iter(),
            inbox: None,
            expiring: (i64::MIN, 0),
            expiring_count: self.expiring_count,
            copied: Vec::new(),
            indexes: HashMap::new(),
        })
    }
}

impl MessageCopies {
    /// Copies the next piece of the messages. Returns false when none are left.
    ///
    /// # Errors
    ///
    /// [`StoreError::Replaced`] when the contents were replaced after the first piece.
    pub fn copy(&mut self, state: &State) -> Result<bool, StoreError> {
        if self.generation != state.generation {
            return Err(StoreError::Replaced);
        }
        let mut left = WORK_AT_ONCE;
        while left > 0 {
            let next = || self.inboxes.next().map(RestOfInbox::from);
            let Some(mut inbox) = self.inbox.take().or_else(next) else {
                return Ok(self.copy_expiring(state, left));
            };
            left -= 1;
            left -= self.copy_removed_ids(state, &mut inbox, left);
            left -= self.copy_entries(state, &mut inbox, left);
            if left == 0 {
                self.inbox = Some(inbox);
            }
        }
        Ok(true)
    }

    /// Copies entries of an inbox for up to `limit` units of work, and returns how many these were.
    fn copy_entries(&mut self, state: &State, rest: &mut RestOfInbox, limit: usize) -> usize {
        let Some(inbox) = state.inboxes.get(rest.uid) else {
            rest.copied_through = rest.total;
            return 0;
        };
        let mut work = 0;
        for Entry { version, message } in inbox.entries.after(rest.copied_through) {
            if version > rest.total || work >= limit {
                break;
            }
            rest.copied_through = version;
            work += 1 + message.text().len() / BYTES_PER_WORK;
            let receivers = match message.kind {
                Kind::Group => self.group_receivers(state, &message),
                Kind::P2p | Kind::Ack => Some(CopiedReceivers::One(rest.uid)),
            };
            self.copied.extend(receivers.map(|receivers| Copied {
                message,
                receivers,
                place: Some((rest.uid, version)),
            }));
        }
        work.min(limit)
    }

    /// Copies up to `limit` ordered ids of removed entries of an inbox, and returns how many they were.
    fn copy_removed_ids(&mut self, state: &State, rest: &mut RestOfInbox, limit: usize) -> usize {
        let Some(inbox) = state.inboxes.get(rest.uid) else {
            return 0;
        };
        let ids = inbox.removed_ids.iter().skip(rest.copied_ids).take(limit);
        let before = self.copied.len();
        self.copied.extend(ids.map(|id| Copied {
            message: Arc::new(id.message()),
            receivers: CopiedReceivers::One(rest.uid),
            place: None,
        }));
        let count = self.copied.len() - before;
        rest.copied_ids += count;
        count
    }

    fn group_receivers(&self, state: &State, message: &Arc<Message>) -> Option<CopiedReceivers> {
        if let Some(&index) = self.indexes.get(&address(message)) {
            return Some(CopiedReceivers::Known(index));
        }
        let group = state.groups.get(&message.group()?)?;
        let known = group.ids.message(Identity::of(message))?;
        Some(CopiedReceivers::Group(Arc::clone(&known.receivers)))
    }

    /// Copies up to `limit` of the ids whose messages no inbox holds any more. Returns false when none are left.
    fn copy_expiring(&mut self, state: &State, limit: usize) -> bool {
        let mut count = 0;
        for (&key, (scope, message)) in state.expiring_ids.range(above(self.expiring)).take(limit) {
            (self.expiring, count) = (key, count + 1);
            if key.1 > self.expiring_count {
                continue;
            }
            let receivers = match scope {
                Scope::Inbox(uid) => Some(CopiedReceivers::One(*uid)),
                Scope::Group(_) => self.group_receivers(state, message),
            };
            self.copied.extend(receivers.map(|receivers| Copied {
                message: Arc::clone(message),
                receivers,
                place: None,
            }));
        }
        count == limit
    }

    /// Adds what was copied to the snapshot, which takes longer than to copy it and does not need the lock.
    ///
    /// # Errors
    ///
    /// [`SaveError::TooLarge`] when the snapshot exceeds its limit.
    pub fn add_copied(&mut self) -> Result<(), SaveError> {
        for Copied {
            message,
            receivers,
            place,
        } in self.copied.drain(..)
        {
            let index = match receivers {
                CopiedReceivers::One(uid) => self.builder.message(message, vec![uid])?,
                CopiedReceivers::Known(index) => index,
                // Another entry of the piece may have added the message.
                CopiedReceivers::Group(members) => match self.indexes.entry(address(&message)) {
                    hash_map::Entry::Occupied(index) => *index.get(),
                    hash_map::Entry::Vacant(slot) => {
                        *slot.insert(self.builder.message(message, members.to_vec())?)
                    }
                },
            };
            if let Some((uid, version)) = place {
                self.builder.place(index, uid, version)?;
            }
        }
        Ok(())
    }

    /// Sorts the items, which takes seconds if they are many, and returns the snapshot.
    pub fn finish(self) -> Snapshot {
        self.builder.finish()
    }
}

/// Returns the address of a message, which no other message has while the snapshot shares it.
fn address(message: &Arc<Message>) -> usize {
    Arc::as_ptr(message).addr()
}

impl State {
    /// Returns a state with the contents of a snapshot, and without counts.
    ///
    /// # Errors
    ///
    /// [`Rejected::Full`] when the contents take more than `limit` bytes.
    pub(super) fn from_snapshot(
        snapshot: Snapshot,
        limit: usize,
        retention: Retention,
    ) -> Result<State, Rejected> {
        let mut state = State {
            limit,
            retention,
            latest_time_ms: snapshot.latest_time_ms,
            ..State::default()
        };
        for (uid, user) in snapshot.users {
            state.reserve(ALLOCATION + user.name.len() + user.password_hash.len())?;
            state.users.insert(uid, Arc::new(user));
        }
        for group in snapshot.groups {
            state.reserve(2 * ALLOCATION + group.name.len())?;
            for &uid in &group.members {
                let bytes = state.add_group_of(uid, group.gid);
                state.reserve(bytes)?;
            }
            let made = Group {
                name: group.name.into(),
                owner: group.owner,
                members: Arc::new(group.members),
                all_have_inboxes: false,
                ids: Ids::default(),
            };
            state.groups.insert(group.gid, made);
        }
        // A snapshot has the entries by message, not by inbox.
        let mut entries: HashMap<Uid, Vec<(Version, Arc<Message>)>> = HashMap::new();
        for stored in snapshot.messages {
            state.add_message(stored, &mut entries)?;
        }
        for summary in snapshot.inboxes {
            let mut entries = entries.remove(&summary.uid).unwrap_or_default();
            entries.sort_unstable_by_key(|(version, _)| *version);
            state.add_inbox(summary, entries)?;
        }
        Ok(state)
    }

    /// Adds a message with its id, and collects its entries by inbox.
    fn add_message(
        &mut self,
        stored: StoredMessage,
        entries: &mut HashMap<Uid, Vec<(Version, Arc<Message>)>>,
    ) -> Result<(), Rejected> {
        let (.., scope, _) = stored.id();
        let StoredMessage {
            message,
            receivers,
            places,
        } = stored;
        let is_removed = places.is_empty();
        let id = Identity::of(&message);
        match scope {
            Scope::Inbox(uid) if is_removed => {
                self.reserve(id_size(message.msg_id()))?;
                let inbox = self.inboxes.or_default(uid);
                self.inbox_uids.insert(uid);
                if let Some(vacant) = inbox.ids.vacancy(id, |known| known.is_removed(id)) {
                    vacant.insert(KnownId::Removed(Arc::clone(&message)));
                }
            }
            // The id is added with the entry.
            Scope::Inbox(_) => {}
            Scope::Group(group) => {
                let body = if is_removed { 0 } else { body_size(&message) };
                self.reserve(body + id_size(message.msg_id()))?;
                for &uid in &receivers {
                    let bytes = self.add_group_of(uid, group);
                    self.reserve(bytes)?;
                }
                let group = self.groups.get_mut(&group).ok_or(Rejected::NoSuchGroup)?;
                // Most messages have gone to the present members, whose list can be shared.
                let members = if *group.members == receivers {
                    Arc::clone(&group.members)
                } else {
                    Arc::new(receivers)
                };
                if let Some(vacant) = group.ids.place_of(&message) {
                    vacant.insert(GroupMessage {
                        message: Arc::clone(&message),
                        receivers: members,
                        holders: u32::try_from(places.len()).unwrap_or(u32::MAX),
                    });
                }
            }
        }
        if is_removed {
            self.schedule_id_expiry(scope, message);
            return Ok(());
        }
        for (uid, version) in places {
            let inbox = entries.entry(uid).or_default();
            inbox.push((version, Arc::clone(&message)));
        }
        Ok(())
    }

    /// Adds an inbox with its entries, in the order of their versions.
    fn add_inbox(
        &mut self,
        summary: InboxSummary,
        entries: Vec<(Version, Arc<Message>)>,
    ) -> Result<(), Rejected> {
        let InboxSummary {
            uid,
            read,
            trimmed_through,
            total,
        } = summary;
        let mut used = with_room(self.used, NEW_INBOX, self.limit)?;
        self.inbox_uids.insert(uid);
        let inbox = self.inboxes.or_default(uid);
        inbox.entries = Entries::beginning_after(trimmed_through);
        (inbox.read, inbox.delivered_through) = (read, total);
        for (_, message) in entries {
            let size = match message.kind {
                Kind::Group => {
                    inbox.entries.push_shared(message);
                    0
                }
                Kind::P2p | Kind::Ack => inbox.restore(uid, &message),
            };
            used = with_room(used, ENTRY + size, self.limit)?;
        }
        self.used = used;
        Ok(())
    }
}

impl Inbox {
    /// Appends the entry of a message to `uid` alone, with its id. Returns the memory that it takes, in bytes.
    fn restore(&mut self, uid: Uid, message: &Message) -> usize {
        let entry = message.in_page(uid, self.entries.total() + 1).measured();
        let Some((entries, place)) = self.place_of_id(message) else {
            // A snapshot that has a message twice is refused when it is read.
            self.entries.push(&entry, None);
            return entry.size();
        };
        let id = match place.is_in_table() {
            true => id_size(message.msg_id()),
            false => 0,
        };
        place.append(entries, &entry);
        entry.size() + id
    }
}
