//! Gives out everything that a store holds, item by item.
//!
//! Serves `imd store dump`, which prints each item as a line of JSON. What can't be read is left out and reported, so
//! that the rest of a damaged store can still be had.

use serde::Serialize;

use super::super::bounds::InboxBounds;
use super::super::engine::{EngineError, View};
use super::super::kv::Key;
use super::super::reader;
use super::super::record::{self, GroupRecord, Record, UserRecord, tag};
use super::walk::Walk;
use crate::id::{GroupId, Uid, Version};

/// One item of a store.
#[derive(Debug, Serialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum Item {
    /// A registered user, without the password.
    User {
        /// The id of the user.
        uid: Uid,
        /// The name that the user has registered with.
        name: String,
    },
    /// A group.
    Group {
        /// The id of the group, as text: not every reader of JSON holds a number of 64 bits.
        gid: String,
        /// The name that the group was created with.
        name: String,
        /// The ids of the present members.
        members: Vec<Uid>,
    },
    /// An inbox. Its entries follow.
    Inbox {
        /// The user to whom the inbox belongs.
        uid: Uid,
        /// The read mark: the newest version that the user has read.
        read: Version,
        /// The newest version that was removed; 0 if none was.
        removed: Version,
        /// The newest version.
        total: Version,
    },
    /// An entry of an inbox, with the names of the wire.
    #[serde(rename_all = "camelCase")]
    Entry {
        /// The user to whom the inbox belongs.
        uid: Uid,
        /// The position in the inbox.
        version: Version,
        /// `p2p`, `group` or `ack`.
        msg_type: &'static str,
        /// The user who sent the message, or accepted one.
        #[serde(rename = "sourceUID")]
        source_uid: Uid,
        /// The group's id, as text; "0" in a message to one user.
        #[serde(rename = "groupID")]
        group_id: String,
        /// The id of the message, from its sender or made by the server.
        #[serde(rename = "msgID")]
        msg_id: String,
        /// The text of the message.
        msg: String,
        /// When the message was sent: Unix time in milliseconds.
        send_time: i64,
    },
}

/// Gives every item to `item`, or those of the user `only`. Records that are damaged or missing are left out; returns a
/// sentence for each.
///
/// # Errors
///
/// The error that `item` returns; the dump ends then.
pub fn dump<E>(
    view: &View<'_>,
    only: Option<Uid>,
    mut item: impl FnMut(Item) -> Result<(), E>,
) -> Result<Vec<String>, E> {
    let prefixes = match only {
        None => vec![Key::from([])],
        Some(uid) => vec![record::inbox_prefix(uid), record::user_key(uid)],
    };
    let mut problems = Vec::new();
    // The inbox of the last entry, and the version of that.
    let mut inbox = None;
    let walks = prefixes.into_iter().map(|prefix| Walk::new(view, prefix));
    for step in walks.flatten() {
        let (key, value) = match step {
            Ok(record) => record,
            Err(error) => {
                problems.push(error);
                continue;
            }
        };
        let uid = record::first_number(&key);
        let found = match key.first().copied() {
            Some(tag::USER) => user(&key, &value, uid),
            Some(tag::GROUP) => group(view, &key, &value, record::first_number(&key)),
            Some(tag::ENTRY) => {
                let version = record::last_number(&key);
                let last = match inbox {
                    Some((whose, last)) if whose == uid => last,
                    _ => match InboxBounds::read(view, uid) {
                        Ok(bounds) => {
                            item(inbox_item(uid, &bounds))?;
                            bounds.trimmed_through
                        }
                        Err(error) => {
                            problems.push(error.to_string());
                            version - 1
                        }
                    },
                };
                if version != last + 1 {
                    let version = last + 1;
                    problems.push(EngineError::Missing { uid, version }.to_string());
                }
                inbox = Some((uid, version));
                entry(view, &key, &value, uid)
            }
            _ => continue,
        };
        match found {
            Ok(found) => item(found)?,
            Err(error) => problems.push(error.to_string()),
        }
    }
    Ok(problems)
}

fn user(key: &[u8], value: &[u8], uid: Uid) -> Result<Item, EngineError> {
    let name = UserRecord::decode_checked(key, value)?.name;
    Ok(Item::User { uid, name })
}

fn group(view: &View<'_>, key: &[u8], value: &[u8], gid: GroupId) -> Result<Item, EngineError> {
    let name = GroupRecord::decode_checked(key, value)?.name;
    Ok(Item::Group {
        gid: gid.to_string(),
        name,
        members: view.members(gid)?,
    })
}

fn inbox_item(uid: Uid, bounds: &InboxBounds) -> Item {
    Item::Inbox {
        uid,
        read: bounds.read,
        removed: bounds.trimmed_through,
        total: bounds.total,
    }
}

fn entry(view: &View<'_>, key: &[u8], value: &[u8], uid: Uid) -> Result<Item, EngineError> {
    let version = record::last_number(key);
    let message = reader::message(view, key, value)?;
    Ok(Item::Entry {
        uid,
        version,
        msg_type: message.kind.msg_type(),
        source_uid: message.source,
        group_id: GroupId::or_zero(message.group()).to_string(),
        msg_id: message.msg_id().to_string(),
        msg: message.text().to_owned(),
        send_time: message.sent_at,
    })
}
