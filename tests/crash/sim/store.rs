//! A store in memory that simulates a disk: some records are synced, others are not, and a crash loses those that are not.
//!
//! Serves the test of the checker. A [`Bug`] makes the store break one promise. Everything that the load does not use, such
//! as snapshots, is not simulated and fails.

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
use super::state::{DedupKey, Record, SequentialVersions, State, Versions};

/// How many commits are synced together by the bug [`Bug::AckBeforeSync`].
const COMMITS_PER_SYNC: u32 = 5;

/// How many turns of the runtime readers have to see unsynced entries before the crash, with the bug
/// [`Bug::ReadBeforeSync`].
const TURNS_BEFORE_CRASH: u32 = 300;

/// A simulated store, with at most one bug.
pub struct SimStore {
    bug: Option<Bug>,
    inner: Mutex<Inner>,
    /// Gets a permit at each crash.
    crashed: Semaphore,
}

struct Inner {
    rng: StdRng,
    /// The records that are on the disk. A crash keeps them.
    synced: Vec<Record>,
    /// The records that a crash loses.
    unsynced: Vec<Record>,
    /// The read marks of pages, which the next commit takes along. A crash loses them.
    noted_marks: Vec<Record>,
    /// The contents as readers see them, made of all records.
    live: State,
    /// How many more commits are done before the crash.
    commits_left: u32,
    /// Whether the store has crashed and has not recovered yet. No request is answered then.
    is_crashed: bool,
    /// The versions of the bug [`Bug::VersionOutsideBatch`].
    counters: UnsyncedCounters,
    signing_key: [u8; 32],
}

/// The results of a commit.
enum CommitOutcome {
    Done(Committed),
    /// The store crashes in this commit.
    Crash,
    /// Readers can see the commit for a while, and then the store crashes.
    CrashLater,
    /// The store has crashed before.
    AlreadyCrashed,
}

/// Counts the versions of each inbox outside of the records, so that a crash does not take them back.
#[derive(Default)]
struct UnsyncedCounters(HashMap<Uid, Version>);

impl Versions for UnsyncedCounters {
    fn next(&mut self, uid: Uid, _total: Version) -> Version {
        let counter = self.0.entry(uid).or_default();
        *counter += 1;
        *counter
    }
}

/// Reads the next version of each inbox once for a whole batch.
#[derive(Default)]
struct VersionsOfBatch(HashMap<Uid, Version>);

impl Versions for VersionsOfBatch {
    fn next(&mut self, uid: Uid, total: Version) -> Version {
        *self.0.entry(uid).or_insert(total + 1)
    }
}

/// Writes the bug and not the contents, which are long.
impl std::fmt::Debug for SimStore {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SimStore")
            .field("bug", &self.bug)
            .finish_non_exhaustive()
    }
}

impl SimStore {
    /// Creates an empty store.
    pub fn new(bug: Option<Bug>, mut rng: StdRng) -> Self {
        let inner = Inner {
            signing_key: rng.random(),
            rng,
            synced: Vec::new(),
            unsynced: Vec::new(),
            noted_marks: Vec::new(),
            live: State::default(),
            commits_left: u32::MAX,
            is_crashed: false,
            counters: UnsyncedCounters::default(),
        };
        SimStore {
            bug,
            inner: Mutex::new(inner),
            crashed: Semaphore::new(0),
        }
    }

    /// Makes the store crash in the commit that follows the next `commits`.
    pub fn crash_after(&self, commits: u32) {
        self.inner.lock().commits_left = commits;
    }

    /// Waits for the crash. No request is answered from then on.
    pub async fn crashed(&self) {
        if let Ok(permit) = self.crashed.acquire().await {
            permit.forget();
        }
    }

    /// Takes the store back to its synced records, and lets it answer again.
    pub fn recover(&self) {
        let mut inner = self.inner.lock();
        inner.is_crashed = false;
        inner.commits_left = u32::MAX;
        inner.unsynced.clear();
        inner.noted_marks.clear();
        inner.live = self.replay(&inner.synced);
        if self.bug == Some(Bug::ForgetsKey) {
            inner.signing_key = inner.rng.random();
        }
    }

    /// Returns the contents that these records make, with the bugs of a recovery.
    fn replay(&self, log: &[Record]) -> State {
        let mut state = State::default();
        let is_forgotten = |record: &Record| match (self.bug, record) {
            (Some(Bug::DuplicateOnResend), Record::Stored(_)) => true,
            (Some(Bug::AckTwice), Record::Stored(DedupKey { kind, .. })) => *kind == Kind::Ack,
            _ => false,
        };
        for record in log.iter().filter(|record| !is_forgotten(record)) {
            state.apply(record);
        }
        match self.bug {
            Some(Bug::ForgetsMembers) => state.forget_members(),
            Some(Bug::TornText) => state.tear_newest_texts(),
            Some(Bug::Reordered) => state.swap_newest_entries(),
            _ => {}
        }
        state
    }

    /// Does a batch. The records of each write are kept together, so that a crash can keep a part of the batch.
    fn do_commit(&self, mut batch: Vec<Write>) -> CommitOutcome {
        let mut guard = self.inner.lock();
        let inner = &mut *guard;
        if inner.is_crashed {
            return CommitOutcome::AlreadyCrashed;
        }
        let is_backwards = self.bug == Some(Bug::Backwards);
        if is_backwards {
            batch.reverse();
        }
        let mut of_batch = VersionsOfBatch::default();
        let versions: &mut dyn Versions = match self.bug {
            Some(Bug::VersionOutsideBatch) => &mut inner.counters,
            Some(Bug::VersionTwice) => &mut of_batch,
            _ => &mut SequentialVersions,
        };
        let mut results = Vec::new();
        let mut grown_inboxes = Vec::new();
        // The records of each write.
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
        if inner.commits_left == 0 {
            return inner.crash(changes, self.bug);
        }
        inner.commits_left -= 1;
        inner.unsynced.extend(changes.into_iter().flatten());
        if !matches!(
            self.bug,
            Some(Bug::ReadMarkNotSynced | Bug::ReadMarkOnlyAtClose)
        ) {
            inner.unsynced.append(&mut inner.noted_marks);
        }
        if self.bug != Some(Bug::AckBeforeSync)
            || inner.commits_left % COMMITS_PER_SYNC == COMMITS_PER_SYNC - 1
        {
            inner.synced.append(&mut inner.unsynced);
        }
        CommitOutcome::Done(Committed {
            results,
            grown_inboxes,
        })
    }

    /// Returns a page and moves the read mark, or `None` if the store has crashed.
    fn page(&self, uid: Uid, after: Version, limit: PageLimit) -> Option<Page> {
        let mut guard = self.inner.lock();
        let inner = &mut *guard;
        if inner.is_crashed {
            return None;
        }
        let total = inner.live.inbox_state(uid).total;
        let after = if after > total {
            Version::START
        } else {
            after.max(Version::START)
        };
        let max_entries = match limit.entries {
            0 => usize::MAX,
            max_entries => max_entries,
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
            .take(max_entries)
            .take_while(fits)
            .collect();
        let mut current = entries.last().map_or(after, |entry| entry.version);
        if self.bug == Some(Bug::SyncOverstates) && current < total {
            current += 1;
        }
        let read = match self.bug {
            Some(Bug::ReadMarkAhead) => current,
            _ => after,
        };
        let mark = Record::ReadMark { uid, read };
        inner.live.apply(&mark);
        inner.noted_marks.push(mark);
        Some(Page {
            entries,
            current,
            total,
        })
    }
}

/// Returns the outcome of a write that has added these records.
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
    /// Crashes in a commit that adds these records. None, some or all of its writes may have reached the disk; no client gets
    /// an answer.
    fn crash(&mut self, mut changes: Vec<Vec<Record>>, bug: Option<Bug>) -> CommitOutcome {
        match bug {
            Some(Bug::ReadBeforeSync) => {
                self.commits_left = u32::MAX;
                return CommitOutcome::CrashLater;
            }
            Some(Bug::AckBeforeSync) => changes.clear(),
            Some(Bug::GroupHalf) if changes.iter().any(|write| write.len() > 2) => {
                // The first group message: its key and more than one entry.
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
        self.is_crashed = true;
        CommitOutcome::Crash
    }
}

#[async_trait]
impl MessageStore for SimStore {
    async fn commit(&self, batch: Vec<Write>) -> Result<Committed, StoreError> {
        match self.do_commit(batch) {
            CommitOutcome::Done(committed) => return Ok(committed),
            CommitOutcome::AlreadyCrashed => {}
            CommitOutcome::Crash => self.crashed.add_permits(1),
            CommitOutcome::CrashLater => {
                for _ in 0..TURNS_BEFORE_CRASH {
                    tokio::task::yield_now().await;
                }
                self.inner.lock().is_crashed = true;
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
        Ok(self.inner.lock().live.latest_time_ms)
    }

    async fn signing_key(&self) -> Result<[u8; 32], StoreError> {
        Ok(self.inner.lock().signing_key)
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

/// Returns the error of everything that the load does not use.
fn not_simulated() -> StoreError {
    std::io::Error::other("this is not simulated").into()
}
