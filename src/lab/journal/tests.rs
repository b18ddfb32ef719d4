//! Tests of the journal with all its parts: bounds, filters, marks, readers and gaps.

use super::ring::OVERHEAD;
use super::*;
use crate::clock::ManualClock;
use crate::id::Uid;
use futures_util::FutureExt;

const FEW: Bounds = Bounds {
    events: 3,
    bytes: 1 << 20,
};

fn journal(capture: Capture, bounds: Bounds) -> (Arc<Journal>, Arc<Switches>) {
    let switches = Arc::new(Switches::default());
    let clock = Arc::new(ManualClock::default());
    let journal = Journal::new(Arc::clone(&switches), clock, capture, bounds);
    (Arc::new(journal), switches)
}

fn push(journal: &Journal, uid: i64, frame: &[u8]) {
    journal.push(Record {
        what: EventKind::Frame(Direction::In),
        server: &"access-1".into(),
        session: Some(1),
        uid: Some(Uid(uid)),
        cmd: Some(Cmd::Ping),
        frame,
    });
}

fn seqs(events: &[Event]) -> Vec<u64> {
    events.iter().map(|event| event.seq).collect()
}

#[test]
fn the_oldest_events_are_dropped_and_counted() {
    let (journal, _) = journal(Capture::Always, FEW);
    for uid in 0..5 {
        push(&journal, uid, b"x");
    }
    assert_eq!(seqs(&journal.since(Mark(0))), [2, 3, 4]);
    assert_eq!(seqs(&journal.since(Mark(4))), [4]);
    assert_eq!((journal.mark(), journal.dropped()), (Mark(5), 2));
    journal.clear();
    assert_eq!((journal.since(Mark(0)).len(), journal.dropped()), (0, 5));
    push(&journal, 0, b"x");
    assert_eq!(seqs(&journal.since(Mark(0))), [5]);
}

#[test]
fn the_memory_of_the_events_is_bounded() {
    let bounds = Bounds {
        events: 100,
        bytes: 3 * (OVERHEAD + 1_000),
    };
    let (journal, _) = journal(Capture::Always, bounds);
    for uid in 0..5 {
        push(&journal, uid, &[0; 1_000]);
    }
    assert_eq!(seqs(&journal.since(Mark(0))), [2, 3, 4]);
}

#[test]
fn filters_keep_the_frames_that_match() {
    let (journal, _) = journal(Capture::Always, FEW);
    push(&journal, 7, b"a");
    push(&journal, 8, b"b");
    let mark = journal.mark();
    push(&journal, 7, b"c");
    let of_7 = journal.frames().uid(7).collect();
    assert_eq!(seqs(&of_7), [0, 2]);
    assert_eq!(&of_7[1].frame[..], b"c");
    assert_eq!(seqs(&journal.frames().since(mark).collect()), [2]);
    assert_eq!(journal.frames().cmd(Cmd::Login).collect().len(), 0);
    assert_eq!(journal.frames().server("access-1").collect().len(), 3);
    assert_eq!(
        journal.frames().direction(Direction::Out).collect().len(),
        0
    );
}

#[test]
fn with_capture_auto_it_records_while_a_reader_exists() {
    let (journal, switches) = journal(Capture::Auto, FEW);
    assert!(!switches.is_recording());
    let one = journal.read(journal.end());
    let other = journal.read(journal.end());
    drop(one);
    assert!(switches.is_recording());
    drop(other);
    assert!(!switches.is_recording());
    let (off, switches) = self::journal(Capture::Off, FEW);
    let _reader = off.read(off.mark());
    assert!(!switches.is_recording());
}

#[test]
fn with_capture_auto_it_records_after_a_mark() {
    let (journal, switches) = journal(Capture::Auto, FEW);
    let mark = journal.mark();
    assert!(switches.is_recording() && journal.is_recording());
    // A reader that comes and goes turns nothing off.
    drop(journal.read(mark));
    assert!(switches.is_recording());
    assert_eq!(journal.end(), mark);
}

#[test]
fn a_mark_beyond_the_newest_event_is_refused() {
    let (journal, _) = journal(Capture::Always, FEW);
    let beyond = |mark| journal.check(Mark(mark)).unwrap_err().to_string();
    assert!(beyond(1).contains("of which there is none yet"));
    push(&journal, 1, b"a");
    assert_eq!(journal.check(Mark(1)), Ok(()));
    assert!(beyond(2).contains("2 is beyond the newest event, which is 0"));
    let next = 1;
    let mark = u64::MAX;
    assert_eq!(
        journal.read_for(Mark(mark), |_| true).unwrap_err(),
        Unknowable::Beyond { mark, next }
    );
}

#[test]
fn a_wait_for_an_event_that_may_not_be_recorded_is_refused() {
    let (journal, _) = journal(Capture::Auto, FEW);
    let unknown = |from, uid: i64| {
        let reader = journal.read_for(from, |event| event.uid == Some(uid));
        reader.map(drop).err()
    };
    let start = journal.end();
    assert_eq!(unknown(start, 1), None, "nothing has passed");
    journal.count_unrecorded();
    let count = 1;
    assert_eq!(unknown(start, 1), Some(Unknowable::Unrecorded { count }));
    let mut reader = journal.read_new();
    let mark = journal.mark();
    assert!(mark > start);
    assert!(reader.step().now_or_never().is_none(), "nothing is missing");
    assert_eq!(unknown(mark, 1), None, "all of it was before the mark");
    push(&journal, 1, b"a");
    assert_eq!(unknown(start, 1), None, "it is there");
    assert_eq!(unknown(start, 2), Some(Unknowable::Unrecorded { count }));
    let (off, _) = self::journal(Capture::Off, FEW);
    assert_eq!(
        off.read_for(off.mark(), |_| true).unwrap_err(),
        Unknowable::Off
    );
}

#[tokio::test]
async fn a_reader_returns_gaps_in_their_place() {
    let (journal, _) = journal(Capture::Auto, FEW);
    journal.count_unrecorded();
    let mut reader = journal.read(Mark(0));
    let mut gap = async || match reader.step().await {
        Step::Gap { missed, last } => (missed.dropped, missed.unrecorded, last),
        Step::Event(event) => panic!("{event:?}"),
    };
    assert_eq!(gap().await, (0, 1, 0));
    for uid in 0..5 {
        push(&journal, uid, b"x");
    }
    assert_eq!(gap().await, (2, 0, 2));
    assert_eq!(reader.next().await.seq, 3);
    // The others were taken out with it.
    journal.clear();
    assert_eq!(reader.next().await.seq, 4);
    assert_eq!(reader.next().await.seq, 5);
    push(&journal, 0, b"x");
    journal.clear();
    let Step::Gap { missed, last } = reader.step().await else {
        panic!("what was cleared is missing");
    };
    assert_eq!((missed.total(), last), (1, 6));
}

#[tokio::test]
async fn a_reader_returns_recorded_and_later_events() {
    let (journal, _) = journal(Capture::Always, FEW);
    push(&journal, 1, b"a");
    let mut reader = journal.read(Mark(0));
    assert_eq!(reader.next().await.seq, 0);
    let mut next = Box::pin(reader.next());
    assert!(futures_util::poll!(&mut next).is_pending());
    push(&journal, 1, b"b");
    assert_eq!(next.await.seq, 1);
    for uid in 0..5 {
        push(&journal, uid, b"x");
    }
    assert_eq!(reader.next().await.seq, 4, "what fell out is passed over");
}
