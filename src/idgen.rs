//! Snowflake ids: 1 bit zero, 41 bits Unix milliseconds, 10 bits machine, 12 bits serial (the contract's
//! *Identifiers*).
//!
//! Serves the services, which give these ids to groups, and to messages that come without one. Ids always increase and
//! never repeat, whatever the clock says. The clock can only move them forward, and no further than
//! [`clock::LATEST_MS`]. Between that time and the end of the 41 bits, 10^14 more ids fit.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::clock::{self, Clock};

const SERIAL_BITS: u32 = 12;
const MACHINE_BITS: u32 = 10;
const SERIAL_MASK: u64 = (1 << SERIAL_BITS) - 1;

/// The number of bits below the time in an id, which is in Unix milliseconds.
pub const TIME_SHIFT: u32 = MACHINE_BITS + SERIAL_BITS;

/// The last millisecond that an id can represent: in September 2039.
const LAST_MS: u64 = (1 << 41) - 1;

/// The last stamp that an id can represent: see [`Snowflake::last`].
const LAST_STAMP: u64 = (LAST_MS << SERIAL_BITS) | SERIAL_MASK;

/// How many milliseconds the ids of a run may be ahead of what its store has recorded of them.
const AHEAD: u64 = 1_000;

/// The distance from [`LAST_MS`], in milliseconds, within which a recorded time is not believed. No clock gets there,
/// and ids that began there would soon reach their end.
const ROOM: u64 = 24 * 3_600_000;

/// One hour, in stamps.
const HOUR: u64 = 3_600_000 << SERIAL_BITS;

/// The largest machine number of the contract.
pub const MAX_MACHINE: u16 = (1 << MACHINE_BITS) - 1;

/// A source of ids that never repeat, always increase, and never wait.
#[derive(Debug)]
pub struct Snowflake {
    clock: Arc<dyn Clock>,
    machine: u64,
    /// The stamp of the last id: its milliseconds and its serial as one number. Adding 1 carries from the serial into
    /// the milliseconds, which is what a stopped clock, a clock that was set back, and a full serial need.
    last: AtomicU64,
    /// The stamp that the source began with. No id has it.
    first: u64,
}

impl Snowflake {
    /// Creates a source whose ids begin one second after `newest`, also if the clock is behind that.
    ///
    /// `newest` is the time of the last id of an earlier run, in Unix milliseconds, or 0. Only the 10 lowest bits of
    /// `machine` are used.
    pub fn new(machine: u16, clock: Arc<dyn Clock>, newest: i64) -> Self {
        let first = (in_ids(newest) + AHEAD).min(LAST_MS) << SERIAL_BITS;
        Snowflake {
            clock,
            machine: u64::from(machine & MAX_MACHINE),
            last: AtomicU64::new(first),
            first,
        }
    }

    /// Returns the time in the last id, in Unix milliseconds; 0 if none was given out yet.
    pub fn last_issued_ms(&self) -> i64 {
        match self.last.load(Ordering::Relaxed) {
            last if last == self.first => 0,
            last => (last.min(LAST_STAMP) >> SERIAL_BITS).cast_signed(),
        }
    }

    /// Makes all later ids greater than any that another source may have given out up to the millisecond `up_to_ms`.
    pub fn go_beyond(&self, up_to_ms: i64) {
        let end = (in_ids(up_to_ms) << SERIAL_BITS) | SERIAL_MASK;
        self.last.fetch_max(end, Ordering::Relaxed);
    }

    /// Returns the next id.
    pub fn next_id(&self) -> i64 {
        self.next_id_at(self.clock.unix_ms())
    }

    /// Returns the next id, if the clock has just shown `now`, in Unix milliseconds.
    pub fn next_id_at(&self, now: i64) -> i64 {
        let now = stamp(now);
        let end = LAST_STAMP + ((u64::from(MAX_MACHINE) - self.machine) << SERIAL_BITS);
        let step = |last: u64| now.max(last + 1).min(end);
        let last = self
            .last
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |l| Some(step(l)));
        self.id(step(last.unwrap_or_else(|last| last)))
    }

    /// Returns the last id once more, as an injected fault; the next id if none was given out yet.
    pub fn last_id(&self) -> i64 {
        match self.last.load(Ordering::Relaxed) {
            last if last == self.first => self.next_id(),
            last => self.id(last),
        }
    }

    /// Returns an id from one hour ago, as an injected fault: as if the clock had been set back.
    pub fn stale_id(&self) -> i64 {
        let now = stamp(self.clock.unix_ms());
        let last = self.last.load(Ordering::Relaxed).max(now);
        self.id(last.saturating_sub(HOUR))
    }

    /// Returns the id of a stamp. Beyond the last stamp, ids go on by counting up in the bits of the machine and the
    /// serial.
    fn id(&self, stamp: u64) -> i64 {
        let beyond = stamp.saturating_sub(LAST_STAMP);
        let stamp = stamp.min(LAST_STAMP);
        let time = stamp >> SERIAL_BITS;
        let serial = stamp & SERIAL_MASK;
        let id = (time << (MACHINE_BITS + SERIAL_BITS)) | (self.machine << SERIAL_BITS) | serial;
        (id + beyond).cast_signed()
    }
}

/// Returns the stamp of a time, in Unix milliseconds.
fn stamp(now: i64) -> u64 {
    now.clamp(0, clock::LATEST_MS).unsigned_abs() << SERIAL_BITS
}

/// Converts a recorded time to the milliseconds of ids. A time that no id can have reached is replaced by the latest
/// one that a run can have: that of the latest clock, plus what its ids may be [`AHEAD`].
fn in_ids(ms: i64) -> u64 {
    let ms = u64::try_from(ms).unwrap_or(0);
    if ms < LAST_MS - ROOM {
        ms
    } else {
        clock::LATEST_MS.unsigned_abs() + AHEAD
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::{ClockControl, ManualClock};
    use std::collections::HashSet;
    use std::time::Duration;

    #[tokio::test]
    async fn ids_have_the_contracts_layout() {
        let clock = ManualClock::default();
        let ids = Snowflake::new(5, Arc::new(clock.clone()), 0);
        let id = ids.next_id();
        assert_eq!(id >> 22, clock.unix_ms());
        assert_eq!((id >> 12) & 0x3ff, 5);
        assert_eq!(id & 0xfff, 0);
        clock.advance(Duration::from_millis(7)).await;
        assert_eq!(ids.next_id() >> 22, clock.unix_ms());
    }

    #[test]
    fn after_a_restart_with_the_clock_set_back_ids_go_on() {
        let clock = ManualClock::default();
        let before = Snowflake::new(0, Arc::new(clock.clone()), 0).next_id();
        let newest = clock.unix_ms();
        clock.skew(-3_600_000).unwrap();
        let after = Snowflake::new(0, Arc::new(clock.clone()), newest);
        assert!(after.next_id() > before);
    }

    #[test]
    fn ids_go_beyond_those_of_another_source_and_never_back() {
        let clock = ManualClock::default();
        let [one, two] = [5, 5].map(|newest| Snowflake::new(0, Arc::new(clock.clone()), newest));
        assert_eq!(two.last_issued_ms(), 0);
        let (first, ahead) = (one.next_id(), two.next_id());
        one.go_beyond(clock.unix_ms() - 3_600_000);
        let second = one.next_id();
        assert!(second > first && second >> 22 == clock.unix_ms());
        // The two sources go beyond each other in turn, with a stopped clock.
        one.go_beyond(two.last_issued_ms());
        let third = one.next_id();
        assert!(third > ahead);
        two.go_beyond(one.last_issued_ms());
        assert!(two.next_id() > third);
    }

    #[test]
    fn ids_increase_with_a_stopped_clock_and_one_that_is_set_back() {
        let clock = ManualClock::default();
        let ids = Snowflake::new(0, Arc::new(clock.clone()), 0);
        let start = clock.unix_ms();
        let mut last = 0;
        for n in 0..10_000 {
            if n == 5_000 {
                clock.skew(-3_600_000).unwrap();
            }
            let id = ids.next_id();
            assert!(id > last);
            last = id;
        }
        assert_eq!(
            last >> 22,
            start + 2,
            "10,000 ids run over two serials of 4,096"
        );
    }

    #[test]
    fn many_threads_never_share_an_id() {
        let ids = Arc::new(Snowflake::new(1, Arc::new(ManualClock::default()), 0));
        let threads: Vec<_> = (0..4)
            .map(|_| {
                let ids = Arc::clone(&ids);
                std::thread::spawn(move || (0..5_000).map(|_| ids.next_id()).collect::<Vec<_>>())
            })
            .collect();
        let all: HashSet<i64> = threads
            .into_iter()
            .flat_map(|t| t.join().unwrap())
            .collect();
        assert_eq!(all.len(), 20_000);
    }

    /// A clock with a wall time that the test sets.
    #[derive(Debug)]
    struct SetClock(std::sync::atomic::AtomicI64);

    impl SetClock {
        fn new(ms: i64) -> Arc<Self> {
            Arc::new(SetClock(ms.into()))
        }

        fn set(&self, ms: i64) {
            self.0.store(ms, Ordering::Relaxed);
        }
    }

    impl Clock for SetClock {
        fn now(&self) -> Duration {
            Duration::ZERO
        }

        fn unix_ms(&self) -> i64 {
            self.0.load(Ordering::Relaxed)
        }

        fn ticks(&self, _: Duration) -> Box<dyn clock::Ticks> {
            unreachable!()
        }
    }

    const YEAR: i64 = 366 * 24 * 3_600_000;

    /// The extreme times that a clock may show.
    const EXTREMES: [i64; 12] = [
        0,
        i64::MAX,
        -1,
        1,
        i64::MIN,
        clock::LATEST_MS,
        (1 << 41) - 1,
        clock::LATEST_MS + 1,
        1 << 41,
        (1 << 41) + 5 * YEAR,
        1 << 52,
        1_577_836_800_000,
    ];

    #[test]
    fn ids_increase_and_are_positive_whatever_the_clock_says() {
        for first in EXTREMES {
            let clock = SetClock::new(first);
            let ids = Snowflake::new(0, Arc::<SetClock>::clone(&clock), 0);
            let mut last = 0;
            for now in EXTREMES.into_iter().chain(EXTREMES) {
                clock.set(now);
                // More ids than one millisecond has.
                for _ in 0..10_000 {
                    let id = ids.next_id();
                    assert!(id > last, "{id} follows {last} at {now}, after {first}");
                    last = id;
                }
            }
        }
    }

    #[test]
    fn ids_go_on_after_a_restart_whatever_the_clocks_say() {
        for (before, after) in EXTREMES.into_iter().flat_map(|b| EXTREMES.map(|a| (b, a))) {
            let first = Snowflake::new(MAX_MACHINE, SetClock::new(before), 0);
            let last = (0..5_000).map(|_| first.next_id()).max().unwrap();
            // A store records how far ids have come, and when its messages were sent. So the next run begins from the
            // later one.
            for newest in [first.last_issued_ms(), first.last_issued_ms().max(before)] {
                let second = Snowflake::new(0, SetClock::new(after), newest);
                let ids: Vec<i64> = (0..5_000).map(|_| second.next_id()).collect();
                assert!(ids[0] > last && ids.is_sorted_by(|a, b| a < b));
                let third = Snowflake::new(0, SetClock::new(after), 0);
                third.go_beyond(newest);
                assert!(third.next_id() > last);
            }
        }
    }

    #[test]
    fn ids_go_on_beyond_the_last_millisecond() {
        let ids = Snowflake::new(3, SetClock::new(clock::LATEST_MS), 0);
        ids.last.store(LAST_STAMP - 5_000, Ordering::Relaxed);
        let all: Vec<i64> = (0..100_000).map(|_| ids.next_id()).collect();
        assert!(all.is_sorted_by(|a, b| a < b) && all[0] > 0);
        assert_eq!(ids.last_issued_ms(), LAST_MS.cast_signed());
        assert_eq!(ids.last_id(), all[99_999]);
    }

    #[test]
    fn every_recorded_time_leaves_room_for_more_ids() {
        let last = LAST_MS.cast_signed();
        let edge = last - ROOM.cast_signed();
        for newest in [edge - 1, edge, edge + 1, last - 1_001, last - 1_000, last] {
            for machine in [0, MAX_MACHINE] {
                let ids = Snowflake::new(machine, SetClock::new(clock::LATEST_MS), newest);
                let all: Vec<i64> = (0..50_000).map(|_| ids.next_id()).collect();
                assert!(all.is_sorted_by(|a, b| a < b) && all[0] > 0, "{newest}");
            }
        }
    }

    #[test]
    fn the_faults_of_a_new_source_give_valid_ids() {
        let clock = ManualClock::default();
        let ids = || Snowflake::new(0, Arc::new(clock.clone()), 0);
        let hour_ago = clock.unix_ms() - 3_600_000;
        assert_eq!(ids().stale_id() >> 22, hour_ago);
        assert_eq!(ids().last_id() >> 22, clock.unix_ms());
        assert_eq!(Snowflake::new(0, SetClock::new(0), 0).stale_id() >> 22, 0);
    }
}
