//! How long to wait before the next try.

use std::time::Duration;

use rand::RngExt;

const FIRST: Duration = Duration::from_millis(500);
const LONGEST: Duration = Duration::from_secs(10);

/// Waits that double from try to try.
pub struct Backoff {
    next: Duration,
}

impl Default for Backoff {
    fn default() -> Self {
        Backoff { next: FIRST }
    }
}

impl Backoff {
    /// The next wait. It varies by a quarter, so that many clients of one server do not come back at once.
    pub fn wait(&mut self) -> Duration {
        let wait = self.next;
        self.next = (wait * 2).min(LONGEST);
        let jitter = rand::rng().random_range(0.75..=1.25);
        wait.mul_f64(jitter).min(LONGEST)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_up_to_the_longest() {
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
