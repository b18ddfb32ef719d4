//! Snowflake ids: 1 bit zero, 41 bits Unix milliseconds, 10 bits machine, 12 bits serial (the contract's *Identifiers*).
//!
//! Ids always increase and never repeat, whatever the clock says. The clock can only pull them forward, and no further
//! than [`clock::LATEST_MS`]. From there to the end of the 41 bits there is room for 10^14 ids of a clock that stands.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::clock::{self, Clock};

const SERIAL_BITS: u32 = 12;
const MACHINE_BITS: u32 = 10;
const SERIAL_MASK: u64 = (1 << SERIAL_BITS) - 1;

/// The last millisecond that fits an id: in September 2039.
const LAST_MS: u64 = (1 << 41) - 1;

/// The last stamp that fits an id.
const LAST_STAMP: u64 = (LAST_MS << SERIAL_BITS) | SERIAL_MASK;

/// How many milliseconds the ids of a run may have been ahead of what its store knew of them.
const AHEAD: u64 = 1_000;

/// A time of ids this close to their end, in milliseconds, leaves no room for the ids of another run. No run has come
/// there: its clock ends long before.
const ROOM: u64 = 24 * 3_600_000;

/// An hour, in stamps.
const HOUR: u64 = 3_600_000 << SERIAL_BITS;

/// The largest machine number.
pub const MAX_MACHINE: u16 = (1 << MACHINE_BITS) - 1;

/// A source of ids that never repeat, always increase, and never wait.
#[derive(Debug)]
pub struct Snowflake {
    clock: Arc<dyn Clock>,
    machine: u64,
    /// Milliseconds and serial of the last id as one number, the stamp. Adding 1 to it carries from the serial into the
    /// milliseconds, which is all that a standing clock, one that steps back, or a full serial asks for.
    last: AtomicU64,
    /// The stamp that it began with. No id has it.
    first: u64,
}

impl Snowflake {
    /// Creates a source whose ids begin a second after `newest`, also when the clock was set back meanwhile.
    ///
    /// `newest` is when ids were given out last, in an earlier run too: Unix milliseconds, or 0. `machine` is cut to its
    /// 10 bits.
    pub fn new(machine: u16, clock: Arc<dyn Clock>, newest: i64) -> Self {
        let first = (in_ids(newest) + AHEAD).min(LAST_MS) << SERIAL_BITS;
        Snowflake {
            clock,
            machine: u64::from(machine & MAX_MACHINE),
            last: AtomicU64::new(first),
            first,
        }
    }

    /// Returns the millisecond of the last id; 0 where none was given out.
    pub fn reached(&self) -> i64 {
        match self.last.load(Ordering::Relaxed) {
            last if last == self.first => 0,
            last => (last.min(LAST_STAMP) >> SERIAL_BITS).cast_signed(),
        }
    }

    /// Lets ids begin after a millisecond that other ids have [reached](Self::reached). They never go back.
    pub fn go_beyond(&self, reached: i64) {
        let end = (in_ids(reached) << SERIAL_BITS) | SERIAL_MASK;
        self.last.fetch_max(end, Ordering::Relaxed);
    }

    /// Returns the next id.
    pub fn next_id(&self) -> i64 {
        let now = self.now();
        let end = LAST_STAMP + ((u64::from(MAX_MACHINE) - self.machine) << SERIAL_BITS);
        let step = |last: u64| now.max(last + 1).min(end);
        let last = self
            .last
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |l| Some(step(l)));
        self.id(step(last.unwrap_or_else(|last| last)))
    }

    /// Returns the last id once more, for a fault; where there is none yet, the next one.
    pub fn last_id(&self) -> i64 {
        match self.last.load(Ordering::Relaxed) {
            last if last == self.first => self.next_id(),
            last => self.id(last),
        }
    }

    /// Returns an id of an hour ago, as if the clock had been set back: for a fault.
    pub fn stale_id(&self) -> i64 {
        let last = self.last.load(Ordering::Relaxed).max(self.now());
        self.id(last.saturating_sub(HOUR))
    }

    /// The stamp of the clock's time.
    fn now(&self) -> u64 {
        let now = self.clock.unix_ms().clamp(0, clock::LATEST_MS);
        now.unsigned_abs() << SERIAL_BITS
    }

    /// The id of a stamp. Behind the last one the serial runs over into the machine, up to the largest id that there is.
    fn id(&self, stamp: u64) -> i64 {
        let beyond = stamp.saturating_sub(LAST_STAMP);
        let stamp = stamp.min(LAST_STAMP);
        let time = stamp >> SERIAL_BITS;
        let serial = stamp & SERIAL_MASK;
        let id = (time << (MACHINE_BITS + SERIAL_BITS)) | (self.machine << SERIAL_BITS) | serial;
        (id + beyond).cast_signed()
    }
}

/// A time of ids. One that no id can have says nothing of ids: they had come as far as a clock can go, and no further than
/// the ids of a run may be ahead of it.
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
    use crate::clock::ManualClock;
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
    fn a_life_after_the_clock_was_set_back_goes_on_after_the_one_before() {
        let clock = ManualClock::default();
        let before = Snowflake::new(0, Arc::new(clock.clone()), 0).next_id();
        let newest = clock.unix_ms();
        clock.skew(-3_600_000).unwrap();
        let after = Snowflake::new(0, Arc::new(clock.clone()), newest);
        assert!(after.next_id() > before);
    }

    #[test]
    fn ids_go_beyond_another_life_and_never_back() {
        let clock = ManualClock::default();
        let [one, two] = [5, 5].map(|newest| Snowflake::new(0, Arc::new(clock.clone()), newest));
        assert_eq!(two.reached(), 0);
        let (first, ahead) = (one.next_id(), two.next_id());
        one.go_beyond(clock.unix_ms() - 3_600_000);
        let second = one.next_id();
        assert!(second > first && second >> 22 == clock.unix_ms());
        // Back and forth between two whose clock stands.
        one.go_beyond(two.reached());
        let third = one.next_id();
        assert!(third > ahead);
        two.go_beyond(one.reached());
        assert!(two.next_id() > third);
    }

    #[test]
    fn a_standing_clock_and_one_that_steps_back_still_give_increasing_ids() {
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

    /// A clock that says what it is told.
    #[derive(Debug)]
    struct Says(std::sync::atomic::AtomicI64);

    impl Says {
        fn new(ms: i64) -> Arc<Self> {
            Arc::new(Says(ms.into()))
        }

        fn say(&self, ms: i64) {
            self.0.store(ms, Ordering::Relaxed);
        }
    }

    #[async_trait::async_trait]
    impl Clock for Says {
        fn now(&self) -> Duration {
            Duration::ZERO
        }

        fn unix_ms(&self) -> i64 {
            self.0.load(Ordering::Relaxed)
        }

        fn ticks(&self, _: Duration) -> Box<dyn clock::Ticks> {
            unreachable!()
        }

        fn skew(&self, _: i64) -> Result<(), clock::OutOfBounds> {
            unreachable!()
        }

        async fn try_advance(&self, _: Duration) -> Result<(), clock::OutOfBounds> {
            unreachable!()
        }
    }

    const YEAR: i64 = 366 * 24 * 3_600_000;

    /// What a clock may say at the worst.
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
            let clock = Says::new(first);
            let ids = Snowflake::new(0, Arc::<Says>::clone(&clock), 0);
            let mut last = 0;
            for now in EXTREMES.into_iter().chain(EXTREMES) {
                clock.say(now);
                // More than a millisecond has of them.
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
            let first = Snowflake::new(MAX_MACHINE, Says::new(before), 0);
            let last = (0..5_000).map(|_| first.next_id()).max().unwrap();
            // What a store knows is how far they have come, or a time that its messages were sent at.
            for newest in [first.reached(), first.reached().max(before)] {
                let second = Snowflake::new(0, Says::new(after), newest);
                let ids: Vec<i64> = (0..5_000).map(|_| second.next_id()).collect();
                assert!(ids[0] > last && ids.is_sorted_by(|a, b| a < b));
                let third = Snowflake::new(0, Says::new(after), 0);
                third.go_beyond(newest);
                assert!(third.next_id() > last);
            }
        }
    }

    #[test]
    fn ids_go_on_behind_the_last_millisecond() {
        let ids = Snowflake::new(3, Says::new(clock::LATEST_MS), 0);
        ids.last.store(LAST_STAMP - 5_000, Ordering::Relaxed);
        let all: Vec<i64> = (0..100_000).map(|_| ids.next_id()).collect();
        assert!(all.is_sorted_by(|a, b| a < b) && all[0] > 0);
        assert_eq!(ids.reached(), LAST_MS.cast_signed());
        assert_eq!(ids.last_id(), all[99_999]);
    }

    #[test]
    fn whatever_a_store_says_of_its_ids_leaves_room_for_more() {
        let last = LAST_MS.cast_signed();
        let edge = last - ROOM.cast_signed();
        for newest in [edge - 1, edge, edge + 1, last - 1_001, last - 1_000, last] {
            for machine in [0, MAX_MACHINE] {
                let ids = Snowflake::new(machine, Says::new(clock::LATEST_MS), newest);
                let all: Vec<i64> = (0..50_000).map(|_| ids.next_id()).collect();
                assert!(all.is_sorted_by(|a, b| a < b) && all[0] > 0, "{newest}");
            }
        }
    }

    #[test]
    fn the_faults_of_a_source_that_gave_out_none_are_ids_too() {
        let clock = ManualClock::default();
        let ids = || Snowflake::new(0, Arc::new(clock.clone()), 0);
        let hour_ago = clock.unix_ms() - 3_600_000;
        assert_eq!(ids().stale_id() >> 22, hour_ago);
        assert_eq!(ids().last_id() >> 22, clock.unix_ms());
        assert_eq!(Snowflake::new(0, Says::new(0), 0).stale_id() >> 22, 0);
    }
}
