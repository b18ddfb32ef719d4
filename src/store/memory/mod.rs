mod cleaning;
mod contents;
mod entries;
mod ids;
mod inbox;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::mem;
use std::ops::Bound;
use std::sync::Arc;

use async_trait::async_trait;
use hashbrown::hash_map::Entry as Slot;
use hashbrown::{HashMap, HashSet};
use parking_lot::{Mutex, MutexGuard};

use super::members::{Members, joining, members_of};
use super::{
    self as store, AccountStore, Committed, Kind, Ledger, Level, Message, MessageStore, Page,
    PageLimit, Rejected, ReplaceError, Retention, SaveError, Snapshot, StoreAdmin, StoreError,
    User, Write, WriteOutcome,
};
use crate::id::{GroupId, MsgId, Uid, Version};
use crate::store::Scope;
use cleaning::Cleaning;
use contents::Summary;
use ids::Ids;
use inbox::{Inbox, NO_PAGE};

/// What a map entry or a shared allocation takes beside its contents, in bytes, roughly.
const OVERHEAD: usize = 64;

/// What the first entry of an inbox takes more than a later one.
const NEW_INBOX: usize = 192;

/// What an entry takes in an inbox, which may have room for as many again.
const ENTRY: usize = 2 * size_of::<Arc<Message>>();

/// What a user's first group takes more than a later one.
const NEW_MEMBER: usize = 192;

/// What a short message to a new user takes, at least.
const ONE_MORE: usize = 512;

/// After this much work the lock is given to others, also in the middle of a batch or of a list. Work is counted in
/// entries of inboxes, and what takes as long as an entry roughly: a request that stores nothing works too.
const TURN: usize = 2_048;

/// How many members of a group are passed over in the time that an entry takes, roughly.
const PASSED: usize = 256;

/// Everything in memory, up to a limit; gone with the process.
pub struct MemoryStore {
    signing_key: [u8; 32],
    state: Mutex<State>,
}

/// Without what it holds.
impl fmt::Debug for MemoryStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (limit, used) = {
            let state = self.state.lock();
            (state.limit, state.used)
        };
        let mut debug = f.debug_struct("MemoryStore");
        debug
            .field("limit", &limit)
            .field("used", &used)
            .finish_non_exhaustive()
    }
}

#[derive(Default)]
struct State {
    /// Counts the commits.
    commits: u64,
    /// The commit that is at it.
    commit: u64,
    /// Counts how often all of it was replaced.
    lives: u64,
    /// What may be held, in bytes, roughly.
    limit: usize,
    /// What is held.
    used: usize,
    /// All work so far, as [`TURN`] counts it.
    work: usize,
    ledger: Ledger,
    /// The newest time at which a message was sent or a group was made.
    newest: i64,
    users: BTreeMap<Uid, User>,
    groups: BTreeMap<GroupId, Group>,
    /// The groups that each user is or was a member of.
    groups_of: HashMap<Uid, HashSet<GroupId>>,
    inboxes: HashMap<Uid, Inbox>,
    /// Whose inboxes there are, in order: a list of some of them does not look at all of them.
    inbox_uids: BTreeSet<Uid>,
    retention: Retention,
    /// Whose inboxes there are, so that a cleaning finds back to where it was. Empty when nothing is ever removed.
    owners: Vec<Uid>,
    /// The messages that are removed and whose ids are not, by when they were sent; without their texts, and with whose
    /// inbox they were in, or the group.
    remembered: BTreeMap<(i64, u64), (Scope, Arc<Message>)>,
    /// Numbers those that are remembered.
    remembered_ever: u64,
}

struct Group {
    name: String,
    /// Who created it, where that is known.
    owner: Option<Uid>,
    /// Shared with the messages that went to just these members; replaced when one joins or quits.
    members: Members,
    /// Whether each of them has an inbox.
    is_known: bool,
    ids: Ids<Receivers>,
}

/// Who got a group message.
struct Receivers {
    members: Members,
    /// So many inboxes still hold it.
    left: u32,
}

impl MemoryStore {
    /// An empty store that holds at most about `limit` bytes, and what `retention` keeps of it when it is cleaned.
    pub fn new(limit: usize, retention: Retention) -> Self {
        let state = State {
            limit,
            retention,
            ..State::default()
        };
        MemoryStore {
            signing_key: rand::random(),
            state: Mutex::new(state),
        }
    }
}

impl State {
    fn apply(&mut self, write: Write, grown: &mut Vec<Level>) -> Result<WriteOutcome, Rejected> {
        self.work += 1;
        match write {
            Write::P2p { target, message } => self.deliver(target, message, grown),
            Write::Ack { target, message } => {
                if !self.has_received(message.source, target, message.msg_id()) {
                    return Err(Rejected::NoSuchMessage);
                }
                self.deliver(target, message, grown)
            }
            Write::Group { message } => self.deliver_to_group(message, grown),
            Write::Register { uid, user } => {
                if self.users.contains_key(&uid) {
                    return Err(Rejected::UserExists);
                }
                self.take(OVERHEAD + user.name.len() + user.password_hash.len())?;
                self.users.insert(uid, user);
                Ok(WriteOutcome::Done)
            }
            Write::CreateGroup {
                group,
                name,
                owner,
                members,
                made_at,
            } => {
                if self.groups.contains_key(&group) {
                    return Err(Rejected::GroupExists);
                }
                let members = members_of(owner, &members);
                self.work += members.len();
                self.take(2 * OVERHEAD + name.len() + self.new_members(group, &members))?;
                self.newest = self.newest.max(made_at);
                for &uid in &members {
                    self.groups_of.entry(uid).or_default().insert(group);
                }
                self.groups.insert(
                    group,
                    Group {
                        name,
                        owner: Some(owner),
                        members: Arc::new(members),
                        is_known: false,
                        ids: Ids::default(),
                    },
                );
                Ok(WriteOutcome::Done)
            }
            Write::Join { group, uids, most } => self.join(group, &uids, most),
            Write::Quit { group, uid } => {
                let group = self.groups.get_mut(&group).ok_or(Rejected::NoSuchGroup)?;
                self.work += group.members.len() / PASSED;
                if group.members.contains(&uid) {
                    let others = group.members.iter().copied().filter(|&m| m != uid);
                    group.members = Arc::new(others.collect());
                }
                Ok(WriteOutcome::Done)
            }
            Write::Read { uid, after } => {
                if let Some(inbox) = self.inboxes.get_mut(&uid)
                    && after <= inbox.total()
                {
                    inbox.read = inbox.read.max(after);
                }
                Ok(WriteOutcome::Done)
            }
            Write::Ids { reached } => {
                self.newest = self.newest.max(reached);
                Ok(WriteOutcome::Done)
            }
        }
    }

    /// Counts `bytes` as used, if there is room for them.
    fn take(&mut self, bytes: usize) -> Result<(), Rejected> {
        self.used = with_room(self.used, bytes, self.limit)?;
        Ok(())
    }

    fn deliver(
        &mut self,
        target: Uid,
        message: Arc<Message>,
        grown: &mut Vec<Level>,
    ) -> Result<WriteOutcome, Rejected> {
        let size = body_size(&message) + id_size(message.msg_id()) + ENTRY;
        let inbox = match self.inboxes.entry(target) {
            Slot::Occupied(inbox) => inbox.into_mut(),
            Slot::Vacant(place) => {
                // Who is refused leaves no inbox behind.
                with_room(self.used, size + NEW_INBOX, self.limit)?;
                self.used += NEW_INBOX;
                self.inbox_uids.insert(target);
                place.insert(Inbox::default())
            }
        };
        let Some(place) = inbox.ids.place(&message) else {
            return Ok(WriteOutcome::Duplicate);
        };
        self.used = with_room(self.used, size, self.limit)?;
        self.newest = self.newest.max(message.sent_at);
        place.note(Arc::clone(&message), ());
        self.ledger.stored += 1;
        if !self.retention.is_off() && inbox.total() == 0 {
            self.owners.push(target);
        }
        let version = inbox.append(target, message, self.commit, grown);
        Ok(WriteOutcome::Delivered {
            uid: target,
            version,
        })
    }

    fn deliver_to_group(
        &mut self,
        message: Arc<Message>,
        grown: &mut Vec<Level>,
    ) -> Result<WriteOutcome, Rejected> {
        let State {
            groups,
            inboxes,
            inbox_uids,
            work,
            ..
        } = self;
        let group = groups
            .get_mut(&message.group().unwrap_or_default())
            .ok_or(Rejected::NoSuchGroup)?;
        *work += group.members.len() / PASSED;
        if !group.members.contains(&message.source) {
            return Err(Rejected::NotAMember);
        }
        let Some(place) = group.ids.place(&message) else {
            return Ok(WriteOutcome::Duplicate);
        };
        let new = if group.is_known {
            0
        } else {
            let members = group.members.iter();
            members.filter(|uid| !inboxes.contains_key(*uid)).count()
        };
        let entries = group.members.len() * ENTRY + new * NEW_INBOX;
        let size = body_size(&message) + id_size(message.msg_id()) + entries;
        self.used = with_room(self.used, size, self.limit)?;
        self.newest = self.newest.max(message.sent_at);
        group.is_known = true;
        let members = Arc::clone(&group.members);
        let left = u32::try_from(members.len()).unwrap_or(u32::MAX);
        self.ledger.stored += members.len() as u64;
        *work += members.len();
        for &uid in members.iter() {
            let inbox = inboxes.entry(uid).or_insert_with(|| {
                inbox_uids.insert(uid);
                Inbox::default()
            });
            if !self.retention.is_off() && inbox.total() == 0 {
                self.owners.push(uid);
            }
            inbox.append(uid, Arc::clone(&message), self.commit, grown);
        }
        let receivers = Arc::clone(&members);
        place.note(message, Receivers { members, left });
        Ok(WriteOutcome::DeliveredToGroup { receivers })
    }

    /// What one more group takes for `uid`.
    fn membership_size(&self, uid: Uid) -> usize {
        OVERHEAD
            + if self.groups_of.contains_key(&uid) {
                0
            } else {
                NEW_MEMBER
            }
    }

    fn level(&self, uid: Uid) -> Level {
        let nothing = Level {
            uid,
            read: Version::START,
            total: Version::START,
        };
        let inbox = self.inboxes.get(&uid);
        inbox.map_or(nothing, |inbox| inbox.level(uid))
    }

    /// What it takes that these become members of a group. Who joins again takes nothing new.
    fn new_members(&self, gid: GroupId, uids: &[Uid]) -> usize {
        let belongs = |uid: &Uid| {
            self.groups_of
                .get(uid)
                .is_some_and(|groups| groups.contains(&gid))
        };
        let new = uids.iter().filter(|uid| !belongs(uid));
        new.map(|&uid| self.membership_size(uid)).sum()
    }

    fn join(&mut self, gid: GroupId, uids: &[Uid], most: usize) -> Result<WriteOutcome, Rejected> {
        let members = &self.groups.get(&gid).ok_or(Rejected::NoSuchGroup)?.members;
        self.work += uids.len() + members.len() / PASSED;
        let new = joining(members, uids, most)?;
        if new.is_empty() {
            return Ok(WriteOutcome::Done);
        }
        let members = Arc::new(members.iter().chain(&new).copied().collect());
        self.take(self.new_members(gid, &new))?;
        if let Some(group) = self.groups.get_mut(&gid) {
            group.members = members;
            group.is_known = false;
        }
        for uid in new {
            self.groups_of.entry(uid).or_default().insert(gid);
        }
        Ok(WriteOutcome::Done)
    }

    /// Adds the counts of the inboxes above uid `last` of which something is counted, up to `limit` of them in all, and
    /// moves `last` on. Looks at [`TURN`] inboxes at most, and returns how many they were.
    fn ledgers(&self, last: &mut Uid, limit: usize, ledgers: &mut Vec<(Uid, Ledger)>) -> usize {
        let mut seen = 0;
        for &uid in self.inbox_uids.range(above(*last)).take(TURN) {
            if ledgers.len() >= limit {
                break;
            }
            (*last, seen) = (uid, seen + 1);
            let ledger = self.inboxes.get(&uid).map(|inbox| inbox.ledger);
            ledgers.extend(ledger.filter(|l| l.stored > 0).map(|ledger| (uid, ledger)));
        }
        seen
    }

    /// Whether `uid` got a message of that id from `source`, alone or as a member of a group.
    fn has_received(&mut self, uid: Uid, source: Uid, msg_id: MsgId<'_>) -> bool {
        let inbox = self.inboxes.get(&uid);
        if inbox.is_some_and(|inbox| inbox.ids.get(Kind::P2p, source, msg_id).is_some()) {
            return true;
        }
        let groups = self.groups_of.get(&uid).into_iter().flatten();
        let (mut work, mut passed) = (0, 0);
        let has_received = groups
            .filter_map(|group| {
                work += 1;
                self.groups.get(group)?.ids.get(Kind::Group, source, msg_id)
            })
            .map(|known| &known.more.members)
            .inspect(|members| passed += members.len())
            .any(|members| members.contains(&uid));
        self.work += work + passed / PASSED;
        has_received
    }
}

/// The keys above `after`.
fn above<K>(after: K) -> (Bound<K>, Bound<K>) {
    (Bound::Excluded(after), Bound::Unbounded)
}

/// What is used with `bytes` more, if there is room for them.
fn with_room(used: usize, bytes: usize, limit: usize) -> Result<usize, Rejected> {
    let used = used.saturating_add(bytes);
    if used > limit {
        return Err(Rejected::Full);
    }
    Ok(used)
}

/// What a message takes that is gone with its last entry.
fn body_size(message: &Message) -> usize {
    size_of::<Message>() + message.text().len()
}

/// What a message takes until its id is forgotten: without its text, and its place among the ids.
fn id_size(msg_id: MsgId<'_>) -> usize {
    msg_id.0.len() + 3 * OVERHEAD
}

#[async_trait]
impl MessageStore for MemoryStore {
    async fn commit(&self, batch: Vec<Write>) -> Result<Committed, StoreError> {
        let mut results = Vec::with_capacity(batch.len());
        let mut grown = Vec::new();
        let mut writes = batch.into_iter();
        let (mut life, mut commit) = (None, None);
        loop {
            {
                let mut state = self.state.lock();
                if *life.get_or_insert(state.lives) != state.lives {
                    // A part of it is gone: the rest must not be there alone.
                    return Err(StoreError::Replaced);
                }
                // One number for all its turns: an inbox that grows in each of them is told of once.
                state.commit = *commit.get_or_insert(state.commits + 1);
                state.commits = state.commits.max(state.commit);
                let start = state.work;
                for write in writes.by_ref() {
                    results.push(state.apply(write, &mut grown));
                    if state.work - start >= TURN {
                        break;
                    }
                }
                if writes.len() == 0 {
                    return Ok(Committed {
                        results,
                        grown_inboxes: grown,
                    });
                }
            }
            tokio::task::yield_now().await;
        }
    }

    async fn sync(&self, uid: Uid, after: Version, limit: PageLimit) -> Result<Page, StoreError> {
        let mut state = self.state.lock();
        let State {
            inboxes, ledger, ..
        } = &mut *state;
        let Some(inbox) = inboxes.get_mut(&uid) else {
            return Ok(NO_PAGE);
        };
        let (start, page) = inbox.page(uid, after, limit);
        if after <= page.total {
            inbox.read = inbox.read.max(start);
        }
        let delivered = inbox.delivered.max(start);
        if page.current > delivered {
            let new = (page.current - delivered).unsigned_abs();
            ledger.delivered += new;
            inbox.ledger.delivered += new;
            inbox.delivered = page.current;
        }
        Ok(page)
    }

    async fn peek(&self, uid: Uid, after: Version, limit: PageLimit) -> Result<Page, StoreError> {
        let state = self.state.lock();
        let page = |inbox: &Inbox| inbox.page(uid, after, limit).1;
        Ok(state.inboxes.get(&uid).map_or(NO_PAGE, page))
    }

    async fn level(&self, uid: Uid) -> Result<Level, StoreError> {
        Ok(self.state.lock().level(uid))
    }
}

#[async_trait]
impl AccountStore for MemoryStore {
    async fn user(&self, uid: Uid) -> Result<Option<User>, StoreError> {
        Ok(self.state.lock().users.get(&uid).cloned())
    }

    async fn users(&self, after: Uid, most: usize) -> Result<Vec<(Uid, User)>, StoreError> {
        let state = self.state.lock();
        let users = state.users.range(above(after)).take(most);
        Ok(users.map(|(&uid, user)| (uid, user.clone())).collect())
    }

    async fn groups(&self, after: GroupId, most: usize) -> Result<Vec<store::Group>, StoreError> {
        // Under the lock their members are shared; what is told of them is made without it.
        let groups: Vec<_> = {
            let state = self.state.lock();
            let groups = state.groups.range(above(after)).take(most);
            groups.map(|(&gid, group)| (gid, group.summary())).collect()
        };
        let told = |(gid, summary): (GroupId, Summary)| summary.told(gid);
        Ok(groups.into_iter().map(told).collect())
    }

    async fn newest(&self) -> Result<i64, StoreError> {
        Ok(self.state.lock().newest)
    }

    async fn signing_key(&self) -> Result<[u8; 32], StoreError> {
        Ok(self.signing_key)
    }
}

#[async_trait]
impl StoreAdmin for MemoryStore {
    fn describe(&self) -> String {
        "memory".into()
    }

    fn is_durable(&self) -> bool {
        false
    }

    fn shortage(&self) -> Option<String> {
        let (used, limit) = {
            let state = self.state.lock();
            (state.used, state.limit)
        };
        with_room(used, ONE_MORE, limit).err()?;
        Some(format!(
            "the store is full: {used} bytes of store.memory_limit ({limit}) are in use, and what needs more is refused"
        ))
    }

    fn ledger(&self) -> Ledger {
        self.state.lock().ledger
    }

    fn ledgers(&self, after: Uid, most: usize) -> Vec<(Uid, Ledger)> {
        let (mut ledgers, mut last) = (Vec::new(), after);
        loop {
            let state = self.state.lock();
            let seen = state.ledgers(&mut last, most, &mut ledgers);
            MutexGuard::unlock_fair(state);
            if seen < TURN || ledgers.len() >= most {
                return ledgers;
            }
        }
    }

    async fn snapshot(&self, limit: usize) -> Result<Snapshot, SaveError> {
        let draft = self.state.lock().contents(limit)?;
        Ok(draft.finish())
    }

    async fn replace(&self, snapshot: Snapshot) -> Result<(), ReplaceError> {
        let (limit, retention) = {
            let state = self.state.lock();
            (state.limit, state.retention)
        };
        let new = State::holding(snapshot, limit, retention);
        let mut new = new.map_err(|_| ReplaceError::Full)?;
        let old = {
            let mut state = self.state.lock();
            new.commits = state.commits;
            new.lives = state.lives + 1;
            new.newest = new.newest.max(state.newest);
            mem::replace(&mut *state, new)
        };
        // Given back while others have the lock.
        drop(old);
        Ok(())
    }

    async fn clean(&self, now: i64) -> Result<u64, StoreError> {
        let mut cleaning = Cleaning::new(&self.state.lock(), now);
        loop {
            let is_done = self.state.lock().clean(&mut cleaning);
            // The memory is given back while others have the lock.
            cleaning.gone.clear();
            if is_done {
                return Ok(cleaning.removed);
            }
            tokio::task::yield_now().await;
        }
    }

    async fn failed(&self) -> StoreError {
        std::future::pending().await
    }

    async fn close(&self) -> Result<(), StoreError> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn who_sends_to_many_holds_up_nobody_and_tells_each_of_them_once() {
        const MESSAGES: u32 = 20;
        let store = MemoryStore::new(usize::MAX, Retention::default());
        let members = 1..1_001;
        let create = Write::CreateGroup {
            group: GroupId(9),
            name: "many".into(),
            owner: Uid(1),
            members: members.clone().map(Uid).collect(),
            made_at: 1,
        };
        store.commit(vec![create]).await.unwrap();
        let batch = (0..MESSAGES).map(|n| to_group(&n.to_string())).collect();
        let mut many = store.commit(batch);
        let turn = i64::try_from(TURN).unwrap() / 1_000 + 1;
        for turns in 1..=3 {
            assert!(futures_util::poll!(&mut many).is_pending());
            assert_eq!(store.level(Uid(2)).await.unwrap().total, turns * turn);
            let small = Write::P2p {
                target: Uid(5_000),
                message: message(Kind::P2p, &turns.to_string()),
            };
            assert!(futures_util::poll!(store.commit(vec![small])).is_ready());
        }
        let committed = many.await.unwrap();
        assert_eq!(committed.accepted(), [Ok(()); MESSAGES as usize]);
        let mut grown = committed.grown_inboxes;
        grown.sort_unstable_by_key(|level| level.uid);
        let level = |uid| Level {
            uid: Uid(uid),
            read: Version(0),
            total: Version(MESSAGES.into()),
        };
        assert!(grown.into_iter().eq(members.map(level)));
    }

    #[tokio::test]
    async fn acks_that_store_nothing_hold_up_nobody_either() {
        const GROUPS: i64 = 1_000;
        let store = MemoryStore::new(usize::MAX, Retention::default());
        let create = |group| Write::CreateGroup {
            group,
            name: String::new(),
            owner: Uid(2),
            members: Vec::new(),
            made_at: 1,
        };
        let created = store.commit((1..=GROUPS).map(GroupId).map(create).collect());
        created.await.unwrap();
        // Each of them looks in every group of user 2, so three of them are as much as one turn may do.
        let ack = |_| Write::Ack {
            target: Uid(1),
            message: Arc::new(Message::new(
                Kind::Ack,
                Uid(2),
                None,
                MsgId("unknown"),
                "",
                1,
            )),
        };
        let mut acks = store.commit((0..9).map(ack).collect());
        for turns in 1..=2 {
            assert!(futures_util::poll!(&mut acks).is_pending());
            let small = Write::P2p {
                target: Uid(5_000),
                message: message(Kind::P2p, &turns.to_string()),
            };
            assert!(futures_util::poll!(store.commit(vec![small])).is_ready());
        }
        let acks = futures_util::poll!(&mut acks);
        assert!(matches!(acks, std::task::Poll::Ready(Ok(committed))
            if committed.results == [const { Err(Rejected::NoSuchMessage) }; 9]));
    }

    #[tokio::test]
    async fn a_list_of_inboxes_gives_the_lock_to_others_while_it_looks() {
        let store = MemoryStore::new(usize::MAX, Retention::default());
        let count = TURN as i64 + 2;
        let send = |target| Write::P2p {
            target,
            message: message(Kind::P2p, "m"),
        };
        // The highest first: the list is in order all the same.
        let sent = store.commit((1..=count).rev().map(Uid).map(send).collect());
        sent.await.unwrap();
        for uid in 1..=TURN as i64 {
            let mut state = store.state.lock();
            state.inboxes.get_mut(&Uid(uid)).unwrap().ledger = Ledger::default();
        }
        let (mut last, mut found) = (Uid(0), Vec::new());
        let seen = store.state.lock().ledgers(&mut last, 1, &mut found);
        assert_eq!((seen, last, found.len()), (TURN, Uid(TURN as i64), 0));
        let uids = |limit| -> Vec<i64> {
            let ledgers = store.ledgers(Uid(0), limit);
            ledgers.into_iter().map(|(uid, _)| uid.0).collect()
        };
        assert_eq!(uids(9), [count - 1, count]);
        assert_eq!(uids(1), [count - 1]);
    }

    /// What a message to a group of two takes, after these writes.
    fn size_after(writes: Vec<Write>) -> usize {
        let mut state = State {
            limit: 1 << 20,
            ..State::default()
        };
        let mut done = |write| {
            state.apply(write, &mut Vec::new()).unwrap();
            state.used
        };
        let used = writes.into_iter().map(&mut done).last().unwrap();
        done(to_group("the last")) - used
    }

    fn to_group(msg_id: &str) -> Write {
        let message = message(Kind::Group, msg_id);
        Write::Group { message }
    }

    fn message(kind: Kind, msg_id: &str) -> Arc<Message> {
        Arc::new(Message::new(
            kind,
            Uid(1),
            Some(GroupId(9)),
            MsgId(msg_id),
            "text",
            1,
        ))
    }

    #[test]
    fn the_inbox_of_who_joins_later_is_counted_like_any_other() {
        let create = || Write::CreateGroup {
            group: GroupId(9),
            name: "team".into(),
            owner: Uid(1),
            members: Vec::new(),
            made_at: 1,
        };
        let join = || Write::Join {
            group: GroupId(9),
            uids: vec![Uid(2)],
            most: 2,
        };
        let p2p = |target| Write::P2p {
            target,
            message: message(Kind::P2p, "first"),
        };
        let known = size_after(vec![create(), join(), to_group("first")]);
        let new = [
            // Both have none, the second has none, or has joined when all others were known to have one.
            (vec![create(), join()], 2),
            (vec![create(), join(), p2p(Uid(1))], 1),
            (vec![create(), to_group("first"), join()], 1),
            (vec![create(), to_group("first"), join(), p2p(Uid(2))], 0),
        ];
        for (writes, new) in new {
            assert_eq!(size_after(writes), known + new * NEW_INBOX);
        }
    }
}
