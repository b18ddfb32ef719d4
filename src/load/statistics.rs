//! Latencies, and numbers as the reports print them.
//!
//! Serves the reports of `imd bench` and `examples/side_by_side`. A histogram keeps every latency of a run, so that its
//! percentiles are those of the whole run; it takes the same memory however many there are.

use std::time::Duration;

use hdrhistogram::Histogram;
use serde::Serialize;

use super::schedule::nanos;

/// The longest latency that is told apart from longer ones, in nanoseconds.
const LONGEST: u64 = 60_000_000_000;

/// A histogram of latencies, each good to a thousandth.
#[derive(Debug, Clone)]
pub struct LatencyHistogram(Option<Histogram<u64>>);

impl LatencyHistogram {
    /// Adds a latency in nanoseconds.
    pub fn record(&mut self, nanoseconds: u64) {
        if let Some(histogram) = &mut self.0 {
            histogram.saturating_record(nanoseconds);
        }
    }

    /// Adds a latency.
    pub fn record_duration(&mut self, latency: Duration) {
        self.record(nanos(latency));
    }

    /// Returns the percentiles, or nothing if nothing was recorded.
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

    /// Adds all latencies of another histogram.
    pub fn add(&mut self, other: &LatencyHistogram) {
        if let (Some(histogram), Some(other)) = (&mut self.0, &other.0) {
            // Fails only if the bounds differ, and all have the same.
            let _ = histogram.add(other);
        }
    }
}

impl Default for LatencyHistogram {
    fn default() -> Self {
        // With these bounds it can't fail.
        LatencyHistogram(Histogram::new_with_bounds(1, LONGEST, 3).ok())
    }
}

fn micros(nanoseconds: u64) -> f64 {
    (nanoseconds as f64 / 100.0).round() / 10.0
}

/// The latencies below which 50 % of all stay, 90 % and so on, in microseconds.
#[derive(Debug, Clone, Copy, Serialize)]
#[allow(missing_docs, reason = "the names say it")]
pub struct Percentiles {
    pub p50: f64,
    pub p90: f64,
    pub p99: f64,
    #[serde(rename = "p99.9")]
    pub p999: f64,
    pub max: f64,
}

/// Formats a number without decimals, with commas between its thousands.
pub fn grouped(number: f64) -> String {
    let digits = format!("{number:.0}");
    let mut text = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commas_stand_between_thousands() {
        let numbers = [0.0, 999.4, 1000.0, 123_456.0, 1_234_567.0].map(grouped);
        assert_eq!(numbers, ["0", "999", "1,000", "123,456", "1,234,567"]);
    }
}
