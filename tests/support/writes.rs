//! Short forms of the writes of a store.
//!
//! Serves the contract suite of the stores and the tests of the durable store. The text of a message follows from its id, so
//! that a test can tell whether a text is whole without having kept it.

use std::sync::Arc;

use imd::id::{GroupId, MsgId, Uid};
use imd::store::{Kind, Message, User, Write};

/// How many members a group may have when users [join](join) it.
pub const MAX_MEMBERS: usize = 2_000;

/// Returns the text of the message with this id.
pub fn text_of(id: &str) -> String {
    format!("text of {id}")
}

/// Returns a message that was sent at the time 1. The `group` is 0 for a message to a user and for an ack.
pub fn message(kind: Kind, source: i64, group: i64, id: &str, text: &str) -> Arc<Message> {
    Arc::new(Message::new(
        kind,
        Uid(source),
        GroupId::nonzero(group),
        MsgId(id),
        text,
        1,
    ))
}

/// Sends a message to a user.
pub fn p2p(source: i64, target: i64, id: &str) -> Write {
    Write::P2p {
        target: Uid(target),
        message: message(Kind::P2p, source, 0, id, &text_of(id)),
    }
}

/// Sends a message to a group.
pub fn to_group(source: i64, group: i64, id: &str) -> Write {
    Write::Group {
        message: message(Kind::Group, source, group, id, &text_of(id)),
    }
}

/// Accepts the message with this id, which the user `target` has sent to the user `by`.
pub fn ack(by: i64, target: i64, id: &str) -> Write {
    Write::Ack {
        target: Uid(target),
        message: message(Kind::Ack, by, 0, id, ""),
    }
}

/// Registers a user with the name `user N` and the password hash `hash`.
pub fn register(uid: i64) -> Write {
    let user = User {
        name: format!("user {uid}"),
        password_hash: "hash".into(),
    };
    Write::Register {
        uid: Uid(uid),
        user,
    }
}

/// Creates the group `team`, whose only member is its owner.
pub fn create(group: i64, owner: i64) -> Write {
    Write::CreateGroup {
        group: GroupId(group),
        name: "team".into(),
        owner: Uid(owner),
        members: Vec::new(),
        made_at: 1,
    }
}

/// Adds a user to a group.
pub fn join(group: i64, uid: i64) -> Write {
    Write::Join {
        group: GroupId(group),
        uids: vec![Uid(uid)],
        max_members: MAX_MEMBERS,
    }
}

/// Removes a user from a group.
pub fn quit(group: i64, uid: i64) -> Write {
    Write::Quit {
        group: GroupId(group),
        uid: Uid(uid),
    }
}
