//! The store: users, groups, inboxes and read marks.
//!
//! Serves the services, which read and write messages and accounts, and the wiring above them, which administers the
//! store as a whole. The interface is three traits, by who uses them:
//!
//! | trait | used by | contents |
//! |---|---|---|
//! | [`MessageStore`] | services | commits, and the pages of inboxes |
//! | [`AccountStore`] | services, admin API | users, groups, the signing key, how far ids have come |
//! | [`StoreAdmin`] | wiring, admin API | what only the process that owns the store can promise: counts, snapshots |
//!
//! [`Store`] is all three; only the wiring names it. There are two implementations: [`MemoryStore`], and with the
//! feature `durable` a store in a folder. Both keep the contract that is tested in `tests/contracts/store`.
//!
//! Every change goes through [`MessageStore::commit`] in a batch, also changes of accounts: a message to a group is
//! ordered with the changes of its members. The writes of the frames that one read of a socket brought are mostly one
//! batch ("One read, one commit" in docs/architecture.md), so that they cost one sync.

mod account;
#[cfg(feature = "durable")]
mod durable;
mod error;
mod file_budget;
mod inbox;
mod ledger;
mod members;
mod memory;
mod message;
mod ordered_id;
mod page_builder;
mod reclaim;
mod retention;
mod snapshot;
mod write;

pub use account::{Group, User};
#[cfg(feature = "durable")]
pub use durable::{
    COMPACTION_STOPPED, CompactError, DurableStore, Findings, Inspection, Item, OpenError,
};
pub use error::{Damage, ReplaceError, StoreError};
pub use file_budget::files;
pub use inbox::{EncodedPage, Entry, InboxState, Page, PageLimit};
pub use ledger::Ledger;
pub use memory::MemoryStore;
pub use message::{Kind, Message};
pub use reclaim::{ReclaimProgress, ReclaimStep};
pub use retention::{KEEP_IDS, Retention, keep_ids_from};
pub use snapshot::{FileError, LoadError, SNAPSHOT_LIMIT, SaveError, Snapshot};
pub use write::{Committed, Rejected, Write, WriteOutcome};

use std::fmt;

use async_trait::async_trait;

use crate::id::{GroupId, Uid, Version};
use message::Scope;

/// Commits writes and reads inboxes. A write that was answered is visible to every read that begins afterwards.
///
/// Several processes can share what stands behind this trait: nothing in it depends on being the only one.
#[async_trait]
pub trait MessageStore: Send + Sync + fmt::Debug {
    /// Does the writes in their order, and answers when all of them are stored.
    ///
    /// Each entry gets the next version of its inbox: from 1, without gaps, in the order of storing. A batch is not a
    /// transaction: writes of other batches may be stored between its own, and a write that is rejected does not keep
    /// the others from being done. The batch may be stored even if the returned future is dropped.
    ///
    /// # Errors
    ///
    /// [`StoreError`] when it is not known whether the batch was stored, or which part of it.
    async fn commit(&self, batch: Vec<Write>) -> Result<Committed, StoreError>;

    /// Returns the entries of an inbox after version `after`, counts them as delivered, and moves the read mark to
    /// `after`.
    ///
    /// The mark never goes back while the process lives. A durable store may keep it in memory until its next commit,
    /// so that a page waits for no disk; a crash may then lose it. An `after` below 0 counts as 0. An `after` beyond
    /// the newest version comes from contents that the store no longer has: it counts as 0 too, and leaves the mark
    /// where it is. If older entries were removed, an `after` before them counts as the newest that was removed; so
    /// `current` is the newest version when none is left.
    ///
    /// # Errors
    ///
    /// [`StoreError`] when the inbox can't be read, and [`StoreError::Closed`] when the store is closing and takes no
    /// mark any more. A mark that waits for free space is no error.
    async fn read_page(
        &self,
        uid: Uid,
        after: Version,
        limit: PageLimit,
    ) -> Result<Page, StoreError>;

    /// Does what [`read_page`](Self::read_page) does, and returns the page as it stands in the answer to a sync. A store may
    /// have its entries in that form already.
    ///
    /// # Errors
    ///
    /// Those of [`read_page`](Self::read_page).
    async fn read_encoded_page(
        &self,
        uid: Uid,
        after: Version,
        limit: PageLimit,
    ) -> Result<EncodedPage, StoreError> {
        let page = self.read_page(uid, after, limit).await?;
        Ok(EncodedPage::new(uid, &page))
    }

    /// Returns the page that a [`read_page`](Self::read_page) would return, without a trace: no read mark moves, and
    /// nothing counts as delivered.
    ///
    /// # Errors
    ///
    /// [`StoreError`] when the inbox can't be read.
    async fn peek(&self, uid: Uid, after: Version, limit: PageLimit) -> Result<Page, StoreError>;

    /// Returns how far an inbox goes, and how far its user has read it. A user who has never received anything has an
    /// empty inbox, registered or not.
    ///
    /// # Errors
    ///
    /// [`StoreError`] when the inbox can't be read.
    async fn inbox_state(&self, uid: Uid) -> Result<InboxState, StoreError>;
}

/// Reads users and groups, and what the server needs to know of its own past: its signing key, and how far its ids have
/// come.
///
/// Several processes can share what stands behind this trait: nothing in it depends on being the only one.
#[async_trait]
pub trait AccountStore: Send + Sync + fmt::Debug {
    /// Returns a registered user, or none if nobody has registered with this id.
    ///
    /// # Errors
    ///
    /// [`StoreError`] when the user can't be read.
    async fn user(&self, uid: Uid) -> Result<Option<User>, StoreError>;

    /// Returns the registered users with ids above `after`, in the order of their ids: the first `limit`.
    ///
    /// # Errors
    ///
    /// [`StoreError`] when one of the users can't be read.
    async fn users(&self, after: Uid, limit: usize) -> Result<Vec<(Uid, User)>, StoreError>;

    /// Returns the groups with ids above `after`, in the order of their ids: the first `limit`.
    ///
    /// # Errors
    ///
    /// [`StoreError`] when one of the groups or its members can't be read.
    async fn groups(&self, after: GroupId, limit: usize) -> Result<Vec<Group>, StoreError>;

    /// Returns the newest time that the store has seen, in Unix milliseconds: of a message, of the creation of a group,
    /// or of [ids](Write::IssuedIds). 0 if it has seen none. New ids have to begin after it, even if the clock was set
    /// back.
    ///
    /// # Errors
    ///
    /// [`StoreError`] when the time can't be read.
    async fn latest_time_ms(&self) -> Result<i64, StoreError>;

    /// Returns the secret that signs tokens. It is random, and never changes.
    ///
    /// # Errors
    ///
    /// [`StoreError`] when the secret can't be read.
    async fn signing_key(&self) -> Result<[u8; 32], StoreError>;
}

/// Administers a store as a whole. These are promises of the one process that owns the store: the counts are those of
/// its run, and a snapshot or a replacement concerns everything that the store holds.
#[async_trait]
pub trait StoreAdmin: Send + Sync + fmt::Debug {
    /// Describes the store for people: `memory`, or the path of a folder.
    fn describe(&self) -> String;

    /// Returns whether the contents outlive the process.
    fn is_durable(&self) -> bool;

    /// Returns why messages can't be stored now for want of room, in words that name the limit; none if there is room.
    ///
    /// May ask the system, so it is not for every request.
    fn shortage(&self) -> Option<String> {
        None
    }

    /// Returns the progress of giving space back to the disk; none if removing gives it back at once.
    fn reclaim_progress(&self) -> Option<ReclaimProgress> {
        None
    }

    /// Resolves when the caller should [clean](Self::clean) the store soon: room has become short, or a removal that
    /// was refused can be tried again. Each occasion resolves one call. Occasions at which nobody waits are merged into
    /// one, which resolves the next call.
    async fn cleaning_due(&self) {
        std::future::pending().await
    }

    /// Returns the counts of all inboxes together.
    fn ledger(&self) -> Ledger;

    /// Returns the counts of the inboxes of users above `after`, by uid: the first `limit` inboxes of which something
    /// was counted. Inboxes restored from a snapshot are omitted until a new message arrives.
    fn ledgers(&self, after: Uid, limit: usize) -> Vec<(Uid, Ledger)>;

    /// Returns the contents as of one moment, except the signing key.
    ///
    /// # Errors
    ///
    /// [`SaveError::TooLarge`] when the snapshot would take more than about `limit` bytes, and [`SaveError::Store`]
    /// when the contents can't be read.
    async fn snapshot(&self, limit: usize) -> Result<Snapshot, SaveError>;

    /// Replaces the contents by a snapshot, as one commit: all of them, or nothing. An empty snapshot leaves a store as
    /// new.
    ///
    /// Writes that were answered before are gone, and those that are answered later are on top of the snapshot. The
    /// signing key stays, and [`latest_time_ms`](AccountStore::latest_time_ms) does not go back.
    ///
    /// # Errors
    ///
    /// [`ReplaceError`] when there is no room for the snapshot, or the store has failed.
    async fn replace(&self, snapshot: Snapshot) -> Result<(), ReplaceError>;

    /// Removes what the store's [`Retention`] lets go at the time `now`, in Unix milliseconds, and returns how many
    /// entries it has removed. Others are served meanwhile.
    ///
    /// Each inbox loses its oldest entries, up to the first that is young enough and not too many. If the returned
    /// future is dropped midway, a part is removed and the next call goes on. If the contents are
    /// [replaced](Self::replace) meanwhile, the cleaning ends and leaves the new contents to the next call.
    ///
    /// # Errors
    ///
    /// [`StoreError`] when the store can't be read or written.
    async fn clean(&self, now: i64) -> Result<u64, StoreError>;

    /// Resolves when the store has failed for good, with the reason. It answers every request with an error from then
    /// on.
    async fn failed(&self) -> StoreError;

    /// Writes everything to where it is kept and gives it up, so that another process can open it. No request is
    /// answered afterwards. Batches that were submitted before and are not stored yet may be refused with
    /// [`StoreError::Closed`]; a part of such a batch may be stored.
    ///
    /// # Errors
    ///
    /// [`StoreError`] when something could not be written.
    async fn close(&self) -> Result<(), StoreError>;
}

/// A whole store, for the wiring: it hands each part of the stack the one trait that the part uses.
pub trait Store: MessageStore + AccountStore + StoreAdmin {}

impl<S: MessageStore + AccountStore + StoreAdmin> Store for S {}
