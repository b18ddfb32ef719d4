//! A store whose answers a test decides: they fail, or wait until they are let through, or never come.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU32, Ordering};

use async_trait::async_trait;
use imd::id::{GroupId, Uid, Version};
use imd::proto::Code;
use imd::store::{
    AccountStore, Committed, Group, InboxState, Ledger, MemoryStore, MessageStore, Page, PageLimit,
    ReplaceError, SaveError, Snapshot, StoreAdmin, StoreError, User, Write,
};
use imd::{Config, Imd};
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;

use crate::support::soon;

const OPEN: u8 = 0;
const FAILING: u8 = 1;
const HELD: u8 = 2;
const PANICKING: u8 = 3;

/// What stands in front of one operation.
#[derive(Debug)]
pub struct Gate {
    mode: AtomicU8,
    arrived: Semaphore,
    let_through: Semaphore,
}

impl Gate {
    fn new() -> Self {
        Gate {
            mode: OPEN.into(),
            arrived: Semaphore::new(0),
            let_through: Semaphore::new(0),
        }
    }

    pub fn open(&self) {
        self.mode.store(OPEN, Ordering::SeqCst);
    }

    pub fn fail(&self) {
        self.mode.store(FAILING, Ordering::SeqCst);
    }

    pub fn panic(&self) {
        self.mode.store(PANICKING, Ordering::SeqCst);
    }

    pub fn hold(&self) {
        self.mode.store(HELD, Ordering::SeqCst);
    }

    /// Somebody waits at the held gate.
    pub async fn arrived(&self) {
        soon(self.arrived.acquire()).await.unwrap().forget();
    }

    /// Lets so many through that wait, or will.
    pub fn let_through(&self, count: usize) {
        self.let_through.add_permits(count);
    }

    async fn pass(&self) -> Result<(), StoreError> {
        match self.mode.load(Ordering::SeqCst) {
            FAILING => return Err(StoreError::Injected(Code::ServerError)),
            PANICKING => panic!("on purpose"),
            HELD => {
                self.arrived.add_permits(1);
                self.let_through.acquire().await.unwrap().forget();
            }
            _ => {}
        }
        Ok(())
    }
}

#[derive(Debug)]
pub struct OddStore {
    store: MemoryStore,
    /// Before a batch is stored.
    pub commit: Gate,
    /// After a batch was stored, and before it is answered.
    pub committed: Gate,
    /// Before a page is read.
    pub sync: Gate,
    /// After a page was read, and before it is answered.
    pub synced: Gate,
    /// Whether its pages are as long as they can be, whatever is asked for.
    pub overfills: AtomicBool,
    pub inbox_state: Gate,
    pub user: Gate,
    pub replace: Gate,
    pub clean: Gate,
    /// How often it was asked to clean.
    pub cleanings: AtomicU32,
    pub close: Gate,
    pub closed: AtomicU32,
    broken: CancellationToken,
}

impl OddStore {
    pub fn all_but_close(&self) -> [&Gate; 4] {
        [&self.commit, &self.sync, &self.inbox_state, &self.user]
    }

    /// Nothing is answered any more, and this is said.
    pub fn fail_for_good(&self) {
        self.all_but_close().iter().for_each(|gate| gate.fail());
        self.close.fail();
        self.broken.cancel();
    }
}

/// An `imd` over an odd store.
pub async fn start_odd(config: Config) -> (Imd, Arc<OddStore>) {
    let store = Arc::new(OddStore {
        store: MemoryStore::new(1 << 26, (&config.store).into()),
        commit: Gate::new(),
        committed: Gate::new(),
        sync: Gate::new(),
        synced: Gate::new(),
        overfills: AtomicBool::new(false),
        inbox_state: Gate::new(),
        user: Gate::new(),
        replace: Gate::new(),
        clean: Gate::new(),
        cleanings: AtomicU32::new(0),
        close: Gate::new(),
        closed: AtomicU32::new(0),
        broken: CancellationToken::new(),
    });
    let imd = Imd::start_with_store(config, store.clone()).await.unwrap();
    (imd, store)
}

#[async_trait]
impl MessageStore for OddStore {
    async fn commit(&self, batch: Vec<Write>) -> Result<Committed, StoreError> {
        self.commit.pass().await?;
        let committed = self.store.commit(batch).await;
        self.committed.pass().await?;
        committed
    }

    async fn read_page(
        &self,
        uid: Uid,
        after: Version,
        limit: PageLimit,
    ) -> Result<Page, StoreError> {
        self.sync.pass().await?;
        let limit = match self.overfills.load(Ordering::SeqCst) {
            true => PageLimit {
                entries: usize::MAX,
                bytes: usize::MAX,
            },
            false => limit,
        };
        let page = self.store.read_page(uid, after, limit).await;
        self.synced.pass().await?;
        page
    }

    async fn inbox_state(&self, uid: Uid) -> Result<InboxState, StoreError> {
        self.inbox_state.pass().await?;
        self.store.inbox_state(uid).await
    }

    async fn peek(&self, uid: Uid, after: Version, limit: PageLimit) -> Result<Page, StoreError> {
        self.store.peek(uid, after, limit).await
    }
}

#[async_trait]
impl AccountStore for OddStore {
    async fn user(&self, uid: Uid) -> Result<Option<User>, StoreError> {
        self.user.pass().await?;
        self.store.user(uid).await
    }

    async fn users(&self, after: Uid, limit: usize) -> Result<Vec<(Uid, User)>, StoreError> {
        self.store.users(after, limit).await
    }

    async fn groups(&self, after: GroupId, limit: usize) -> Result<Vec<Group>, StoreError> {
        self.store.groups(after, limit).await
    }

    async fn latest_time_ms(&self) -> Result<i64, StoreError> {
        self.store.latest_time_ms().await
    }

    async fn signing_key(&self) -> Result<[u8; 32], StoreError> {
        self.store.signing_key().await
    }
}

#[async_trait]
impl StoreAdmin for OddStore {
    fn describe(&self) -> String {
        "odd".into()
    }

    fn is_durable(&self) -> bool {
        self.store.is_durable()
    }

    fn ledger(&self) -> Ledger {
        self.store.ledger()
    }

    fn ledgers(&self, after: Uid, limit: usize) -> Vec<(Uid, Ledger)> {
        self.store.ledgers(after, limit)
    }

    async fn snapshot(&self, limit: usize) -> Result<Snapshot, SaveError> {
        self.store.snapshot(limit).await
    }

    async fn replace(&self, snapshot: Snapshot) -> Result<(), ReplaceError> {
        self.replace.pass().await?;
        self.store.replace(snapshot).await
    }

    async fn clean(&self, now: i64) -> Result<u64, StoreError> {
        self.cleanings.fetch_add(1, Ordering::SeqCst);
        self.clean.pass().await?;
        self.store.clean(now).await
    }

    async fn failed(&self) -> StoreError {
        self.broken.cancelled().await;
        std::io::Error::other("on purpose").into()
    }

    async fn close(&self) -> Result<(), StoreError> {
        self.closed.fetch_add(1, Ordering::SeqCst);
        self.close.pass().await
    }
}
