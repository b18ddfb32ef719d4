//! Stored password hashes: argon2id in PHC form, `$argon2id$v=19$m=19456,t=2,p=1$SALT$HASH`.
//!
//! Serves the services, which verify passwords, and the snapshots, which check hashes from outside.
//!
//! The parameters in a hash determine how much memory and time it takes to verify a password, and a hash may come from
//! outside: from a snapshot or from a store folder. So they are checked against bounds when a snapshot is read, and
//! again before a password is verified. No hash within the bounds takes more than 64 MiB.

use argon2::password_hash::phc::{Output, PasswordHash, Salt};
use argon2::{Algorithm, Params, Version};

/// Upper bound of the length of a hash as text, in bytes. Every hash within the other bounds is shorter.
const MAX_LENGTH: usize = 256;

/// Upper bound of `m`, the memory of one verification in KiB: what RFC 9106 recommends for machines with little memory.
const MAX_MEMORY: u32 = 64 * 1024;

/// Upper bound of `t`, the passes over that memory.
const MAX_PASSES: u32 = 10;

/// Upper bound of `p`, the lanes that the memory is divided into.
const MAX_LANES: u32 = 16;

/// Why a password hash is refused. The text contains the hash's parameters, but neither its salt nor its output.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "the password hash {0}: it has to be argon2id in PHC form, $argon2id$v=19$m=19456,t=2,p=1$SALT$HASH, with m up to \
     {MAX_MEMORY} (KiB), t up to {MAX_PASSES}, p up to {MAX_LANES}, a salt of {salt_min} to {salt_max} bytes and a hash of \
     {min} to {max} bytes, within {MAX_LENGTH} characters",
    salt_min = Salt::MIN_LENGTH,
    salt_max = Salt::MAX_LENGTH,
    min = Output::MIN_LENGTH,
    max = Output::MAX_LENGTH
)]
pub struct Refused(String);

/// Returns an error unless `holds`.
fn ensure(holds: bool, why: impl FnOnce() -> String) -> Result<(), Refused> {
    if holds { Ok(()) } else { Err(Refused(why())) }
}

/// A hash with which a password can be verified in bounded time and memory.
#[derive(Debug, Clone)]
pub struct StoredHash {
    /// Memory, passes and lanes of the verification. Its output length is the length of `output`.
    pub params: Params,
    /// The salt of the hash.
    pub salt: Salt,
    /// The output for the right password.
    pub output: Output,
}

impl StoredHash {
    /// Parses a hash, in time linear in the bounded length of the text.
    ///
    /// # Errors
    ///
    /// [`Refused`] if the text is no argon2id hash in PHC form, or if its parameters are out of bounds.
    pub fn parse(text: &str) -> Result<StoredHash, Refused> {
        check_length(text)?;
        let unreadable = || Refused("is in another form".into());
        let hash = PasswordHash::new(text).map_err(|_| unreadable())?;
        let is_argon2id = hash.algorithm == Algorithm::Argon2id.ident();
        ensure(is_argon2id, || "is of another algorithm".into())?;
        let is_known = hash.version == Some(Version::V0x13.into());
        ensure(is_known, || "has no version, or another one".into())?;
        let params = Params::try_from(&hash).map_err(|_| unreadable())?;
        for (name, value, limit) in [
            ("m", params.m_cost(), MAX_MEMORY),
            ("t", params.t_cost(), MAX_PASSES),
            ("p", params.p_cost(), MAX_LANES),
        ] {
            ensure(value <= limit, || format!("has {name}={value}"))?;
        }
        match (hash.salt, hash.hash) {
            (Some(salt), Some(output)) => Ok(StoredHash {
                params,
                salt,
                output,
            }),
            _ => Err(Refused("lacks its salt or its output".into())),
        }
    }
}

/// Checks a hash from outside before it is stored. A text without `$` is no hash of any form: it is accepted, since it
/// is never computed with, and no password matches it.
///
/// # Errors
///
/// [`Refused`] in the cases of [`StoredHash::parse`].
pub fn check(text: &str) -> Result<(), Refused> {
    if text.contains('$') {
        StoredHash::parse(text).map(drop)
    } else {
        check_length(text)
    }
}

fn check_length(text: &str) -> Result<(), Refused> {
    let length = text.len();
    ensure(length <= MAX_LENGTH, || format!("has {length} bytes"))
}

#[cfg(test)]
mod tests {
    use super::*;

    const SALT: &str = "AAAAAAAAAAAAAAAAAAAAAA";
    const HASH: &str = "BBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBA";

    fn with(params: &str) -> String {
        format!("$argon2id$v=19${params}${SALT}${HASH}")
    }

    #[test]
    fn hashes_within_the_bounds_are_accepted() {
        for params in [
            "m=19456,t=2,p=1",
            "m=65536,t=3,p=4",
            "m=65536,t=10,p=16",
            "m=8,t=1,p=1",
        ] {
            StoredHash::parse(&with(params)).expect(params);
        }
        let longest = format!(
            "$argon2id$v=19$m=65536,t=10,p=16${}${}",
            "A".repeat(64),
            "A".repeat(86)
        );
        StoredHash::parse(&longest).unwrap();
    }

    #[test]
    fn a_parameter_out_of_bounds_is_refused_with_its_value_and_the_bounds() {
        for (params, why) in [
            ("m=4194304,t=50,p=1", "has m=4194304:"),
            ("m=65537,t=1,p=1", "has m=65537:"),
            ("m=8,t=11,p=1", "has t=11:"),
            ("m=8,t=4294967295,p=1", "has t=4294967295:"),
            ("m=65536,t=1,p=17", "has p=17:"),
            ("m=8,m=4294967295,t=1,p=1", "has m=4294967295:"),
        ] {
            let refused = check(&with(params)).unwrap_err().to_string();
            assert!(refused.contains(why), "{refused}");
            assert!(refused.contains("m up to 65536 (KiB), t up to 10, p up to 16"));
            assert!(!refused.contains(HASH) && !refused.contains(SALT));
        }
    }

    #[test]
    fn anything_but_a_complete_argon2id_hash_is_refused() {
        for text in [
            "$",
            "$$",
            "$argon2id",
            "$argon2id$v=19$m=8,t=1,p=1",
            &format!("$argon2id$v=19$m=8,t=1,p=1${SALT}"),
            // Other algorithms and versions.
            &format!("$argon2i$v=19$m=8,t=1,p=1${SALT}${HASH}"),
            &format!("$argon2d$v=19$m=8,t=1,p=1${SALT}${HASH}"),
            &format!("$argon2id$v=16$m=8,t=1,p=1${SALT}${HASH}"),
            &format!("$argon2id$m=8,t=1,p=1${SALT}${HASH}"),
            &format!("$scrypt$ln=31,r=8,p=1${SALT}${HASH}"),
            &format!("$pbkdf2-sha256$i=4294967295${SALT}${HASH}"),
            "$2b$31$AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA",
            "$6$rounds=999999999$salt$hash",
            // Other parameters.
            &with("m=4294967296,t=1,p=1"),
            &with("m=-1,t=1,p=1"),
            &with("m=,t=1,p=1"),
            &with("m=8,t=0,p=1"),
            &with("m=8,t=1,p=0"),
            &with("m=8,t=1,p=4294967295"),
            &with("m=16,t=1,p=16"),
            &with("m=8,t=1,p=1,x=1"),
            // Lengths.
            &format!("$argon2id$v=19$m=8,t=1,p=1$AAAA${HASH}"),
            &format!("$argon2id$v=19$m=8,t=1,p=1${}${HASH}", "A".repeat(68)),
            &format!("$argon2id$v=19$m=8,t=1,p=1${SALT}$AAAA"),
            &format!("$argon2id$v=19$m=8,t=1,p=1${SALT}${}", "A".repeat(88)),
            &format!("$argon2id${}", "A".repeat(1 << 20)),
            // Around it.
            &format!(" {}", with("m=8,t=1,p=1")),
            &format!("{}\n", with("m=8,t=1,p=1")),
            &format!("{}$", with("m=8,t=1,p=1")),
        ] {
            assert!(StoredHash::parse(text).is_err(), "{text}");
            assert!(check(text).is_err(), "{text}");
        }
    }

    #[test]
    fn a_text_that_is_no_hash_may_be_stored_but_no_password_matches_it() {
        for text in ["", "hash", "!", "argon2id"] {
            assert_eq!(check(text), Ok(()), "{text}");
            assert!(StoredHash::parse(text).is_err(), "{text}");
        }
        assert!(check(&"x".repeat(MAX_LENGTH + 1)).is_err());
    }
}
