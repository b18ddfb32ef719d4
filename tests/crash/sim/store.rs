//! A store with a state that is synced and one that is not. A crash takes it back to the synced one.

use std::collections::HashMap;
use std::future::pending;
use std::sync::Arc;

use async_trait::async_trait;
use imd::id::{GroupId, Uid, Version};
use imd::store::{
    AccountStore, Committed, Entry, Group, InboxState, Kind, Ledger, MessageStore, Page, PageLimit,
    ReplaceError, SaveError, Snapshot, StoreAdmin, StoreError, User, Write, WriteOutcome,
};
use parking_lot::Mutex;
use rand::RngExt;
use rand::rngs::StdRng;
use tokio::sync::Semaphore;

use super::bug::Bug;
use super::state::{AfterTheNewest, Record, State, Versions};

/// With a bug that syncs late, the last commits before a crash are not: one less than this.
const LATE: u32 = 5;

/// With a bug that lets others read what is not synced, they have so many turns to do so before the crash.
const TURNS: u32 = 300;

pub struct SimStore {
    bug: Option<Bug>,
    inner: Mutex<Inner>,
    /// A permit when it has crashed.
    crashed: Semaphore,
}

struct Inner {
    rng: StdRng,
    /// What a crash keeps.
    synced: Vec<Record>,
    unsynced: Vec<Record>,
    live: State,
    /// So many commits to the crash.
    left: u32,
    is_dead: bool,
    /// Of a bug: versions that a crash does not take back.
    counters: Counters,
    key: [u8; 32],
}

/// What becomes of a commit.
enum Outcome {
    Done(Committed),
    /// The crash comes now.
    Crash,
    /// Others have time to read it, and then comes the crash.
    Doomed,
    /// It has been.
    Dead,
}

/// Versions that are counted beside the inboxes.
#[derive(Default)]
struct Counters(HashMap<Uid, Version>);

impl Versions for Counters {
    fn next(&mut self, uid: Uid, _total: Version) -> Version {
        let counter = self.0.entry(uid).or_default();
        *counter += 1;
        *counter
    }
}

/// Versions that are taken once for a whole batch.
#[derive(Default)]
struct AtTheStart(HashMap<Uid, Version>);

impl Versions for AtTheStart {
    fn next(&mut self, uid: Uid, total: Version) -> Version {
        *self.0.entry(uid).or_insert(total + 1)
    }
}

/// Without what it holds.
impl std::fmt::Debug for SimStore {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SimStore")
            .field("bug", &self.bug)
            .finish_non_exhaustive()
    }
}

impl SimStore {
    pub fn new(bug: Option<Bug>, mut rng: StdRng) -> Self {
        let inner = Inner {
            key: rng.random(),
            rng,
            synced: Vec::new(),
            unsynced: Vec::new(),
            live: State::default(),
            left: u32::MAX,
            is_dead: false,
            counters: Counters::default(),
        };
        SimStore {
            bug,
            inner: Mutex::new(inner),
            crashed: Semaphore::new(0),
        }
    }

    /// It is to crash in the commit after so many others.
    pub fn crash_after(&self, commits: u32) {
        self.inner.lock().left = commits;
    }

    /// Waits for the crash. Nothing is answered from then on.
    pub async fn crashed(&self) {
        if let Ok(permit) = self.crashed.acquire().await {
            permit.forget();
        }
    }

    /// Starts again from what was synced.
    pub fn recover(&self) {
        let mut inner = self.inner.lock();
        inner.is_dead = false;
        inner.left = u32::MAX;
        inner.unsynced.clear();
        inner.live = self.replay(&inner.synced);
        if self.bug == Some(Bug::ForgetsKey) {
            inner.key = inner.rng.random();
        }
    }

    fn replay(&self, log: &[Record]) -> State {
        let mut state = State::default();
        let is_forgotten = |record: &Record| match (self.bug, record) {
            (Some(Bug::DuplicateOnResend), Record::Sent(_)) => true,
            (Some(Bug::AckTwice), Record::Sent((kind, ..))) => *kind == Kind::Ack,
            _ => false,
        };
        for record in log.iter().filter(|record| !is_forgotten(record)) {
            state.apply(record);
        }
        match self.bug {
            Some(Bug::ForgetsMembers) => state.forget_members(),
            Some(Bug::Torn) => state.tear_the_newest(),
            Some(Bug::Reordered) => state.swap_the_newest(),
            _ => {}
        }
        state
    }

    fn do_commit(&self, mut batch: Vec<Write>) -> Outcome {
        let mut guard = self.inner.lock();
        let inner = &mut *guard;
        if inner.is_dead {
            return Outcome::Dead;
        }
        let is_backwards = self.bug == Some(Bug::Backwards);
        if is_backwards {
            batch.reverse();
        }
        let mut at_the_start = AtTheStart::default();
        let versions: &mut dyn Versions = match self.bug {
            Some(Bug::VersionOutsideBatch) => &mut inner.counters,
            Some(Bug::VersionTwice) => &mut at_the_start,
            _ => &mut AfterTheNewest,
        };
        let mut results = Vec::new();
        let mut grown_inboxes = Vec::new();
        // What each write changes: all of it or nothing.
        let mut changes: Vec<Vec<Record>> = Vec::new();
        for write in &batch {
            let done = inner.live.records(write, versions, self.bug);
            results.push(match &done {
                Ok(records) => Ok(outcome(write, records)),
                Err(rejected) => Err(*rejected),
            });
            let records = done.unwrap_or_default();
            for record in &records {
                inner.live.apply(record);
                if let Record::Entry { uid, .. } = record {
                    grown_inboxes.push(inner.live.inbox_state(*uid));
                }
            }
            changes.push(records);
        }
        if is_backwards {
            results.reverse();
        }
        if inner.left == 0 {
            return inner.crash(changes, self.bug);
        }
        inner.left -= 1;
        inner.unsynced.extend(changes.into_iter().flatten());
        if self.bug != Some(Bug::AckBeforeSync) || inner.left % LATE == LATE - 1 {
            inner.synced.append(&mut inner.unsynced);
        }
        Outcome::Done(Committed {
            results,
            grown_inboxes,
        })
    }

    fn page(&self, uid: Uid, after: Version, limit: PageLimit) -> Option<Page> {
        let mut guard = self.inner.lock();
        let inner = &mut *guard;
        if inner.is_dead {
            return None;
        }
        let total = inner.live.inbox_state(uid).total;
        let after = if after > total {
            Version::START
        } else {
            after.max(Version::START)
        };
        let most = match limit.entries {
            0 => usize::MAX,
            most => most,
        };
        let mut room = limit.bytes;
        let inbox = inner.live.inboxes.entry(uid).or_default();
        let is_skipping = self.bug == Some(Bug::SyncSkips) && inner.rng.random_ratio(1, 4);
        let newer = inbox.entries.iter().filter(|(version, _)| *version > after);
        let entries = newer.map(|(version, message)| Entry {
            version: *version,
            message: Arc::clone(message),
        });
        let fits = |entry: &Entry| match room.checked_sub(entry.in_page(uid).size()) {
            Some(left) => {
                room = left;
                true
            }
            None => false,
        };
        let entries: Vec<Entry> = entries
            .skip(usize::from(is_skipping))
            .take(most)
            .take_while(fits)
            .collect();
        let mut current = entries.last().map_or(after, |entry| entry.version);
        if self.bug == Some(Bug::SyncOverstates) && current < total {
            current += 1;
        }
        let read = match self.bug {
            Some(Bug::MarkAhead) => current,
            _ => after,
        };
        let mark = Record::Mark { uid, read };
        inner.live.apply(&mark);
        if self.bug != Some(Bug::MarkBack) {
            inner.synced.push(mark);
        }
        Some(Page {
            entries,
            current,
            total,
        })
    }
}

/// Returns what a write came to that has changed these records.
fn outcome(write: &Write, records: &[Record]) -> WriteOutcome {
    let entries = records.iter().filter_map(|record| match record {
        Record::Entry { uid, version, .. } => Some((*uid, *version)),
        _ => None,
    });
    let mut entries = entries.peekable();
    match (write, entries.peek()) {
        (Write::P2p { .. } | Write::Ack { .. }, Some(&(uid, version))) => {
            WriteOutcome::Stored { uid, version }
        }
        (Write::Group { .. }, Some(_)) => WriteOutcome::StoredForGroup {
            receivers: Arc::new(entries.map(|(uid, _)| uid).collect()),
        },
        (Write::P2p { .. } | Write::Ack { .. } | Write::Group { .. }, None) => {
            WriteOutcome::Duplicate
        }
        _ => WriteOutcome::Done,
    }
}

impl Inner {
    /// The crash comes in this commit. Some of it may have reached the disk, or all of it; nobody is told.
    fn crash(&mut self, mut changes: Vec<Vec<Record>>, bug: Option<Bug>) -> Outcome {
        match bug {
            Some(Bug::ReadBeforeSync) => {
                self.left = u32::MAX;
                return Outcome::Doomed;
            }
            Some(Bug::AckBeforeSync) => changes.clear(),
            Some(Bug::GroupHalf) if changes.iter().any(|write| write.len() > 2) => {
                // The first message with several entries, after its identity.
                let cut = changes.iter().position(|write| write.len() > 2);
                changes.truncate(cut.map_or(0, |cut| cut + 1));
                if let Some(write) = changes.last_mut() {
                    write.truncate(write.len() / 2 + 1);
                }
            }
            _ => {
                let kept = [0, self.rng.random_range(0..=changes.len()), changes.len()];
                changes.truncate(kept[self.rng.random_range(0..3)]);
            }
        }
        self.synced.extend(changes.into_iter().flatten());
        self.is_dead = true;
        Outcome::Crash
    }
}

#[async_trait]
impl MessageStore for SimStore {
    async fn commit(&self, batch: Vec<Write>) -> Result<Committed, StoreError> {
        match self.do_commit(batch) {
            Outcome::Done(committed) => return Ok(committed),
            Outcome::Dead => {}
            Outcome::Crash => self.crashed.add_permits(1),
            Outcome::Doomed => {
                for _ in 0..TURNS {
                    tokio::task::yield_now().await;
                }
                self.inner.lock().is_dead = true;
                self.crashed.add_permits(1);
            }
        }
        pending().await
    }

    async fn read_page(
        &self,
        uid: Uid,
        after: Version,
        limit: PageLimit,
    ) -> Result<Page, StoreError> {
        match self.page(uid, after, limit) {
            Some(page) => Ok(page),
            None => pending().await,
        }
    }

    async fn inbox_state(&self, uid: Uid) -> Result<InboxState, StoreError> {
        Ok(self.inner.lock().live.inbox_state(uid))
    }

    async fn peek(&self, _: Uid, _: Version, _: PageLimit) -> Result<Page, StoreError> {
        Err(not_simulated())
    }
}

#[async_trait]
impl AccountStore for SimStore {
    async fn user(&self, uid: Uid) -> Result<Option<User>, StoreError> {
        Ok(self.inner.lock().live.users.get(&uid).cloned())
    }

    async fn users(&self, _: Uid, _: usize) -> Result<Vec<(Uid, User)>, StoreError> {
        Err(not_simulated())
    }

    async fn groups(&self, _: GroupId, _: usize) -> Result<Vec<Group>, StoreError> {
        Err(not_simulated())
    }

    async fn latest_time_ms(&self) -> Result<i64, StoreError> {
        Ok(self.inner.lock().live.newest)
    }

    async fn signing_key(&self) -> Result<[u8; 32], StoreError> {
        Ok(self.inner.lock().key)
    }
}

#[async_trait]
impl StoreAdmin for SimStore {
    fn describe(&self) -> String {
        "simulated".into()
    }

    fn is_durable(&self) -> bool {
        true
    }

    fn ledger(&self) -> Ledger {
        Ledger::default()
    }

    fn ledgers(&self, _: Uid, _: usize) -> Vec<(Uid, Ledger)> {
        Vec::new()
    }

    async fn snapshot(&self, _: usize) -> Result<Snapshot, SaveError> {
        Err(not_simulated().into())
    }

    async fn replace(&self, _: Snapshot) -> Result<(), ReplaceError> {
        Err(not_simulated().into())
    }

    async fn clean(&self, _now: i64) -> Result<u64, StoreError> {
        Ok(0)
    }

    async fn failed(&self) -> StoreError {
        pending().await
    }

    async fn close(&self) -> Result<(), StoreError> {
        Ok(())
    }
}

fn not_simulated() -> StoreError {
    std::io::Error::other("this is not simulated").into()
}
