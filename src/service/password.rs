//! Hashes passwords, and checks passwords against stored hashes.
//!
//! Serves `account`. At most [`MAX_CONCURRENT`] hashes are computed at once, on blocking threads, so that clients who try
//! passwords can take neither all processors nor unlimited memory, and no thread of the runtime is blocked.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use argon2::password_hash::phc::{Output, ParamsString, PasswordHash, Salt};
use argon2::{Algorithm, Argon2, Block, Params, Version};
use parking_lot::Mutex;
use tokio::sync::Semaphore;

use crate::id::Uid;
use crate::phc::StoredHash;

/// The largest number of hashes that are computed at once. Each takes a processor and 19 MiB. A hash from a snapshot or a
/// store's folder may take 64 MiB, so that all of them together take 256 MiB at most.
const MAX_CONCURRENT: usize = 4;

/// A password could not be hashed, or the stored hash can't be checked.
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
    /// One permit for each computation in progress.
    permits: Arc<Semaphore>,
    /// The memory of finished computations, for the next ones. If each allocated its own, the heaps of the threads would
    /// be left with holes of that size, which add up to a gigabyte.
    memory: Arc<Mutex<Vec<Vec<Block>>>>,
    /// Whether a stored hash was refused before. Only the first refusal is logged, since clients can try a password again
    /// and again.
    has_refused: AtomicBool,
}

impl Default for Passwords {
    fn default() -> Self {
        Passwords {
            permits: Arc::new(Semaphore::new(MAX_CONCURRENT)),
            memory: Arc::default(),
            has_refused: AtomicBool::new(false),
        }
    }
}

impl Passwords {
    /// Returns the hash of a password in PHC form, with a new salt.
    ///
    /// # Errors
    ///
    /// [`HashingFailed`], when the computation has failed.
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

    /// Returns whether the password has this hash, which is stored for `uid`.
    ///
    /// # Errors
    ///
    /// [`HashingFailed`], when the hash can't be read, or when checking it would take too much work: the folder of a store may
    /// hold any hash. Nothing is computed then.
    pub async fn matches(
        &self,
        uid: Uid,
        password: String,
        hash: &str,
    ) -> Result<bool, HashingFailed> {
        let stored = StoredHash::parse(hash).map_err(|refused| {
            if !self.has_refused.swap(true, Ordering::Relaxed) {
                tracing::error!(
                    uid = uid.0,
                    "no password is checked for this user: {refused}"
                );
            }
            HashingFailed::because(refused)
        })?;
        self.run(move |memory| {
            let output = compute(&password, &stored.salt, &stored.params, memory)?;
            // `Output` compares in constant time.
            Ok(output == stored.output)
        })
        .await?
    }

    /// Runs one computation on a blocking thread. It keeps its permit until it ends, even if this future is dropped.
    async fn run<T: Send + 'static>(
        &self,
        work: impl FnOnce(&mut Vec<Block>) -> T + Send + 'static,
    ) -> Result<T, HashingFailed> {
        let permit = Arc::clone(&self.permits)
            .acquire_owned()
            .await
            .map_err(HashingFailed::because)?;
        let memory = Arc::clone(&self.memory);
        tokio::task::spawn_blocking(move || {
            let _permit = permit;
            let mut blocks = memory.lock().pop().unwrap_or_default();
            let result = work(&mut blocks);
            // Memory beyond what a hash of this stack needs is freed, not kept.
            if blocks.len() <= Params::DEFAULT.block_count() {
                memory.lock().push(blocks);
            }
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
    let length = params.output_len().unwrap_or(Params::DEFAULT_OUTPUT_LEN);
    let argon2 = Argon2::new(Algorithm::Argon2id, Version::V0x13, params.clone());
    let mut output = vec![0; length];
    argon2
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
    use std::sync::atomic::AtomicUsize;

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
                .matches(Uid(7), "secret".into(), &hash)
                .await
                .unwrap()
        );
        assert!(
            !passwords
                .matches(Uid(7), "Secret".into(), &hash)
                .await
                .unwrap()
        );
        assert_eq!(
            passwords.memory.lock().len(),
            1,
            "one after the other, in the same memory"
        );
    }

    /// Hashes have the form and the parameters of argon2 itself, so that other programs can check them.
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
                .matches(Uid(7), "secret".into(), &theirs)
                .await
                .unwrap()
        );
        assert!(
            !passwords
                .matches(Uid(7), "other".into(), &theirs)
                .await
                .unwrap()
        );
        // A hash of another length, and with more memory than this stack uses.
        let params = Params::new(20 * 1024, 1, 2, Some(16)).unwrap();
        let theirs = Argon2::new(Algorithm::Argon2id, Version::V0x13, params)
            .hash_password(b"secret")
            .unwrap()
            .to_string();
        assert!(
            passwords
                .matches(Uid(7), "secret".into(), &theirs)
                .await
                .unwrap()
        );
        assert!(passwords.memory.lock().len() <= 1, "what is large is freed");
        let kept = passwords.memory.lock().iter().map(Vec::len).max();
        assert!(kept <= Some(Params::DEFAULT.block_count()));
    }

    #[tokio::test]
    async fn a_hash_that_would_take_too_much_is_refused_without_any_work() {
        let passwords = Passwords::default();
        // With the semaphore closed, every computation would fail.
        passwords.permits.close();
        for hash in [
            "$argon2id$v=19$m=4194304,t=50,p=1$AAAAAAAAAAAAAAAAAAAAAA$AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA",
            "$argon2d$v=19$m=8,t=1,p=1$AAAAAAAAAAAAAAAAAAAAAA$AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA",
            "hash",
            "",
        ] {
            let failed = passwords.matches(Uid(7), "secret".into(), hash).await;
            let why = failed.unwrap_err().to_string();
            assert!(why.contains("it has to be argon2id"), "{why}");
        }
        assert!(passwords.memory.lock().is_empty());
    }

    #[tokio::test]
    async fn four_are_computed_at_once_and_no_more() {
        let passwords = Arc::new(Passwords::default());
        let (running, max_running) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
        // Each computation waits until four are running.
        let four = Arc::new(Barrier::new(MAX_CONCURRENT));
        let tasks: Vec<_> = (0..3 * MAX_CONCURRENT)
            .map(|_| {
                let passwords = Arc::clone(&passwords);
                let (running, max_running) = (Arc::clone(&running), Arc::clone(&max_running));
                let four = Arc::clone(&four);
                tokio::spawn(async move {
                    let work = move |_: &mut Vec<Block>| {
                        max_running.fetch_max(
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
        assert_eq!(max_running.load(Ordering::SeqCst), MAX_CONCURRENT);
    }
}
