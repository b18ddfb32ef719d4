//! Users, groups, inboxes and read marks.
//!
//! Everything that changes what is stored goes through [`Store::commit`] as a batch: one hand-over for all that one
//! read of a socket brought, so that a durable store can write and sync many batches as one.

#[cfg(feature = "durable")]
mod durable;
mod error;
mod files;
mod members;
mod memory;
mod snapshot;

#[cfg(feature = "durable")]
pub use durable::{CompactError, DurableStore, Findings, Inspection, Item, OpenError};
pub use error::{Damage, StoreError};
pub use files::files;
pub use memory::MemoryStore;
pub use snapshot::{FileError, LoadError, SNAPSHOT_LIMIT, SaveError, Snapshot};

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use crate::config;
use crate::id::{GroupId, MsgId, Uid, Version};
use crate::proto::fields::{Fields, number_len, prefixed_len, text_len};
use async_trait::async_trait;

/// What an inbox entry is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Kind {
    /// From one user to another.
    P2p,
    /// To a group.
    Group,
    /// A receiver has accepted a message.
    Ack,
}

impl Kind {
    /// The msgType on the wire.
    pub const fn msg_type(self) -> &'static str {
        match self {
            Kind::P2p => "p2p",
            Kind::Group => "group",
            Kind::Ack => "ack",
        }
    }
}

/// Where a sender's message id may be used once.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
enum Scope {
    /// The inbox of a user, for messages and acks to that user.
    Inbox(Uid),
    /// A group, for the messages to it.
    Group(GroupId),
}

impl Scope {
    /// Returns the number of the user or of the group.
    fn number(self) -> i64 {
        match self {
            Scope::Inbox(Uid(number)) | Scope::Group(GroupId(number)) => number,
        }
    }
}

impl fmt::Display for Scope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.number().fmt(f)
    }
}

/// A message as it is stored: once, whatever the number of its receivers.
#[derive(Clone, PartialEq, Eq)]
pub struct Message {
    /// What it is.
    pub kind: Kind,
    /// Who sent it; for an ack, who accepted.
    pub source: Uid,
    /// The group's number, or 0: what is kept of a message in memory is kept small.
    group: i64,
    /// When it was sent: Unix time in milliseconds.
    pub sent_at: i64,
    /// Its id and its text, in one piece: what is kept of a message in memory is mostly this, and what surrounds it.
    words: Box<str>,
    /// Where the text begins.
    text_at: u32,
}

impl Message {
    /// A message; its fields and methods say what the arguments are.
    pub fn new(
        kind: Kind,
        source: Uid,
        group: Option<GroupId>,
        msg_id: MsgId<'_>,
        text: &str,
        sent_at: i64,
    ) -> Self {
        Message {
            kind,
            source,
            group: GroupId::or_zero(group),
            sent_at,
            words: [msg_id.0, text].concat().into(),
            text_at: u32::try_from(msg_id.0.len()).unwrap_or(u32::MAX),
        }
    }

    /// Returns the group that the message was sent to; none for a message to one user.
    pub fn group(&self) -> Option<GroupId> {
        GroupId::nonzero(self.group)
    }

    /// Makes the message say nothing of its group.
    pub fn clear_group(&mut self) {
        self.group = 0;
    }

    /// The sender's id for it. Never empty.
    pub fn msg_id(&self) -> MsgId<'_> {
        MsgId(self.split().0)
    }

    /// The text; empty in an ack.
    pub fn text(&self) -> &str {
        self.split().1
    }

    /// The same message with another text.
    #[must_use]
    pub fn with_text(&self, text: &str) -> Self {
        let Message {
            kind,
            source,
            sent_at,
            ..
        } = *self;
        Message::new(kind, source, self.group(), self.msg_id(), text, sent_at)
    }

    /// Its id and its text.
    fn split(&self) -> (&str, &str) {
        let text_at = usize::try_from(self.text_at).unwrap_or(usize::MAX);
        self.words
            .split_at_checked(text_at)
            .unwrap_or((&self.words, ""))
    }
}

/// Without the text, which must not reach a log.
impl fmt::Debug for Message {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Message")
            .field("kind", &self.kind)
            .field("source", &self.source)
            .field("group", &self.group)
            .field("msg_id", &self.msg_id())
            .field("bytes", &self.text().len())
            .finish_non_exhaustive()
    }
}

/// A registered user.
#[derive(Clone, PartialEq, Eq)]
pub struct User {
    /// Any text.
    pub name: String,
    /// The password's hash, in PHC form.
    pub password_hash: String,
}

/// Without the hash.
impl fmt::Debug for User {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("User")
            .field("name", &self.name)
            .finish_non_exhaustive()
    }
}

/// A group.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Group {
    /// Its id.
    pub gid: GroupId,
    /// Any text.
    pub name: String,
    /// Who created it, still a member or not; none where a group was stored before owners were.
    pub owner: Option<Uid>,
    /// Its members, by uid.
    pub members: Vec<Uid>,
}

/// One change.
#[derive(Debug, Clone)]
pub enum Write {
    /// A message of kind p2p into one inbox, unless this (source, target, msgID) is there already.
    P2p {
        /// The receiver.
        target: Uid,
        /// The message.
        message: Arc<Message>,
    },
    /// A message of kind group into the inbox of every member of `message.group`, unless this (source, group, msgID)
    /// is there already.
    Group {
        /// The message.
        message: Arc<Message>,
    },
    /// An entry of kind ack into the inbox of `target`, once, if `message.source` got a message `message.msg_id` from
    /// `target`.
    Ack {
        /// Who sent what is accepted.
        target: Uid,
        /// The entry.
        message: Arc<Message>,
    },
    /// A new user.
    Register {
        /// The user's id.
        uid: Uid,
        /// What is known of them.
        user: User,
    },
    /// A new group with all its members, or no group.
    CreateGroup {
        /// The group's id, not used before.
        group: GroupId,
        /// Any text.
        name: String,
        /// The first member.
        owner: Uid,
        /// The other members. One that stands here twice, or is the owner, is a member once.
        members: Vec<Uid>,
        /// When it was made: Unix time in milliseconds.
        made_at: i64,
    },
    /// New members: all of them, or none. Joining twice is no error.
    Join {
        /// The group.
        group: GroupId,
        /// Who joins.
        uids: Vec<Uid>,
        /// How many members the group may have.
        most: usize,
    },
    /// A member leaves. What they got stays in their inbox. Quitting twice is no error.
    Quit {
        /// The group.
        group: GroupId,
        /// Who leaves.
        uid: Uid,
    },
    /// A read mark moves forward, as with a [`Store::sync`] from there that comes with other writes: what stands here
    /// need not be stored once more.
    Read {
        /// Whose.
        uid: Uid,
        /// The version that was read last.
        after: Version,
    },
    /// Ids were given out up to this time, also where the clock is behind it: what [`Store::newest`] has to know.
    Ids {
        /// Unix time in milliseconds.
        reached: i64,
    },
}

/// Why one write of a batch was not done. The others of the batch are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Rejected {
    /// The user id is taken.
    #[error("the user exists already")]
    UserExists,
    /// The group's id is taken.
    #[error("the group exists already")]
    GroupExists,
    /// There is no such group.
    #[error("there is no such group")]
    NoSuchGroup,
    /// Only members may send to a group.
    #[error("the sender is no member of the group")]
    NotAMember,
    /// The group has as many members as it may have.
    #[error("the group is full")]
    GroupFull,
    /// The receiver never got this message.
    #[error("there is no such message")]
    NoSuchMessage,
    /// There is no room left in memory.
    #[error("the store is full: there is no room for this below store.memory_limit")]
    Full,
    /// There is no room left on the disk.
    #[error("the store is full: its disk has less room left than store.min_free asks for")]
    DiskFull,
    /// What the write depends on can't be read: it is damaged, or the disk does not give it.
    #[error("what is stored can't be read")]
    Unreadable,
}

/// Why the contents of a store were not replaced. Nothing has changed then.
#[derive(Debug, Clone, thiserror::Error)]
pub enum ReplaceError {
    /// There is no room for what should come.
    #[error("the store has no room for it")]
    Full,
    /// The store has failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// How far an inbox goes and how far its user has read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Level {
    /// Whose inbox.
    pub uid: Uid,
    /// The read mark, or the last entry that was removed: nothing up to here is still to come.
    pub read: Version,
    /// The newest version.
    pub total: Version,
}

/// What has become of a batch.
#[derive(Debug)]
pub struct Committed {
    /// One for each write, in their order. A message that was there already counts as done.
    pub results: Vec<Result<(), Rejected>>,
    /// The inboxes that have grown. One may stand here several times; the highest total holds.
    pub grown: Vec<Level>,
}

/// An entry of an inbox.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// Its place in the inbox: from 1, without gaps.
    pub version: Version,
    /// What it holds.
    pub message: Arc<Message>,
}

impl Entry {
    /// The field of a `ResSyncMsg` that entries stand in.
    const TAG: u32 = 6;

    /// How many bytes this entry takes in a `ResSyncMsg` to `uid`: an offsetMsg with its field header.
    pub fn wire_len(&self, uid: Uid) -> usize {
        prefixed_len(Self::TAG, self.body_len(uid))
    }

    fn body_len(&self, uid: Uid) -> usize {
        let message = &self.message;
        number_len(1, message.source.0)
            + number_len(2, uid.0)
            + number_len(3, message.group)
            + text_len(4, message.kind.msg_type())
            + text_len(5, message.msg_id().0)
            + text_len(6, message.text())
            + number_len(7, self.version.0)
            + number_len(8, message.sent_at)
    }

    /// Appends this entry to a `ResSyncMsg` to `uid`.
    pub fn write(&self, uid: Uid, fields: &mut Fields<'_>) {
        let message = &self.message;
        fields.prefix(Self::TAG, self.body_len(uid));
        fields.number(1, message.source.0);
        fields.number(2, uid.0);
        fields.number(3, message.group);
        fields.text(4, message.kind.msg_type());
        fields.text(5, message.msg_id().0);
        fields.text(6, message.text());
        fields.number(7, self.version.0);
        fields.number(8, message.sent_at);
    }
}

/// How much a page may hold.
#[derive(Debug, Clone, Copy)]
pub struct PageLimit {
    /// Entries; 0 for as many as fit.
    pub entries: usize,
    /// Bytes, as [`Entry::wire_len`] counts them.
    pub bytes: usize,
}

/// A piece of an inbox, oldest first.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Page {
    /// The entries.
    pub entries: Vec<Entry>,
    /// The version of the last one; where there is none, how far the reader is.
    pub current: Version,
    /// The newest version of the inbox.
    pub total: Version,
}

/// What is kept, and for how long. Without limits, everything for ever.
///
/// What is removed leaves its version number behind: the inbox then begins at the oldest entry left. A sender's message
/// id is remembered for as long as its message, and for [`KEEP_IDS`] at least.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Retention {
    /// Entries older than this are removed.
    pub keep: Option<Duration>,
    /// So many entries of an inbox are kept: the newest.
    pub max_inbox: Option<u64>,
}

impl From<&config::Store> for Retention {
    fn from(config: &config::Store) -> Self {
        Retention {
            keep: config.keep,
            max_inbox: config.max_inbox,
        }
    }
}

impl Retention {
    /// Whether nothing is ever removed.
    pub fn is_off(&self) -> bool {
        *self == Retention::default()
    }

    /// At Unix time `now`, entries sent before this are too old; all times in milliseconds.
    pub fn keep_from(&self, now: i64) -> i64 {
        self.keep.map_or(i64::MIN, |keep| before(now, keep))
    }
}

/// For so long the id of a message is remembered, also when the message itself is removed earlier.
pub const KEEP_IDS: Duration = Duration::from_secs(24 * 3600);

/// At Unix time `now`, the ids of messages sent before this are forgotten with their message; in milliseconds.
pub fn keep_ids_from(now: i64) -> i64 {
    before(now, KEEP_IDS)
}

fn before(now: i64, by: Duration) -> i64 {
    now.saturating_sub(i64::try_from(by.as_millis()).unwrap_or(i64::MAX))
}

/// What became of the messages of this run, one count for each receiver of each. It begins anew when the contents are
/// [replaced](Store::replace).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Ledger {
    /// Entries in inboxes.
    pub stored: u64,
    /// Of these, entries that stood in a page. One that was skipped in favour of newer ones, and read afterwards, is not
    /// counted.
    pub delivered: u64,
    /// Of these, entries that were removed before they or newer ones of their inbox stood in a page.
    pub removed: u64,
}

impl Ledger {
    /// Entries that are still to come.
    pub fn pending(&self) -> u64 {
        self.stored.saturating_sub(self.delivered + self.removed)
    }
}

/// What a store does to give the room of removed records back to the disk.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Reclaim {
    /// What is being done now.
    pub doing: Doing,
    /// Bytes that can be given back, as an estimate of the last look. A look follows each cleaning, and the moment in which
    /// room gets short.
    pub reclaimable: u64,
    /// Bytes that were given back since the store was opened.
    pub reclaimed: u64,
}

/// A step of giving room back.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Doing {
    /// There is nothing that is worth the effort.
    #[default]
    Idle,
    /// What is in memory is written, so that its journal can go.
    Sealing,
    /// Tables are merged, without what was removed.
    Compacting,
    /// It can be given back, but not now: a merge needs more room than there is, or has failed, or the engine has given up.
    Waiting,
}

impl Doing {
    /// All of them.
    pub const ALL: [Doing; 4] = [
        Doing::Idle,
        Doing::Sealing,
        Doing::Compacting,
        Doing::Waiting,
    ];

    /// Its name in `/readyz`, in metrics and in the log.
    pub fn as_str(self) -> &'static str {
        match self {
            Doing::Idle => "idle",
            Doing::Sealing => "sealing",
            Doing::Compacting => "compacting",
            Doing::Waiting => "waiting",
        }
    }
}

/// Where everything is kept. All that a write answers is true for every read after it.
#[async_trait]
pub trait Store: Send + Sync + fmt::Debug {
    /// What this store is, for people: `memory`.
    fn describe(&self) -> String;

    /// Whether what it holds outlives the process.
    fn is_durable(&self) -> bool;

    /// What there is too little of to store messages now, in words that name the limit; none where there is enough. Asks
    /// the system where it has to.
    fn shortage(&self) -> Option<String> {
        None
    }

    /// What is being done to give room back to the disk; none where removing gives it back at once.
    fn reclaim(&self) -> Option<Reclaim> {
        None
    }

    /// Resolves when the store has come to have too little room, once each time: then it should be
    /// [cleaned](Self::clean) soon.
    async fn short(&self) {
        std::future::pending().await
    }

    /// Does the writes in their order, and answers when all of them are stored.
    ///
    /// Versions are given here: per inbox from 1, without gaps, in the order of storing.
    ///
    /// # Errors
    ///
    /// [`StoreError`] when it is not known whether the batch was stored.
    async fn commit(&self, batch: Vec<Write>) -> Result<Committed, StoreError>;

    /// The entries of an inbox after version `after`, and sets the read mark to `after`.
    ///
    /// The mark never goes back. An `after` below 0 counts as 0; one beyond the newest version counts as 0 too and
    /// leaves the mark alone, since it comes from another life of the store. Where old entries were removed, an `after`
    /// before them counts as the last of them; so `current` is the newest version when none is left.
    ///
    /// # Errors
    ///
    /// [`StoreError`]
    async fn sync(&self, uid: Uid, after: Version, limit: PageLimit) -> Result<Page, StoreError>;

    /// How far the inbox of `uid` goes.
    ///
    /// # Errors
    ///
    /// [`StoreError`]
    async fn level(&self, uid: Uid) -> Result<Level, StoreError>;

    /// A registered user.
    ///
    /// # Errors
    ///
    /// [`StoreError`]
    async fn user(&self, uid: Uid) -> Result<Option<User>, StoreError>;

    /// The same entries as a [`sync`](Self::sync) would answer, without a trace: no read mark moves, and nothing counts as
    /// delivered.
    ///
    /// # Errors
    ///
    /// [`StoreError`]
    async fn peek(&self, uid: Uid, after: Version, limit: PageLimit) -> Result<Page, StoreError>;

    /// The registered users above uid `after`, by uid, at most so many.
    ///
    /// # Errors
    ///
    /// [`StoreError`]
    async fn users(&self, after: Uid, most: usize) -> Result<Vec<(Uid, User)>, StoreError>;

    /// The groups above id `after`, by id, at most so many.
    ///
    /// # Errors
    ///
    /// [`StoreError`]
    async fn groups(&self, after: GroupId, most: usize) -> Result<Vec<Group>, StoreError>;

    /// The newest time at which a message was sent or a group was made, or that [ids](Write::Ids) have reached: Unix time in
    /// milliseconds, 0 where there was none. Ids have to begin after it, also when the clock was set back.
    ///
    /// # Errors
    ///
    /// [`StoreError`]
    async fn newest(&self) -> Result<i64, StoreError>;

    /// The secret that signs tokens; the same for as long as the store lives.
    ///
    /// # Errors
    ///
    /// [`StoreError`]
    async fn signing_key(&self) -> Result<[u8; 32], StoreError>;

    /// What became of the messages so far.
    fn ledger(&self) -> Ledger;

    /// The same for the inboxes above uid `after`, by uid: the first so many of which something was counted. Nothing is of
    /// an inbox that was loaded, until it grows.
    fn ledgers(&self, after: Uid, most: usize) -> Vec<(Uid, Ledger)>;

    /// Everything as of one moment, but for the signing key.
    ///
    /// # Errors
    ///
    /// When it would take more than about `limit` bytes, or can't be read.
    async fn snapshot(&self, limit: usize) -> Result<Snapshot, SaveError>;

    /// Replaces everything by a snapshot, as one commit: all of it, or nothing. What was committed before is gone, what
    /// is committed afterwards is on top of it. An empty one is a store as new.
    ///
    /// What outlives it: the signing key, and [`newest`](Self::newest), which never goes back.
    ///
    /// # Errors
    ///
    /// [`ReplaceError`]
    async fn replace(&self, snapshot: Snapshot) -> Result<(), ReplaceError>;

    /// Removes what the store's [`Retention`] lets go at Unix time `now`, in milliseconds. Others are served meanwhile.
    ///
    /// In each inbox it goes from the oldest entry on, and ends at the first that is young enough and not too many.
    /// Answers how many entries it removed. Dropped midway, it has removed a part, and the next call goes on. It ends where
    /// all is [replaced](Self::replace) meanwhile, and leaves the new contents to the next call.
    ///
    /// # Errors
    ///
    /// [`StoreError`]
    async fn clean(&self, now: i64) -> Result<u64, StoreError>;

    /// Resolves when the store has failed for good, and says why: it answers nothing from then on.
    async fn failed(&self) -> StoreError;

    /// Brings everything to where it is kept, and lets go of it: another may open it now. Nothing is answered
    /// afterwards.
    ///
    /// # Errors
    ///
    /// [`StoreError`]
    async fn close(&self) -> Result<(), StoreError>;
}
