//! The store in a folder, with a folder that goes with it.

use std::sync::Arc;

use async_trait::async_trait;
use imd::config;
use imd::id::{GroupId, Uid, Version};
use imd::store::{
    AccountStore, Committed, DurableStore, Group, InboxState, Ledger, MessageStore, Page,
    PageLimit, ReplaceError, Retention, SaveError, Snapshot, Store, StoreAdmin, StoreError, User,
    Write,
};
use tempfile::TempDir;

#[derive(Debug)]
struct InItsFolder {
    store: DurableStore,
    /// Removed after the store is dropped.
    _folder: TempDir,
}

pub async fn make(retention: Retention) -> Arc<dyn Store> {
    let folder = tempfile::tempdir().unwrap();
    let config = config::Store {
        keep: retention.keep,
        max_inbox: retention.max_inbox,
        ..config::Store::default()
    };
    let store = DurableStore::open(folder.path(), &config).unwrap();
    Arc::new(InItsFolder {
        store,
        _folder: folder,
    })
}

#[async_trait]
impl MessageStore for InItsFolder {
    async fn commit(&self, batch: Vec<Write>) -> Result<Committed, StoreError> {
        self.store.commit(batch).await
    }

    async fn read_page(
        &self,
        uid: Uid,
        after: Version,
        limit: PageLimit,
    ) -> Result<Page, StoreError> {
        self.store.read_page(uid, after, limit).await
    }

    async fn inbox_state(&self, uid: Uid) -> Result<InboxState, StoreError> {
        self.store.inbox_state(uid).await
    }

    async fn peek(&self, uid: Uid, after: Version, limit: PageLimit) -> Result<Page, StoreError> {
        self.store.peek(uid, after, limit).await
    }
}

#[async_trait]
impl AccountStore for InItsFolder {
    async fn user(&self, uid: Uid) -> Result<Option<User>, StoreError> {
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
impl StoreAdmin for InItsFolder {
    fn describe(&self) -> String {
        self.store.describe()
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
        self.store.replace(snapshot).await
    }

    async fn clean(&self, now: i64) -> Result<u64, StoreError> {
        self.store.clean(now).await
    }

    async fn failed(&self) -> StoreError {
        self.store.failed().await
    }

    async fn close(&self) -> Result<(), StoreError> {
        self.store.close().await
    }
}
