//! Removes old entries and expired ids while everything else goes on.
//!
//! Serves [`StoreAdmin::clean`](crate::store::StoreAdmin::clean). Readers look up what can be removed, and the writer
//! removes it in small commits. What was found in one generation of the contents is never removed from another one.

use super::DurableStore;
use super::bounds::InboxBounds;
use super::engine::{EngineError, Key, View};
use super::record::{self, EXPIRING_ID_PREFIX, EntryRecord, Record};
use super::writer::Job;
use crate::id::{Uid, Version};
use crate::store::{Retention, StoreError, keep_ids_from};

/// The most inboxes that are examined in one read.
const INBOXES_PER_READ: usize = 256;

/// The most entries of an inbox that are examined in one read, and removed in one commit.
const ENTRIES_PER_TRIM: i64 = 512;

/// The most ids that are forgotten in one commit.
const IDS_PER_COMMIT: usize = 512;

/// Old entries of an inbox, which one commit can remove.
struct OldEntries {
    uid: Uid,
    /// The newest version that can be removed.
    through: Version,
    /// Whether there may be more old entries than one commit removes.
    is_more: bool,
}

/// Removes the entries and ids that the retention of a store lets go at the time `now`, in Unix milliseconds, and
/// returns how many entries it has removed.
///
/// # Errors
///
/// [`StoreError`] when the store can't be read or written. Inboxes that are damaged are skipped, and logged.
pub async fn clean(store: &DurableStore, now: i64) -> Result<u64, StoreError> {
    let retention = store.retention;
    if retention.is_off() {
        return Ok(0);
    }
    // The generation is taken before anything is read. If the contents are replaced meanwhile, the writer then refuses
    // to remove what was found in the older ones.
    let generation = store.shared.generation();
    let mut removed = 0;
    let mut next = Some(Uid::default());
    while let Some(uid) = next
        && store.shared.generation() == generation
    {
        let (old, following) = store
            .read(move |view| old_entries(view, uid, retention, now))
            .await?;
        next = following;
        for mut old in old {
            loop {
                let trimmed = trim(store, generation, &old, now).await?;
                removed += trimmed;
                // Nothing is removed where there is no space, a record is damaged, or the contents were replaced.
                // Another try would not remove anything either.
                if trimmed == 0 || !old.is_more {
                    break;
                }
                let uid = old.uid;
                let further = store
                    .read(move |view| Ok(old_entries_of(view, uid, retention, now)))
                    .await?;
                match further {
                    Some(further) => old = further,
                    None => break,
                }
            }
        }
    }
    expire(store, generation, now).await?;
    Ok(removed)
}

async fn trim(
    store: &DurableStore,
    generation: u64,
    old: &OldEntries,
    now: i64,
) -> Result<u64, StoreError> {
    let &OldEntries { uid, through, .. } = old;
    let removed = store.ask(|answer| Job::Trim {
        generation,
        uid,
        through,
        now,
        answer,
    });
    match removed.await? {
        Ok(removed) => Ok(removed),
        Err(error) => {
            // An inbox that can't be cleaned must not keep the others from being cleaned.
            tracing::error!(%error, uid = uid.0, "old messages were not removed");
            Ok(0)
        }
    }
}

/// Returns the old entries of the next [`INBOXES_PER_READ`] inboxes, from that of user `uid` on, and the user from whom
/// to go on; none after the last inbox.
fn old_entries(
    view: &View<'_>,
    mut uid: Uid,
    retention: Retention,
    now: i64,
) -> Result<(Vec<OldEntries>, Option<Uid>), EngineError> {
    let mut old = Vec::new();
    for _ in 0..INBOXES_PER_READ {
        let (first, last) = (
            record::entry_key(uid, Version::START),
            record::entry_key(Uid::MAX, Version::MAX),
        );
        let found = view.range(&first, &last).next().transpose()?;
        let Some((key, _)) = found else {
            return Ok((old, None));
        };
        uid = record::first_number(&key);
        old.extend(old_entries_of(view, uid, retention, now));
        let Some(following) = uid.checked_add(1) else {
            return Ok((old, None));
        };
        uid = following;
    }
    Ok((old, Some(uid)))
}

/// Returns the old entries of an inbox; none if the inbox can't be read, so that the other inboxes are cleaned
/// nonetheless.
fn old_entries_of(view: &View<'_>, uid: Uid, retention: Retention, now: i64) -> Option<OldEntries> {
    find_old_entries(view, uid, retention, now).unwrap_or_else(|error| {
        tracing::error!(%error, uid = uid.0, "old messages were not removed");
        None
    })
}

/// Returns the old entries of an inbox that one commit can remove.
fn find_old_entries(
    view: &View<'_>,
    uid: Uid,
    retention: Retention,
    now: i64,
) -> Result<Option<OldEntries>, EngineError> {
    let InboxBounds {
        total,
        trimmed_through,
        ..
    } = InboxBounds::read(view, uid)?;
    let last = trimmed_through.saturating_add(ENTRIES_PER_TRIM).min(total);
    let mut through = trimmed_through;
    if let Some(max) = retention.max_inbox {
        let max = i64::try_from(max).unwrap_or(i64::MAX);
        through = through.max(total.saturating_sub(max)).min(last);
    }
    if retention.keep.is_some() {
        let young = retention.keep_from(now);
        let (first_key, last_key) = (
            record::entry_key(uid, through + 1),
            record::entry_key(uid, last),
        );
        for found in view.range(&first_key, &last_key) {
            let (key, value) = found?;
            if EntryRecord::decode_checked(&key, &value)?.sent_at() >= young {
                break;
            }
            through = record::last_number(&key);
        }
    }
    Ok((through > trimmed_through).then_some(OldEntries {
        uid,
        through,
        is_more: through == last && last < total,
    }))
}

/// Forgets the ids that have expired.
async fn expire(store: &DurableStore, generation: u64, now: i64) -> Result<(), StoreError> {
    loop {
        let keys = store.read(move |view| expired(view, now)).await?;
        if keys.is_empty() {
            return Ok(());
        }
        let forgotten = store.ask(|answer| Job::Expire {
            generation,
            keys,
            answer,
        });
        if forgotten.await?? < IDS_PER_COMMIT as u64 {
            return Ok(());
        }
    }
}

/// Returns the keys of the next [`IDS_PER_COMMIT`] ids that have expired.
fn expired(view: &View<'_>, now: i64) -> Result<Vec<Key>, EngineError> {
    let mut keys = Vec::new();
    for found in view.prefix(EXPIRING_ID_PREFIX).take(IDS_PER_COMMIT) {
        let (key, _) = found?;
        match record::expiring(&key) {
            Some((sent_at, _)) if sent_at < keep_ids_from(now) => keys.push(key),
            _ => break,
        }
    }
    Ok(keys)
}
