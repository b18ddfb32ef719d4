//! The store in memory, up to a limit; its contents are gone with the process.
//!
//! One lock protects all contents. Whatever takes long is done in pieces, between which others get the lock: a batch, a
//! message to a large group, a cleaning, a snapshot.
//!
//! | module | contents |
//! |---|---|
//! | `batch` | commits the writes of a batch in pieces |
//! | `writes` | does the writes |
//! | `state` | what is behind the lock: accounts for memory |
//! | `groups` | groups and their members |
//! | `membership` | creates groups, and changes their members |
//! | `inbox`, `entries` | inboxes, and their entries in chunks |
//! | `ids` | message ids, by which a message that is sent again is recognised |
//! | `table` | the hash tables of ids and inboxes, which grow in steps |
//! | `cleaning` | removes old entries and ids |
//! | `contents` | copies the contents into a snapshot, and builds contents from a snapshot |

mod batch;
mod cleaning;
mod contents;
mod entries;
mod groups;
mod ids;
mod inbox;
mod membership;
mod state;
mod table;
mod writes;

use std::fmt;
use std::mem;
use std::sync::Arc;

use async_trait::async_trait;
use parking_lot::{Mutex, MutexGuard};

use super::{
    self as store, AccountStore, Committed, EncodedPage, InboxState, Ledger, MessageStore, Page,
    PageLimit, ReplaceError, Retention, SaveError, Snapshot, StoreAdmin, StoreError, User, Write,
};
use crate::id::{GroupId, Uid, Version};
use batch::{Batch, Progress};
use cleaning::Cleaning;
use contents::{MessageCopies, Outline};
use groups::GroupSummary;
use inbox::{EMPTY_PAGE, Inbox};
use state::{NEW_INBOX, State, WORK_AT_ONCE, above, with_room};

/// The memory that a short message to a new user takes at least, in bytes. With less, the store counts as full.
const SHORT_MESSAGE: usize = NEW_INBOX + 320;

/// A store in memory, up to a limit. Its contents are gone with the process.
pub struct MemoryStore {
    signing_key: [u8; 32],
    state: Mutex<State>,
    /// Held by a commit while it does long writes, one commit at a time, so that all members of a group have its messages
    /// in one order. A snapshot takes it to begin while no message is in only some of its inboxes.
    long_writes: tokio::sync::Mutex<()>,
    /// Held by a cleaning or a snapshot: a snapshot would miss entries that are removed while it is made.
    removals: tokio::sync::Mutex<()>,
}

/// Leaves out the contents, which must not reach a log.
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

impl MemoryStore {
    /// Creates an empty store that takes at most about `limit` bytes, and keeps what `retention` says when it is
    /// cleaned.
    pub fn new(limit: usize, retention: Retention) -> Self {
        let state = State {
            limit,
            retention,
            ..State::default()
        };
        MemoryStore {
            signing_key: rand::random(),
            state: Mutex::new(state),
            long_writes: tokio::sync::Mutex::default(),
            removals: tokio::sync::Mutex::default(),
        }
    }
}

impl MemoryStore {
    /// Does the next piece of a batch. `may_do_long` says whether the caller holds `long_writes`.
    fn advance(&self, batch: &mut Batch, may_do_long: bool) -> Result<Progress, StoreError> {
        let mut state = self.state.lock();
        let progress = batch.advance(&mut state, may_do_long)?;
        if progress == Progress::Yield {
            // Otherwise the next piece could have the lock again before a thread that waits for it has woken up.
            MutexGuard::unlock_fair(state);
        }
        Ok(progress)
    }

    /// Copies the contents for a snapshot, as of the moment of the first piece.
    ///
    /// # Errors
    ///
    /// [`SaveError::TooLarge`] when they take more than about `limit` bytes, and [`StoreError::Replaced`] when they are
    /// replaced before all is copied.
    async fn copy_messages(&self, limit: usize) -> Result<MessageCopies, SaveError> {
        let outline = {
            let _long_writes = self.long_writes.lock().await;
            Outline::of(&self.state.lock())
        };
        let mut copies = outline.into_copies(limit)?;
        loop {
            let has_more = copies.copy(&self.state.lock())?;
            copies.add_copied()?;
            if !has_more {
                return Ok(copies);
            }
            tokio::task::yield_now().await;
        }
    }
}

#[async_trait]
impl MessageStore for MemoryStore {
    async fn commit(&self, batch: Vec<Write>) -> Result<Committed, StoreError> {
        let mut batch = Batch::new(batch);
        let mut long_writes = None;
        loop {
            match self.advance(&mut batch, long_writes.is_some())? {
                Progress::Done => return Ok(batch.finish()),
                Progress::Yield => tokio::task::yield_now().await,
                Progress::NeedsLongWrites => long_writes = Some(self.long_writes.lock().await),
            }
        }
    }

    async fn read_page(
        &self,
        uid: Uid,
        after: Version,
        limit: PageLimit,
    ) -> Result<Page, StoreError> {
        let mut state = self.state.lock();
        let State {
            inboxes, ledger, ..
        } = &mut *state;
        let Some(inbox) = inboxes.get_mut(uid) else {
            return Ok(EMPTY_PAGE);
        };
        let page = inbox.page(uid, after, limit);
        ledger.delivered += inbox.record_page_read(after, page.current);
        Ok(page)
    }

    async fn read_encoded_page(
        &self,
        uid: Uid,
        after: Version,
        limit: PageLimit,
    ) -> Result<EncodedPage, StoreError> {
        let mut state = self.state.lock();
        let State {
            inboxes, ledger, ..
        } = &mut *state;
        let Some(inbox) = inboxes.get_mut(uid) else {
            return Ok(EncodedPage::new(uid, &EMPTY_PAGE));
        };
        let page = inbox.encoded_page(uid, after, limit);
        ledger.delivered += inbox.record_page_read(after, page.current);
        Ok(page)
    }

    async fn peek(&self, uid: Uid, after: Version, limit: PageLimit) -> Result<Page, StoreError> {
        let state = self.state.lock();
        let page = |inbox: &Inbox| inbox.page(uid, after, limit);
        Ok(state.inboxes.get(uid).map_or(EMPTY_PAGE, page))
    }

    async fn inbox_state(&self, uid: Uid) -> Result<InboxState, StoreError> {
        Ok(self.state.lock().inbox_state(uid))
    }
}

#[async_trait]
impl AccountStore for MemoryStore {
    async fn user(&self, uid: Uid) -> Result<Option<User>, StoreError> {
        let user = self.state.lock().users.get(&uid).cloned();
        Ok(user.map(|user| User::clone(&user)))
    }

    async fn users(&self, after: Uid, limit: usize) -> Result<Vec<(Uid, User)>, StoreError> {
        let users: Vec<_> = {
            let state = self.state.lock();
            let users = state.users.range(above(after)).take(limit);
            users.map(|(&uid, user)| (uid, Arc::clone(user))).collect()
        };
        let copied = users
            .into_iter()
            .map(|(uid, user)| (uid, User::clone(&user)));
        Ok(copied.collect())
    }

    async fn groups(&self, after: GroupId, limit: usize) -> Result<Vec<store::Group>, StoreError> {
        // The members are only shared under the lock, and copied and sorted without it.
        let groups: Vec<_> = {
            let state = self.state.lock();
            let groups = state.groups.range(above(after)).take(limit);
            groups.map(|(&gid, group)| (gid, group.summary())).collect()
        };
        let into_group = |(gid, summary): (GroupId, GroupSummary)| summary.into_group(gid);
        Ok(groups.into_iter().map(into_group).collect())
    }

    async fn latest_time_ms(&self) -> Result<i64, StoreError> {
        Ok(self.state.lock().latest_time_ms)
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
        with_room(used, SHORT_MESSAGE, limit).err()?;
        Some(format!(
            "the store is full: {used} bytes of store.memory_limit ({limit}) are in use, and what needs more is refused"
        ))
    }

    fn ledger(&self) -> Ledger {
        self.state.lock().ledger
    }

    fn ledgers(&self, after: Uid, limit: usize) -> Vec<(Uid, Ledger)> {
        let (mut ledgers, mut last) = (Vec::new(), after);
        loop {
            let state = self.state.lock();
            let seen = state.ledgers(&mut last, limit, &mut ledgers);
            MutexGuard::unlock_fair(state);
            if seen < WORK_AT_ONCE || ledgers.len() >= limit {
                return ledgers;
            }
        }
    }

    async fn snapshot(&self, limit: usize) -> Result<Snapshot, SaveError> {
        let _removals = self.removals.lock().await;
        let copies = loop {
            match self.copy_messages(limit).await {
                // All that was copied is gone, so the snapshot shows what has replaced it.
                Err(SaveError::Store(StoreError::Replaced)) => {}
                copied => break copied?,
            }
        };
        // To sort a million messages takes a second, which would block the other tasks of a runtime thread.
        let sorted = tokio::task::spawn_blocking(|| copies.finish()).await;
        let ended = |source| StoreError::TaskEnded {
            task: "the snapshot",
            source: Arc::new(source),
        };
        Ok(sorted.map_err(ended)?)
    }

    async fn replace(&self, snapshot: Snapshot) -> Result<(), ReplaceError> {
        let (limit, retention) = {
            let state = self.state.lock();
            (state.limit, state.retention)
        };
        let new = State::from_snapshot(snapshot, limit, retention);
        let mut new = new.map_err(|_| ReplaceError::Full)?;
        let old = {
            let mut state = self.state.lock();
            new.last_commit_number = state.last_commit_number;
            new.generation = state.generation + 1;
            new.latest_time_ms = new.latest_time_ms.max(state.latest_time_ms);
            mem::replace(&mut *state, new)
        };
        // Freed after the lock is released, since it takes long.
        drop(old);
        Ok(())
    }

    async fn clean(&self, now: i64) -> Result<u64, StoreError> {
        let _removals = self.removals.lock().await;
        let mut cleaning = Cleaning::new(&self.state.lock(), now);
        loop {
            let is_done = self.state.lock().clean(&mut cleaning);
            // Freed after the lock is released, since it takes long.
            cleaning.freed.clear();
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
    use std::sync::Arc;

    use super::*;
    use crate::id::MsgId;
    use crate::store::{Kind, Message, Rejected};

    #[tokio::test]
    async fn a_batch_to_many_inboxes_lets_others_in_and_reports_each_inbox_once() {
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
        let at_once = i64::try_from(WORK_AT_ONCE).unwrap() / 1_000 + 1;
        for turns in 1..=3 {
            assert!(futures_util::poll!(&mut many).is_pending());
            assert_eq!(
                store.inbox_state(Uid(2)).await.unwrap().total,
                turns * at_once
            );
            let small = Write::P2p {
                target: Uid(5_000),
                message: message(Kind::P2p, &turns.to_string()),
            };
            assert!(futures_util::poll!(store.commit(vec![small])).is_ready());
        }
        let committed = many.await.unwrap();
        assert_eq!(committed.accepted(), [Ok(()); MESSAGES as usize]);
        let mut grown = committed.grown_inboxes;
        grown.sort_unstable_by_key(|inbox| inbox.uid);
        let expected = |uid| InboxState {
            uid: Uid(uid),
            read: Version(0),
            total: Version(MESSAGES.into()),
        };
        assert!(grown.into_iter().eq(members.map(expected)));
    }

    /// The members of a group whose messages take three pieces.
    const LARGE: i64 = 2 * WORK_AT_ONCE as i64 + 2;

    /// Creates group 9 of users 1 to [`LARGE`].
    async fn create_large_group(store: &MemoryStore) {
        let create = Write::CreateGroup {
            group: GroupId(9),
            name: "large".into(),
            owner: Uid(1),
            members: (1..=LARGE).map(Uid).collect(),
            made_at: 1,
        };
        let mut created = store.commit(vec![create]);
        for _ in 0..2 {
            assert!(futures_util::poll!(&mut created).is_pending());
            assert!(store.groups(GroupId(0), 1).await.unwrap().is_empty());
        }
        assert_eq!(created.await.unwrap().accepted(), [Ok(())]);
        let groups = store.groups(GroupId(0), 1).await.unwrap();
        assert_eq!(groups[0].members.len() as i64, LARGE);
    }

    #[tokio::test]
    async fn a_message_to_a_large_group_lets_others_in_and_is_in_all_inboxes_in_the_end() {
        let store = MemoryStore::new(usize::MAX, Retention::default());
        create_large_group(&store).await;
        let mut first = store.commit(vec![to_group("first")]);
        let mut second = store.commit(vec![to_group("second")]);
        let mut snapshot = store.snapshot(usize::MAX);
        for turns in 1..=2 {
            assert!(futures_util::poll!(&mut first).is_pending());
            // The other message waits until this one is stored, and the snapshot until no message is in only some of its
            // inboxes.
            assert!(futures_util::poll!(&mut second).is_pending());
            assert!(futures_util::poll!(&mut snapshot).is_pending());
            for (uid, total) in [(1, 1), (LARGE, 0)] {
                let inbox = store.inbox_state(Uid(uid)).await.unwrap();
                assert_eq!(inbox.total, Version(total));
            }
            let small = Write::P2p {
                target: Uid(9_999),
                message: message(Kind::P2p, &turns.to_string()),
            };
            assert!(futures_util::poll!(store.commit(vec![small])).is_ready());
        }
        assert!(first.await.is_ok());
        let (second, snapshot) = tokio::join!(second, snapshot);
        assert_eq!(second.unwrap().grown_inboxes.len() as i64, LARGE);
        let stored = snapshot.unwrap().messages;
        let first = stored.iter().find(|m| m.message.msg_id().0 == "first");
        assert_eq!(first.map(|m| m.places.len() as i64), Some(LARGE));
        for uid in [1, WORK_AT_ONCE as i64 + 1, LARGE] {
            let limit = PageLimit {
                entries: 9,
                bytes: 9_999,
            };
            let page = store.peek(Uid(uid), Version(0), limit).await.unwrap();
            let ids = page.entries.iter().map(|e| e.message.msg_id().0);
            assert!(ids.eq(["first", "second"]), "all have the same order");
        }
    }

    #[tokio::test]
    async fn of_those_who_join_while_others_do_nobody_is_one_too_many() {
        let store = MemoryStore::new(usize::MAX, Retention::default());
        create_large_group(&store).await;
        let join = |uids: std::ops::Range<i64>| Write::Join {
            group: GroupId(9),
            uids: uids.map(Uid).collect(),
            max_members: LARGE as usize + WORK_AT_ONCE + 1,
        };
        let many = LARGE + 1..LARGE + WORK_AT_ONCE as i64 + 2;
        let mut many = store.commit(vec![join(many)]);
        assert!(futures_util::poll!(&mut many).is_pending());
        let one = store.commit(vec![join(-1..0)]).await.unwrap();
        assert_eq!(one.accepted(), [Ok(())]);
        assert_eq!(many.await.unwrap().results, [Err(Rejected::GroupFull)]);
        let groups = store.groups(GroupId(0), 1).await.unwrap();
        assert_eq!(groups[0].members.len() as i64, LARGE + 1);
    }

    #[tokio::test]
    async fn a_snapshot_lets_others_in_and_shows_one_moment_all_the_same() {
        let store = MemoryStore::new(usize::MAX, Retention::default());
        let send = |target: i64, id: usize| Write::P2p {
            target: Uid(target),
            message: message(Kind::P2p, &id.to_string()),
        };
        let count = 2 * WORK_AT_ONCE;
        let sent = (0..count).map(|id| send(id as i64 % 2, id)).collect();
        store.commit(sent).await.unwrap();
        let expected = store.snapshot(usize::MAX).await.unwrap();
        let mut snapshot = store.snapshot(usize::MAX);
        assert!(futures_util::poll!(&mut snapshot).is_pending());
        // What is sent, read, registered and created now is not of that moment.
        let user = User {
            name: "late".into(),
            password_hash: String::new(),
        };
        let later = vec![
            send(0, count),
            send(7, count),
            Write::MarkRead {
                uid: Uid(1),
                read: Version(3),
            },
            Write::Register { uid: Uid(7), user },
            Write::CreateGroup {
                group: GroupId(1),
                name: String::new(),
                owner: Uid(7),
                members: Vec::new(),
                made_at: 2,
            },
        ];
        store.commit(later).await.unwrap();
        let mut cleaned = store.clean(i64::MAX);
        assert!(futures_util::poll!(&mut cleaned).is_pending());
        assert_eq!(snapshot.await.unwrap(), expected);
        cleaned.await.unwrap();

        let mut snapshot = store.snapshot(usize::MAX);
        assert!(futures_util::poll!(&mut snapshot).is_pending());
        store.replace(Snapshot::default()).await.unwrap();
        assert!(snapshot.await.unwrap().messages.is_empty());
    }

    #[tokio::test]
    async fn acks_that_store_nothing_let_others_in_too() {
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
        // Each of them searches every group of user 2, so three of them are as much as is done at once.
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
        let count = WORK_AT_ONCE as i64 + 2;
        let send = |target| Write::P2p {
            target,
            message: message(Kind::P2p, "m"),
        };
        // The highest first: the list is in order all the same.
        let sent = store.commit((1..=count).rev().map(Uid).map(send).collect());
        sent.await.unwrap();
        for uid in 1..=WORK_AT_ONCE as i64 {
            let mut state = store.state.lock();
            state.inboxes.get_mut(Uid(uid)).unwrap().ledger = Ledger::default();
        }
        let (mut last, mut found) = (Uid(0), Vec::new());
        let seen = store.state.lock().ledgers(&mut last, 1, &mut found);
        assert_eq!(
            (seen, last, found.len()),
            (WORK_AT_ONCE, Uid(WORK_AT_ONCE as i64), 0)
        );
        let uids = |limit| -> Vec<i64> {
            let ledgers = store.ledgers(Uid(0), limit);
            ledgers.into_iter().map(|(uid, _)| uid.0).collect()
        };
        assert_eq!(uids(9), [count - 1, count]);
        assert_eq!(uids(1), [count - 1]);
    }

    /// Returns the memory that a message to a group of two takes after these writes.
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
    fn the_inbox_of_a_later_member_is_counted_like_any_other() {
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
            max_members: 2,
        };
        let p2p = |target| Write::P2p {
            target,
            message: message(Kind::P2p, "first"),
        };
        let known = size_after(vec![create(), join(), to_group("first")]);
        let new = [
            // Neither member has an inbox; the second has none; the second has joined when all others were known to
            // have one.
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
