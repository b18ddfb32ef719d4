//! Removing what is old, beside everything else: what can go is looked up by readers, and removed by the writer in
//! small commits.

use super::DurableStore;
use super::draft::Head;
use super::engine::{EngineError, Key, View};
use super::record::{self, EXPIRING, EntryRecord, Record};
use super::writer::Job;
use crate::id::{Uid, Version};
use crate::store::{Retention, StoreError, keep_ids_from};

/// Inboxes that are looked at in one read.
const INBOXES: usize = 256;

/// Entries of an inbox that are looked at in one read, and removed in one commit.
const ENTRIES: i64 = 512;

/// Ids that are forgotten in one commit.
const IDS: usize = 512;

/// An inbox from which entries can go.
struct Old {
    uid: Uid,
    /// Up to this version.
    through: Version,
    /// Whether more may follow.
    is_more: bool,
}

/// Removes what the retention of a store lets go.
///
/// # Errors
///
/// When the store can't be read or written.
pub async fn clean(store: &DurableStore, now: i64) -> Result<u64, StoreError> {
    let retention = store.retention;
    if retention.is_off() {
        return Ok(0);
    }
    // Asked before anything is read, so that nothing of an older life passes for a part of this one.
    let life = store.shared.life();
    let mut removed = 0;
    let mut next = Some(Uid::default());
    while let Some(uid) = next
        && store.shared.life() == life
    {
        let (old, following) = store
            .read(move |view| look(view, uid, retention, now))
            .await?;
        next = following;
        for mut old in old {
            loop {
                let trimmed = trim(store, life, &old, now).await?;
                removed += trimmed;
                // Without room, over damage, or in another life, nothing is removed: then there is no sense in going on.
                if trimmed == 0 || !old.is_more {
                    break;
                }
                let uid = old.uid;
                let further = store
                    .read(move |view| Ok(oldest_or_none(view, uid, retention, now)))
                    .await?;
                match further {
                    Some(further) => old = further,
                    None => break,
                }
            }
        }
    }
    expire(store, life, now).await?;
    Ok(removed)
}

async fn trim(store: &DurableStore, life: u64, old: &Old, now: i64) -> Result<u64, StoreError> {
    let &Old { uid, through, .. } = old;
    let removed = store.ask(|answer| Job::Trim {
        life,
        uid,
        through,
        now,
        answer,
    });
    match removed.await? {
        Ok(removed) => Ok(removed),
        Err(error) => {
            // The other inboxes need not suffer for it.
            tracing::error!(%error, uid = uid.0, "old messages were not removed");
            Ok(0)
        }
    }
}

/// Looks at some inboxes, from the user `uid` on. Answers what can go, and where to go on.
fn look(
    view: &View<'_>,
    mut uid: Uid,
    retention: Retention,
    now: i64,
) -> Result<(Vec<Old>, Option<Uid>), EngineError> {
    let mut old = Vec::new();
    for _ in 0..INBOXES {
        let (first, last) = (
            record::inbox_key(uid, Version::START),
            record::inbox_key(Uid::MAX, Version::MAX),
        );
        let found = view.range(&first, &last).next().transpose()?;
        let Some((key, _)) = found else {
            return Ok((old, None));
        };
        uid = record::first_number(&key);
        old.extend(oldest_or_none(view, uid, retention, now));
        let Some(following) = uid.checked_add(1) else {
            return Ok((old, None));
        };
        uid = following;
    }
    Ok((old, Some(uid)))
}

/// What can go of an inbox, if it can be read. The other inboxes need not suffer for one that can't.
fn oldest_or_none(view: &View<'_>, uid: Uid, retention: Retention, now: i64) -> Option<Old> {
    oldest(view, uid, retention, now).unwrap_or_else(|error| {
        tracing::error!(%error, uid = uid.0, "old messages were not removed");
        None
    })
}

/// What can go of an inbox now, in one commit.
fn oldest(
    view: &View<'_>,
    uid: Uid,
    retention: Retention,
    now: i64,
) -> Result<Option<Old>, EngineError> {
    let Head { total, cut, .. } = Head::read(view, uid)?;
    let most = cut.saturating_add(ENTRIES).min(total);
    let mut through = cut;
    if let Some(max) = retention.max_inbox {
        let max = i64::try_from(max).unwrap_or(i64::MAX);
        through = through.max(total.saturating_sub(max)).min(most);
    }
    if retention.keep.is_some() {
        let young = retention.keep_from(now);
        let (first, last) = (
            record::inbox_key(uid, through + 1),
            record::inbox_key(uid, most),
        );
        for found in view.range(&first, &last) {
            let (key, value) = found?;
            if EntryRecord::open(&key, &value)?.sent_at() >= young {
                break;
            }
            through = record::last_number(&key);
        }
    }
    Ok((through > cut).then_some(Old {
        uid,
        through,
        is_more: through == most && most < total,
    }))
}

/// Forgets the ids whose time has come.
async fn expire(store: &DurableStore, life: u64, now: i64) -> Result<(), StoreError> {
    loop {
        let keys = store.read(move |view| due(view, now)).await?;
        if keys.is_empty() {
            return Ok(());
        }
        let forgotten = store.ask(|answer| Job::Expire { life, keys, answer });
        if forgotten.await?? < IDS as u64 {
            return Ok(());
        }
    }
}

/// The next ids whose time has come.
fn due(view: &View<'_>, now: i64) -> Result<Vec<Key>, EngineError> {
    let mut keys = Vec::new();
    for found in view.prefix(EXPIRING).take(IDS) {
        let (key, _) = found?;
        match record::expiring(&key) {
            Some((sent_at, _)) if sent_at < keep_ids_from(now) => keys.push(key),
            _ => break,
        }
    }
    Ok(keys)
}
