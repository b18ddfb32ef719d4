//! Checks that the items of a snapshot's file are valid and consistent with each other.
//!
//! Serves the module `lines`. A file may have been written by hand, so nothing in it is trusted: ids are positive and
//! unique, every entry belongs to an inbox and to a message, inboxes have no gaps, and every message fits a page.

use crate::id::{GroupId, Uid, Version};
use crate::store::Scope;
use hashbrown::{HashMap, HashSet};

use super::{InboxSummary, SaveError, Snapshot, SnapshotBuilder};
use crate::codec::MAX_FRAME;
use crate::phc;
use crate::store::{Entry, Group, Kind, Message, User};
use std::sync::Arc;

/// An upper bound of the size of a page with one entry, in bytes, without that entry.
const PAGE_OVERHEAD: usize = 64;

/// The latest time of a snapshot, in Unix milliseconds. Ids have 41 bits for it, and a year of them is left for new
/// ids.
const LATEST_MS: i64 = (1 << 41) - 366 * 24 * 3_600_000;

/// Builds a snapshot from untrusted items. Groups and inboxes have to be added before the messages that refer to them.
pub(super) struct Checked {
    /// The items that have been accepted.
    builder: SnapshotBuilder,
    /// The ids of the users that have been added.
    uids: HashSet<Uid>,
    /// The ids of the groups that have been added.
    gids: HashSet<GroupId>,
    /// The inboxes that have been added, with the number of their entries so far.
    inboxes: HashMap<Uid, (InboxSummary, i64)>,
    /// The entries so far, by inbox and version.
    places: HashSet<(Uid, Version)>,
    /// The identities of the messages so far: see [`StoredMessage::id`](super::StoredMessage::id).
    ids: HashSet<(Kind, Uid, Scope, String)>,
}

/// What is wrong with an item, in words for the user. It never contains the text of a message or a password hash.
type Wrong = String;

/// Checks that a condition holds.
///
/// # Errors
///
/// The text of `why`, when the condition does not hold.
fn ensure(holds: bool, why: impl FnOnce() -> Wrong) -> Result<(), Wrong> {
    if holds { Ok(()) } else { Err(why()) }
}

/// Converts the error of a snapshot that is too large.
fn fits(added: Result<impl Sized, SaveError>) -> Result<(), Wrong> {
    added.map(drop).map_err(|error| error.to_string())
}

impl Checked {
    /// Begins a snapshot whose newest time is `newest`, in Unix milliseconds.
    ///
    /// # Errors
    ///
    /// What is wrong with the time.
    pub fn new(newest: i64) -> Result<Self, Wrong> {
        ensure((0..=LATEST_MS).contains(&newest), || {
            format!("newest: {newest} is no time in milliseconds")
        })?;
        Ok(Checked {
            builder: SnapshotBuilder::new(usize::MAX, newest),
            uids: HashSet::new(),
            gids: HashSet::new(),
            inboxes: HashMap::new(),
            places: HashSet::new(),
            ids: HashSet::new(),
        })
    }

    /// Adds a user.
    ///
    /// # Errors
    ///
    /// What is wrong, when the id is not positive or was added before, or when the password hash could not be verified.
    pub fn user(&mut self, uid: Uid, user: User) -> Result<(), Wrong> {
        positive("uid", uid)?;
        ensure(self.uids.insert(uid), || {
            format!("user {uid} is there twice")
        })?;
        phc::check(&user.password_hash).map_err(|refused| refused.to_string())?;
        fits(self.builder.user(uid, user))
    }

    /// Adds a group.
    ///
    /// # Errors
    ///
    /// What is wrong, when an id is not positive, or the group or a member was added before.
    pub fn group(&mut self, group: Group) -> Result<(), Wrong> {
        let gid = group.gid;
        positive("gid", gid)?;
        ensure(self.gids.insert(gid), || {
            format!("group {gid} is there twice")
        })?;
        let owner = Uid::or_zero(group.owner);
        ensure(owner >= 0, || format!("owner {owner} is negative"))?;
        distinct("members", &group.members)?;
        fits(self.builder.group(group))
    }

    /// Adds an inbox, without its entries.
    ///
    /// # Errors
    ///
    /// What is wrong, when the user has an inbox already, or when the bounds contradict each other.
    pub fn inbox(&mut self, summary: InboxSummary) -> Result<(), Wrong> {
        let InboxSummary {
            uid,
            read,
            trimmed_through: removed,
            total,
        } = summary;
        positive("uid", uid)?;
        let fits_together =
            Version::START <= removed && removed <= read && read <= total && total < Version::MAX;
        ensure(fits_together, || {
            format!("removed {removed}, read {read} and total {total} do not fit together")
        })?;
        let is_new = self.inboxes.insert(uid, (summary, 0)).is_none();
        ensure(is_new, || format!("the inbox of {uid} is there twice"))?;
        fits(self.builder.inbox(summary))
    }

    /// Adds a message, and the entries of inboxes that hold it.
    ///
    /// # Errors
    ///
    /// What is wrong, when the message is not valid or was added before, when it does not fit a page, or when an entry
    /// does not belong to an inbox of a receiver.
    pub fn message(
        &mut self,
        message: Message,
        receivers: Vec<Uid>,
        places: &[(Uid, Version)],
    ) -> Result<(), Wrong> {
        positive("source", message.source)?;
        ensure(!message.msg_id().0.is_empty(), || "msg_id is empty".into())?;
        let at = message.sent_at;
        ensure(at <= LATEST_MS, || {
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
        let len = entry.in_page(Uid::MAX).size();
        ensure(len <= MAX_FRAME - PAGE_OVERHEAD, || {
            format!("it takes {len} bytes, which fit no page")
        })?;
        for &(uid, version) in places {
            ensure(got_it.contains(&uid), || {
                format!("{uid} did not receive it")
            })?;
            let Some((summary, filled)) = self.inboxes.get_mut(&uid) else {
                return Err(format!("there is no inbox of {uid}"));
            };
            ensure(
                summary.trimmed_through < version && version <= summary.total,
                || format!("the inbox of {uid} does not have version {version}"),
            )?;
            ensure(self.places.insert((uid, version)), || {
                format!("version {version} of the inbox of {uid} is there twice")
            })?;
            *filled += 1;
        }
        let placed = self.builder.message(entry.message, receivers);
        let placed = placed.map_err(|error| error.to_string())?;
        for &(uid, version) in places {
            fits(self.builder.place(placed, uid, version))?;
        }
        Ok(())
    }

    /// Returns the snapshot, if every inbox has all its entries.
    ///
    /// # Errors
    ///
    /// Which inbox lacks entries, and how many.
    pub fn finish(self) -> Result<Snapshot, Wrong> {
        for (uid, (summary, filled)) in &self.inboxes {
            let missing = summary.total - summary.trimmed_through - filled;
            ensure(missing == 0, || {
                format!("the inbox of {uid} lacks {missing} entries")
            })?;
        }
        Ok(self.builder.finish())
    }
}

/// Checks that an id is positive. `what` names it in the error.
fn positive(what: &str, number: impl Into<i64>) -> Result<(), Wrong> {
    let number = number.into();
    ensure(number > 0, || format!("{what} {number} is not positive"))
}

/// Checks that ids are positive and occur once each, and returns them as a set. `what` names them in the error.
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
