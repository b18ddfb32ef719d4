//! `[[user]]` and `[[group]]`: the users and groups that a stack starts with.

use std::collections::HashSet;

use serde::{Deserialize, Serialize};

use super::Secret;
use super::error::{Invalid, ensure};

/// `[[user]]`: a user who is registered at the start, unless the store has that user already.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct User {
    /// The UID, more than 0; no two tables have the same.
    pub uid: i64,
    /// The name that the HTTP API shows. It may be empty, and need not be unique.
    #[serde(default)]
    pub name: String,
    /// The password that the user logs in with over HTTP. It may be empty.
    #[serde(default)]
    pub pw: Secret,
}

/// `[[group]]`: a group that exists at the start, with at least these members.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Group {
    /// The group's id, more than 0; no two tables have the same.
    pub gid: i64,
    /// The name that the HTTP API shows. It may be empty, and need not be unique.
    #[serde(default)]
    pub name: String,
    /// The UIDs of the members. The first one counts as the group's creator.
    pub members: Vec<i64>,
}

/// Checks the users and groups of a config. A group may have `max_members` members, and a name or a password `max_text`
/// bytes.
///
/// # Errors
///
/// The first wrong value, with its key.
pub(super) fn check(
    users: &[User],
    groups: &[Group],
    max_members: usize,
    max_text: usize,
) -> Result<(), Invalid> {
    check_users(users, max_text)?;
    check_groups(groups, max_members, max_text)
}

fn check_text(key: &str, text: &str, limit: usize) -> Result<(), Invalid> {
    ensure(text.len() <= limit, key, || {
        format!("has {} bytes, and http.body is {limit}", text.len())
    })
}

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
