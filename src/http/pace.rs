//! How fast a client has to send its bodies and to read its answers. A client that does neither would hold its
//! connection for ever, and connections are limited.

use std::task::{Context, Poll};
use std::time::Duration;

use crate::clock::running;

/// The slowest client that is served, in bytes per millisecond: 64 kB a second.
const RATE: usize = 64;

/// The deadline of one body or of the answers on one connection.
///
/// It is renewed each time a portion has come: as many bytes as the slowest client moves within the deadline. A body that
/// is shorter than a portion thus has to be there as a whole by the deadline. A longer one may take longer, but neither
/// rests for longer than the deadline nor goes on for ever byte by byte. Real time.
pub(super) struct Pace {
    limit: Duration,
    /// Bytes of the current portion that have not been moved yet.
    left: usize,
    /// Runs while the client is waited for.
    deadline: Option<running::Sleep>,
}

impl Pace {
    /// `limit` is the time for each portion.
    pub fn new(limit: Duration) -> Pace {
        Pace {
            limit,
            left: portion(limit),
            deadline: None,
        }
    }

    /// The time for each portion.
    pub fn limit(&self) -> Duration {
        self.limit
    }

    /// Notes that the client has sent or taken this many bytes.
    pub fn moved(&mut self, bytes: usize) {
        self.left = self.left.saturating_sub(bytes);
        if self.left == 0 {
            self.restart();
        }
    }

    /// Begins anew: nothing is expected of the client at present.
    pub fn restart(&mut self) {
        self.left = portion(self.limit);
        self.deadline = None;
    }

    /// Waits for the client, which has nothing to move now. Ready when it is too slow.
    pub fn poll_overdue(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let limit = self.limit;
        let deadline = self
            .deadline
            .get_or_insert_with(|| Box::pin(running::sleep(limit)));
        deadline.as_mut().poll(cx)
    }
}

/// How many bytes the slowest client moves within a time. At least one, since nothing is no progress.
fn portion(limit: Duration) -> usize {
    let millis = usize::try_from(limit.as_millis()).unwrap_or(usize::MAX);
    millis.saturating_mul(RATE).max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A client that is being waited for, and the bytes of a portion.
    fn waited_for() -> (Pace, usize) {
        let mut pace = Pace::new(Duration::from_secs(3_600));
        let mut cx = Context::from_waker(std::task::Waker::noop());
        assert!(pace.poll_overdue(&mut cx).is_pending());
        (pace, 3_600 * 64_000)
    }

    #[tokio::test]
    async fn the_deadline_stands_until_a_whole_portion_has_come() {
        let (mut pace, portion) = waited_for();
        for bytes in [0, 1, portion - 2] {
            pace.moved(bytes);
            assert!(pace.deadline.is_some(), "{bytes}");
        }
        pace.moved(1);
        assert!(pace.deadline.is_none());
        assert_eq!(pace.left, portion);
    }

    #[tokio::test]
    async fn many_bytes_at_once_are_no_credit_for_a_rest() {
        let (mut pace, portion) = waited_for();
        pace.moved(100 * portion);
        assert_eq!(pace.left, portion);
    }

    #[tokio::test]
    async fn a_portion_has_at_least_one_byte() {
        assert_eq!(portion(Duration::ZERO), 1);
        assert_eq!(portion(Duration::MAX), usize::MAX);
    }
}
