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

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Barrier;
    use std::sync::atomic::{AtomicUsize, Ordering};

    #[tokio::test]
    async fn a_password_matches_its_own_hash_alone() {
        let passwords = Passwords::default();
        let hash = passwords.hash("secret".into()).await.unwrap();
        assert!(hash.starts_with("$argon2id$"));
        assert_ne!(
            hash,
            passwords.hash("secret".into()).await.unwrap(),
            "each has its own salt"
        );
        assert!(
            passwords
                .matches("secret".into(), hash.clone())
                .await
                .unwrap()
        );
        assert!(!passwords.matches("Secret".into(), hash).await.unwrap());
    }

    #[tokio::test]
    async fn four_are_computed_at_once_and_no_more() {
        let passwords = Arc::new(Passwords::default());
        let (running, most) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
        // Nobody goes on before four are there.
        let four = Arc::new(Barrier::new(AT_ONCE));
        let tasks: Vec<_> = (0..3 * AT_ONCE)
            .map(|_| {
                let passwords = Arc::clone(&passwords);
                let (running, most) = (Arc::clone(&running), Arc::clone(&most));
                let four = Arc::clone(&four);
                tokio::spawn(async move {
                    let work = move || {
                        most.fetch_max(
                            running.fetch_add(1, Ordering::SeqCst) + 1,
                            Ordering::SeqCst,
                        );
                        four.wait();
                        running.fetch_sub(1, Ordering::SeqCst);
                    };
                    passwords.run(work).await.unwrap();
                })
            })
            .collect();
        for task in tasks {
            task.await.unwrap();
        }
        assert_eq!(most.load(Ordering::SeqCst), AT_ONCE);
    }
}
