//! One state of all records, as readers see it.
//!
//! Serves all modules that read records. A view shows the records as of one commit for as long as it exists, whatever
//! is written meanwhile; until it is dropped, the engine keeps the files of that state.

use std::sync::Arc;

use fjall::{Keyspace, Readable, Snapshot as EngineSnapshot};

use super::super::kv::{Key, Value};
use super::super::record::{self, NumberRecord, Record, STATE, StateRecord};
use super::error::EngineError;
use crate::id::{GroupId, Uid};

/// All records as of one commit. Later commits don't change what a view returns.
pub struct View<'a> {
    records: &'a Keyspace,
    snapshot: Arc<EngineSnapshot>,
}

impl<'a> View<'a> {
    /// Creates the view of a snapshot.
    pub fn new(records: &'a Keyspace, snapshot: Arc<EngineSnapshot>) -> Self {
        View { records, snapshot }
    }

    /// Reads the record with this key.
    ///
    /// # Errors
    ///
    /// When the record can't be read, or is damaged.
    pub fn get<R: Record>(&self, key: &[u8]) -> Result<Option<R>, EngineError> {
        match self.snapshot.get(self.records, key)? {
            Some(value) => Ok(Some(R::decode_checked(key, &value)?)),
            None => Ok(None),
        }
    }

    /// Returns the records from key `first` to key `last`, both included, by key.
    pub fn range(
        &self,
        first: &[u8],
        last: &[u8],
    ) -> impl DoubleEndedIterator<Item = Result<(Key, Value), EngineError>> + use<> {
        let range = self.snapshot.range(self.records, first..=last);
        range.map(|guard| Ok(guard.into_inner()?))
    }

    /// Returns the records whose keys begin with `prefix`, by key; all records if the prefix is empty.
    pub fn prefix(
        &self,
        prefix: &[u8],
    ) -> impl DoubleEndedIterator<Item = Result<(Key, Value), EngineError>> + use<> {
        let found = self.snapshot.prefix(self.records, prefix);
        found.map(|guard| Ok(guard.into_inner()?))
    }

    /// Reads a number; 0 if there is none.
    ///
    /// # Errors
    ///
    /// As [`get`](Self::get).
    pub fn number(&self, key: &[u8]) -> Result<i64, EngineError> {
        let stored: Option<NumberRecord> = self.get(key)?;
        Ok(stored.map_or(0, |number| number.value))
    }

    /// Reads the members of a group, by uid. Empty if there is no such group.
    ///
    /// # Errors
    ///
    /// When one of them can't be read.
    pub fn members(&self, group: GroupId) -> Result<Vec<Uid>, EngineError> {
        let members = self.prefix(&record::members_prefix(group));
        members
            .map(|found| Ok(record::last_number(&found?.0)))
            .collect()
    }

    /// Reads the state that the last commit wrote.
    ///
    /// # Errors
    ///
    /// As [`get`](Self::get).
    pub fn state(&self) -> Result<StateRecord, EngineError> {
        Ok(self.get(STATE)?.unwrap_or_default())
    }
}
