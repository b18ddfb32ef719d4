//! Makes the records of a snapshot that replaces everything in the store.
//!
//! Serves the store, which encodes the records before it asks the writer to replace the contents by them.
//!
//! A snapshot has the receivers of each message to a group. The records have the memberships instead: see
//! [`save`](super::save). So the memberships are reconstructed from the receivers here.

use std::collections::BTreeMap;

use hashbrown::HashMap;

use super::draft::PreparedGroupCommit;
use super::engine::{Engine, EngineError, Key, Value};
use super::record::{
    self, EntryRecord, GroupRecord, IdRecord, MemberRecord, NumberRecord, Record, SIGNING_KEY,
    STATE, SharedMessageRecord, StateRecord, UserRecord,
};
use crate::id::{GroupId, Uid};
use crate::store::snapshot::{InboxSummary, StoredMessage};
use crate::store::{Group, Message, Scope, Snapshot};

/// The records that replace everything in a store.
#[derive(Debug, Default)]
pub struct Contents {
    /// All records, except the state and the signing key.
    pub records: BTreeMap<Key, Value>,
    /// The number of the newest shared message.
    pub last_shared: u64,
    /// The newest time that the snapshot has seen, in Unix milliseconds.
    pub latest_time_ms: i64,
    /// See [`StateRecord::highest_recorded_id`].
    highest_recorded_id: i64,
    /// Values are encoded here, so that each needs only one allocation of its own size.
    scratch: Vec<u8>,
}

impl From<Snapshot> for Contents {
    fn from(snapshot: Snapshot) -> Self {
        let mut contents = Contents {
            latest_time_ms: snapshot.latest_time_ms,
            ..Contents::default()
        };
        for (uid, user) in snapshot.users {
            contents.put(record::user_key(uid), &UserRecord::from(user));
        }
        for InboxSummary {
            uid,
            read,
            trimmed_through,
            ..
        } in snapshot.inboxes
        {
            contents.number(record::read_key(uid), read.0);
            contents.number(record::trimmed_through_key(uid), trimmed_through.0);
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
            last_shared: self.last_shared,
            latest_time_ms: state.latest_time_ms.max(self.latest_time_ms),
            store_id: state.store_id,
            highest_recorded_id: self.highest_recorded_id,
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
            new_messages: Vec::new(),
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

    /// Adds a message, its id and its entries. The receivers of a message to a group are added to `sent`, with its
    /// number.
    fn message(
        &mut self,
        stored: StoredMessage,
        sent: &mut HashMap<GroupId, Vec<(u64, Vec<Uid>)>>,
    ) {
        let (kind, source, scope, msg_id) = stored.id();
        let id = record::id_key(kind, source, msg_id, scope);
        let number = record::p2p_number(&id).unwrap_or_default();
        self.highest_recorded_id = self.highest_recorded_id.max(number);
        let StoredMessage {
            message,
            receivers,
            places,
        } = stored;
        if places.is_empty() {
            let key = record::expiring_key(message.sent_at, &id);
            self.put(key, &NumberRecord::default());
        }
        let mut shared = 0;
        if let Scope::Group(group) = scope {
            self.last_shared += 1;
            shared = self.last_shared;
            self.shared_message(shared, &message, receivers.len(), places.len());
            sent.entry(group).or_default().push((shared, receivers));
        }
        self.put(id, &IdRecord { shared });
        let entry = EntryRecord {
            message: (shared == 0).then(|| message.as_ref().into()),
            shared,
            shared_sent_at: if shared == 0 { 0 } else { message.sent_at },
            // Every id gets a record, so none is ordered.
            ..EntryRecord::default()
        };
        for (uid, version) in places {
            self.put(record::entry_key(uid, version), &entry);
        }
    }

    /// Adds a message to a group. `receivers` users have received it, and `left` inboxes still hold it.
    fn shared_message(&mut self, number: u64, message: &Message, receivers: usize, left: usize) {
        if left == 0 {
            return;
        }
        let receivers = receivers as u64;
        let stored = SharedMessageRecord {
            message: Some(message.into()),
            receivers,
        };
        self.put(record::shared_key(number), &stored);
        let removed = receivers - left as u64;
        self.number(record::shared_removed_key(number), removed.cast_signed());
    }

    /// Adds a group and its memberships. `sent` has the receivers of its messages, in the order of their
    /// numbers.
    fn group(&mut self, group: Group, sent: &[(u64, Vec<Uid>)]) {
        let Group {
            gid,
            name,
            owner,
            members,
        } = group;
        // The members after each message, with the number of the first shared message that each has received.
        let mut present: HashMap<Uid, u64> = HashMap::new();
        let mut before: &[Uid] = &[];
        for (number, receivers) in sent {
            for uid in before
                .iter()
                .filter(|uid| receivers.binary_search(uid).is_err())
            {
                if let Some(since) = present.remove(uid) {
                    self.put(
                        record::former_key(*uid, gid, *number),
                        &MemberRecord { since },
                    );
                }
            }
            for uid in receivers {
                present.entry(*uid).or_insert(*number);
            }
            before = receivers;
        }
        let next = self.last_shared + 1;
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
