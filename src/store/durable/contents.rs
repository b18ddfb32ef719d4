//! Reads the contents of the store: users and groups for lists, and everything for a snapshot. Makes the records of a
//! snapshot that replaces everything.
//!
//! No record says who has received a message to a group: those who were members when its text got its number. A
//! snapshot has the receivers of each message, so the memberships are reconstructed from them when a snapshot is
//! loaded.

use std::collections::BTreeMap;
use std::sync::Arc;

use hashbrown::HashMap;

use super::bounds::InboxBounds;
use super::draft::PreparedGroupCommit;
use super::engine::{Engine, EngineError, Key, Value, View};
use super::record::{
    self, Damaged, EntryRecord, GroupRecord, IdRecord, MemberRecord, NumberRecord, Record,
    SIGNING_KEY, STATE, SharedMessageRecord, StateRecord, UserRecord,
};
use crate::id::{GroupId, Uid, Version};
use crate::store::snapshot::{InboxSummary, SnapshotBuilder, StoredMessage};
use crate::store::{Group, Message, SaveError, Scope, Snapshot, StoreError, User};

/// Returns the registered users with ids above `after`, by id: the first `limit`.
///
/// # Errors
///
/// [`EngineError`] when one of the users can't be read.
pub fn users(view: &View<'_>, after: Uid, limit: usize) -> Result<Vec<(Uid, User)>, EngineError> {
    let Some(first) = after.checked_add(1).map(record::user_key) else {
        return Ok(Vec::new());
    };
    let last = record::user_key(Uid::MAX);
    let found = view.range(&first, &last).take(limit);
    found
        .map(|found| found.and_then(|(key, value)| user(&key, &value)))
        .collect()
}

fn user(key: &[u8], value: &[u8]) -> Result<(Uid, User), EngineError> {
    let UserRecord {
        name,
        password_hash,
    } = UserRecord::decode_checked(key, value)?;
    let user = User {
        name,
        password_hash,
    };
    Ok((record::first_number(key), user))
}

/// Returns the groups with ids above `after`, by id: the first `limit`.
///
/// # Errors
///
/// [`EngineError`] when one of the groups can't be read.
pub fn groups(view: &View<'_>, after: GroupId, limit: usize) -> Result<Vec<Group>, EngineError> {
    let Some(first) = after.checked_add(1).map(record::group_key) else {
        return Ok(Vec::new());
    };
    let last = record::group_key(GroupId::MAX);
    let found = view.range(&first, &last).take(limit);
    found
        .map(|found| found.and_then(|(key, value)| group(view, &key, &value)))
        .collect()
}

fn group(view: &View<'_>, key: &[u8], value: &[u8]) -> Result<Group, EngineError> {
    let GroupRecord { name, owner } = GroupRecord::decode_checked(key, value)?;
    let gid: GroupId = record::first_number(key);
    let members = view.prefix(&record::members_prefix(gid));
    let members = members.map(|found| Ok(record::last_number(&found?.0)));
    Ok(Group {
        gid,
        name,
        owner: Uid::nonzero(owner),
        members: members.collect::<Result<_, EngineError>>()?,
    })
}

/// A membership of a group: the user has received the texts from `since` on and before `until`.
struct MembershipPeriod {
    uid: Uid,
    /// The number of the first text.
    since: u64,
    /// The number of the first text after the membership; the highest number if it has not ended.
    until: u64,
}

/// Returns the contents of a view as a snapshot.
///
/// # Errors
///
/// [`SaveError`] when the snapshot would take more than about `limit` bytes, or a record can't be read.
pub fn snapshot(view: &View<'_>, limit: usize) -> Result<Snapshot, SaveError> {
    let mut draft = SnapshotBuilder::new(limit, view.state().map_err(failed)?.latest_time_ms);
    for found in view.prefix(record::USERS) {
        let (key, value) = found.map_err(failed)?;
        let (uid, user) = user(&key, &value).map_err(failed)?;
        draft.user(uid, user)?;
    }
    for found in view.prefix(record::GROUPS) {
        let (key, value) = found.map_err(failed)?;
        draft.group(group(view, &key, &value).map_err(failed)?)?;
    }
    let memberships = memberships(view).map_err(failed)?;
    let receivers = |group: GroupId, text: u64| -> Vec<Uid> {
        let of_group = memberships.get(&group).into_iter().flatten();
        of_group
            .filter(|membership| (membership.since..membership.until).contains(&text))
            .map(|membership| membership.uid)
            .collect()
    };
    // The index of each text's message in the snapshot, by the number of the text.
    let mut drafted = HashMap::new();
    for found in view.prefix(record::TEXTS) {
        let (key, value) = found.map_err(failed)?;
        let message = text(&key, &value).map_err(failed)?;
        let number = record::first_number::<i64>(&key).cast_unsigned();
        let group = message.group().unwrap_or_default();
        let receivers = receivers(group, number);
        drafted.insert(number, draft.message(Arc::new(message), receivers)?);
    }
    entries(view, &mut draft, &drafted)?;
    for found in view.prefix(record::EXPIRING) {
        let (key, _) = found.map_err(failed)?;
        let (message, scope) = expiring(&key).map_err(failed)?;
        let receivers = match scope {
            Scope::Inbox(uid) => vec![uid],
            Scope::Group(group) => {
                let (_, id) = record::expiring(&key).unwrap_or_default();
                let id: Option<IdRecord> = view.get(id).map_err(failed)?;
                receivers(group, id.unwrap_or_default().text)
            }
        };
        draft.message(Arc::new(message), receivers)?;
    }
    Ok(draft.finish())
}

fn failed(error: impl Into<EngineError>) -> SaveError {
    StoreError::from(error.into()).into()
}

/// Returns all memberships, present and former, by group.
fn memberships(view: &View<'_>) -> Result<HashMap<GroupId, Vec<MembershipPeriod>>, EngineError> {
    let mut memberships: HashMap<GroupId, Vec<MembershipPeriod>> = HashMap::new();
    for prefix in [record::MEMBERS, record::FORMER] {
        for found in view.prefix(prefix) {
            let (key, value) = found?;
            let since = MemberRecord::decode_checked(&key, &value)?.since;
            let (group, uid, until) = match (record::numbers(&key), record::numbers(&key)) {
                (Some([group, uid]), _) => (GroupId(group), Uid(uid), u64::MAX),
                (_, Some([uid, group, until])) => (GroupId(group), Uid(uid), until.cast_unsigned()),
                _ => return Err(Damaged::at(&key).into()),
            };
            memberships
                .entry(group)
                .or_default()
                .push(MembershipPeriod { uid, since, until });
        }
    }
    Ok(memberships)
}

fn text(key: &[u8], value: &[u8]) -> Result<Message, EngineError> {
    let message = SharedMessageRecord::decode_checked(key, value)?.message;
    let message = message.and_then(|message| message.message());
    Ok(message.ok_or(Damaged::at(key))?)
}

/// Adds the inboxes with their entries, and the messages to one user. `drafted` has the indexes of the messages to
/// groups.
fn entries(
    view: &View<'_>,
    draft: &mut SnapshotBuilder,
    drafted: &HashMap<u64, usize>,
) -> Result<(), SaveError> {
    let mut last = None;
    for found in view.prefix(record::INBOXES) {
        let (key, value) = found.map_err(failed)?;
        let (uid, version): (Uid, Version) =
            (record::first_number(&key), record::last_number(&key));
        if last != Some(uid) {
            last = Some(uid);
            inbox(view, draft, uid)?;
        }
        let entry = EntryRecord::decode_checked(&key, &value).map_err(failed)?;
        let place = match entry.message {
            Some(message) => {
                let message = message.message().ok_or(Damaged::at(&key)).map_err(failed)?;
                draft.message(Arc::new(message), vec![uid])?
            }
            None => {
                let missing = EngineError::NoText(entry.text);
                *drafted.get(&entry.text).ok_or(missing).map_err(failed)?
            }
        };
        draft.place(place, uid, version)?;
    }
    // The inboxes that have no entries any more.
    for found in view.prefix(record::TRIMMED) {
        let (key, _) = found.map_err(failed)?;
        let uid = record::first_number(&key);
        let bounds = InboxBounds::read(view, uid).map_err(failed)?;
        if bounds.total == bounds.trimmed_through {
            inbox(view, draft, uid)?;
        }
    }
    Ok(())
}

fn inbox(view: &View<'_>, draft: &mut SnapshotBuilder, uid: Uid) -> Result<(), SaveError> {
    let bounds = InboxBounds::read(view, uid).map_err(failed)?;
    draft.inbox(InboxSummary {
        uid,
        read: bounds.inbox_state(uid).read,
        removed: bounds.trimmed_through,
        total: bounds.total,
    })
}

/// Returns a message that no inbox holds any more, without its text, and its receiver or group.
fn expiring(key: &[u8]) -> Result<(Message, Scope), EngineError> {
    let parts = record::expiring(key).and_then(|(at, id)| Some((at, record::id_parts(id)?)));
    let (at, (kind, source, msg_id, scope)) = parts.ok_or(Damaged::at(key))?;
    let group = match scope {
        Scope::Inbox(_) => None,
        Scope::Group(group) => Some(group),
    };
    Ok((Message::new(kind, source, group, msg_id, "", at), scope))
}

/// The records that replace everything in a store.
#[derive(Debug, Default)]
pub struct Contents {
    /// All records, except the state and the signing key.
    pub records: BTreeMap<Key, Value>,
    /// The number of the newest text.
    pub last_text: u64,
    /// The newest time that the snapshot has seen, in Unix milliseconds.
    pub latest_time_ms: i64,
    /// Values are encoded here, so that each needs only one allocation of its own size.
    scratch: Vec<u8>,
}

impl From<Snapshot> for Contents {
    fn from(snapshot: Snapshot) -> Self {
        let mut contents = Contents {
            latest_time_ms: snapshot.newest,
            ..Contents::default()
        };
        for (uid, user) in snapshot.users {
            let user = UserRecord {
                name: user.name,
                password_hash: user.password_hash,
            };
            contents.put(record::user_key(uid), &user);
        }
        for InboxSummary {
            uid, read, removed, ..
        } in snapshot.inboxes
        {
            contents.number(record::read_key(uid), read.0);
            contents.number(record::trimmed_through_key(uid), removed.0);
        }
        let mut sent: HashMap<GroupId, Vec<(u64, Vec<Uid>)>> = HashMap::new();
        for stored in snapshot.messages {
            contents.message(stored, &mut sent);
        }
        for group in snapshot.groups {
            let sent = sent.remove(&group.gid).unwrap_or_default();
            contents.group(group, &sent);
        }
        contents
    }
}

impl Contents {
    /// Returns the commit that follows `state` and leaves only these records and the signing key, and how many records
    /// it removes.
    ///
    /// # Errors
    ///
    /// [`EngineError`] when the records that are to be removed can't be read.
    pub fn finish(
        self,
        engine: &Engine,
        state: StateRecord,
    ) -> Result<(PreparedGroupCommit, usize), EngineError> {
        let state = StateRecord {
            last_commit: state.last_commit + 1,
            last_text: self.last_text,
            latest_time_ms: state.latest_time_ms.max(self.latest_time_ms),
            store_id: state.store_id,
        };
        let mut changes = Vec::new();
        let mut freed = 0;
        for found in engine.view().prefix(&[]) {
            let (key, value) = found?;
            if *key != *SIGNING_KEY && *key != *STATE && !self.records.contains_key(&key) {
                freed += value.len();
                changes.push((key, None));
            }
        }
        let removed = changes.len();
        let records = self.records.into_iter();
        changes.extend(records.map(|(key, value)| (key, Some(value))));
        changes.push(state.change());
        let prepared = PreparedGroupCommit {
            state,
            changes,
            deliveries: Vec::new(),
            inboxes: HashMap::new(),
            members: HashMap::new(),
            freed,
            is_all_new: true,
        };
        Ok((prepared, removed))
    }

    fn put<R: Record>(&mut self, key: Key, record: &R) {
        let value = record.seal(&key, &mut self.scratch);
        self.records.insert(key, value);
    }

    /// Adds a number, unless it is 0, which a missing record stands for.
    fn number(&mut self, key: Key, value: i64) {
        if value != 0 {
            self.put(key, &NumberRecord { value });
        }
    }

    /// Adds a message, its id and its entries. The receivers of a message to a group are added to `sent`, with the
    /// number of its text.
    fn message(
        &mut self,
        stored: StoredMessage,
        sent: &mut HashMap<GroupId, Vec<(u64, Vec<Uid>)>>,
    ) {
        let (kind, source, scope, msg_id) = stored.id();
        let id = record::id_key(kind, source, msg_id, scope);
        let StoredMessage {
            message,
            receivers,
            places,
        } = stored;
        if places.is_empty() {
            let key = record::expiring_key(message.sent_at, &id);
            self.put(key, &NumberRecord::default());
        }
        let mut text = 0;
        if let Scope::Group(group) = scope {
            self.last_text += 1;
            text = self.last_text;
            self.text(text, &message, receivers.len(), places.len());
            sent.entry(group).or_default().push((text, receivers));
        }
        self.put(id, &IdRecord { text });
        let entry = EntryRecord {
            message: (text == 0).then(|| message.as_ref().into()),
            text,
            text_sent_at: if text == 0 { 0 } else { message.sent_at },
        };
        for (uid, version) in places {
            self.put(record::inbox_key(uid, version), &entry);
        }
    }

    /// Adds the text of a message to a group. `receivers` users have received it, and `left` inboxes still hold it.
    fn text(&mut self, number: u64, message: &Message, receivers: usize, left: usize) {
        if left == 0 {
            return;
        }
        let receivers = receivers as u64;
        let stored = SharedMessageRecord {
            message: Some(message.into()),
            receivers,
        };
        self.put(record::text_key(number), &stored);
        let gone = receivers - left as u64;
        self.number(record::text_left_key(number), gone.cast_signed());
    }

    /// Adds a group and its memberships. `sent` has the receivers of its messages, in the order of the numbers of their
    /// texts.
    fn group(&mut self, group: Group, sent: &[(u64, Vec<Uid>)]) {
        let Group {
            gid,
            name,
            owner,
            members,
        } = group;
        // The members after each message, with the number of the first text that each has received.
        let mut present: HashMap<Uid, u64> = HashMap::new();
        let mut before: &[Uid] = &[];
        for (text, receivers) in sent {
            for uid in before
                .iter()
                .filter(|uid| receivers.binary_search(uid).is_err())
            {
                if let Some(since) = present.remove(uid) {
                    self.put(
                        record::former_key(*uid, gid, *text),
                        &MemberRecord { since },
                    );
                }
            }
            for uid in receivers {
                present.entry(*uid).or_insert(*text);
            }
            before = receivers;
        }
        let next = self.last_text + 1;
        for &uid in &members {
            let since = present.remove(&uid).unwrap_or(next);
            self.put(record::member_key(gid, uid), &MemberRecord { since });
        }
        for (uid, since) in present {
            self.put(record::former_key(uid, gid, next), &MemberRecord { since });
        }
        self.put(
            record::group_key(gid),
            &GroupRecord {
                name,
                owner: Uid::or_zero(owner),
            },
        );
    }
}
