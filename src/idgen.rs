//! Snowflake ids: 1 bit zero, 41 bits Unix milliseconds, 10 bits machine, 12 bits serial (the contract's *Identifiers*).

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::clock::Clock;

const SERIAL_BITS: u32 = 12;
const MACHINE_BITS: u32 = 10;
const SERIAL_MASK: u64 = (1 << SERIAL_BITS) - 1;
const TIME_MASK: u64 = (1 << 41) - 1;

/// So many milliseconds the ids of a busy life may have been ahead of its clock.
const AHEAD: u64 = 1_000;

/// The largest machine number.
pub const MAX_MACHINE: u16 = (1 << MACHINE_BITS) - 1;

/// A source of ids that never repeat, always increase, and never wait.
#[derive(Debug)]
pub struct Snowflake {
    clock: Arc<dyn Clock>,
    machine: u64,
    /// Milliseconds and serial of the last id as one number. Adding 1 to it carries from the serial into the
    /// milliseconds, which is all that a standing clock, one that steps back, or a full serial asks for.
    last: AtomicU64,
    /// Where it began.
    first: u64,
}

impl Snowflake {
    /// `machine` is cut to its 10 bits. `newest` is when ids were given out last, in an earlier life too: Unix
    /// milliseconds, or 0. Ids begin a second after it, also when the clock was set back meanwhile.
    pub fn new(machine: u16, clock: Arc<dyn Clock>, newest: i64) -> Self {
        let after = u64::try_from(newest).map_or(0, |newest| newest + AHEAD);
        let first = after << SERIAL_BITS;
        Snowflake {
            clock,
            machine: u64::from(machine & MAX_MACHINE),
            last: AtomicU64::new(first),
            first,
        }
    }

    /// The millisecond of the last id; 0 where none was given out.
    pub fn reached(&self) -> i64 {
        match self.last.load(Ordering::Relaxed) {
            last if last == self.first => 0,
            last => (last >> SERIAL_BITS).cast_signed(),
        }
    }

    /// From now on ids begin after a millisecond that other ids have [reached](Self::reached). They never go back.
    pub fn go_beyond(&self, reached: i64) {
        let end = u64::try_from(reached).map_or(0, |ms| (ms << SERIAL_BITS) | SERIAL_MASK);
        self.last.fetch_max(end, Ordering::Relaxed);
    }

    /// The next id.
    pub fn next_id(&self) -> i64 {
        let now = u64::try_from(self.clock.unix_ms()).unwrap_or(0) << SERIAL_BITS;
        let step = |last: u64| now.max(last + 1);
        let last = self
            .last
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |l| Some(step(l)));
        self.id(step(last.unwrap_or_else(|last| last)))
    }

    /// The last id once more: for a fault.
    pub fn last_id(&self) -> i64 {
        self.id(self.last.load(Ordering::Relaxed))
    }

    /// An id of an hour before the last one, as if the clock had been set back: for a fault.
    pub fn stale_id(&self) -> i64 {
        let last = self.last.load(Ordering::Relaxed);
        self.id(last.saturating_sub(3_600_000 << SERIAL_BITS))
    }

    fn id(&self, stamp: u64) -> i64 {
        let time = (stamp >> SERIAL_BITS) & TIME_MASK;
        let serial = stamp & SERIAL_MASK;
        let id = (time << (MACHINE_BITS + SERIAL_BITS)) | (self.machine << SERIAL_BITS) | serial;
        id.cast_signed()
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
        clock.skew(-3_600_000);
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
                clock.skew(-3_600_000);
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
}
