//! Pages, straight from the engine.

use std::sync::Arc;

use super::draft::Head;
use super::engine::{EngineError, View};
use super::record::{self, Damaged, EntryRecord, Record, TextRecord};
use crate::store::{Entry, Message, Page, PageLimit};

/// The entries of an inbox after version `after`.
///
/// # Errors
///
/// When one of them can't be read, is damaged or is missing.
pub fn page(view: &View<'_>, uid: i64, after: i64, limit: PageLimit) -> Result<Page, EngineError> {
    let mut current = after.max(0);
    let most = if limit.entries == 0 {
        usize::MAX
    } else {
        limit.entries
    };
    let mut room = limit.bytes;
    let mut entries: Vec<Entry> = Vec::new();
    let first = record::inbox_key(uid, current.saturating_add(1));
    let mut found = view.range(&first, &record::inbox_key(uid, i64::MAX));
    while entries.len() < most {
        let Some(found) = found.next() else {
            if entries.is_empty() {
                return empty_page(view, uid, current, limit);
            }
            // The end was seen: there is no need to look for it.
            return Ok(Page {
                entries,
                current,
                total: current,
            });
        };
        let (key, value) = found?;
        let version = record::last_number(&key);
        if version != current + 1 {
            // Only what was removed may be missing, and that is always the oldest.
            let cut = if entries.is_empty() {
                Head::read(view, uid)?.cut
            } else {
                0
            };
            if version != cut + 1 {
                let version = current + 1;
                return Err(EngineError::Missing { uid, version });
            }
            current = cut;
        }
        let entry = Entry {
            version,
            message: Arc::new(message(view, &key, &value)?),
        };
        match room.checked_sub(entry.wire_len(uid)) {
            Some(left) => room = left,
            None => break,
        }
        current = version;
        entries.push(entry);
    }
    let total = Head::read(view, uid)?.total;
    Ok(Page {
        entries,
        current,
        total,
    })
}

/// What is answered where there is nothing after `after`.
fn empty_page(
    view: &View<'_>,
    uid: i64,
    after: i64,
    limit: PageLimit,
) -> Result<Page, EngineError> {
    let Head { total, cut, .. } = Head::read(view, uid)?;
    // Beyond the inbox: from another life of the store.
    if after > total && total > 0 {
        return page(view, uid, 0, limit);
    }
    Ok(Page {
        entries: Vec::new(),
        current: after.max(cut).min(total),
        total,
    })
}

/// The message of an entry, wherever it stands.
///
/// # Errors
///
/// When it is damaged or missing.
pub fn message(view: &View<'_>, key: &[u8], value: &[u8]) -> Result<Message, EngineError> {
    let entry = EntryRecord::open(key, value)?;
    let message = match entry.message {
        Some(message) => message,
        None => {
            let text: Option<TextRecord> = view.get(&record::text_key(entry.text))?;
            let text = text.ok_or(EngineError::NoText(entry.text))?;
            text.message.ok_or(Damaged(b't'))?
        }
    };
    Ok(message.into_message().ok_or(Damaged::at(key))?)
}
