//! The secret that signs login tokens.
//!
//! Serves the store when it opens. The secret is a record of the store, so that tokens outlive a restart. It is made
//! once, and a replacement of the contents leaves it as it is.

use std::path::Path;

use super::super::engine::Engine;
use super::super::errors::OpenError;
use super::super::record::{Record, SIGNING_KEY, SecretRecord, StateRecord};

/// Reads the store's signing key, and gives a new store one. Returns the state after that.
///
/// # Errors
///
/// When the key can't be read or written, or has a wrong length.
pub fn signing_key(
    path: &Path,
    engine: &Engine,
    state: StateRecord,
) -> Result<(StateRecord, [u8; 32]), OpenError> {
    let found: Option<SecretRecord> = engine
        .view()
        .get(SIGNING_KEY)
        .map_err(|error| OpenError::damaged(path, error).of_engine())?;
    if let Some(found) = found {
        let key = found.secret.try_into();
        let wrong = |_| OpenError::damaged(path, "its signing key has a wrong length").of_engine();
        return Ok((state, key.map_err(wrong)?));
    }
    let key: [u8; 32] = rand::random();
    let secret = SecretRecord {
        secret: key.to_vec(),
    };
    let state = state.next();
    let sealed = secret.seal(SIGNING_KEY, &mut Vec::new());
    let written = engine.write(vec![(SIGNING_KEY.into(), Some(sealed)), state.change()]);
    let synced = written.and_then(|()| engine.sync());
    synced.map_err(|error| OpenError::engine(path, error))?;
    engine.publish();
    Ok((state, key))
}
