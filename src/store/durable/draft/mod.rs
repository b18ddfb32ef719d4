//! What one commit will change: the writes are done here, on the last state and what the draft has changed already, and
//! become one batch of the engine.

mod groups;

use std::collections::BTreeMap;
use std::mem;
use std::ops::Bound;
use std::sync::Arc;

use hashbrown::HashMap;
use hashbrown::hash_map::Entry::{Occupied, Vacant};
use parking_lot::Mutex;
use prost::Message as _;
use quick_cache::Weighter;
use quick_cache::unsync::Cache;

use super::engine::{Change, EngineError, Key, Value, View};
use super::recent::{Delivery, Receivers, Recent};
use super::record::{
    self, Damaged, EntryRecord, GroupRecord, IdRecord, MemberRecord, MessageRecord, NumberRecord,
    Record, StateRecord, TextRecord, UserRecord,
};
use crate::id::{GroupId, MsgId, Uid, Version};
use crate::store::members::{Members, members_of};
use crate::store::{Kind, Level, Message, Rejected, Scope, Write, WriteOutcome, keep_ids_from};

/// Groups whose members are remembered, as a guess.
const GROUPS: usize = 65_536;

/// Their members, in all.
const MEMBERS: u64 = 1 << 20;

/// The ends of an inbox.
#[derive(Debug, Clone, Copy, Default)]
pub struct Head {
    /// The newest version.
    pub total: Version,
    /// The read mark.
    pub read: Version,
    /// The last version that was removed.
    pub cut: Version,
}

impl Head {
    /// Reads the ends of an inbox.
    ///
    /// # Errors
    ///
    /// When they can't be read.
    pub fn read(view: &View<'_>, uid: Uid) -> Result<Head, EngineError> {
        let number = |key: &[u8]| {
            let stored: Option<NumberRecord> = view.get(key)?;
            Ok::<_, EngineError>(Version(stored.map_or(0, |number| number.value)))
        };
        let cut = number(&record::cut_key(uid))?;
        let (first, last) = (
            record::inbox_key(uid, Version::START),
            record::inbox_key(uid, Version::MAX),
        );
        let newest = view.range(&first, &last).next_back().transpose()?;
        Ok(Head {
            total: newest.map_or(cut, |(key, _)| record::last_number(&key)),
            read: number(&record::read_key(uid))?,
            cut,
        })
    }

    /// The same for a client.
    pub fn level(self, uid: Uid) -> Level {
        Level {
            uid,
            read: self.read.max(self.cut),
            total: self.total,
        }
    }
}

/// The ends of an inbox that a commit has to do with.
#[derive(Debug, Clone, Copy)]
pub struct Touched {
    /// As the last commit left them.
    pub before: Head,
    /// As this one will.
    pub now: Head,
}

/// The groups that the writer need not read again, as the last commit left them.
#[derive(Debug)]
pub struct Remembered {
    members: Cache<GroupId, Members, ByMembers>,
}

#[derive(Debug, Clone)]
struct ByMembers;

impl Weighter<GroupId, Members> for ByMembers {
    fn weight(&self, _: &GroupId, members: &Members) -> u64 {
        1 + members.len() as u64
    }
}

impl Default for Remembered {
    fn default() -> Self {
        Remembered {
            members: Cache::with_weighter(GROUPS, MEMBERS, ByMembers),
        }
    }
}

/// The next commit, in the making.
pub struct Draft<'a> {
    view: View<'a>,
    recent: &'a Mutex<Recent>,
    remembered: &'a mut Remembered,
    state: StateRecord,
    /// The state that the last commit has left.
    before: StateRecord,
    /// What is looked up again while this draft is made.
    changes: BTreeMap<Key, Option<Value>>,
    /// What it puts into inboxes, and that is not.
    entries: Vec<Change>,
    /// The same for [`Recent`].
    deliveries: Vec<Delivery>,
    /// The inboxes that it has to do with.
    touched: HashMap<Uid, Touched>,
    /// The groups that it has changed.
    members: HashMap<GroupId, Members>,
    /// Where values are encoded.
    scratch: Vec<u8>,
    /// Bytes of keys and values.
    bytes: usize,
    /// Bytes of the values that it removes, as far as they were read for it.
    freed: usize,
    /// Records that were read to find accepted messages, since somebody asked last.
    looked: usize,
}

/// Where the message of an entry that goes stands.
enum Body {
    Own(MessageRecord),
    /// In a text that other inboxes have too.
    Shared {
        number: u64,
        /// How many no longer have it.
        left_by: i64,
    },
    /// In a text that no other inbox has any more.
    Last {
        number: u64,
        message: MessageRecord,
    },
}

/// What a write comes to: the inner error is the client's, the outer one the store's.
type Applied = Result<Result<WriteOutcome, Rejected>, EngineError>;

impl<'a> Draft<'a> {
    /// An empty one on top of the state of `view`.
    pub fn new(
        view: View<'a>,
        recent: &'a Mutex<Recent>,
        remembered: &'a mut Remembered,
        state: StateRecord,
    ) -> Self {
        Draft {
            view,
            recent,
            remembered,
            state,
            before: state,
            changes: BTreeMap::new(),
            entries: Vec::new(),
            deliveries: Vec::new(),
            touched: HashMap::new(),
            members: HashMap::new(),
            scratch: Vec::new(),
            bytes: 0,
            freed: 0,
            looked: 0,
        }
    }

    /// How much it changes, in bytes of keys and values.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Returns how many records were read to find accepted messages since the last call.
    pub fn take_looked(&mut self) -> usize {
        mem::take(&mut self.looked)
    }

    /// Whether it changes nothing.
    pub fn is_empty(&self) -> bool {
        self.changes.is_empty() && self.entries.is_empty() && self.state == self.before
    }

    /// How far an inbox goes now.
    ///
    /// # Errors
    ///
    /// When it can't be read.
    pub fn level(&mut self, uid: Uid) -> Result<Level, EngineError> {
        Ok(self.touch(uid)?.now.level(uid))
    }

    /// Does one write, wholly or not at all; the inboxes that it lets grow are added to `grown`.
    ///
    /// # Errors
    ///
    /// When what it depends on can't be read.
    pub fn apply(&mut self, write: Write, grown: &mut Vec<Uid>) -> Applied {
        match write {
            Write::P2p { target, message } => self.deliver(target, message, grown),
            Write::Ack { target, message } => {
                if !self.has_received(message.source, target, message.msg_id())? {
                    return Ok(Err(Rejected::NoSuchMessage));
                }
                self.deliver(target, message, grown)
            }
            Write::Group { message } => self.deliver_to_group(message, grown),
            Write::Register { uid, user } => {
                let key = record::user_key(uid);
                if self.has::<UserRecord>(&key)? {
                    return Ok(Err(Rejected::UserExists));
                }
                let user = UserRecord {
                    name: user.name,
                    password_hash: user.password_hash,
                };
                self.put(key, &user);
                Ok(Ok(WriteOutcome::Done))
            }
            Write::CreateGroup {
                group,
                name,
                owner,
                members,
                made_at,
            } => {
                if self.members(group)?.is_some() {
                    return Ok(Err(Rejected::GroupExists));
                }
                self.state.newest = self.state.newest.max(made_at);
                self.put(
                    record::group_key(group),
                    &GroupRecord {
                        name,
                        owner: owner.0,
                    },
                );
                self.enter(group, members_of(owner, &members), &[]);
                Ok(Ok(WriteOutcome::Done))
            }
            Write::Join { group, uids, most } => self.join(group, &uids, most),
            Write::Quit { group, uid } => self.quit(group, uid),
            Write::Read { uid, after } => {
                self.mark_read(uid, after)?;
                Ok(Ok(WriteOutcome::Done))
            }
            Write::Ids { reached } => {
                self.state.newest = self.state.newest.max(reached);
                Ok(Ok(WriteOutcome::Done))
            }
        }
    }

    /// Moves a read mark forward, never beyond the inbox.
    ///
    /// # Errors
    ///
    /// When the inbox can't be read.
    pub fn mark_read(&mut self, uid: Uid, read: Version) -> Result<(), EngineError> {
        let head = &mut self.touch(uid)?.now;
        if read > head.read && read <= head.total {
            head.read = read;
            self.put(record::read_key(uid), &NumberRecord { value: read.0 });
        }
        Ok(())
    }

    /// The changes as the engine takes them, with the commit's number.
    pub fn finish(self) -> Finished {
        let state = self.state.next();
        let mut changes = self.entries;
        changes.extend(self.changes);
        changes.push(state.change());
        Finished {
            state,
            changes,
            deliveries: self.deliveries,
            touched: self.touched,
            members: self.members,
            freed: self.freed,
            is_all_new: false,
        }
    }

    fn deliver(&mut self, target: Uid, message: Arc<Message>, grown: &mut Vec<Uid>) -> Applied {
        let id = record::id_key(
            message.kind,
            message.source,
            message.msg_id(),
            Scope::Inbox(target),
        );
        if self.has::<IdRecord>(&id)? {
            return Ok(Ok(WriteOutcome::Duplicate));
        }
        // Whatever can't be read is read before anything is changed.
        self.touch(target)?;
        self.state.newest = self.state.newest.max(message.sent_at);
        self.put(id, &IdRecord::default());
        record::encode_own(&message, &mut self.scratch);
        let version = self.append(target);
        self.deliveries.push(Delivery {
            message,
            receivers: Receivers::One(target),
        });
        grown.push(target);
        Ok(Ok(WriteOutcome::Delivered {
            uid: target,
            version,
        }))
    }

    fn deliver_to_group(&mut self, message: Arc<Message>, grown: &mut Vec<Uid>) -> Applied {
        let Some(group) = message.group() else {
            return Ok(Err(Rejected::NoSuchGroup));
        };
        let Some(members) = self.members(group)? else {
            return Ok(Err(Rejected::NoSuchGroup));
        };
        if !members.contains(&message.source) {
            return Ok(Err(Rejected::NotAMember));
        }
        let id = record::id_key(
            Kind::Group,
            message.source,
            message.msg_id(),
            Scope::Group(group),
        );
        if self.has::<IdRecord>(&id)? {
            return Ok(Ok(WriteOutcome::Duplicate));
        }
        for &uid in members.iter() {
            self.touch(uid)?;
        }
        self.state.newest = self.state.newest.max(message.sent_at);
        self.state.texts += 1;
        let text = self.state.texts;
        self.put(id, &IdRecord { text });
        let stored = TextRecord {
            message: Some(message.as_ref().into()),
            receivers: members.len() as u64,
        };
        self.put(record::text_key(text), &stored);
        let entry = EntryRecord {
            text,
            text_sent_at: message.sent_at,
            message: None,
        };
        self.scratch.clear();
        entry.encode_raw(&mut self.scratch);
        for &uid in members.iter() {
            self.append(uid);
        }
        grown.extend_from_slice(&members);
        self.deliveries.push(Delivery {
            message,
            receivers: Receivers::Members(Arc::clone(&members)),
        });
        Ok(Ok(WriteOutcome::DeliveredToGroup { receivers: members }))
    }

    /// Puts the entry that is encoded in `scratch` at the end of an inbox that was touched, and returns its version.
    fn append(&mut self, uid: Uid) -> Version {
        let Some(touched) = self.touched.get_mut(&uid) else {
            return Version::START;
        };
        touched.now.total += 1;
        let version = touched.now.total;
        let key = record::inbox_key(uid, version);
        let value = record::seal(&key, &mut self.scratch);
        self.bytes += key.len() + value.len();
        self.entries.push((key, Some(value)));
        version
    }

    /// Whether `uid` got a message of that id from `source`, alone or as a member of a group.
    fn has_received(
        &mut self,
        uid: Uid,
        source: Uid,
        msg_id: MsgId<'_>,
    ) -> Result<bool, EngineError> {
        if self.has::<IdRecord>(&record::id_key(
            Kind::P2p,
            source,
            msg_id,
            Scope::Inbox(uid),
        ))? {
            return Ok(true);
        }
        let prefix = record::id_prefix(Kind::Group, source, msg_id);
        let known = self.prefix(&prefix)?;
        self.looked += known.len();
        for (key, value) in known {
            let text = IdRecord::open(&key, &value)?.text;
            if self.was_member(record::last_number(&key), uid, text)? {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Whether `uid` was in `group` when the text was sent to it.
    fn was_member(&mut self, group: GroupId, uid: Uid, text: u64) -> Result<bool, EngineError> {
        // The record of a member, and at least one step of the search for those of former times.
        self.looked += 2;
        let member: Option<MemberRecord> = self.get(&record::member_key(group, uid))?;
        if member.is_some_and(|member| member.since <= text) {
            return Ok(true);
        }
        let former = self.prefix(&record::former_prefix(uid, group))?;
        self.looked += former.len();
        for (key, value) in former {
            let until = record::last_number::<i64>(&key).cast_unsigned();
            if (MemberRecord::open(&key, &value)?.since..until).contains(&text) {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Removes the entries of an inbox up to version `through`, as of Unix time `now`: all of them or none.
    ///
    /// # Errors
    ///
    /// When one of them can't be read.
    pub fn trim(&mut self, uid: Uid, through: Version, now: i64) -> Result<u64, EngineError> {
        let Touched { before, now: ends } = *self.touch(uid)?;
        // What this very commit adds can't be read yet; whoever asks has seen none of it.
        let last = through.min(before.total);
        // Whatever can't be read is read before anything is changed.
        let mut gone = Vec::new();
        for version in (ends.cut.0 + 1..=last.0).map(Version) {
            let key = record::inbox_key(uid, version);
            let missing = EngineError::Missing { uid, version };
            let entry: EntryRecord = self.get(&key)?.ok_or(missing)?;
            self.freed += entry.encoded_len();
            let body = match entry.message {
                Some(message) => Body::Own(message),
                None => self.share_of(entry.text)?,
            };
            gone.push((key, body));
        }
        let removed = gone.len() as u64;
        for (key, body) in gone {
            self.remove(key);
            match body {
                Body::Own(message) => self.forget(&message, Scope::Inbox(uid), now),
                Body::Shared { number, left_by } => {
                    let count = NumberRecord { value: left_by };
                    self.put(record::removed_key(number), &count);
                }
                Body::Last { number, message } => {
                    self.freed += message.encoded_len();
                    let scope = Scope::Group(GroupId(message.group));
                    self.forget(&message, scope, now);
                    self.remove(record::text_key(number));
                    self.remove(record::removed_key(number));
                }
            }
        }
        if removed > 0 {
            self.touch(uid)?.now.cut = last;
            self.put(record::cut_key(uid), &NumberRecord { value: last.0 });
        }
        Ok(removed)
    }

    /// What becomes of a text when one inbox more no longer has it.
    fn share_of(&self, number: u64) -> Result<Body, EngineError> {
        let missing = EngineError::NoText(number);
        let text: TextRecord = self.get(&record::text_key(number))?.ok_or(missing)?;
        let count: Option<NumberRecord> = self.get(&record::removed_key(number))?;
        let left_by = count.map_or(0, |count| count.value) + 1;
        if left_by.unsigned_abs() < text.receivers {
            return Ok(Body::Shared { number, left_by });
        }
        let message = text.message.ok_or(Damaged(b't'))?;
        Ok(Body::Last { number, message })
    }

    /// Forgets the id of a message that is gone, as soon as it is old enough.
    fn forget(&mut self, message: &MessageRecord, scope: Scope, now: i64) {
        let Some(kind) = message.kind() else { return };
        let id = record::id_key(kind, Uid(message.source), MsgId(&message.msg_id), scope);
        if message.sent_at < keep_ids_from(now) {
            self.remove(id);
        } else {
            let key = record::expiring_key(message.sent_at, &id);
            self.put(key, &NumberRecord::default());
        }
    }

    /// Forgets an id that has expired; `key` is an [`record::expiring_key`].
    pub fn expire(&mut self, key: Key) {
        if let Some((_, id)) = record::expiring(&key) {
            self.remove(id.into());
        }
        self.remove(key);
    }

    fn remove(&mut self, key: Key) {
        self.bytes += key.len();
        self.changes.insert(key, None);
    }

    /// The ends of an inbox, before this draft and now.
    fn touch(&mut self, uid: Uid) -> Result<&mut Touched, EngineError> {
        match self.touched.entry(uid) {
            Occupied(touched) => Ok(touched.into_mut()),
            Vacant(untouched) => {
                let known = self.recent.lock().head(uid);
                let before = match known {
                    Some(head) => head,
                    None => {
                        let head = Head::read(&self.view, uid)?;
                        self.recent.lock().learn(uid, head);
                        head
                    }
                };
                let now = before;
                Ok(untouched.insert(Touched { before, now }))
            }
        }
    }

    fn put<R: Record>(&mut self, key: Key, record: &R) {
        let value = record.seal(&key, &mut self.scratch);
        self.bytes += key.len() + value.len();
        self.changes.insert(key, Some(value));
    }

    fn get<R: Record>(&self, key: &[u8]) -> Result<Option<R>, EngineError> {
        match self.changes.get(key) {
            Some(Some(value)) => Ok(Some(R::open(key, value)?)),
            Some(None) => Ok(None),
            None => self.view.get(key),
        }
    }

    fn has<R: Record>(&self, key: &[u8]) -> Result<bool, EngineError> {
        Ok(self.get::<R>(key)?.is_some())
    }

    /// The records whose keys begin with `prefix`, as they will be.
    fn prefix(&self, prefix: &[u8]) -> Result<BTreeMap<Key, Value>, EngineError> {
        let mut found = BTreeMap::new();
        for stored in self.view.prefix(prefix) {
            let (key, value) = stored?;
            found.insert(key, value);
        }
        let from = (Bound::Included(prefix), Bound::Unbounded);
        let changed = self.changes.range::<[u8], _>(from);
        for (key, value) in changed.take_while(|(key, _)| key.starts_with(prefix)) {
            match value {
                Some(value) => found.insert(key.clone(), value.clone()),
                None => found.remove(key),
            };
        }
        Ok(found)
    }
}

/// A draft that is ready to be written.
pub struct Finished {
    /// What it leaves behind.
    pub state: StateRecord,
    /// For the engine.
    pub changes: Vec<Change>,
    /// For [`Recent::publish`].
    pub deliveries: Vec<Delivery>,
    /// The inboxes that it has to do with.
    pub touched: HashMap<Uid, Touched>,
    /// For [`Remembered::adopt`].
    pub members: HashMap<GroupId, Members>,
    /// Bytes of the values that it removes, as far as they were read for it: what tells how much a merge gives back.
    pub freed: usize,
    /// Whether nothing is left of what was there before.
    pub is_all_new: bool,
}

impl Remembered {
    /// Remembers what a commit has left, once it is written.
    pub fn adopt(&mut self, members: HashMap<GroupId, Members>) {
        for (group, list) in members {
            self.members.insert(group, list);
        }
    }
}
