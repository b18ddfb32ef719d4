//! The tokens that log users in: the salted ones that existing clients compute, and the signed ones that the HTTP API
//! issues.
//!
//! Serves `login`, which checks tokens, `account`, which issues them, and the admin API and [`Imd::token`](crate::Imd::token),
//! which compute salted ones. A salted token never expires. A signed one does; it is valid for as long as the store has
//! its key, so also after a reset, and after a restart on the same folder.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use hmac::{Hmac, KeyInit, Mac};
use md5::{Digest, Md5};
use parking_lot::Mutex;
use sha2::Sha256;
use subtle::ConstantTimeEq;

use crate::clock::Clock;
use crate::config::Auth;
use crate::id::Uid;

/// The prefix of the tokens that the HTTP API issues.
const ISSUED: &str = "imd1.";

/// Returns the token that existing clients compute: the lowercase hex MD5 of the decimal UID followed by the salt.
pub fn salted_token(uid: impl Into<Uid>, salt: &str) -> String {
    let uid = uid.into();
    let digest = Md5::new()
        .chain_update(uid.to_string())
        .chain_update(salt)
        .finalize();
    base16ct::lower::encode_string(&digest)
}

/// Issues and checks tokens.
pub struct Tokens {
    salt: String,
    /// Keyed with the store's signing key; each signature starts from a copy.
    hmac: Hmac<Sha256>,
    lifetime_ms: i64,
    clock: Arc<dyn Clock>,
    stops: Mutex<Stops>,
}

/// Remembers when the process was stopped and for how long, so that this time is not taken from the lifetime of a token.
#[derive(Debug, Default)]
struct Stops {
    /// For the first token after each stop: when it was issued, in Unix milliseconds, and the total time for which the
    /// process had been stopped by then.
    first: VecDeque<(i64, Duration)>,
    /// The total time for which the process had been stopped before the oldest token in `first` was issued.
    before: Duration,
}

impl Stops {
    /// The largest number of stops that are remembered one by one.
    const LIMIT: usize = 64;
    /// The shortest stop that counts. Shorter ones are adjustments of the clock.
    const SHORTEST: Duration = Duration::from_secs(1);

    /// Notes that a token is issued at `at`, in Unix milliseconds. `stopped` is the total time for which the process was
    /// stopped until now.
    fn issued(&mut self, at: i64, stopped: Duration) {
        let known = self.first.back().map_or(self.before, |(_, known)| *known);
        if stopped.abs_diff(known) < Self::SHORTEST {
            return;
        }
        if self.first.len() == Self::LIMIT {
            self.before = self
                .first
                .pop_front()
                .map_or(self.before, |(_, known)| known);
        }
        self.first.push_back((at, stopped));
    }

    /// Returns for how long the process was stopped since `issued`, in Unix milliseconds. `stopped` is the total time until
    /// now.
    fn since(&self, issued: i64, stopped: Duration) -> Duration {
        let mut first = self.first.iter().rev();
        let before = first.find(|(at, _)| *at <= issued);
        stopped.saturating_sub(before.map_or(self.before, |(_, before)| *before))
    }
}

/// Omits the salt and the key, which must not reach a log.
impl std::fmt::Debug for Tokens {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Tokens").finish_non_exhaustive()
    }
}

impl Tokens {
    /// Creates the tokens of a stack, signed with `key`.
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
            stops: Mutex::default(),
        }
    }

    /// Returns the salted token of a user.
    pub fn salted(&self, uid: Uid) -> String {
        salted_token(uid, &self.salt)
    }

    /// Issues a signed token that expires: `imd1.<uid>.<Unix ms>.<HMAC-SHA256 over all before the last dot>`.
    pub fn issue(&self, uid: Uid) -> String {
        let now = self.clock.unix_ms();
        self.stops.lock().issued(now, self.clock.stopped());
        let expires = now.saturating_add(self.lifetime_ms);
        let claim = format!("{ISSUED}{uid}.{expires}");
        let signature = base16ct::lower::encode_string(&self.sign(&claim).finalize().into_bytes());
        format!("{claim}.{signature}")
    }

    /// Returns whether the token logs this user in. Takes the same time for all wrong tokens of one length.
    pub fn is_valid(&self, uid: Uid, token: &str) -> bool {
        if token.starts_with(ISSUED) {
            return self.is_issued(uid, token);
        }
        token.as_bytes().ct_eq(self.salted(uid).as_bytes()).into()
    }

    fn is_issued(&self, uid: Uid, token: &str) -> bool {
        let Some((claim, signature)) = token.rsplit_once('.') else {
            return false;
        };
        let Ok(signature) = base16ct::lower::decode_vec(signature) else {
            return false;
        };
        if self.sign(claim).verify_slice(&signature).is_err() {
            return false;
        }
        // A claim with a valid signature has the form that `issue` gave it.
        let Some((owner, expires)) = claim.strip_prefix(ISSUED).and_then(|c| c.split_once('.'))
        else {
            return false;
        };
        owner.parse() == Ok(uid) && expires.parse().is_ok_and(|at| self.is_current(at))
    }

    /// Returns whether a token that expires at that Unix time, in milliseconds, is still valid. Time in which this process
    /// was stopped does not count.
    fn is_current(&self, expires: i64) -> bool {
        let now = self.clock.unix_ms();
        now < expires || {
            let issued = expires.saturating_sub(self.lifetime_ms);
            let stopped = self.stops.lock().since(issued, self.clock.stopped());
            now.saturating_sub_unsigned(u64::try_from(stopped.as_millis()).unwrap_or(u64::MAX))
                < expires
        }
    }

    fn sign(&self, claim: &str) -> Hmac<Sha256> {
        self.hmac.clone().chain_update(claim)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::{ClockControl, ManualClock};
    use std::time::Duration;

    fn tokens(clock: &ManualClock) -> Tokens {
        Tokens::new(&Auth::default(), [7; 32], Arc::new(clock.clone()))
    }

    #[test]
    fn the_salted_token_is_the_one_that_existing_clients_compute() {
        // user 321, captured from a client
        assert_eq!(
            tokens(&ManualClock::default()).salted(Uid(321)),
            "69338d7366e3a53668cbd23dfedee4cd"
        );
    }

    #[tokio::test]
    async fn an_issued_token_is_good_for_its_user_and_its_time() {
        let clock = ManualClock::default();
        let tokens = tokens(&clock);
        let token = tokens.issue(Uid(7));
        assert!(tokens.is_valid(Uid(7), &token));
        assert!(!tokens.is_valid(Uid(8), &token));
        clock.advance(Duration::from_secs(24 * 3600 - 1)).await;
        assert!(tokens.is_valid(Uid(7), &token));
        clock.advance(Duration::from_secs(1)).await;
        assert!(!tokens.is_valid(Uid(7), &token));
    }

    #[test]
    fn only_stops_in_the_time_of_a_token_make_it_last_longer() {
        let secs = Duration::from_secs;
        let mut stops = Stops::default();
        stops.issued(1_000, secs(0));
        assert_eq!(stops.since(1_000, secs(12)), secs(12));
        stops.issued(20_000, secs(12));
        assert_eq!(stops.since(1_000, secs(12)), secs(12));
        assert_eq!(stops.since(20_000, secs(12)), secs(0));
        assert_eq!(stops.since(20_000, secs(72)), secs(60));
        // More stops than are remembered one by one.
        for n in 1..=64 {
            stops.issued(20_000 + n * 10_000, secs(12 + n.unsigned_abs() * 2));
        }
        assert_eq!(stops.first.len(), 64);
        assert_eq!(stops.since(1_000, secs(140)), secs(128));
        assert_eq!(stops.since(660_000, secs(141)), secs(1));
    }

    #[test]
    fn a_changed_token_is_worth_nothing() {
        let clock = ManualClock::default();
        let tokens = tokens(&clock);
        let token = tokens.issue(Uid(7));
        let other_key = Tokens::new(&Auth::default(), [8; 32], Arc::new(clock.clone()));
        assert!(!other_key.is_valid(Uid(7), &token));
        for token in [&token, &tokens.salted(Uid(7))] {
            assert!(tokens.is_valid(Uid(7), token));
            for at in 0..token.len() {
                // Each byte is replaced by every other ASCII byte, since a token arrives as text.
                for byte in 0..128 {
                    let mut bytes = token.clone().into_bytes();
                    if std::mem::replace(&mut bytes[at], byte) == byte {
                        continue;
                    }
                    let forged = String::from_utf8(bytes).unwrap();
                    assert!(
                        !tokens.is_valid(Uid(7), &forged),
                        "{forged:?} for {token:?}"
                    );
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
                    assert!(
                        !tokens.is_valid(Uid(7), &forged),
                        "{forged:?} for {token:?}"
                    );
                }
            }
        }
    }

    #[test]
    fn a_token_that_is_put_together_from_others_is_worth_nothing() {
        let clock = ManualClock::default();
        let tokens = tokens(&clock);
        let (of_7, of_8) = (tokens.issue(Uid(7)), tokens.issue(Uid(8)));
        let (claim, signature) = of_7.rsplit_once('.').unwrap();
        let (others_claim, others_signature) = of_8.rsplit_once('.').unwrap();
        let expires = claim.rsplit_once('.').unwrap().1;
        let unsigned = base16ct::lower::encode_string(&Sha256::digest(claim));
        let salted = tokens.salted(Uid(7));
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
            tokens.salted(Uid(8)),
            tokens.salted(Uid(70)),
            salted_token(7, ""),
            salted_token(0, &tokens.salt),
            "eyJhbGciOiJub25lIn0.eyJ1aWQiOjd9.".to_owned(),
            "imd1.".to_owned(),
            "imd1...".to_owned(),
            "none".to_owned(),
            String::new(),
        ] {
            assert!(!tokens.is_valid(Uid(7), &forged), "{forged:?}");
        }
        // A token is not valid for another user whose id begins or ends with the same digits.
        for uid in [0, -7, 17, 70, 77, i64::MAX, i64::MIN] {
            assert!(
                !tokens.is_valid(Uid(uid), &of_7) && !tokens.is_valid(Uid(uid), &salted),
                "{uid}"
            );
        }
    }
}
