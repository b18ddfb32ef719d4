//! The minimum rate at which a client has to send its requests' bodies and to read its responses.
//!
//! Serves the module `exchange`. The number of connections is limited, so a client that neither sends nor reads must
//! not hold one for ever.

use std::task::{Context, Poll};
use std::time::Duration;

use crate::clock::running;

/// The rate of the slowest client that is served, in bytes per millisecond: 64 kB per second.
const MIN_RATE: usize = 64;

/// A deadline for the progress of one transfer: the body of a request, or the responses on a connection.
///
/// The deadline is renewed each time that a portion has been transferred. A portion is the number of bytes that the
/// slowest client transfers within the limit. A body that is shorter than a portion must therefore be complete by the
/// deadline. A longer one may take longer, but it can neither stop for longer than the limit nor trickle in byte by
/// byte.
///
/// The deadline runs only while the client is waited for. It is real time, without the stops of the process, whatever
/// clock the stack has.
pub(super) struct Pace {
    /// The time for each portion.
    limit: Duration,
    /// The bytes of the current portion that have not been transferred yet. Never 0.
    remaining: usize,
    /// When the current portion must be complete. None while the client has not been waited for since the portion
    /// began.
    deadline: Option<running::Sleep>,
}

impl Pace {
    /// Creates the deadline of a transfer that has not begun. `limit` is the time for each portion.
    pub fn new(limit: Duration) -> Pace {
        Pace {
            limit,
            remaining: portion(limit),
            deadline: None,
        }
    }

    /// Returns the time for each portion.
    pub fn limit(&self) -> Duration {
        self.limit
    }

    /// Records that the client has sent or read this many bytes. A portion that is complete ends the deadline; bytes
    /// beyond it do not count for the next one.
    pub fn record_progress(&mut self, bytes: usize) {
        self.remaining = self.remaining.saturating_sub(bytes);
        if self.remaining == 0 {
            self.restart();
        }
    }

    /// Begins a new portion without a deadline: nothing is expected of the client at present.
    pub fn restart(&mut self) {
        self.remaining = portion(self.limit);
        self.deadline = None;
    }

    /// Resolves when the client is too slow. To be polled when the transfer is blocked: the first poll of a portion
    /// starts its deadline.
    pub fn poll_overdue(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let limit = self.limit;
        let deadline = self
            .deadline
            .get_or_insert_with(|| Box::pin(running::sleep(limit)));
        deadline.as_mut().poll(cx)
    }
}

/// Returns how many bytes the slowest client transfers within a time, but at least one: a portion of none would always
/// be complete.
fn portion(limit: Duration) -> usize {
    let millis = usize::try_from(limit.as_millis()).unwrap_or(usize::MAX);
    millis.saturating_mul(MIN_RATE).max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Returns the pace of a client that is being waited for, and the bytes of its portion.
    fn waited_for() -> (Pace, usize) {
        let mut pace = Pace::new(Duration::from_secs(3_600));
        let mut cx = Context::from_waker(std::task::Waker::noop());
        assert!(pace.poll_overdue(&mut cx).is_pending());
        (pace, 3_600 * 64_000)
    }

    #[tokio::test]
    async fn the_deadline_is_renewed_only_by_a_complete_portion() {
        let (mut pace, portion) = waited_for();
        for bytes in [0, 1, portion - 2] {
            pace.record_progress(bytes);
            assert!(pace.deadline.is_some(), "{bytes}");
        }
        pace.record_progress(1);
        assert!(pace.deadline.is_none());
        assert_eq!(pace.remaining, portion);
    }

    #[tokio::test]
    async fn bytes_beyond_a_portion_do_not_count_for_the_next_one() {
        let (mut pace, portion) = waited_for();
        pace.record_progress(100 * portion);
        assert_eq!(pace.remaining, portion);
    }

    #[tokio::test]
    async fn a_portion_has_at_least_one_byte() {
        assert_eq!(portion(Duration::ZERO), 1);
        assert_eq!(portion(Duration::MAX), usize::MAX);
    }
}
