//! Pages: how one is filled, also from memory, and those straight from the engine.

use std::sync::Arc;

use super::draft::Head;
use super::engine::{EngineError, View};
use super::record::{self, Damaged, EntryRecord, Record, TextRecord};
use crate::id::{Uid, Version};
use crate::store::{Entry, Message, Page, PageLimit};

/// A page in the making.
pub struct Filling {
    uid: Uid,
    /// How far it goes.
    current: Version,
    entries: Vec<Entry>,
    /// How much it may hold, and how many bytes of that are left.
    limit: PageLimit,
}

impl Filling {
    /// An empty one, of what follows version `current`.
    pub fn new(uid: Uid, current: Version, limit: PageLimit) -> Self {
        Filling {
            uid,
            current,
            entries: Vec::new(),
            limit,
        }
    }

    /// Whether it has as many entries as were asked for.
    pub fn is_full(&self) -> bool {
        self.limit.entries != 0 && self.entries.len() >= self.limit.entries
    }

    /// Adds the next entry, if it fits.
    pub fn add(&mut self, entry: Entry) -> bool {
        match self.limit.bytes.checked_sub(entry.in_page(self.uid).size()) {
            Some(left) => self.limit.bytes = left,
            None => return false,
        }
        self.current = entry.version;
        self.entries.push(entry);
        true
    }

    /// The page, of an inbox that goes to `total`.
    pub fn page(self, total: Version) -> Page {
        Page {
            entries: self.entries,
            current: self.current,
            total,
        }
    }
}

/// The entries of an inbox after version `after`.
///
/// # Errors
///
/// When one of them can't be read, is damaged or is missing.
pub fn page(
    view: &View<'_>,
    uid: Uid,
    after: Version,
    limit: PageLimit,
) -> Result<Page, EngineError> {
    let after = after.max(Version::START);
    let mut filling = Filling::new(uid, after, limit);
    let first = record::inbox_key(uid, after.saturating_add(1));
    let mut found = view.range(&first, &record::inbox_key(uid, Version::MAX));
    while !filling.is_full() {
        let Some(found) = found.next() else {
            if filling.entries.is_empty() {
                return empty_page(view, uid, after, limit);
            }
            // The end was seen: there is no need to look for it.
            let total = filling.current;
            return Ok(filling.page(total));
        };
        let (key, value) = found?;
        let version = record::last_number(&key);
        if version != filling.current + 1 {
            // Only what was removed may be missing, and that is always the oldest.
            let cut = if filling.entries.is_empty() {
                Head::read(view, uid)?.cut
            } else {
                Version::START
            };
            if version != cut + 1 {
                let version = filling.current + 1;
                return Err(EngineError::Missing { uid, version });
            }
            filling.current = cut;
        }
        let message = Arc::new(message(view, &key, &value)?);
        if !filling.add(Entry { version, message }) {
            break;
        }
    }
    let total = Head::read(view, uid)?.total;
    Ok(filling.page(total))
}

/// What is answered where there is nothing after `after`.
fn empty_page(
    view: &View<'_>,
    uid: Uid,
    after: Version,
    limit: PageLimit,
) -> Result<Page, EngineError> {
    let Head { total, cut, .. } = Head::read(view, uid)?;
    // Beyond the inbox: from another life of the store.
    if after > total && total > Version::START {
        return page(view, uid, Version::START, limit);
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
    Ok(message.message().ok_or(Damaged::at(key))?)
}
