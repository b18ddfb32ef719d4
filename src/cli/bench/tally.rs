//! Counts what one thread of `imd bench` does during a run.
//!
//! Serves the users of a thread, which share one tally, and the main thread, which reads it during the run and adds up the
//! tallies of all threads for the report.

use imd::load::{LatencyHistogram, Status};

use super::connection::ConnectionError;

/// What a frame from the server means to the user who receives it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Received {
    /// The answer to the oldest open request.
    Answer,
    /// The refusal of the oldest open request.
    Refusal,
    /// Anything else.
    Other,
}

/// Counts of requests and messages. Times are in nanoseconds since the run began.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counts {
    /// Requests that were due so far. Always 0 in a closed loop.
    pub scheduled: u64,
    /// Requests that were made.
    pub sent: u64,
    /// Answered requests, refused ones included.
    pub answered: u64,
    /// Requests that the server answered with an error code.
    pub refused: u64,
    /// Messages found in pages, each counted once per receiver.
    pub delivered: u64,
    /// Places where a page leaves messages out.
    pub gaps: u64,
    /// Messages that were found again, after they had been counted as delivered.
    pub double: u64,
    /// Messages of this run whose text or sender differs from what was sent.
    pub altered: u64,
    /// Answers to requests that were answered before, or that were never made.
    pub unasked: u64,
    /// When the last request was made.
    pub last_request: u64,
    /// When the last answer arrived.
    pub last_answer: u64,
    /// When the last message arrived.
    pub last_delivery: u64,
}

impl Counts {
    /// Returns how many requests were answered and not refused.
    pub fn acknowledged(&self) -> u64 {
        self.answered.saturating_sub(self.refused)
    }

    /// Adds the counts of another thread. Times are combined to the latest one.
    fn add(&mut self, other: &Counts) {
        self.scheduled += other.scheduled;
        self.sent += other.sent;
        self.answered += other.answered;
        self.refused += other.refused;
        self.delivered += other.delivered;
        self.gaps += other.gaps;
        self.double += other.double;
        self.altered += other.altered;
        self.unasked += other.unasked;
        self.last_request = self.last_request.max(other.last_request);
        self.last_answer = self.last_answer.max(other.last_answer);
        self.last_delivery = self.last_delivery.max(other.last_delivery);
    }
}

/// The counts and latencies of one thread of the load generator.
#[derive(Debug, Clone, Default)]
pub struct Tally {
    pub counts: Counts,
    /// Latency from the time when a request was due to its answer.
    pub acknowledgement: LatencyHistogram,
    /// Latency from the time when a message was due to the page that contains it.
    pub delivery: LatencyHistogram,
    /// Latency from the time when a request was due to the time when it was made.
    pub lateness: LatencyHistogram,
    /// Code and text of the first refusal.
    pub refusal: Option<String>,
    /// Why the first connection was lost, if any was.
    pub lost: Option<String>,
}

impl Tally {
    /// Counts a request that was due at `due` and is made now.
    pub fn send(&mut self, due: u64, now: u64) {
        self.counts.sent += 1;
        self.counts.last_request = now;
        self.lateness.record(now.saturating_sub(due));
    }

    /// Counts the answer to a request that was due at `due`. Without a due time, the answer belongs to no request.
    pub fn answer(&mut self, due: Option<u64>, received: Received, now: u64) {
        let Some(due) = due else {
            self.counts.unasked += 1;
            return;
        };
        self.counts.answered += 1;
        self.counts.refused += u64::from(received == Received::Refusal);
        self.counts.last_answer = now;
        self.acknowledgement.record(now.saturating_sub(due));
    }

    /// Keeps the code and text of a refusal if it is the first one. Always returns [`Received::Refusal`].
    pub fn refuse(&mut self, refusal: Status<'_>) -> Received {
        self.refusal
            .get_or_insert_with(|| ConnectionError::refused(refusal).to_string());
        Received::Refusal
    }

    /// Keeps the reason why a connection was lost if it is the first one.
    pub fn lose(&mut self, error: &ConnectionError) {
        self.lost.get_or_insert_with(|| error.to_string());
    }

    /// Adds the counts and latencies of another thread.
    pub fn add(&mut self, other: &Tally) {
        self.counts.add(&other.counts);
        self.acknowledgement.add(&other.acknowledgement);
        self.delivery.add(&other.delivery);
        self.lateness.add(&other.lateness);
        self.refusal = self.refusal.take().or_else(|| other.refusal.clone());
        self.lost = self.lost.take().or_else(|| other.lost.clone());
    }
}

impl std::iter::Sum for Counts {
    fn sum<I: Iterator<Item = Counts>>(all: I) -> Counts {
        all.fold(Counts::default(), |mut sum, counts| {
            sum.add(&counts);
            sum
        })
    }
}
