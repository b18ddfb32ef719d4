use hdrhistogram::Histogram;
use serde::Serialize;

use super::driver::Heard;
use super::line::Broken;

/// The longest latency that is told apart, in nanoseconds.
const LONGEST: u64 = 60_000_000_000;

/// How many of what there were.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counts {
    /// Requests that the schedule has brought so far.
    pub scheduled: u64,
    /// Requests made.
    pub sent: u64,
    /// Requests answered, refusals among them.
    pub answered: u64,
    /// Requests refused.
    pub refused: u64,
    /// Messages found in pages, each counted once.
    pub delivered: u64,
    /// Places where a page leaves messages out.
    pub gaps: u64,
    /// Messages found once more.
    pub double: u64,
    /// Messages with another text than was sent, or that nobody sent.
    pub altered: u64,
    /// Answers to what was answered already, or never asked.
    pub unasked: u64,
    /// When the last request was made, in nanoseconds since the run began.
    pub last_request: u64,
    /// When the last answer came, likewise.
    pub last_answer: u64,
    /// When the last message came, likewise.
    pub last_delivery: u64,
}

impl Counts {
    /// A request is made.
    pub fn send(&mut self, now: u64) {
        self.sent += 1;
        self.last_request = now;
    }

    /// Requests answered with 0.
    pub fn acknowledged(&self) -> u64 {
        self.answered.saturating_sub(self.refused)
    }

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

/// Latencies, in nanoseconds.
#[derive(Debug, Clone)]
pub struct Latency(Option<Histogram<u64>>);

impl Latency {
    pub fn record(&mut self, nanoseconds: u64) {
        if let Some(histogram) = &mut self.0 {
            histogram.saturating_record(nanoseconds);
        }
    }

    /// The percentiles; nothing when nothing was recorded.
    pub fn percentiles(&self) -> Option<Percentiles> {
        let histogram = self.0.as_ref().filter(|histogram| !histogram.is_empty())?;
        let at = |quantile| micros(histogram.value_at_quantile(quantile));
        Some(Percentiles {
            p50: at(0.5),
            p90: at(0.9),
            p99: at(0.99),
            p999: at(0.999),
            max: micros(histogram.max()),
        })
    }

    fn add(&mut self, other: &Latency) {
        if let (Some(histogram), Some(other)) = (&mut self.0, &other.0) {
            // Both have the same bounds.
            let _ = histogram.add(other);
        }
    }
}

impl Default for Latency {
    fn default() -> Self {
        // Three digits: the figures are good to a thousandth. These bounds are good ones.
        Latency(Histogram::new_with_bounds(1, LONGEST, 3).ok())
    }
}

fn micros(nanoseconds: u64) -> f64 {
    (nanoseconds as f64 / 100.0).round() / 10.0
}

/// What is said about latencies, in microseconds.
#[derive(Debug, Clone, Copy, Serialize)]
pub struct Percentiles {
    pub p50: f64,
    pub p90: f64,
    pub p99: f64,
    #[serde(rename = "p99.9")]
    pub p999: f64,
    pub max: f64,
}

/// What one thread of the generator has counted.
#[derive(Debug, Clone, Default)]
pub struct Tally {
    pub counts: Counts,
    /// From when a request was due to its answer.
    pub acknowledgement: Latency,
    /// From when a message was due to the page that has it.
    pub delivery: Latency,
    /// From when a request was due to when the generator made it.
    pub lateness: Latency,
    /// The first refusal, in the server's words.
    pub refusal: Option<String>,
    /// The first connection that was lost, and why.
    pub lost: Option<String>,
}

impl Tally {
    /// Keeps the first refusal.
    pub fn refuse(&mut self, refusal: (u32, &[u8])) -> Heard {
        self.refusal
            .get_or_insert_with(|| Broken::told(refusal).to_string());
        Heard::Refusal
    }

    /// Takes the counts of another thread in.
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
