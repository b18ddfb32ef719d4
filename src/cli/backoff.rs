//! Computes the waits between attempts to reconnect.
//!
//! Serves `imd chat` and `imd sync --follow`.

use std::time::Duration;

use rand::RngExt;

/// The first wait, before jitter.
const FIRST_WAIT: Duration = Duration::from_millis(500);
/// The upper bound of every wait.
const MAX_WAIT: Duration = Duration::from_secs(10);

/// A sequence of waits that double up to a maximum.
pub struct Backoff {
    next: Duration,
}

impl Default for Backoff {
    fn default() -> Self {
        Backoff { next: FIRST_WAIT }
    }
}

impl Backoff {
    /// Returns the next wait. It varies randomly by a quarter, so that the clients of a server that comes back do not
    /// reconnect at the same moment.
    pub fn wait(&mut self) -> Duration {
        let wait = self.next;
        self.next = (wait * 2).min(MAX_WAIT);
        let jitter = rand::rng().random_range(0.75..=1.25);
        wait.mul_f64(jitter).min(MAX_WAIT)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_up_to_the_maximum() {
        let mut backoff = Backoff::default();
        for expected in [500, 1000, 2000, 4000, 8000, 10_000, 10_000] {
            let wait = backoff.wait().as_millis();
            assert!(
                (expected * 3 / 4..=expected * 5 / 4).contains(&wait) && wait <= 10_000,
                "{wait} ms for {expected}"
            );
        }
    }
}
