//! Saves the contents of the store as a snapshot.
//!
//! Serves [`StoreAdmin::snapshot`](crate::store::StoreAdmin::snapshot). No record says who has received a message to a
//! group. The receivers are those who were members when the shared message got its number. A snapshot lists the
//! receivers of each message, so they are found from the memberships here, and [`restore`](super::restore) finds the
//! memberships from the receivers.

use std::sync::Arc;

use hashbrown::HashMap;

use super::bounds::InboxBounds;
use super::engine::{EngineError, View};
use super::lists;
use super::marks::ReadMarks;
use super::record::{
    self, Damaged, EntryRecord, IdRecord, MemberRecord, Record, SharedMessageRecord,
};
use crate::id::{GroupId, Uid, Version};
use crate::store::snapshot::{InboxSummary, SnapshotBuilder};
use crate::store::{Message, SaveError, Scope, Snapshot, StoreError};

/// A membership of a group: the user has received the shared messages from `since` on and before `until`.
struct MembershipPeriod {
    uid: Uid,
    /// The number of the first shared message.
    since: u64,
    /// The number of the first shared message after the membership; the highest number if it has not ended.
    until: u64,
}

/// Returns the contents of a view as a snapshot. `marks` has the read marks that the view lacks.
///
/// # Errors
///
/// [`SaveError`] when the snapshot would take more than about `limit` bytes, or a record can't be read.
pub fn snapshot(view: &View<'_>, marks: &ReadMarks, limit: usize) -> Result<Snapshot, SaveError> {
    let mut builder = SnapshotBuilder::new(limit, view.state().map_err(failed)?.latest_time_ms);
    for found in view.prefix(record::USER_PREFIX) {
        let (key, value) = found.map_err(failed)?;
        let (uid, user) = lists::user(&key, &value).map_err(failed)?;
        builder.user(uid, user)?;
    }
    for found in view.prefix(record::GROUP_PREFIX) {
        let (key, value) = found.map_err(failed)?;
        builder.group(lists::group(view, &key, &value).map_err(failed)?)?;
    }
    let memberships = memberships(view).map_err(failed)?;
    let receivers = |group: GroupId, number: u64| -> Vec<Uid> {
        let of_group = memberships.get(&group).into_iter().flatten();
        of_group
            .filter(|membership| (membership.since..membership.until).contains(&number))
            .map(|membership| membership.uid)
            .collect()
    };
    // The index of each shared message in the snapshot, by its number.
    let mut indexes = HashMap::new();
    for found in view.prefix(record::SHARED_MESSAGE_PREFIX) {
        let (key, value) = found.map_err(failed)?;
        let message = shared_message(&key, &value).map_err(failed)?;
        let number = record::first_number::<i64>(&key).cast_unsigned();
        let group = message.group().unwrap_or_default();
        let receivers = receivers(group, number);
        indexes.insert(number, builder.message(Arc::new(message), receivers)?);
    }
    entries(view, marks, &mut builder, &indexes)?;
    for found in view.prefix(record::EXPIRING_ID_PREFIX) {
        let (key, _) = found.map_err(failed)?;
        let (message, scope) = expiring(&key).map_err(failed)?;
        let receivers = match scope {
            Scope::Inbox(uid) => vec![uid],
            Scope::Group(group) => {
                let (_, id) = record::expiring(&key).unwrap_or_default();
                let id: Option<IdRecord> = view.get(id).map_err(failed)?;
                receivers(group, id.unwrap_or_default().shared)
            }
        };
        builder.message(Arc::new(message), receivers)?;
    }
    Ok(builder.finish())
}

fn failed(error: impl Into<EngineError>) -> SaveError {
    StoreError::from(error.into()).into()
}

/// Returns all memberships, present and former, by group.
fn memberships(view: &View<'_>) -> Result<HashMap<GroupId, Vec<MembershipPeriod>>, EngineError> {
    let mut memberships: HashMap<GroupId, Vec<MembershipPeriod>> = HashMap::new();
    for prefix in [record::MEMBER_PREFIX, record::FORMER_MEMBER_PREFIX] {
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

fn shared_message(key: &[u8], value: &[u8]) -> Result<Message, EngineError> {
    let message = SharedMessageRecord::decode_checked(key, value)?.message;
    let message = message.and_then(|message| message.message());
    Ok(message.ok_or(Damaged::at(key))?)
}

/// Adds the inboxes with their entries, and the messages to one user. `indexes` has the indexes of the messages to
/// groups.
fn entries(
    view: &View<'_>,
    marks: &ReadMarks,
    builder: &mut SnapshotBuilder,
    indexes: &HashMap<u64, usize>,
) -> Result<(), SaveError> {
    let mut last = None;
    for found in view.prefix(record::ENTRY_PREFIX) {
        let (key, value) = found.map_err(failed)?;
        let (uid, version): (Uid, Version) =
            (record::first_number(&key), record::last_number(&key));
        if last != Some(uid) {
            last = Some(uid);
            inbox(view, marks, builder, uid)?;
        }
        let entry = EntryRecord::decode_checked(&key, &value).map_err(failed)?;
        let place = match entry.message {
            Some(message) => {
                let message = message.message().ok_or(Damaged::at(&key)).map_err(failed)?;
                builder.message(Arc::new(message), vec![uid])?
            }
            None => {
                let missing = EngineError::NoSharedMessage(entry.shared);
                *indexes.get(&entry.shared).ok_or(missing).map_err(failed)?
            }
        };
        builder.place(place, uid, version)?;
    }
    // Inboxes without entries have no record that was passed above, except for what retention has removed from them.
    for found in view.prefix(record::TRIMMED_THROUGH_PREFIX) {
        let (key, _) = found.map_err(failed)?;
        let uid = record::first_number(&key);
        let bounds = InboxBounds::read(view, uid).map_err(failed)?;
        if bounds.total == bounds.trimmed_through {
            inbox(view, marks, builder, uid)?;
        }
    }
    Ok(())
}

fn inbox(
    view: &View<'_>,
    marks: &ReadMarks,
    builder: &mut SnapshotBuilder,
    uid: Uid,
) -> Result<(), SaveError> {
    let bounds = InboxBounds::read(view, uid).map_err(failed)?;
    let bounds = bounds.with_mark(marks.get(uid));
    builder.inbox(InboxSummary {
        uid,
        read: bounds.inbox_state(uid).read,
        trimmed_through: bounds.trimmed_through,
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
