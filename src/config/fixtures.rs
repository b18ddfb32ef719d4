//! `[[user]]` and `[[group]]`: the users and groups that are created when a stack starts.
//!
//! Serves tests and demonstrations, which need the same users at every start. The stack creates only what its store
//! does not have yet, so a config can be used again with a store that was kept.

use std::collections::HashSet;

use serde::{Deserialize, Serialize};

use super::Secret;
use super::error::{Invalid, ensure};

/// A table `[[user]]`: a user who is registered at the start, unless the store has that user already.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct User {
    /// The user's id, more than 0. No two tables of a config have the same one.
    pub uid: i64,
    /// The name that the store keeps for the user. It may be empty, and need not be unique.
    #[serde(default)]
    pub name: String,
    /// The password for `/x/user/auth`, which may be empty. The store keeps a hash of it.
    #[serde(default)]
    pub pw: Secret,
}

/// A table `[[group]]`: a group that exists after the start, with at least these members.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Group {
    /// The group's id, more than 0. No two tables of a config have the same one.
    pub gid: i64,
    /// The name that the store keeps for the group. It may be empty, and need not be unique.
    #[serde(default)]
    pub name: String,
    /// The ids of the members, at least one. The first member is recorded as the group's creator.
    pub members: Vec<i64>,
}

/// Checks the users and groups of a config. A group may have up to `max_members` members, and a name or a password up
/// to `max_text` bytes.
///
/// # Errors
///
/// The first value that is wrong: its key, and a message that says what is wrong.
pub(super) fn check(
    users: &[User],
    groups: &[Group],
    max_members: usize,
    max_text: usize,
) -> Result<(), Invalid> {
    check_users(users, max_text)?;
    check_groups(groups, max_members, max_text)
}

/// Checks that a text is not longer than `limit` bytes, which is what a request of the HTTP API could carry.
fn check_text(key: &str, text: &str, limit: usize) -> Result<(), Invalid> {
    ensure(text.len() <= limit, key, || {
        format!("has {} bytes, and http.body is {limit}", text.len())
    })
}

/// Checks the tables `[[user]]`: ids are positive and unique, and texts are not too long.
fn check_users(users: &[User], max_text: usize) -> Result<(), Invalid> {
    let mut uids = HashSet::new();
    for user in users {
        let uid = user.uid;
        ensure(uid > 0, "user.uid", || format!("{uid} is not positive"))?;
        ensure(uids.insert(uid), "user.uid", || {
            format!("{uid} stands there twice")
        })?;
        check_text("user.name", &user.name, max_text)?;
        check_text("user.pw", user.pw.expose(), max_text)?;
    }
    Ok(())
}

/// Checks the tables `[[group]]`: ids are positive and unique, names are not too long, and there are members but not
/// too many.
fn check_groups(groups: &[Group], max_members: usize, max_text: usize) -> Result<(), Invalid> {
    let mut gids = HashSet::new();
    for group in groups {
        let gid = group.gid;
        ensure(gid > 0, "group.gid", || format!("{gid} is not positive"))?;
        ensure(gids.insert(gid), "group.gid", || {
            format!("{gid} stands there twice")
        })?;
        check_text("group.name", &group.name, max_text)?;
        let wrong = group.members.iter().find(|&&uid| uid <= 0);
        ensure(wrong.is_none(), "group.members", || {
            format!("{} is not positive", wrong.copied().unwrap_or_default())
        })?;
        let count = group.members.len();
        ensure(count > 0, "group.members", || {
            "a group has at least one".into()
        })?;
        ensure(count <= max_members, "group.members", || {
            format!("has {count}, and limits.group_members is {max_members}")
        })?;
    }
    Ok(())
}
