//! Walks over records, also behind those that can't be read.
//!
//! Serves `check` and `dump`, which have to go on where the store's own readers would fail.

use super::super::engine::{EngineError, View};
use super::super::kv::{Key, Value};
use super::super::record::{self, tag};
use crate::id::Uid;

/// An iterator over all records under a prefix, by key.
///
/// After a record that can't be read, the walk goes on behind its inbox, or behind all records of its kind. It yields
/// the sentence that says what it has left out.
pub struct Walk<'a> {
    view: &'a View<'a>,
    prefix: Key,
    found: Box<dyn Iterator<Item = Result<RawRecord, EngineError>> + 'a>,
    /// The last key that was read since the walk last skipped records; none before.
    last: Option<Vec<u8>>,
    /// The kind of the records that are read now: the first byte of their keys.
    kind: u8,
}

/// A key and its value.
pub type RawRecord = (Vec<u8>, Vec<u8>);

impl<'a> Walk<'a> {
    /// Creates the walk over all records whose keys begin with `prefix`.
    pub fn new(view: &'a View<'a>, prefix: Key) -> Self {
        let from = prefix.clone();
        let mut walk = Walk {
            view,
            kind: prefix.first().copied().unwrap_or_default(),
            prefix,
            found: Box::new(std::iter::empty()),
            last: None,
        };
        walk.begin(&from);
        walk
    }

    fn begin(&mut self, from: &[u8]) {
        let end = [self.prefix.as_slice(), &[u8::MAX; 64]].concat();
        let found = self.view.range(from, &end);
        let to_vecs = |(key, value): (Key, Value)| (key.to_vec(), value.to_vec());
        self.found = Box::new(found.map(move |found| found.map(to_vecs)));
        self.last = None;
    }

    /// Continues with the next inbox, or with the next kind of record. Returns the sentence that says what is left out.
    fn skip(&mut self, error: &EngineError) -> String {
        let inbox = match &self.last {
            Some(last) if last.first() == Some(&tag::ENTRY) => {
                Some(record::first_number::<Uid>(last))
            }
            _ => None,
        };
        let (from, what) = match inbox {
            Some(uid) => {
                let next = record::inbox_prefix(uid.saturating_add(1));
                (next, format!("the rest of the inbox of {uid}"))
            }
            None => {
                let kind = char::from(self.kind);
                self.kind = self.kind.saturating_add(1);
                (
                    Key::from([self.kind]),
                    format!("the rest of the records of kind {kind:?}"),
                )
            }
        };
        if from.starts_with(&self.prefix) {
            self.begin(&from);
        } else {
            self.found = Box::new(std::iter::empty());
        }
        format!("{what} can't be read: {error}")
    }
}

impl Iterator for Walk<'_> {
    type Item = Result<RawRecord, String>;

    fn next(&mut self) -> Option<Self::Item> {
        match self.found.next()? {
            Ok((key, value)) => {
                self.kind = key.first().copied().unwrap_or_default();
                self.last = Some(key.clone());
                Some(Ok((key, value)))
            }
            Err(error) => Some(Err(self.skip(&error))),
        }
    }
}
