//! Reads pages of inboxes from the engine.
//!
//! Serves the store, for pages with entries that are not in the cache `recent`, and `inspect`, for single messages. The
//! entries of a page follow one another: a gap that retention does not explain is an error.

use std::sync::Arc;

use super::bounds::InboxBounds;
use super::engine::{EngineError, View};
use super::record::{self, Damaged, EntryRecord, Record, SharedMessageRecord, tag};
use crate::id::{Uid, Version};
use crate::store::page_builder::PageBuilder;
use crate::store::{Entry, Message, Page, PageLimit};

/// Returns the entries of an inbox after version `after`.
///
/// # Errors
///
/// [`EngineError`] when an entry of the page can't be read, is damaged or is missing.
pub fn page(
    view: &View<'_>,
    uid: Uid,
    after: Version,
    limit: PageLimit,
) -> Result<Page, EngineError> {
    let after = after.max(Version::START);
    let mut page = PageBuilder::new(uid, after, limit);
    let first = record::entry_key(uid, after.saturating_add(1));
    let mut found = view.range(&first, &record::entry_key(uid, Version::MAX));
    while !page.is_full() {
        let Some(found) = found.next() else {
            if page.is_empty() {
                return empty_page(view, uid, after, limit);
            }
            // The iteration has come to the end of the inbox, so its total need not be read.
            let total = page.current();
            return Ok(page.finish(total));
        };
        let (key, value) = found?;
        let version = record::last_number(&key);
        if version != page.current() + 1 {
            // Retention removes the oldest entries, so only a page that begins with them can have a gap before it.
            let trimmed_through = if page.is_empty() {
                InboxBounds::read(view, uid)?.trimmed_through
            } else {
                Version::START
            };
            if version != trimmed_through + 1 {
                let version = page.current() + 1;
                return Err(EngineError::Missing { uid, version });
            }
            page.begin_after(trimmed_through);
        }
        let message = Arc::new(message(view, &key, &value)?);
        if !page.add(Entry { version, message }) {
            break;
        }
    }
    let total = InboxBounds::read(view, uid)?.total;
    Ok(page.finish(total))
}

/// Returns the page of an inbox that has no entry after version `after`.
fn empty_page(
    view: &View<'_>,
    uid: Uid,
    after: Version,
    limit: PageLimit,
) -> Result<Page, EngineError> {
    let InboxBounds {
        total,
        trimmed_through,
        ..
    } = InboxBounds::read(view, uid)?;
    // A version beyond the inbox comes from contents that the store no longer has.
    if after > total && total > Version::START {
        return page(view, uid, Version::START, limit);
    }
    Ok(Page {
        entries: Vec::new(),
        current: after.max(trimmed_through).min(total),
        total,
    })
}

/// Returns the message of an entry. A message to a group is read from the record that the entries of its receivers
/// share.
///
/// # Errors
///
/// [`EngineError`] when the message is damaged or missing.
pub fn message(view: &View<'_>, key: &[u8], value: &[u8]) -> Result<Message, EngineError> {
    let entry = EntryRecord::decode_checked(key, value)?;
    let message = match entry.message {
        Some(message) => message,
        None => {
            let shared: Option<SharedMessageRecord> =
                view.get(&record::shared_key(entry.shared))?;
            let shared = shared.ok_or(EngineError::NoSharedMessage(entry.shared))?;
            shared.message.ok_or(Damaged(tag::SHARED_MESSAGE))?
        }
    };
    Ok(message.message().ok_or(Damaged::at(key))?)
}
