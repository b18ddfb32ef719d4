use crate::id::{GroupId, Uid, Version};
use crate::store::Scope;
use hashbrown::{HashMap, HashSet};

use super::{Draft, Ends, SaveError, Snapshot};
use crate::codec::MAX_FRAME;
use crate::phc;
use crate::store::{Entry, Group, Kind, Message, User};
use std::sync::Arc;

/// What a page needs beside one entry, in bytes, and more.
const PAGE: usize = 64;

/// Later than this is no time: ids have 41 bits for it, and need some room beyond.
const LATEST: i64 = (1 << 41) - 366 * 24 * 3_600_000;

/// A snapshot that is taken from outside, item by item: users and groups and inboxes first, then the messages.
pub(super) struct Checked {
    draft: Draft,
    uids: HashSet<Uid>,
    gids: HashSet<GroupId>,
    /// The inboxes, and how many of their entries have come.
    inboxes: HashMap<Uid, (Ends, i64)>,
    places: HashSet<(Uid, Version)>,
    ids: HashSet<(Kind, Uid, Scope, String)>,
}

/// What is wrong with an item.
type Wrong = String;

fn ensure(holds: bool, why: impl FnOnce() -> Wrong) -> Result<(), Wrong> {
    if holds { Ok(()) } else { Err(why()) }
}

fn fits(draft: Result<impl Sized, SaveError>) -> Result<(), Wrong> {
    draft.map(drop).map_err(|error| error.to_string())
}

impl Checked {
    pub fn new(newest: i64) -> Result<Self, Wrong> {
        ensure((0..=LATEST).contains(&newest), || {
            format!("newest: {newest} is no time in milliseconds")
        })?;
        Ok(Checked {
            draft: Draft::new(usize::MAX, newest),
            uids: HashSet::new(),
            gids: HashSet::new(),
            inboxes: HashMap::new(),
            places: HashSet::new(),
            ids: HashSet::new(),
        })
    }

    pub fn user(&mut self, uid: Uid, user: User) -> Result<(), Wrong> {
        positive("uid", uid)?;
        ensure(self.uids.insert(uid), || {
            format!("user {uid} is there twice")
        })?;
        phc::check(&user.password_hash).map_err(|refused| refused.to_string())?;
        fits(self.draft.user(uid, user))
    }

    pub fn group(&mut self, group: Group) -> Result<(), Wrong> {
        let gid = group.gid;
        positive("gid", gid)?;
        ensure(self.gids.insert(gid), || {
            format!("group {gid} is there twice")
        })?;
        let owner = Uid::or_zero(group.owner);
        ensure(owner >= 0, || format!("owner {owner} is negative"))?;
        distinct("members", &group.members)?;
        fits(self.draft.group(group))
    }

    pub fn inbox(&mut self, ends: Ends) -> Result<(), Wrong> {
        let Ends {
            uid,
            read,
            removed,
            total,
        } = ends;
        positive("uid", uid)?;
        let fits_together =
            Version::START <= removed && removed <= read && read <= total && total < Version::MAX;
        ensure(fits_together, || {
            format!("removed {removed}, read {read} and total {total} do not fit together")
        })?;
        let is_new = self.inboxes.insert(uid, (ends, 0)).is_none();
        ensure(is_new, || format!("the inbox of {uid} is there twice"))?;
        fits(self.draft.inbox(ends))
    }

    pub fn message(
        &mut self,
        message: Message,
        receivers: Vec<Uid>,
        places: &[(Uid, Version)],
    ) -> Result<(), Wrong> {
        positive("source", message.source)?;
        ensure(!message.msg_id().0.is_empty(), || "msg_id is empty".into())?;
        let at = message.sent_at;
        ensure(at <= LATEST, || {
            format!("sent_at: {at} is no time in milliseconds")
        })?;
        let got_it = distinct("receivers", &receivers)?;
        let group = message.group();
        let scope = match (message.kind, receivers.as_slice()) {
            (Kind::Group, [_, ..]) => {
                let group = group.unwrap_or_default();
                ensure(self.gids.contains(&group), || {
                    format!("there is no group {group}")
                })?;
                Scope::Group(group)
            }
            (Kind::P2p | Kind::Ack, &[receiver]) if group.is_none() => Scope::Inbox(receiver),
            _ => return Err("receivers and group do not fit the kind".into()),
        };
        let id = (
            message.kind,
            message.source,
            scope,
            message.msg_id().to_string(),
        );
        ensure(self.ids.insert(id), || {
            let (source, msg_id) = (message.source, message.msg_id());
            format!("message {msg_id:?} of {source} to {scope} is there twice")
        })?;
        ensure(!places.is_empty() || message.text().is_empty(), || {
            "a message without a place has no text".into()
        })?;
        let entry = Entry {
            version: Version::MAX,
            message: Arc::new(message),
        };
        let len = entry.wire_len(Uid::MAX);
        ensure(len <= MAX_FRAME - PAGE, || {
            format!("it takes {len} bytes, which fit no page")
        })?;
        for &(uid, version) in places {
            ensure(got_it.contains(&uid), || {
                format!("{uid} did not receive it")
            })?;
            let Some((ends, filled)) = self.inboxes.get_mut(&uid) else {
                return Err(format!("there is no inbox of {uid}"));
            };
            ensure(ends.removed < version && version <= ends.total, || {
                format!("the inbox of {uid} does not have version {version}")
            })?;
            ensure(self.places.insert((uid, version)), || {
                format!("version {version} of the inbox of {uid} is there twice")
            })?;
            *filled += 1;
        }
        let placed = self.draft.message(entry.message, receivers);
        let placed = placed.map_err(|error| error.to_string())?;
        for &(uid, version) in places {
            fits(self.draft.place(placed, uid, version))?;
        }
        Ok(())
    }

    /// The whole, if it is one.
    pub fn finish(self) -> Result<Snapshot, Wrong> {
        for (uid, (ends, filled)) in &self.inboxes {
            let missing = ends.total - ends.removed - filled;
            ensure(missing == 0, || {
                format!("the inbox of {uid} lacks {missing} entries")
            })?;
        }
        Ok(self.draft.finish())
    }
}

fn positive(what: &str, number: impl Into<i64>) -> Result<(), Wrong> {
    let number = number.into();
    ensure(number > 0, || format!("{what} {number} is not positive"))
}

/// These as a set: each is positive, and stands there once.
fn distinct(what: &str, uids: &[Uid]) -> Result<HashSet<Uid>, Wrong> {
    let mut seen = HashSet::with_capacity(uids.len());
    for &uid in uids {
        positive(what, uid)?;
        ensure(seen.insert(uid), || {
            format!("{what}: {uid} stands there twice")
        })?;
    }
    Ok(seen)
}
