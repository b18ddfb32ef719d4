use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use imd::clock::{Clock, ManualClock, RealClock};

/// Short enough for the real clock to wait for it.
const STEP: Duration = Duration::from_millis(5);

async fn suite(clock: Arc<dyn Clock>) {
    time_passes_with_advance(clock.as_ref()).await;
    every_tick_due_is_worked_off(Arc::clone(&clock)).await;
    a_skew_moves_the_wall_clock_alone(clock.as_ref());
}

async fn time_passes_with_advance(clock: &dyn Clock) {
    let (now, unix) = (clock.now(), clock.unix_ms());
    clock.advance(STEP).await;
    assert!(clock.now() >= now + STEP);
    assert!(clock.unix_ms() >= unix + 4, "the wall clock moves too");
}

async fn every_tick_due_is_worked_off(clock: Arc<dyn Clock>) {
    let count = Arc::new(AtomicU32::new(0));
    let (done, mut finished) = tokio::sync::mpsc::channel(1);
    let ticking = tokio::spawn({
        let (clock, count) = (Arc::clone(&clock), Arc::clone(&count));
        let mut ticks = clock.ticks(STEP);
        async move {
            for _ in 0..4 {
                ticks.tick().await;
                // The work of a tick may itself have to wait for another task.
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

fn a_skew_moves_the_wall_clock_alone(clock: &dyn Clock) {
    const HOUR: i64 = 3_600_000;
    let (now, unix) = (clock.now(), clock.unix_ms());
    clock.skew(-HOUR);
    clock.skew(-HOUR);
    // The real one goes on meanwhile.
    let gone = clock.unix_ms() - (unix - 2 * HOUR);
    assert!((0..HOUR).contains(&gone), "{gone}");
    assert!(clock.now() - now < Duration::from_secs(3_600));
    clock.skew(2 * HOUR);
    assert!((0..HOUR).contains(&(clock.unix_ms() - unix)));
    clock.skew(i64::MAX);
    clock.skew(i64::MAX);
    assert_eq!(clock.unix_ms(), i64::MAX);
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
async fn a_jump_over_several_ticks_lets_each_see_its_own_time() {
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
async fn a_dropped_ticker_holds_nobody_up() {
    let clock = ManualClock::default();
    drop(clock.ticks(Duration::from_secs(1)));
    clock.advance(Duration::from_secs(5)).await;
    assert_eq!(clock.now(), Duration::from_secs(5));
}
