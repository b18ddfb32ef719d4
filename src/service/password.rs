use std::sync::Arc;

use argon2::Argon2;
use argon2::password_hash::phc::PasswordHash;
use argon2::password_hash::{PasswordHasher, PasswordVerifier};
use tokio::sync::Semaphore;

/// How many hashes are computed at once: each takes 19 MiB and a processor.
const AT_ONCE: usize = 4;

/// The hashing itself has failed.
#[derive(Debug, thiserror::Error)]
#[error("the password can't be hashed: {0}")]
pub struct HashingFailed(String);

/// Hashes and checks passwords with argon2id, off the runtime's threads.
#[derive(Debug)]
pub(super) struct Passwords {
    places: Arc<Semaphore>,
}

impl Default for Passwords {
    fn default() -> Self {
        Passwords {
            places: Arc::new(Semaphore::new(AT_ONCE)),
        }
    }
}

impl Passwords {
    /// A hash in PHC form, with a salt of its own.
    pub async fn hash(&self, password: String) -> Result<String, HashingFailed> {
        let hashed = self
            .run(move || Argon2::default().hash_password(password.as_bytes()))
            .await?;
        hashed
            .map(|hash| hash.to_string())
            .map_err(|error| HashingFailed(error.to_string()))
    }

    /// Whether the password has this hash.
    pub async fn matches(&self, password: String, hash: String) -> Result<bool, HashingFailed> {
        self.run(move || {
            let hash = PasswordHash::new(&hash).map_err(|e| HashingFailed(e.to_string()))?;
            Ok(Argon2::default()
                .verify_password(password.as_bytes(), &hash)
                .is_ok())
        })
        .await?
    }

    /// Runs one computation. It keeps its place until it ends, also when nobody waits for it any more.
    async fn run<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, HashingFailed> {
        let place = Arc::clone(&self.places)
            .acquire_owned()
            .await
            .map_err(|error| HashingFailed(error.to_string()))?;
        tokio::task::spawn_blocking(move || {
            let _place = place;
            work()
        })
        .await
        .map_err(|error| HashingFailed(error.to_string()))
    }
}
