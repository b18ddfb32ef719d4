//! Makes durable stores for the contract suite, each in a temporary folder that is removed after the store is dropped.

use std::sync::Arc;

use imd::config;
use imd::store::{DurableStore, Retention, Store};

use crate::hooked_store::HookedStore;

/// Opens a new durable store that keeps what `retention` says when it is cleaned.
pub async fn make(retention: Retention) -> Arc<dyn Store> {
    let folder = tempfile::tempdir().unwrap();
    let config = config::Store {
        keep: retention.keep,
        max_inbox: retention.max_inbox,
        ..config::Store::default()
    };
    let store = DurableStore::open(folder.path(), &config).unwrap();
    Arc::new(HookedStore {
        store,
        hooks: folder,
    })
}
