mod cleaning;
mod contents;
mod entries;
mod ids;
mod inbox;

use std::collections::BTreeMap;
use std::fmt;
use std::mem;
use std::sync::Arc;

use async_trait::async_trait;
use hashbrown::hash_map::Entry as Slot;
use hashbrown::{HashMap, HashSet};
use parking_lot::Mutex;

use super::members::{joining, members_of};
use super::{
    self as store, Committed, Kind, Ledger, Level, Message, Page, PageLimit, Rejected,
    ReplaceError, Retention, SaveError, Snapshot, Store, StoreFailed, User, Write,
};
use cleaning::Cleaning;
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

/// After so many entries the lock is given to others, also in the middle of a batch.
const TURN: u64 = 2_048;

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
    ledger: Ledger,
    /// The newest time at which a message was sent or a group was made.
    newest: i64,
    users: HashMap<i64, User>,
    groups: HashMap<i64, Group>,
    /// The groups that each user is or was a member of.
    groups_of: HashMap<i64, HashSet<i64>>,
    inboxes: HashMap<i64, Inbox>,
    retention: Retention,
    /// Whose inboxes there are, so that a cleaning finds back to where it was. Empty when nothing is ever removed.
    owners: Vec<i64>,
    /// The messages that are removed and whose ids are not, by when they were sent; without their texts, and with whose
    /// inbox they were in, or the group.
    remembered: BTreeMap<(i64, u64), (i64, Arc<Message>)>,
    /// Numbers those that are remembered.
    remembered_ever: u64,
}

struct Group {
    name: String,
    /// Who made it.
    owner: i64,
    /// Shared with the messages that went to just these members; replaced when one joins or quits.
    members: Members,
    /// Whether each of them has an inbox.
    is_known: bool,
    ids: Ids<Receivers>,
}

/// Behind a pointer of one word: there is one for each group message.
type Members = Arc<Vec<i64>>;

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
    fn apply(&mut self, write: Write, grown: &mut Vec<Level>) -> Result<(), Rejected> {
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
                Ok(())
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
                self.take(2 * OVERHEAD + name.len() + self.new_members(group, &members))?;
                self.newest = self.newest.max(made_at);
                for &uid in &members {
                    self.groups_of.entry(uid).or_default().insert(group);
                }
                self.groups.insert(
                    group,
                    Group {
                        name,
                        owner,
                        members: Arc::new(members),
                        is_known: false,
                        ids: Ids::default(),
                    },
                );
                Ok(())
            }
            Write::Join { group, uids, most } => self.join(group, &uids, most),
            Write::Quit { group, uid } => {
                let group = self.groups.get_mut(&group).ok_or(Rejected::NoSuchGroup)?;
                if group.members.contains(&uid) {
                    let others = group.members.iter().copied().filter(|&m| m != uid);
                    group.members = Arc::new(others.collect());
                }
                Ok(())
            }
            Write::Read { uid, after } => {
                if let Some(inbox) = self.inboxes.get_mut(&uid)
                    && after <= inbox.total()
                {
                    inbox.read = inbox.read.max(after);
                }
                Ok(())
            }
            Write::Ids { reached } => {
                self.newest = self.newest.max(reached);
                Ok(())
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
        target: i64,
        message: Arc<Message>,
        grown: &mut Vec<Level>,
    ) -> Result<(), Rejected> {
        let size = body_size(&message) + id_size(message.msg_id()) + ENTRY;
        let inbox = match self.inboxes.entry(target) {
            Slot::Occupied(inbox) => inbox.into_mut(),
            Slot::Vacant(place) => {
                // Who is refused leaves no inbox behind.
                with_room(self.used, size + NEW_INBOX, self.limit)?;
                self.used += NEW_INBOX;
                place.insert(Inbox::default())
            }
        };
        let Some(place) = inbox.ids.place(&message) else {
            return Ok(());
        };
        self.used = with_room(self.used, size, self.limit)?;
        self.newest = self.newest.max(message.sent_at);
        place.note(Arc::clone(&message), ());
        self.ledger.stored += 1;
        if !self.retention.is_off() && inbox.total() == 0 {
            self.owners.push(target);
        }
        inbox.append(target, message, self.commit, grown);
        Ok(())
    }

    fn deliver_to_group(
        &mut self,
        message: Arc<Message>,
        grown: &mut Vec<Level>,
    ) -> Result<(), Rejected> {
        let State {
            groups, inboxes, ..
        } = self;
        let group = groups
            .get_mut(&message.group)
            .ok_or(Rejected::NoSuchGroup)?;
        if !group.members.contains(&message.source) {
            return Err(Rejected::NotAMember);
        }
        let Some(place) = group.ids.place(&message) else {
            return Ok(());
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
        for &uid in members.iter() {
            let inbox = inboxes.entry(uid).or_default();
            if !self.retention.is_off() && inbox.total() == 0 {
                self.owners.push(uid);
            }
            inbox.append(uid, Arc::clone(&message), self.commit, grown);
        }
        place.note(message, Receivers { members, left });
        Ok(())
    }

    /// What one more group takes for `uid`.
    fn membership_size(&self, uid: i64) -> usize {
        OVERHEAD
            + if self.groups_of.contains_key(&uid) {
                0
            } else {
                NEW_MEMBER
            }
    }

    fn level(&self, uid: i64) -> Level {
        let nothing = Level {
            uid,
            read: 0,
            total: 0,
        };
        let inbox = self.inboxes.get(&uid);
        inbox.map_or(nothing, |inbox| inbox.level(uid))
    }

    /// What it takes that these become members of a group. Who joins again takes nothing new.
    fn new_members(&self, gid: i64, uids: &[i64]) -> usize {
        let belongs = |uid: &i64| {
            self.groups_of
                .get(uid)
                .is_some_and(|groups| groups.contains(&gid))
        };
        let new = uids.iter().filter(|uid| !belongs(uid));
        new.map(|&uid| self.membership_size(uid)).sum()
    }

    fn join(&mut self, gid: i64, uids: &[i64], most: usize) -> Result<(), Rejected> {
        let members = &self.groups.get(&gid).ok_or(Rejected::NoSuchGroup)?.members;
        let new = joining(members, uids, most)?;
        if new.is_empty() {
            return Ok(());
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
        Ok(())
    }

    /// Whether `uid` got a message of that id from `source`, alone or as a member of a group.
    fn has_received(&self, uid: i64, source: i64, msg_id: &str) -> bool {
        let inbox = self.inboxes.get(&uid);
        if inbox.is_some_and(|inbox| inbox.ids.get(Kind::P2p, source, msg_id).is_some()) {
            return true;
        }
        let groups = self.groups_of.get(&uid).into_iter().flatten();
        groups
            .filter_map(|group| self.groups.get(group)?.ids.get(Kind::Group, source, msg_id))
            .any(|known| known.more.members.contains(&uid))
    }
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
fn id_size(msg_id: &str) -> usize {
    msg_id.len() + 3 * OVERHEAD
}

#[async_trait]
impl Store for MemoryStore {
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

    async fn commit(&self, batch: Vec<Write>) -> Result<Committed, StoreFailed> {
        let mut results = Vec::with_capacity(batch.len());
        let mut grown = Vec::new();
        let mut writes = batch.into_iter();
        let (mut life, mut commit) = (None, None);
        loop {
            {
                let mut state = self.state.lock();
                if *life.get_or_insert(state.lives) != state.lives {
                    // A part of it is gone: the rest must not be there alone.
                    return Err(StoreFailed("everything was replaced meanwhile".into()));
                }
                // One number for all its turns: an inbox that grows in each of them is told of once.
                state.commit = *commit.get_or_insert(state.commits + 1);
                state.commits = state.commits.max(state.commit);
                let start = state.ledger.stored;
                for write in writes.by_ref() {
                    results.push(state.apply(write, &mut grown));
                    if state.ledger.stored - start >= TURN {
                        break;
                    }
                }
                if writes.len() == 0 {
                    return Ok(Committed { results, grown });
                }
            }
            tokio::task::yield_now().await;
        }
    }

    async fn sync(&self, uid: i64, after: i64, limit: PageLimit) -> Result<Page, StoreFailed> {
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

    async fn peek(&self, uid: i64, after: i64, limit: PageLimit) -> Result<Page, StoreFailed> {
        let state = self.state.lock();
        let page = |inbox: &Inbox| inbox.page(uid, after, limit).1;
        Ok(state.inboxes.get(&uid).map_or(NO_PAGE, page))
    }

    async fn level(&self, uid: i64) -> Result<Level, StoreFailed> {
        Ok(self.state.lock().level(uid))
    }

    async fn user(&self, uid: i64) -> Result<Option<User>, StoreFailed> {
        Ok(self.state.lock().users.get(&uid).cloned())
    }

    async fn users(&self, after: i64, most: usize) -> Result<Vec<(i64, User)>, StoreFailed> {
        let state = self.state.lock();
        let uids = store::smallest(state.users.keys().copied(), after, most);
        let user = |uid| Some((uid, state.users.get(&uid)?.clone()));
        Ok(uids.into_iter().filter_map(user).collect())
    }

    async fn groups(&self, after: i64, most: usize) -> Result<Vec<store::Group>, StoreFailed> {
        let state = self.state.lock();
        let gids = store::smallest(state.groups.keys().copied(), after, most);
        let group = |gid| Some(state.groups.get(&gid)?.told(gid));
        Ok(gids.into_iter().filter_map(group).collect())
    }

    async fn newest(&self) -> Result<i64, StoreFailed> {
        Ok(self.state.lock().newest)
    }

    async fn signing_key(&self) -> Result<[u8; 32], StoreFailed> {
        Ok(self.signing_key)
    }

    fn ledger(&self) -> Ledger {
        self.state.lock().ledger
    }

    fn ledgers(&self, after: i64, most: usize) -> Vec<(i64, Ledger)> {
        let state = self.state.lock();
        let inboxes = state.inboxes.iter();
        let counted = inboxes.filter(|(_, inbox)| inbox.ledger.stored > 0);
        let uids = store::smallest(counted.map(|(&uid, _)| uid), after, most);
        let ledger = |uid| Some((uid, state.inboxes.get(&uid)?.ledger));
        uids.into_iter().filter_map(ledger).collect()
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

    async fn clean(&self, now: i64) -> Result<u64, StoreFailed> {
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

    async fn failed(&self) -> StoreFailed {
        std::future::pending().await
    }

    async fn close(&self) -> Result<(), StoreFailed> {
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
            group: 9,
            name: "many".into(),
            owner: 1,
            members: members.clone().collect(),
            made_at: 1,
        };
        store.commit(vec![create]).await.unwrap();
        let batch = (0..MESSAGES).map(|n| to_group(&n.to_string())).collect();
        let mut many = store.commit(batch);
        let turn = i64::try_from(TURN).unwrap() / 1_000 + 1;
        for turns in 1..=3 {
            assert!(futures_util::poll!(&mut many).is_pending());
            assert_eq!(store.level(2).await.unwrap().total, turns * turn);
            let small = Write::P2p {
                target: 5_000,
                message: message(Kind::P2p, &turns.to_string()),
            };
            assert!(futures_util::poll!(store.commit(vec![small])).is_ready());
        }
        let Committed { results, mut grown } = many.await.unwrap();
        assert_eq!(results, [Ok(()); MESSAGES as usize]);
        grown.sort_unstable_by_key(|level| level.uid);
        let level = |uid| Level {
            uid,
            read: 0,
            total: MESSAGES.into(),
        };
        assert!(grown.into_iter().eq(members.map(level)));
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
        Arc::new(Message::new(kind, 1, 9, msg_id, "text", 1))
    }

    #[test]
    fn the_inbox_of_who_joins_later_is_counted_like_any_other() {
        let create = || Write::CreateGroup {
            group: 9,
            name: "team".into(),
            owner: 1,
            members: Vec::new(),
            made_at: 1,
        };
        let join = || Write::Join {
            group: 9,
            uids: vec![2],
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
            (vec![create(), join(), p2p(1)], 1),
            (vec![create(), to_group("first"), join()], 1),
            (vec![create(), to_group("first"), join(), p2p(2)], 0),
        ];
        for (writes, new) in new {
            assert_eq!(size_after(writes), known + new * NEW_INBOX);
        }
    }
}
