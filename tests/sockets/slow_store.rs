//! A store that fails: every request is still answered, by its own reply.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use async_trait::async_trait;
use imd::proto::Cmd;
use imd::store::{
    Committed, Ledger, Level, MemoryStore, Page, PageLimit, Store, StoreFailed, User, Write,
};
use imd::{Config, Imd};

use crate::support::{Wire, access, login, post, user};

#[derive(Debug)]
struct Failing {
    store: MemoryStore,
    broken: AtomicBool,
}

impl Failing {
    fn check(&self) -> Result<(), StoreFailed> {
        if self.broken.load(Ordering::SeqCst) {
            return Err(StoreFailed("on purpose".into()));
        }
        Ok(())
    }
}

#[async_trait]
impl Store for Failing {
    fn describe(&self) -> String {
        "failing".into()
    }
    async fn commit(&self, batch: Vec<Write>) -> Result<Committed, StoreFailed> {
        self.check()?;
        self.store.commit(batch).await
    }
    async fn sync(&self, uid: i64, after: i64, limit: PageLimit) -> Result<Page, StoreFailed> {
        self.check()?;
        self.store.sync(uid, after, limit).await
    }
    async fn level(&self, uid: i64) -> Result<Level, StoreFailed> {
        self.check()?;
        self.store.level(uid).await
    }
    async fn user(&self, uid: i64) -> Result<Option<User>, StoreFailed> {
        self.check()?;
        self.store.user(uid).await
    }
    async fn signing_key(&self) -> Result<[u8; 32], StoreFailed> {
        self.store.signing_key().await
    }
    fn ledger(&self) -> Ledger {
        self.store.ledger()
    }
    async fn flush(&self) -> Result<(), StoreFailed> {
        self.check()
    }
}

#[tokio::test]
async fn a_failing_store_is_answered_90001_everywhere() {
    let store = Arc::new(Failing {
        store: MemoryStore::new(1 << 20),
        broken: AtomicBool::new(false),
    });
    let imd = Imd::start_with_store(Config::ephemeral(), store.clone())
        .await
        .unwrap();
    let mut ann = user(&imd, 1).await;
    store.broken.store(true, Ordering::SeqCst);

    let reply = ann.p2p(2, "m", "x").await;
    assert_eq!(
        (reply.err_code, reply.err_str.as_str(), reply.target_uid),
        (90001, "server error", 2)
    );
    let reply = ann.group(5, "g", "x").await;
    assert_eq!((reply.err_code, reply.group_id), (90001, 5));
    assert_eq!(ann.accept(2, "m").await.err_code, 90001);
    let reply = ann.sync(7, 0).await;
    assert_eq!((reply.err_code, reply.current_id), (90001, 7));
    let mut bob = Wire::connect(access(&imd)).await;
    bob.send(&login(&imd, 2)).await;
    assert_eq!(bob.error(Cmd::Login, 90001).await, "server error");
    assert!(!imd.is_online(2));
    let (_, answer) = post(imd.user_api_addr(), "/x/user/register", "uid=9").await;
    assert_eq!(answer["code"], 90001);
    ann.ping().await;

    store.broken.store(false, Ordering::SeqCst);
    assert_eq!(ann.p2p(2, "m", "x").await.err_code, 0);
    bob.login(&imd, 2).await;
    assert_eq!(bob.notified().await, (0, 1));
    assert_eq!(imd.report().refused, 2);
}
