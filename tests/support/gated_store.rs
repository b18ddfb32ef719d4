//! A memory store with a gate in front of its operations: a test holds them back, lets them through, or makes them fail.
//!
//! Serves tests of what clients are answered, and of what waits, when a store is slow or broken.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU32, Ordering};

use async_trait::async_trait;
use imd::proto::Code;
use imd::store::{MemoryStore, PageLimit, StoreError};
use imd::{Config, Imd};
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;

use super::hooked_store::{HookedStore, Operation, StoreHooks};
use super::soon;

const OPEN: u8 = 0;
const FAILING: u8 = 1;
const HELD: u8 = 2;
const PANICKING: u8 = 3;

/// What happens to the calls of one operation. A gate is open at first: calls pass it at once.
#[derive(Debug)]
pub struct Gate {
    mode: AtomicU8,
    /// One permit for each call that has reached the held gate and was not [awaited](Gate::arrived) yet.
    arrived: Semaphore,
    /// One permit for each call that may pass the held gate.
    let_through: Semaphore,
}

impl Default for Gate {
    fn default() -> Self {
        Gate {
            mode: OPEN.into(),
            arrived: Semaphore::new(0),
            let_through: Semaphore::new(0),
        }
    }
}

impl Gate {
    /// Lets calls pass from now on. Calls that are held stay held until they are [let through](Gate::let_through).
    pub fn open(&self) {
        self.mode.store(OPEN, Ordering::SeqCst);
    }

    /// Makes calls fail with code 90001 from now on.
    pub fn fail(&self) {
        self.mode.store(FAILING, Ordering::SeqCst);
    }

    /// Makes calls panic from now on.
    pub fn panic(&self) {
        self.mode.store(PANICKING, Ordering::SeqCst);
    }

    /// Holds calls back from now on, until they are [let through](Gate::let_through).
    pub fn hold(&self) {
        self.mode.store(HELD, Ordering::SeqCst);
    }

    /// Waits until a call has reached the held gate. Each call is reported once.
    pub async fn arrived(&self) {
        soon(self.arrived.acquire()).await.unwrap().forget();
    }

    /// Lets `count` calls through that are held now or will be.
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

/// The gates of one store, which the test and the store share.
#[derive(Debug, Default)]
pub struct StoreGates {
    /// In front of a commit.
    pub commit: Gate,
    /// Behind a commit: the batch is stored, and its caller does not know it yet.
    pub committed: Gate,
    /// In front of the reading of a page.
    pub read_page: Gate,
    /// Behind the reading of a page: the read mark has moved, and the caller does not have the page yet.
    pub page_read: Gate,
    pub inbox_state: Gate,
    pub user: Gate,
    pub replace: Gate,
    pub clean: Gate,
    pub close: Gate,
    /// Whether pages are as long as the inbox, whatever limit the caller asks for.
    pub ignores_page_limit: AtomicBool,
    /// How many cleanings have begun.
    pub cleanings: AtomicU32,
    /// How many calls of close have begun.
    pub closes: AtomicU32,
    failed: CancellationToken,
}

impl StoreGates {
    /// Returns the gates in front of the operations that serve requests of clients.
    pub fn of_requests(&self) -> [&Gate; 4] {
        [&self.commit, &self.read_page, &self.inbox_state, &self.user]
    }

    /// Makes requests and the close fail, and reports the store as failed for good.
    pub fn fail_for_good(&self) {
        self.of_requests().iter().for_each(|gate| gate.fail());
        self.close.fail();
        self.failed.cancel();
    }
}

/// Starts a stack over a gated store, and returns it with the gates.
pub async fn start_gated(config: Config) -> (Imd, Arc<StoreGates>) {
    let gates = Arc::<StoreGates>::default();
    let store = HookedStore {
        store: MemoryStore::new(1 << 26, (&config.store).into()),
        hooks: Arc::clone(&gates),
    };
    let imd = Imd::start_with_store(config, Arc::new(store)).await;
    (imd.unwrap(), gates)
}

#[async_trait]
impl StoreHooks for Arc<StoreGates> {
    async fn before(&self, operation: Operation) -> Result<(), StoreError> {
        match operation {
            Operation::Commit => self.commit.pass().await,
            Operation::ReadPage => self.read_page.pass().await,
            Operation::InboxState => self.inbox_state.pass().await,
            Operation::User => self.user.pass().await,
            Operation::Replace => self.replace.pass().await,
            Operation::Clean => {
                self.cleanings.fetch_add(1, Ordering::SeqCst);
                self.clean.pass().await
            }
            Operation::Close => {
                self.closes.fetch_add(1, Ordering::SeqCst);
                self.close.pass().await
            }
            _ => Ok(()),
        }
    }

    async fn after(&self, operation: Operation) -> Result<(), StoreError> {
        match operation {
            Operation::Commit => self.committed.pass().await,
            Operation::ReadPage => self.page_read.pass().await,
            _ => Ok(()),
        }
    }

    fn page_limit(&self, limit: PageLimit) -> PageLimit {
        if !self.ignores_page_limit.load(Ordering::SeqCst) {
            return limit;
        }
        PageLimit {
            entries: usize::MAX,
            bytes: usize::MAX,
        }
    }

    async fn failed(&self) -> StoreError {
        self.failed.cancelled().await;
        std::io::Error::other("on purpose").into()
    }
}
