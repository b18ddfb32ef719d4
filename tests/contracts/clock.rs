//! The contract of `imd::clock`, towards those that read a clock and those that move it.
//!
//! One suite runs on the real and on the manual clock. Below it are the promises of the manual clock alone: it stands
//! still between advances, and an advance returns when the due ticks were handled.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use imd::clock::{
    Clock, ClockControl, EARLIEST_MS, LATEST_MS, ManualClock, RealClock, Ticks, await_outside_tick,
};

/// An interval that is short enough for a test to wait for it on the real clock.
const STEP: Duration = Duration::from_millis(5);

/// Runs the suite on a clock. An advance of the real clock waits until the time has passed.
async fn suite(clock: Arc<dyn ClockControl>) {
    time_passes_with_advance(clock.as_ref()).await;
    every_due_tick_is_handled(Arc::clone(&clock)).await;
    a_skew_moves_the_wall_clock_alone(clock.as_ref());
    the_wall_clock_stays_within_its_bounds(clock.as_ref()).await;
    housekeeping_ticks_come_like_others(clock.as_ref()).await;
    ticks_during_a_pause_of_their_owner_are_skipped(clock).await;
}

async fn time_passes_with_advance(clock: &dyn ClockControl) {
    let (now, unix) = (clock.now(), clock.unix_ms());
    clock.advance(STEP).await;
    assert!(clock.now() >= now + STEP);
    assert!(clock.unix_ms() >= unix + 4, "the wall clock moves too");
}

async fn every_due_tick_is_handled(clock: Arc<dyn ClockControl>) {
    let count = Arc::new(AtomicU32::new(0));
    let (done, mut finished) = tokio::sync::mpsc::channel(1);
    let ticking = tokio::spawn({
        let (clock, count) = (Arc::clone(&clock), Arc::clone(&count));
        let mut ticks = clock.ticks(STEP);
        async move {
            for _ in 0..4 {
                ticks.tick().await;
                // The work of a tick may have to wait for another task.
                tokio::task::yield_now().await;
                count.fetch_add(1, Ordering::SeqCst);
            }
            done.send(()).await.unwrap();
        }
    });
    tokio::task::yield_now().await;
    clock.advance(STEP * 5).await;
    finished.recv().await.unwrap();
    ticking.await.unwrap();
    assert_eq!(count.load(Ordering::SeqCst), 4);
}

fn a_skew_moves_the_wall_clock_alone(clock: &dyn ClockControl) {
    const HOUR: i64 = 3_600_000;
    let (now, unix) = (clock.now(), clock.unix_ms());
    clock.skew(-HOUR).unwrap();
    clock.skew(-HOUR).unwrap();
    // The real clock goes on meanwhile.
    let gone = clock.unix_ms() - (unix - 2 * HOUR);
    assert!((0..HOUR).contains(&gone), "{gone}");
    assert!(clock.now() - now < Duration::from_secs(3_600));
    clock.skew(2 * HOUR).unwrap();
    assert!((0..HOUR).contains(&(clock.unix_ms() - unix)));
}

async fn the_wall_clock_stays_within_its_bounds(clock: &dyn ClockControl) {
    let now = clock.unix_ms();
    let (back, forward) = (EARLIEST_MS - now, LATEST_MS - now);
    // The real clock goes on meanwhile.
    for by in [i64::MAX, i64::MIN, forward + 1, back - 60_000] {
        let refused = clock.skew(by).unwrap_err().to_string();
        assert!(
            refused.contains("from 1970-01-01T00:00:00Z to 2038-01-01T00:00:00Z"),
            "{refused}"
        );
        assert!(
            (0..60_000).contains(&(clock.unix_ms() - now)),
            "it has moved by {by}"
        );
    }
    for by in [
        Duration::MAX,
        Duration::from_millis(forward.unsigned_abs() + 1),
    ] {
        let before = clock.now();
        assert!(clock.try_advance(by).await.is_err());
        clock.advance(by).await;
        assert!(
            clock.now() - before < Duration::from_secs(60),
            "it has moved by {by:?}"
        );
    }
    // The clock is moved to each bound and back.
    let there_and_back = [back, -back, forward - 60_000, 60_000 - forward];
    let mut moved = 0;
    for by in there_and_back {
        clock.skew(by).unwrap();
        moved += by;
        assert!((0..60_000).contains(&(clock.unix_ms() - now - moved)));
    }
    assert!(clock.skew(i64::MAX).is_err() && clock.skew(i64::MIN).is_err());
}

async fn housekeeping_ticks_come_like_others(clock: &dyn ClockControl) {
    let mut ticks = clock.housekeeping_ticks(STEP);
    let ((), apart) = tokio::join!(clock.advance(STEP * 2), async {
        let apart = [ticks.tick().await, ticks.tick().await];
        ticks.end_tick_work();
        apart
    });
    assert_eq!(apart, [STEP; 2]);
}

async fn ticks_during_a_pause_of_their_owner_are_skipped(clock: Arc<dyn ClockControl>) {
    let mut ticks = clock.ticks(STEP);
    let (begun, is_begun) = tokio::sync::oneshot::channel();
    let (end, ended) = tokio::sync::oneshot::channel();
    let working = tokio::spawn({
        let clock = Arc::clone(&clock);
        async move {
            ticks.tick().await;
            begun.send(()).unwrap();
            // The work ends only after the clock has been moved, so the clock must not wait for it.
            await_outside_tick(ticks.as_mut(), ended).await.unwrap();
            let now = clock.now();
            ticks.tick().await;
            clock.now() - now
        }
    });
    clock.advance(STEP).await;
    is_begun.await.unwrap();
    clock.advance(STEP * 7).await;
    end.send(()).unwrap();
    while !working.is_finished() {
        clock.advance(STEP).await;
        tokio::task::yield_now().await;
    }
    assert!(
        working.await.unwrap() > Duration::ZERO,
        "one that was let pass has come"
    );
}

#[tokio::test]
async fn the_real_clock_keeps_the_contract() {
    suite(Arc::new(RealClock::default())).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_manual_clock_keeps_the_contract() {
    suite(Arc::new(ManualClock::default())).await;
}

#[tokio::test]
async fn the_manual_clock_stands_still_between_advances() {
    let clock = ManualClock::default();
    assert_eq!(clock.now(), clock.now());
    clock.advance(Duration::from_secs(1)).await;
    assert_eq!(clock.now(), Duration::from_secs(1));
}

#[tokio::test]
async fn an_advance_over_several_ticks_shows_each_its_own_time() {
    let clock = ManualClock::default();
    let (seen, mut times) = tokio::sync::mpsc::unbounded_channel();
    for every in [2, 3] {
        let (clock, seen) = (clock.clone(), seen.clone());
        let mut ticks = clock.ticks(Duration::from_secs(every));
        tokio::spawn(async move {
            loop {
                ticks.tick().await;
                let _ = seen.send(clock.now().as_secs());
            }
        });
    }
    clock.advance(Duration::from_secs(7)).await;
    let mut order = Vec::new();
    while let Ok(at) = times.try_recv() {
        order.push(at);
    }
    assert_eq!(
        order,
        [2, 3, 4, 6, 6],
        "all work is done when advance returns, in the order of time"
    );
    assert_eq!(clock.now(), Duration::from_secs(7));
}

#[tokio::test]
async fn a_dropped_ticker_holds_up_no_advance() {
    let clock = ManualClock::default();
    drop(clock.ticks(Duration::from_secs(1)));
    clock.advance(Duration::from_secs(5)).await;
    assert_eq!(clock.now(), Duration::from_secs(5));
}

/// Calls `each` at every tick. The work of a tick takes no time.
fn call_at_each_tick(mut ticks: Box<dyn Ticks>, mut each: impl FnMut(Duration) + Send + 'static) {
    tokio::spawn(async move {
        loop {
            let apart = ticks.tick().await;
            each(apart);
        }
    });
}

const YEAR: Duration = Duration::from_secs(365 * 24 * 3_600);
const SECOND: Duration = Duration::from_secs(1);

#[tokio::test]
async fn an_advance_by_ten_years_is_fast_and_skips_no_tick_that_counts() {
    let clock = ManualClock::default();
    let (seen, mut times) = tokio::sync::mpsc::unbounded_channel();
    let month = 30 * 24 * 3_600 * SECOND;
    call_at_each_tick(clock.ticks(month), {
        let clock = clock.clone();
        move |_| seen.send(clock.now()).unwrap()
    });
    let rounds = Arc::new(AtomicU32::new(0));
    for every in [SECOND, 5 * SECOND, 60 * SECOND] {
        let rounds = Arc::clone(&rounds);
        call_at_each_tick(clock.housekeeping_ticks(every), move |_| {
            rounds.fetch_add(1, Ordering::Relaxed);
        });
    }
    clock.advance(10 * YEAR).await;
    for n in 1..=121 {
        assert_eq!(times.try_recv(), Ok(month * n));
    }
    assert!(times.try_recv().is_err());
    assert_eq!(clock.now(), 10 * YEAR);
    // The number of ticks shows that most were skipped, whatever the speed of the machine.
    assert!(rounds.load(Ordering::Relaxed) < 100_000);
}

#[tokio::test]
async fn a_short_advance_skips_no_tick() {
    let clock = ManualClock::default();
    let rounds = Arc::new(AtomicU32::new(0));
    call_at_each_tick(clock.housekeeping_ticks(SECOND), {
        let rounds = Arc::clone(&rounds);
        move |apart| {
            assert_eq!(apart, SECOND);
            rounds.fetch_add(1, Ordering::Relaxed);
        }
    });
    clock.advance(3_600 * SECOND).await;
    assert_eq!(rounds.load(Ordering::Relaxed), 3_600);
}

#[tokio::test]
async fn a_leap_ends_before_the_next_tick_and_reports_its_length() {
    let clock = ManualClock::default();
    let events = Arc::new(std::sync::Mutex::new(Vec::new()));
    let note = |what: &'static str| {
        let (clock, events) = (clock.clone(), Arc::clone(&events));
        move |apart: Duration| events.lock().unwrap().push((clock.now(), what, apart))
    };
    call_at_each_tick(clock.housekeeping_ticks(SECOND), note("second"));
    call_at_each_tick(clock.housekeeping_ticks(7 * SECOND), note("week"));
    let (one, two) = (YEAR + SECOND / 2, 2 * YEAR + 3 * SECOND);
    call_at_each_tick(clock.ticks(one), note("once"));
    call_at_each_tick(clock.ticks(two), note("twice"));
    clock.advance(3 * YEAR).await;
    let events = std::mem::take(&mut *events.lock().unwrap());
    assert!(events.is_sorted_by_key(|(at, ..)| *at));
    for (what, every) in [("second", SECOND), ("week", 7 * SECOND)] {
        let ticks: Vec<_> = events.iter().filter(|event| event.1 == what).collect();
        for pair in ticks.windows(2) {
            // The interval that a tick announces is the one to the next tick, which comes where it would without a
            // leap.
            assert_eq!(pair[0].0 + pair[0].2, pair[1].0);
            assert_eq!(pair[1].0.as_nanos() % every.as_nanos(), 0);
        }
        for end in [one, 2 * one, two, 3 * YEAR] {
            let last = ticks.iter().rev().filter(|(at, ..)| *at <= end).take(3);
            let last: Vec<_> = last
                .map(|(at, ..)| (end - *at).as_nanos() / every.as_nanos())
                .collect();
            assert_eq!(last, [0, 1, 2], "{what} before {end:?}");
        }
    }
    let counted = events
        .iter()
        .filter(|event| event.1 == "once" || event.1 == "twice");
    let counted: Vec<_> = counted.map(|(at, what, _)| (*at, *what)).collect();
    assert_eq!(counted, [(one, "once"), (2 * one, "once"), (two, "twice")]);
}

#[tokio::test]
async fn an_advance_that_is_not_awaited_is_completed_before_the_next_one() {
    let clock = ManualClock::default();
    let mut ticks = clock.ticks(SECOND);
    let mut first = Box::pin(clock.advance(3 * SECOND));
    assert!(futures_util::poll!(&mut first).is_pending());
    drop(first);
    let second = tokio::spawn({
        let clock = clock.clone();
        async move { clock.advance(2 * SECOND).await }
    });
    for n in 1..=5 {
        ticks.tick().await;
        assert_eq!(clock.now(), n * SECOND);
    }
    ticks.end_tick_work();
    second.await.unwrap();
    assert_eq!(clock.now(), 5 * SECOND);
}
