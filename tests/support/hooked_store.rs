//! A store in front of another one, with hooks that run before and after each operation.
//!
//! Serves tests that need more of a store than it does by itself: [`super::gated_store`] holds its operations back, and
//! the contract suite keeps a temporary folder for as long as the store in it. The calls of the store's traits are
//! forwarded here and nowhere else, those with a default implementation included.

use std::fmt;

use async_trait::async_trait;
use imd::id::{GroupId, Uid, Version};
use imd::store::{
    AccountStore, Committed, Group, InboxState, Ledger, MessageStore, Page, PageLimit,
    ReclaimProgress, ReplaceError, SaveError, Snapshot, Store, StoreAdmin, StoreError, User, Write,
};

/// A store that forwards every call to the store `S`, and runs the hooks `H` around those that can fail.
#[derive(Debug)]
pub struct HookedStore<S, H> {
    pub store: S,
    /// Dropped after the store, so that hooks can own what the store needs until its end, such as its folder.
    pub hooks: H,
}

/// An operation of a store that can fail, and so can be refused by a hook.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Operation {
    Commit,
    ReadPage,
    Peek,
    InboxState,
    User,
    Users,
    Groups,
    LatestTime,
    SigningKey,
    Snapshot,
    Replace,
    Clean,
    Close,
}

/// Hooks of a [`HookedStore`]. By default they do nothing, and the store answers as if it stood alone.
#[async_trait]
pub trait StoreHooks: Send + Sync + fmt::Debug {
    /// Runs before an operation. An error is returned to the caller, and the operation does not begin.
    async fn before(&self, _operation: Operation) -> Result<(), StoreError> {
        Ok(())
    }

    /// Runs when an operation has ended. An error is returned to the caller in place of the operation's result.
    async fn after(&self, _operation: Operation) -> Result<(), StoreError> {
        Ok(())
    }

    /// Returns the limit that a page is read with, given the one that the caller asks for.
    fn page_limit(&self, limit: PageLimit) -> PageLimit {
        limit
    }

    /// Resolves when the store shall count as failed for good, although the store behind it has not failed.
    async fn failed(&self) -> StoreError {
        std::future::pending().await
    }
}

/// A temporary folder that is removed after the store in it was dropped.
#[async_trait]
impl StoreHooks for tempfile::TempDir {}

impl<S: Store, H: StoreHooks> HookedStore<S, H> {
    /// Runs an operation between its hooks.
    async fn hooked<T, E: From<StoreError>>(
        &self,
        operation: Operation,
        call: impl Future<Output = Result<T, E>> + Send,
    ) -> Result<T, E> {
        self.hooks.before(operation).await?;
        let result = call.await;
        self.hooks.after(operation).await?;
        result
    }
}

#[async_trait]
impl<S: Store, H: StoreHooks> MessageStore for HookedStore<S, H> {
    async fn commit(&self, batch: Vec<Write>) -> Result<Committed, StoreError> {
        let call = self.store.commit(batch);
        self.hooked(Operation::Commit, call).await
    }

    async fn read_page(
        &self,
        uid: Uid,
        after: Version,
        limit: PageLimit,
    ) -> Result<Page, StoreError> {
        let limit = self.hooks.page_limit(limit);
        let call = self.store.read_page(uid, after, limit);
        self.hooked(Operation::ReadPage, call).await
    }

    async fn peek(&self, uid: Uid, after: Version, limit: PageLimit) -> Result<Page, StoreError> {
        let call = self.store.peek(uid, after, limit);
        self.hooked(Operation::Peek, call).await
    }

    async fn inbox_state(&self, uid: Uid) -> Result<InboxState, StoreError> {
        let call = self.store.inbox_state(uid);
        self.hooked(Operation::InboxState, call).await
    }
}

#[async_trait]
impl<S: Store, H: StoreHooks> AccountStore for HookedStore<S, H> {
    async fn user(&self, uid: Uid) -> Result<Option<User>, StoreError> {
        let call = self.store.user(uid);
        self.hooked(Operation::User, call).await
    }

    async fn users(&self, after: Uid, limit: usize) -> Result<Vec<(Uid, User)>, StoreError> {
        let call = self.store.users(after, limit);
        self.hooked(Operation::Users, call).await
    }

    async fn groups(&self, after: GroupId, limit: usize) -> Result<Vec<Group>, StoreError> {
        let call = self.store.groups(after, limit);
        self.hooked(Operation::Groups, call).await
    }

    async fn latest_time_ms(&self) -> Result<i64, StoreError> {
        let call = self.store.latest_time_ms();
        self.hooked(Operation::LatestTime, call).await
    }

    async fn signing_key(&self) -> Result<[u8; 32], StoreError> {
        let call = self.store.signing_key();
        self.hooked(Operation::SigningKey, call).await
    }
}

#[async_trait]
impl<S: Store, H: StoreHooks> StoreAdmin for HookedStore<S, H> {
    fn describe(&self) -> String {
        self.store.describe()
    }

    fn is_durable(&self) -> bool {
        self.store.is_durable()
    }

    fn shortage(&self) -> Option<String> {
        self.store.shortage()
    }

    fn reclaim_progress(&self) -> Option<ReclaimProgress> {
        self.store.reclaim_progress()
    }

    async fn cleaning_due(&self) {
        self.store.cleaning_due().await;
    }

    fn ledger(&self) -> Ledger {
        self.store.ledger()
    }

    fn ledgers(&self, after: Uid, limit: usize) -> Vec<(Uid, Ledger)> {
        self.store.ledgers(after, limit)
    }

    async fn snapshot(&self, limit: usize) -> Result<Snapshot, SaveError> {
        let call = self.store.snapshot(limit);
        self.hooked(Operation::Snapshot, call).await
    }

    async fn replace(&self, snapshot: Snapshot) -> Result<(), ReplaceError> {
        let call = self.store.replace(snapshot);
        self.hooked(Operation::Replace, call).await
    }

    async fn clean(&self, now: i64) -> Result<u64, StoreError> {
        let call = self.store.clean(now);
        self.hooked(Operation::Clean, call).await
    }

    async fn failed(&self) -> StoreError {
        tokio::select! {
            error = self.store.failed() => error,
            error = self.hooks.failed() => error,
        }
    }

    async fn close(&self) -> Result<(), StoreError> {
        self.hooked(Operation::Close, self.store.close()).await
    }
}
