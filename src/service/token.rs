use std::sync::Arc;

use hmac::{Hmac, KeyInit, Mac};
use md5::{Digest, Md5};
use sha2::Sha256;
use subtle::ConstantTimeEq;

use crate::clock::Clock;
use crate::config::Auth;

/// What tokens of the HTTP API begin with.
const ISSUED: &str = "imd1.";

/// The token that existing clients compute: the lowercase hex MD5 of the decimal UID followed by the salt.
pub fn salted_token(uid: i64, salt: &str) -> String {
    let digest = Md5::new()
        .chain_update(uid.to_string())
        .chain_update(salt)
        .finalize();
    base16ct::lower::encode_string(&digest)
}

/// Issues and checks what users log in with.
pub struct Tokens {
    salt: String,
    /// Keyed; each signature starts from a copy.
    hmac: Hmac<Sha256>,
    lifetime_ms: i64,
    clock: Arc<dyn Clock>,
}

/// Without the secrets.
impl std::fmt::Debug for Tokens {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Tokens").finish_non_exhaustive()
    }
}

impl Tokens {
    pub(super) fn new(auth: &Auth, key: [u8; 32], clock: Arc<dyn Clock>) -> Self {
        let lifetime_ms = i64::try_from(auth.token_lifetime.as_millis()).unwrap_or(i64::MAX);
        // A key shorter than the hash's block is filled up with zeros, by the definition of HMAC.
        let mut block = [0; 64];
        block.iter_mut().zip(key).for_each(|(to, from)| *to = from);
        let hmac = Hmac::new(&block.into());
        Tokens {
            salt: auth.salt.clone(),
            hmac,
            lifetime_ms,
            clock,
        }
    }

    /// The salted token of a user.
    pub fn salted(&self, uid: i64) -> String {
        salted_token(uid, &self.salt)
    }

    /// A signed token that runs out: `imd1.<uid>.<Unix ms>.<HMAC-SHA256 over what stands before it>`.
    pub fn issue(&self, uid: i64) -> String {
        let expires = self.clock.unix_ms().saturating_add(self.lifetime_ms);
        let claim = format!("{ISSUED}{uid}.{expires}");
        let signature = base16ct::lower::encode_string(&self.sign(&claim).finalize().into_bytes());
        format!("{claim}.{signature}")
    }

    /// Whether the token logs this user in. Takes the same time for every wrong token of a length.
    pub fn is_valid(&self, uid: i64, token: &str) -> bool {
        if token.starts_with(ISSUED) {
            return self.is_issued(uid, token);
        }
        token.as_bytes().ct_eq(self.salted(uid).as_bytes()).into()
    }

    fn is_issued(&self, uid: i64, token: &str) -> bool {
        let Some((claim, signature)) = token.rsplit_once('.') else {
            return false;
        };
        let Ok(signature) = base16ct::lower::decode_vec(signature) else {
            return false;
        };
        if self.sign(claim).verify_slice(&signature).is_err() {
            return false;
        }
        // Signed by us, so of our form.
        let Some((of, expires)) = claim.strip_prefix(ISSUED).and_then(|c| c.split_once('.')) else {
            return false;
        };
        of.parse() == Ok(uid)
            && expires
                .parse()
                .is_ok_and(|at: i64| self.clock.unix_ms() < at)
    }

    fn sign(&self, claim: &str) -> Hmac<Sha256> {
        self.hmac.clone().chain_update(claim)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::ManualClock;
    use std::time::Duration;

    fn tokens(clock: &ManualClock) -> Tokens {
        Tokens::new(&Auth::default(), [7; 32], Arc::new(clock.clone()))
    }

    #[test]
    fn the_salted_token_is_the_one_that_existing_clients_compute() {
        // user 321, captured from a client
        assert_eq!(
            tokens(&ManualClock::default()).salted(321),
            "69338d7366e3a53668cbd23dfedee4cd"
        );
    }

    #[tokio::test]
    async fn an_issued_token_is_good_for_its_user_and_its_time() {
        let clock = ManualClock::default();
        let tokens = tokens(&clock);
        let token = tokens.issue(7);
        assert!(tokens.is_valid(7, &token));
        assert!(!tokens.is_valid(8, &token));
        clock.advance(Duration::from_secs(24 * 3600 - 1)).await;
        assert!(tokens.is_valid(7, &token));
        clock.advance(Duration::from_secs(1)).await;
        assert!(!tokens.is_valid(7, &token));
    }

    #[test]
    fn a_changed_token_is_worth_nothing() {
        let clock = ManualClock::default();
        let tokens = tokens(&clock);
        let token = tokens.issue(7);
        let other_key = Tokens::new(&Auth::default(), [8; 32], Arc::new(clock.clone()));
        assert!(!other_key.is_valid(7, &token));
        for token in [&token, &tokens.salted(7)] {
            assert!(tokens.is_valid(7, token));
            for at in 0..token.len() {
                // A token comes as text, so a byte may become any other of ASCII.
                for byte in 0..128 {
                    let mut bytes = token.clone().into_bytes();
                    if std::mem::replace(&mut bytes[at], byte) == byte {
                        continue;
                    }
                    let forged = String::from_utf8(bytes).unwrap();
                    assert!(!tokens.is_valid(7, &forged), "{forged:?} for {token:?}");
                }
                let (head, tail) = token.split_at(at);
                let without = &tail[1..];
                for forged in [
                    head.to_owned(),
                    tail[1..].to_owned(),
                    format!("{head}{without}"),
                    format!("{head}0{tail}"),
                    format!("{head}.{tail}"),
                    format!("{head}\u{fffd}{without}"),
                ] {
                    assert!(!tokens.is_valid(7, &forged), "{forged:?} for {token:?}");
                }
            }
        }
    }

    #[test]
    fn a_token_that_is_put_together_from_others_is_worth_nothing() {
        let clock = ManualClock::default();
        let tokens = tokens(&clock);
        let (of_7, of_8) = (tokens.issue(7), tokens.issue(8));
        let (claim, signature) = of_7.rsplit_once('.').unwrap();
        let (others_claim, others_signature) = of_8.rsplit_once('.').unwrap();
        let expires = claim.rsplit_once('.').unwrap().1;
        let unsigned = base16ct::lower::encode_string(&Sha256::digest(claim));
        let salted = tokens.salted(7);
        for forged in [
            format!("{claim}.{others_signature}"),
            format!("{others_claim}.{signature}"),
            format!("imd1.7.{}.{signature}", i64::MAX),
            format!("imd1.+7.{expires}.{signature}"),
            format!("imd1.07.{expires}.{signature}"),
            format!("imd1.7.{expires}.{}", signature.to_uppercase()),
            format!("imd1.7.{expires}.{}", &signature[..62]),
            format!("imd1.7.{expires}.{signature}{signature}"),
            format!("imd1.7.{expires}.{}", "0".repeat(64)),
            format!("imd1.7.{expires}.{unsigned}"),
            format!("imd1.7.{expires}.{salted}"),
            format!("imd1.7.{expires}."),
            format!("imd1.7.{expires}"),
            format!("imd1.7..{signature}"),
            format!("imd1..{expires}.{signature}"),
            format!("imd1.7.{expires}.none.{signature}"),
            format!("imd0.7.{expires}.{signature}"),
            format!("IMD1.7.{expires}.{signature}"),
            format!("{of_7}\0"),
            format!(" {of_7}"),
            format!("{of_7}\n"),
            format!("Bearer {of_7}"),
            salted.to_uppercase(),
            tokens.salted(8),
            tokens.salted(70),
            salted_token(7, ""),
            salted_token(0, &tokens.salt),
            "eyJhbGciOiJub25lIn0.eyJ1aWQiOjd9.".to_owned(),
            "imd1.".to_owned(),
            "imd1...".to_owned(),
            "none".to_owned(),
            String::new(),
        ] {
            assert!(!tokens.is_valid(7, &forged), "{forged:?}");
        }
        // Nor is one of this user for another whose id begins or ends like it.
        for uid in [0, -7, 17, 70, 77, i64::MAX, i64::MIN] {
            assert!(
                !tokens.is_valid(uid, &of_7) && !tokens.is_valid(uid, &salted),
                "{uid}"
            );
        }
    }
}
