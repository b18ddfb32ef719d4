use std::collections::HashSet;

use serde::{Deserialize, Serialize};

use super::Secret;
use super::error::Invalid;
use super::validate::ensure;

/// `[[user]]`: someone who is registered at the start, unless the store knows them already.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct User {
    /// The UID.
    pub uid: i64,
    /// Any text.
    #[serde(default)]
    pub name: String,
    /// The password; may be empty.
    #[serde(default)]
    pub pw: Secret,
}

/// `[[group]]`: a group that is there at the start, with at least these members.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Group {
    /// Its id.
    pub gid: i64,
    /// Any text.
    #[serde(default)]
    pub name: String,
    /// Its members; the first one has made it.
    pub members: Vec<i64>,
}

/// Checks both. A group has at most `most` members, a name or a password at most `text` bytes.
pub(super) fn check(
    users: &[User],
    groups: &[Group],
    most: usize,
    text: usize,
) -> Result<(), Invalid> {
    let check_text = |key: &str, found: &str| {
        ensure(found.len() <= text, key, || {
            format!("has {} bytes, and http.body is {text}", found.len())
        })
    };
    let mut uids = HashSet::new();
    for user in users {
        let uid = user.uid;
        ensure(uid > 0, "user.uid", || format!("{uid} is not positive"))?;
        ensure(uids.insert(uid), "user.uid", || {
            format!("{uid} stands there twice")
        })?;
        check_text("user.name", &user.name)?;
        check_text("user.pw", user.pw.expose())?;
    }
    let mut gids = HashSet::new();
    for group in groups {
        let gid = group.gid;
        ensure(gid > 0, "group.gid", || format!("{gid} is not positive"))?;
        ensure(gids.insert(gid), "group.gid", || {
            format!("{gid} stands there twice")
        })?;
        check_text("group.name", &group.name)?;
        let wrong = group.members.iter().find(|&&uid| uid <= 0);
        ensure(wrong.is_none(), "group.members", || {
            format!("{} is not positive", wrong.copied().unwrap_or_default())
        })?;
        let count = group.members.len();
        ensure(count > 0, "group.members", || {
            "a group has at least one".into()
        })?;
        ensure(count <= most, "group.members", || {
            format!("has {count}, and limits.group_members is {most}")
        })?;
    }
    Ok(())
}
