use std::sync::Arc;

use argon2::password_hash::phc::{Output, ParamsString, PasswordHash, Salt};
use argon2::{Algorithm, Argon2, Block, Params, Version};
use parking_lot::Mutex;
use tokio::sync::Semaphore;

/// How many hashes are computed at once: each takes 19 MiB and a processor.
const AT_ONCE: usize = 4;

/// The hashing itself has failed.
#[derive(Debug, thiserror::Error)]
#[error("the password can't be hashed: {0}")]
pub struct HashingFailed(String);

impl HashingFailed {
    fn because(error: impl std::fmt::Display) -> Self {
        HashingFailed(error.to_string())
    }
}

/// Hashes and checks passwords with argon2id, off the runtime's threads.
#[derive(Debug)]
pub(super) struct Passwords {
    places: Arc<Semaphore>,
    /// The memory of computations that are over. Allocating it anew for each leaves holes of its size on the heap of
    /// every thread, which add up to a gigabyte.
    memory: Arc<Mutex<Vec<Vec<Block>>>>,
}

impl Default for Passwords {
    fn default() -> Self {
        Passwords {
            places: Arc::new(Semaphore::new(AT_ONCE)),
            memory: Arc::default(),
        }
    }
}

impl Passwords {
    /// A hash in PHC form, with a salt of its own.
    pub async fn hash(&self, password: String) -> Result<String, HashingFailed> {
        self.run(move |memory| {
            let (params, salt) = (Params::default(), Salt::generate());
            let output = compute(&password, &salt, &params, memory)?;
            let hash = PasswordHash {
                algorithm: Algorithm::Argon2id.ident(),
                version: Some(Version::V0x13.into()),
                params: ParamsString::try_from(&params).map_err(HashingFailed::because)?,
                salt: Some(salt),
                hash: Some(output),
            };
            Ok(hash.to_string())
        })
        .await?
    }

    /// Whether the password has this hash.
    pub async fn matches(&self, password: String, hash: String) -> Result<bool, HashingFailed> {
        self.run(move |memory| {
            let hash = PasswordHash::new(&hash).map_err(HashingFailed::because)?;
            let (Some(salt), Some(expected)) = (&hash.salt, &hash.hash) else {
                return Err(HashingFailed("the stored hash is not whole".into()));
            };
            let params = Params::try_from(&hash).map_err(HashingFailed::because)?;
            // Outputs are compared in constant time.
            Ok(compute(&password, salt, &params, memory)? == *expected)
        })
        .await?
    }

    /// Runs one computation. It keeps its place until it ends, also when nobody waits for it any more.
    async fn run<T: Send + 'static>(
        &self,
        work: impl FnOnce(&mut Vec<Block>) -> T + Send + 'static,
    ) -> Result<T, HashingFailed> {
        let place = Arc::clone(&self.places)
            .acquire_owned()
            .await
            .map_err(HashingFailed::because)?;
        let memory = Arc::clone(&self.memory);
        tokio::task::spawn_blocking(move || {
            let _place = place;
            let mut blocks = memory.lock().pop().unwrap_or_default();
            let result = work(&mut blocks);
            memory.lock().push(blocks);
            result
        })
        .await
        .map_err(HashingFailed::because)
    }
}

fn compute(
    password: &str,
    salt: &Salt,
    params: &Params,
    memory: &mut Vec<Block>,
) -> Result<Output, HashingFailed> {
    memory.resize(params.block_count().max(memory.len()), Block::default());
    let mut output = [0; Params::DEFAULT_OUTPUT_LEN];
    Argon2::new(Algorithm::Argon2id, Version::V0x13, params.clone())
        .hash_password_into_with_memory(
            password.as_bytes(),
            salt,
            &mut output,
            memory.as_mut_slice(),
        )
        .map_err(HashingFailed::because)?;
    Output::new(&output).map_err(HashingFailed::because)
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
        assert_eq!(
            passwords.memory.lock().len(),
            1,
            "one after the other, in the same memory"
        );
    }

    /// The form and its numbers are argon2's own, so that other programs read them too.
    #[tokio::test]
    async fn argon2_itself_agrees() {
        use argon2::password_hash::{PasswordHasher, PasswordVerifier};
        let passwords = Passwords::default();
        let ours = passwords.hash("secret".into()).await.unwrap();
        let parsed = PasswordHash::new(&ours).unwrap();
        assert!(
            Argon2::default()
                .verify_password(b"secret", &parsed)
                .is_ok()
        );
        let theirs = Argon2::default()
            .hash_password(b"secret")
            .unwrap()
            .to_string();
        assert!(
            passwords
                .matches("secret".into(), theirs.clone())
                .await
                .unwrap()
        );
        assert!(!passwords.matches("other".into(), theirs).await.unwrap());
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
                    let work = move |_: &mut Vec<Block>| {
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
