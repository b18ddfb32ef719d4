//! What the load generator itself has used, and whether it was what limited a run of `imd bench`.

use std::time::{Duration, Instant};

use imd::load::{Percentiles, usage};
use serde::Serialize;

/// A thread that is busy for this part of the time can't make more requests.
const BUSY: f64 = 0.9;

/// Reads the clocks of a thread when the run begins.
pub struct Watch {
    begun: Instant,
    cpu: Option<Duration>,
    waited: Option<Duration>,
}

impl Watch {
    /// Starts to measure the calling thread.
    pub fn start() -> Watch {
        Watch {
            begun: Instant::now(),
            cpu: usage::thread_cpu(),
            waited: usage::thread_waited(),
        }
    }

    /// Returns what the calling thread, the one that started the watch, has used since.
    pub fn stop(&self) -> Effort {
        let since = |now: Option<Duration>, before: Option<Duration>| now?.checked_sub(before?);
        Effort {
            time: self.begun.elapsed(),
            busy: since(usage::thread_cpu(), self.cpu),
            waited: since(usage::thread_waited(), self.waited),
        }
    }
}

/// What a thread has used during the run.
#[derive(Debug, Clone, Copy, Default)]
pub struct Effort {
    /// How long the run took.
    pub time: Duration,
    /// How long the thread was running on a core.
    pub busy: Option<Duration>,
    /// How long the thread could run and waited for a core.
    pub waited: Option<Duration>,
}

/// The report on the load generator.
#[derive(Debug, Serialize)]
pub struct Generator {
    threads: usize,
    /// The part of the time in which the busiest thread was at work. Unknown on a schedule, where a thread watches the
    /// clock while it has nothing to do.
    busy: Option<f64>,
    /// The part of the time in which the busiest thread waited for a core.
    waited: Option<f64>,
    /// Why the figures say more about the generator or the machine than about the server, if they do.
    limit: Option<String>,
}

impl Generator {
    /// Reports on the threads of a closed loop.
    pub fn closed(efforts: &[Effort]) -> Generator {
        let busiest = efforts
            .iter()
            .max_by_key(|effort| effort.busy.unwrap_or_default());
        let busy = busiest.and_then(|effort| part(effort.busy, effort.time));
        let waited = busiest.and_then(|effort| part(effort.waited, effort.time));
        let percent = |part: f64| format!("{:.0} % of the time", part * 100.0);
        let limit = match (busy, waited) {
            (Some(busy), _) if busy >= BUSY => Some(format!(
                "The load generator was the limit: a thread of it was at work {}. More --threads may help.",
                percent(busy)
            )),
            (Some(busy), Some(waited)) if busy + waited >= BUSY => Some(format!(
                "The machine was the limit: the load generator was at work {}, and waited for a core {}.",
                percent(busy),
                percent(waited)
            )),
            _ => None,
        };
        Generator {
            threads: efforts.len(),
            busy,
            waited,
            limit,
        }
    }

    /// Reports on the threads of a schedule, by how late they made their requests and the latencies that they measured.
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

    /// Returns the report as a sentence, if there is something to report.
    pub fn text(&self) -> Option<String> {
        let busy = self.busy.map(|busy| {
            let percent = busy * 100.0;
            format!("The load generator was at work {percent:.0} % of the time.")
        });
        self.limit.clone().or(busy)
    }
}

fn part(time: Option<Duration>, of: Duration) -> Option<f64> {
    let part = time?.as_secs_f64() / of.as_secs_f64();
    part.is_finite().then(|| (part * 1000.0).round() / 1000.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn effort(busy: u64, waited: u64) -> Effort {
        Effort {
            time: Duration::from_secs(100),
            busy: Some(Duration::from_secs(busy)),
            waited: Some(Duration::from_secs(waited)),
        }
    }

    #[test]
    fn a_busy_thread_is_the_limit_and_one_without_a_core_is_the_machines() {
        let text = |efforts: &[Effort]| Generator::closed(efforts).text().unwrap();
        assert_eq!(
            text(&[effort(40, 10)]),
            "The load generator was at work 40 % of the time."
        );
        let busy = text(&[effort(10, 0), effort(95, 0)]);
        assert!(
            busy.starts_with("The load generator was the limit: a thread of it was at work 95 %")
        );
        let starved = text(&[effort(50, 45)]);
        assert!(
            starved.ends_with("at work 50 % of the time, and waited for a core 45 % of the time.")
        );
        assert_eq!(Generator::closed(&[Effort::default()]).text(), None);
    }

    #[test]
    fn on_a_schedule_its_own_delay_is_the_limit() {
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
