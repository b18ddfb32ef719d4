//! Measures the load generator itself, and judges whether it was the limit of a run of `imd bench`.
//!
//! Serves the report. The fields of [`Generator`] are those of the JSON that `--json` prints.

use std::time::{Duration, Instant};

use imd::load::{Percentiles, usage};
use serde::Serialize;

/// Part of the time from which on a thread counts as busy: it could not make more requests.
const BUSY: f64 = 0.9;

/// A timer for the resources that the thread uses during the run.
pub struct UsageTimer {
    /// When the timer was started.
    begun: Instant,
    /// CPU time of the thread at the start, where the system reports it.
    cpu: Option<Duration>,
    /// Time that the thread had waited for a core at the start, where the system reports it.
    waited: Option<Duration>,
}

impl UsageTimer {
    /// Starts to measure the calling thread.
    pub fn start() -> UsageTimer {
        UsageTimer {
            begun: Instant::now(),
            cpu: usage::thread_cpu(),
            waited: usage::thread_waited(),
        }
    }

    /// Returns what the calling thread has used since the start. It has to be the thread that started the timer.
    pub fn stop(&self) -> ThreadUsage {
        let since = |now: Option<Duration>, before: Option<Duration>| now?.checked_sub(before?);
        ThreadUsage {
            time: self.begun.elapsed(),
            busy: since(usage::thread_cpu(), self.cpu),
            waited: since(usage::thread_waited(), self.waited),
        }
    }
}

/// Resources that a thread used during the run.
#[derive(Debug, Clone, Copy, Default)]
pub struct ThreadUsage {
    /// Duration of the run.
    pub time: Duration,
    /// How long the thread ran on a core.
    pub busy: Option<Duration>,
    /// How long the thread was ready to run and waited for a core.
    pub waited: Option<Duration>,
}

/// The part of the report that is about the load generator.
#[derive(Debug, Serialize)]
pub struct Generator {
    threads: usize,
    /// Part of the time in which the busiest thread was running. Unknown on a schedule, where idle threads watch the
    /// clock.
    busy: Option<f64>,
    /// Part of the time in which the busiest thread waited for a core.
    waited: Option<f64>,
    /// Why the results are about the load generator or the machine rather than the server, if they are.
    limit: Option<String>,
}

impl Generator {
    /// Judges the threads of a closed loop by how busy they were. More threads are no advice where each of the cores that
    /// they may use has one.
    pub fn closed(usages: &[ThreadUsage], cores: usize) -> Generator {
        let busiest = usages
            .iter()
            .max_by_key(|thread| thread.busy.unwrap_or_default());
        let busy = busiest.and_then(|thread| part(thread.busy, thread.time));
        let waited = busiest.and_then(|thread| part(thread.waited, thread.time));
        let percent = |part: f64| format!("{:.0} % of the time", part * 100.0);
        let limit = match (busy, waited) {
            (Some(busy), _) if busy >= BUSY => {
                let advice = match usages.len() < cores {
                    true => " More --threads may help.",
                    false => "",
                };
                Some(format!(
                    "The load generator was the limit: a thread of it was at work {}.{advice}",
                    percent(busy)
                ))
            }
            (Some(busy), Some(waited)) if busy + waited >= BUSY => Some(format!(
                "The machine was the limit: the load generator was at work {}, and waited for a core {}.",
                percent(busy),
                percent(waited)
            )),
            _ => None,
        };
        Generator {
            threads: usages.len(),
            busy,
            waited,
            limit,
        }
    }

    /// Judges the threads of a schedule by how late they made their requests, in comparison with the latencies that
    /// they measured.
    pub fn open(threads: usize, latencies: Option<(Percentiles, Percentiles)>) -> Generator {
        let limit = match latencies {
            Some((late, seen)) if late.p99 * 2.0 > seen.p99 => Some(format!(
                "The load generator was the limit: it made 1 % of its requests {} us late or more, and latencies count \
                 from the schedule.",
                late.p99
            )),
            _ => None,
        };
        Generator {
            threads,
            busy: None,
            waited: None,
            limit,
        }
    }

    /// Returns the judgement as a sentence, if there is something to report.
    pub fn text(&self) -> Option<String> {
        let busy = self.busy.map(|busy| {
            let percent = busy * 100.0;
            format!("The load generator was at work {percent:.0} % of the time.")
        });
        self.limit.clone().or(busy)
    }
}

/// Returns a part of a duration, rounded to a thousandth, if the time is known.
fn part(time: Option<Duration>, of: Duration) -> Option<f64> {
    let part = time?.as_secs_f64() / of.as_secs_f64();
    part.is_finite().then(|| (part * 1000.0).round() / 1000.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn usage_of(busy: u64, waited: u64) -> ThreadUsage {
        ThreadUsage {
            time: Duration::from_secs(100),
            busy: Some(Duration::from_secs(busy)),
            waited: Some(Duration::from_secs(waited)),
        }
    }

    #[test]
    fn a_busy_generator_or_a_lack_of_cores_is_reported_as_the_limit() {
        let text = |usages: &[ThreadUsage]| Generator::closed(usages, 3).text().unwrap();
        assert_eq!(
            text(&[usage_of(40, 10)]),
            "The load generator was at work 40 % of the time."
        );
        let busy = text(&[usage_of(10, 0), usage_of(95, 0)]);
        assert_eq!(
            busy,
            "The load generator was the limit: a thread of it was at work 95 % of the time. More --threads may help."
        );
        let alone = Generator::closed(&[usage_of(95, 0)], 1).text().unwrap();
        assert!(alone.ends_with("at work 95 % of the time."), "{alone}");
        let starved = text(&[usage_of(50, 45)]);
        assert!(
            starved.ends_with("at work 50 % of the time, and waited for a core 45 % of the time.")
        );
        assert_eq!(Generator::closed(&[ThreadUsage::default()], 1).text(), None);
    }

    #[test]
    fn a_generator_that_is_late_on_a_schedule_is_reported_as_the_limit() {
        let all = |us| Percentiles {
            p50: us,
            p90: us,
            p99: us,
            p999: us,
            max: us,
        };
        let text = |late, seen| Generator::open(1, Some((all(late), all(seen)))).text();
        assert_eq!(text(10.0, 90.0), None);
        assert!(
            text(50.0, 90.0).is_some_and(|text| text.contains("1 % of its requests 50 us late"))
        );
        assert_eq!(Generator::open(1, None).text(), None);
    }
}
