//! Finds out the [highest id record](StateRecord::highest_id_record) of a folder that does not tell it.
//!
//! Serves the store when it opens. A folder of an earlier `imd` has no such number, and loses it if an earlier `imd` writes to
//! it in between. The next commit stores it.

use super::super::engine::{Engine, EngineError, View};
use super::super::record::{self, Damaged, StateRecord};
use crate::store::ordered_id::number_of;

/// Returns `state` with the highest id record. It stays unknown if the ids can't be read: then every id is looked for.
pub fn with_highest_id_record(engine: &Engine, state: StateRecord) -> StateRecord {
    let known = state.highest_id_record;
    StateRecord {
        highest_id_record: known.or_else(|| highest_id_record(&engine.view()).ok()),
        ..state
    }
}

fn highest_id_record(view: &View<'_>) -> Result<i64, EngineError> {
    let mut highest = 0;
    for found in view.prefix(&record::p2p_ids_prefix()) {
        let (key, _) = found?;
        let (_, _, msg_id, _) = record::id_parts(&key).ok_or_else(|| Damaged::at(&key))?;
        highest = highest.max(number_of(msg_id).unwrap_or(0));
    }
    Ok(highest)
}
