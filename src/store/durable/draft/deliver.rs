//! Puts messages and acks into inboxes.
//!
//! Serves [`Draft::apply`]. Everything that a write depends on is read before anything is changed, so a write that
//! meets a damaged record changes nothing.

use std::sync::Arc;

use prost::Message as _;

use super::super::engine::EngineError;
use super::super::recent::{CachedMessage, Receivers};
use super::super::record::{
    self, EntryRecord, IdOrder, IdRecord, MemberRecord, Record, SharedMessageRecord,
};
use super::ids::IdPlace;
use super::{Applied, Draft};
use crate::id::{GroupId, MsgId, Uid, Version};
use crate::store::{Kind, Message, Rejected, Scope, WriteOutcome};

impl Draft<'_> {
    /// Puts a message to one user, or an ack, into the user's inbox, unless its id was stored before.
    pub(super) fn put_into_inbox(
        &mut self,
        target: Uid,
        message: Arc<Message>,
        grown_uids: &mut Vec<Uid>,
    ) -> Applied {
        // Looking for the id may fail, so it comes before the first change.
        let Some(place) = self.place_of_id(target, &message)? else {
            return Ok(Ok(WriteOutcome::Duplicate));
        };
        let inbox = &mut self.inbox(target)?.new;
        inbox.bounds.total += 1;
        let version = inbox.bounds.total;
        let order = match place {
            IdPlace::Ordered(number) => {
                inbox.highest_ordered_id = number;
                IdOrder::ORDERED
            }
            IdPlace::Record(key) => {
                let order = IdOrder::after(inbox.highest_ordered_id);
                self.put_id(key);
                order
            }
        };
        self.state.latest_time_ms = self.state.latest_time_ms.max(message.sent_at);
        record::encode_own(&message, order, &mut self.scratch);
        self.put_entry(target, version);
        self.new_messages.push(CachedMessage {
            message,
            receivers: Receivers::One(target),
        });
        grown_uids.push(target);
        Ok(Ok(WriteOutcome::Stored {
            uid: target,
            version,
        }))
    }

    /// Puts a message to a group into the inboxes of all members, unless its id was stored before.
    pub(super) fn put_into_inboxes(
        &mut self,
        message: Arc<Message>,
        grown_uids: &mut Vec<Uid>,
    ) -> Applied {
        let Some(group) = message.group() else {
            return Ok(Err(Rejected::NoSuchGroup));
        };
        let Some(members) = self.members(group)? else {
            return Ok(Err(Rejected::NoSuchGroup));
        };
        if !members.contains(&message.source) {
            return Ok(Err(Rejected::NotAMember));
        }
        let id = record::id_key(
            Kind::Group,
            message.source,
            message.msg_id(),
            Scope::Group(group),
        );
        if self.has::<IdRecord>(&id)? {
            return Ok(Ok(WriteOutcome::Duplicate));
        }
        for &uid in members.iter() {
            self.inbox(uid)?;
        }
        self.state.latest_time_ms = self.state.latest_time_ms.max(message.sent_at);
        self.state.last_shared += 1;
        let shared = self.state.last_shared;
        self.put(id, &IdRecord { shared });
        let stored = SharedMessageRecord {
            message: Some(message.as_ref().into()),
            receivers: members.len() as u64,
        };
        self.put(record::shared_key(shared), &stored);
        let mut entry = EntryRecord {
            shared,
            shared_sent_at: message.sent_at,
            ..EntryRecord::default()
        };
        self.scratch.clear();
        entry.encode_raw(&mut self.scratch);
        for &uid in members.iter() {
            let Some(change) = self.inboxes.get_mut(&uid) else {
                continue;
            };
            let inbox = &mut change.new;
            inbox.bounds.total += 1;
            let version = inbox.bounds.total;
            // Encoded again only for a member whose inbox has another highest ordered id than the one before.
            if entry.ordered_before != inbox.highest_ordered_id {
                entry.ordered_before = inbox.highest_ordered_id;
                self.scratch.clear();
                entry.encode_raw(&mut self.scratch);
            }
            self.put_entry(uid, version);
        }
        grown_uids.extend_from_slice(&members);
        self.new_messages.push(CachedMessage {
            message,
            receivers: Receivers::Members(Arc::clone(&members)),
        });
        Ok(Ok(WriteOutcome::StoredForGroup { receivers: members }))
    }

    /// Puts the entry that is encoded in `scratch` into an inbox.
    fn put_entry(&mut self, uid: Uid, version: Version) {
        let key = record::entry_key(uid, version);
        let value = record::seal(&key, &mut self.scratch);
        self.bytes += key.len() + value.len();
        self.entries.push((key, Some(value)));
    }

    /// Returns whether `uid` has received a message with this id from `source`, alone or as a member of a group.
    pub(super) fn has_received(
        &mut self,
        uid: Uid,
        source: Uid,
        msg_id: MsgId<'_>,
    ) -> Result<bool, EngineError> {
        if self.has_received_alone(uid, source, msg_id)? {
            return Ok(true);
        }
        let prefix = record::id_prefix(Kind::Group, source, msg_id);
        let known = self.prefix(&prefix)?;
        self.lookup_cost += known.len();
        for (key, value) in known {
            let shared = IdRecord::decode_checked(&key, &value)?.shared;
            if self.was_member(record::last_number(&key), uid, shared)? {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Returns whether `uid` was a member of `group` when the shared message with this number was sent to it.
    fn was_member(&mut self, group: GroupId, uid: Uid, number: u64) -> Result<bool, EngineError> {
        // Reads the record of a present member, and makes at least one step of the search for former memberships.
        self.lookup_cost += 2;
        let member: Option<MemberRecord> = self.get(&record::member_key(group, uid))?;
        if member.is_some_and(|member| member.since <= number) {
            return Ok(true);
        }
        let former = self.prefix(&record::former_prefix(uid, group))?;
        self.lookup_cost += former.len();
        for (key, value) in former {
            let until = record::last_number::<i64>(&key).cast_unsigned();
            if (MemberRecord::decode_checked(&key, &value)?.since..until).contains(&number) {
                return Ok(true);
            }
        }
        Ok(false)
    }
}
