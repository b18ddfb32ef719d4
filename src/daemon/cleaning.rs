//! Removes old messages from the store once a minute, and whenever the store runs short of room.
//!
//! Serves `start`, which spawns this task unless the store keeps everything for ever. What is old enough to be removed is
//! decided by the store's retention; this module gives it the time, see [`CleaningTime`].

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use crate::clock::{Clock, Ticks};
use crate::store::{KEEP_IDS, StoreAdmin};
use crate::task_group::TaskGroup;

/// The time between two cleanings of the store, on the clock of the stack.
pub(super) const INTERVAL: Duration = Duration::from_secs(60);

/// Has the store remove what its retention no longer keeps, at each tick and whenever the store says that a
/// cleaning is due. Ends when the shutdown begins. A cleaning that is in progress then may go on until it is asked to
/// end at once, since the store is closed only after it.
pub(super) async fn keep_clean(
    store: Arc<dyn StoreAdmin>,
    mut time: CleaningTime,
    mut ticks: Box<dyn Ticks>,
    tasks: TaskGroup,
) {
    loop {
        tokio::select! {
            () = tasks.shutdown_begun() => return,
            _ = ticks.tick() => {}
            () = store.cleaning_due() => {}
        }
        let cleaned = tokio::select! {
            () = tasks.hurried() => return,
            cleaned = store.clean(time.unix_ms()) => cleaned,
        };
        match cleaned {
            Ok(0) => {}
            Ok(removed) => tracing::debug!(removed, "old messages were removed"),
            Err(error) => tracing::error!(%error, "old messages were not removed"),
        }
    }
}

/// The time by which a store is cleaned: that of the wall clock, without its leaps forward of the last [`KEEP_IDS`].
///
/// The send times of messages are those of the wall clock. If that leaps forward, for example because it was set, every
/// message seems to be older by as much. Without this, the next cleaning would forget the ids of messages that were sent
/// just before, and a client that sends one of them again would have it stored twice. So a leap counts only when all that
/// was sent before it is at least as old as [`KEEP_IDS`], by [`Clock::now`]. A leap back counts at once.
///
/// Leaps while the process does not run are not noticed. An advance of a manual clock is no leap: it moves both clocks.
#[derive(Debug)]
pub(super) struct CleaningTime {
    clock: Arc<dyn Clock>,
    /// How far the wall clock was ahead, and since when. Both increase from the front to the back, so the first is the
    /// least of all that count.
    leads: VecDeque<Lead>,
}

/// How far the wall clock was ahead of [`Clock::now`].
#[derive(Debug, Clone, Copy)]
struct Lead {
    /// Since when it was at least as much, by [`Clock::now`].
    since: Duration,
    /// In milliseconds.
    ms: i64,
}

impl CleaningTime {
    /// Begins to watch the wall clock.
    pub(super) fn new(clock: Arc<dyn Clock>) -> CleaningTime {
        let leads = VecDeque::from([Lead::seen(&*clock)]);
        CleaningTime { clock, leads }
    }

    /// Returns the time of now, in Unix milliseconds. What the wall clock does between two calls is not noticed, so there
    /// has to be one each minute or so.
    fn unix_ms(&mut self) -> i64 {
        let seen = Lead::seen(&*self.clock);
        let now = seen.since;
        let mut lead = seen;
        while let Some(more) = self.leads.pop_back_if(|other| other.ms >= lead.ms) {
            lead.since = more.since;
        }
        self.leads.push_back(lead);
        // A lead counts until whatever was sent with it, and so before the next lead began, is old enough.
        let is_old = |next: &Lead| now.saturating_sub(next.since) > KEEP_IDS;
        while self.leads.get(1).is_some_and(is_old) {
            self.leads.pop_front();
        }
        let min_lead = self.leads.front().map_or(seen.ms, |lead| lead.ms);
        millis(now).saturating_add(min_lead)
    }
}

impl Lead {
    /// Returns how far the wall clock is ahead now.
    fn seen(clock: &dyn Clock) -> Lead {
        let since = clock.now();
        let ms = clock.unix_ms().saturating_sub(millis(since));
        Lead { since, ms }
    }
}

fn millis(time: Duration) -> i64 {
    i64::try_from(time.as_millis()).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::{ClockControl, ManualClock};

    const HOUR: Duration = Duration::from_secs(3_600);

    #[tokio::test]
    async fn a_leap_forward_counts_when_what_was_sent_before_is_old() {
        let clock = ManualClock::default();
        let mut time = CleaningTime::new(Arc::new(clock.clone()));
        let begin = clock.unix_ms();
        let hours = |ms: i64| (ms - begin) / 3_600_000;
        clock.advance(HOUR).await;
        assert_eq!(hours(time.unix_ms()), 1, "an advance is no leap");
        clock.skew(millis(48 * HOUR)).unwrap();
        for passed in 1..=25 {
            assert_eq!(hours(time.unix_ms()), passed);
            clock.advance(HOUR).await;
        }
        assert_eq!(hours(time.unix_ms()), 26 + 48);
        assert_eq!(time.unix_ms(), clock.unix_ms());
    }

    #[tokio::test]
    async fn a_leap_back_counts_at_once_and_its_end_is_a_leap_forward() {
        let clock = ManualClock::default();
        let mut time = CleaningTime::new(Arc::new(clock.clone()));
        clock.advance(HOUR).await;
        clock.skew(-millis(10 * HOUR)).unwrap();
        assert_eq!(time.unix_ms(), clock.unix_ms());
        clock.advance(HOUR).await;
        clock.skew(millis(10 * HOUR)).unwrap();
        assert_eq!(time.unix_ms(), clock.unix_ms() - millis(10 * HOUR));
    }

    #[tokio::test]
    async fn a_leap_ends_also_with_a_clock_that_loses_or_gains() {
        for drift in [-1, 1] {
            let clock = ManualClock::default();
            let mut time = CleaningTime::new(Arc::new(clock.clone()));
            let leap = millis(48 * HOUR);
            clock.skew(leap).unwrap();
            for _ in 0..25 * 60 {
                clock.advance(INTERVAL).await;
                clock.skew(drift).unwrap();
                time.unix_ms();
            }
            let behind = clock.unix_ms() - time.unix_ms();
            assert!(behind < 2_000, "{behind}");
            assert!(time.leads.len() <= 24 * 60 + 2, "{}", time.leads.len());
        }
    }
}
