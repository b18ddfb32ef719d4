//! What passed, newest last: a ring that is bounded by count and by bytes.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use tokio::sync::Notify;

use super::{Direction, Switches};
use crate::clock::Clock;
use crate::proto::Cmd;

/// What an event takes beside its frame and its detail, in bytes, roughly.
const OVERHEAD: usize = size_of::<Event>() + 32;

/// When frames are recorded.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Capture {
    /// While someone reads the journal.
    #[default]
    Auto,
    /// From the start.
    Always,
    /// Never.
    Off,
}

/// Something that happened.
#[derive(Debug, Clone)]
pub struct Event {
    /// Its number, from 0, without gaps.
    pub seq: u64,
    /// When, by `imd`'s clock: since its start.
    pub time: Duration,
    /// When, by its wall clock: Unix time in milliseconds.
    pub unix_ms: i64,
    /// What.
    pub what: What,
    /// Where: the name of an access server, or `gateway`.
    pub server: Arc<str>,
    /// On which session.
    pub session: Option<u64>,
    /// Whose session it is, after the login.
    pub uid: Option<i64>,
    /// The command of the frame.
    pub cmd: Option<Cmd>,
    /// The frame's message, without its length. Tokens stand in it: print it with [`describe`](super::describe).
    pub frame: Bytes,
}

/// What happened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum What {
    /// A frame came or went.
    Frame(Direction),
    /// A connection was accepted.
    Opened,
    /// A session was closed, for this reason.
    Closed(&'static str),
    /// A fault has fired: its name and its action. The frame is the one that it met, if it met one.
    Fault(String, &'static str),
}

impl What {
    /// All that it is called outside Rust.
    pub const NAMES: [&str; 5] = ["in", "out", "opened", "closed", "fault"];

    /// What it is called outside Rust.
    pub const fn name(&self) -> &'static str {
        match self {
            What::Frame(Direction::In) => "in",
            What::Frame(Direction::Out) => "out",
            What::Opened => "opened",
            What::Closed(_) => "closed",
            What::Fault(..) => "fault",
        }
    }
}

/// A place in the journal: what comes next has this number or a higher one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Mark(pub u64);

/// How many events are held at the most, and their bytes.
#[derive(Debug, Clone, Copy)]
pub struct Bounds {
    /// Events.
    pub events: usize,
    /// Bytes, roughly.
    pub bytes: usize,
}

/// The events, as far back as the bounds allow.
#[derive(Debug)]
pub struct Journal {
    ring: Mutex<Ring>,
    bounds: Bounds,
    capture: Capture,
    /// How many read it.
    readers: Mutex<usize>,
    switches: Arc<Switches>,
    clock: Arc<dyn Clock>,
    grown: Notify,
}

#[derive(Debug, Default)]
struct Ring {
    events: VecDeque<Event>,
    bytes: usize,
    /// The number of the next event.
    next: u64,
    /// How many have fallen out, or were cleared.
    dropped: u64,
}

impl Event {
    fn size(&self) -> usize {
        let detail = match &self.what {
            What::Fault(name, _) => name.len(),
            _ => 0,
        };
        OVERHEAD + self.frame.len() + detail
    }
}

/// What is recorded; the journal adds number and time.
#[derive(Debug)]
pub struct Record<'a> {
    /// See [`Event`].
    pub what: What,
    /// See [`Event`].
    pub server: &'a Arc<str>,
    /// See [`Event`].
    pub session: Option<u64>,
    /// See [`Event`].
    pub uid: Option<i64>,
    /// See [`Event`].
    pub cmd: Option<Cmd>,
    /// See [`Event`].
    pub frame: &'a [u8],
}

impl Journal {
    pub(super) fn new(
        switches: Arc<Switches>,
        clock: Arc<dyn Clock>,
        capture: Capture,
        bounds: Bounds,
    ) -> Journal {
        switches.record(capture == Capture::Always);
        Journal {
            ring: Mutex::default(),
            bounds,
            capture,
            readers: Mutex::new(0),
            switches,
            clock,
            grown: Notify::new(),
        }
    }

    /// Appends an event. Whether that is wanted is the caller's to ask: see [`Lab::records`](super::Lab::records).
    pub fn push(&self, record: Record<'_>) {
        let event = Event {
            seq: 0,
            time: self.clock.now(),
            unix_ms: self.clock.unix_ms(),
            what: record.what,
            server: Arc::clone(record.server),
            session: record.session,
            uid: record.uid,
            cmd: record.cmd,
            frame: Bytes::copy_from_slice(record.frame),
        };
        self.ring.lock().push(event, self.bounds);
        self.grown.notify_waiters();
    }

    /// Where it ends now.
    pub fn mark(&self) -> Mark {
        Mark(self.ring.lock().next)
    }

    /// The events from a mark on, as far as they are still there.
    pub fn since(&self, mark: Mark) -> Vec<Event> {
        self.ring.lock().since(mark).cloned().collect()
    }

    /// The same with the mark behind them, and how many are no longer there.
    pub fn read_on(&self, mark: Mark) -> (Vec<Event>, Mark, u64) {
        let ring = self.ring.lock();
        let events = ring.since(mark).cloned().collect();
        (events, Mark(ring.next), ring.dropped)
    }

    /// The frames that are still there, all of them; the filters of what is returned narrow that.
    pub fn frames(&self) -> Frames {
        let events = self.since(Mark(0));
        Frames {
            events: events
                .into_iter()
                .filter(|event| matches!(event.what, What::Frame(_)))
                .collect(),
        }
    }

    /// How many events are no longer there.
    pub fn dropped(&self) -> u64 {
        self.ring.lock().dropped
    }

    /// Forgets all events. Their numbers are not used again.
    pub fn clear(&self) {
        let mut ring = self.ring.lock();
        ring.dropped += ring.events.len() as u64;
        ring.events.clear();
        ring.bytes = 0;
    }

    /// Reads along: while the reader is held, everything is recorded, unless the capture is off.
    pub fn read(self: &Arc<Self>, from: Mark) -> Reader {
        self.count(|readers| *readers += 1);
        Reader {
            journal: Arc::clone(self),
            at: from,
            taken: VecDeque::new(),
        }
    }

    /// Changes how many read, and records accordingly.
    fn count(&self, change: impl FnOnce(&mut usize)) {
        let mut readers = self.readers.lock();
        change(&mut readers);
        if self.capture == Capture::Auto {
            self.switches.record(*readers > 0);
        }
    }
}

impl Ring {
    fn push(&mut self, mut event: Event, bounds: Bounds) {
        event.seq = self.next;
        self.next += 1;
        self.bytes += event.size();
        self.events.push_back(event);
        while self.events.len() > bounds.events || self.bytes > bounds.bytes {
            let Some(oldest) = self.events.pop_front() else {
                return;
            };
            self.bytes -= oldest.size();
            self.dropped += 1;
        }
    }

    fn since(&self, Mark(from): Mark) -> impl Iterator<Item = &Event> {
        let first = self.events.front().map_or(self.next, |event| event.seq);
        let skipped = usize::try_from(from.saturating_sub(first)).unwrap_or(usize::MAX);
        self.events.iter().skip(skipped)
    }
}

/// A reader takes so many events at once: those who record wait for it.
const TAKEN: usize = 64;

/// Reads a journal event by event.
#[derive(Debug)]
pub struct Reader {
    journal: Arc<Journal>,
    at: Mark,
    /// Taken out already, and not asked for yet.
    taken: VecDeque<Event>,
}

impl Reader {
    /// The next event that is there or comes. What has fallen out meanwhile is passed over.
    pub async fn next(&mut self) -> Event {
        loop {
            if let Some(event) = self.taken.pop_front() {
                return event;
            }
            let mut grown = std::pin::pin!(self.journal.grown.notified());
            grown.as_mut().enable();
            {
                let ring = self.journal.ring.lock();
                self.taken.extend(ring.since(self.at).take(TAKEN).cloned());
            }
            if let Some(newest) = self.taken.back() {
                self.at = Mark(newest.seq + 1);
                if self.taken.len() == TAKEN {
                    // Who reads as fast as it can leaves the thread to those who are served.
                    tokio::task::yield_now().await;
                }
                continue;
            }
            grown.await;
        }
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        self.journal.count(|readers| *readers -= 1);
    }
}

/// Recorded frames, oldest first.
#[derive(Debug, Clone)]
pub struct Frames {
    events: Vec<Event>,
}

impl Frames {
    /// Only those from a mark on.
    #[must_use]
    pub fn since(self, mark: Mark) -> Frames {
        self.only(|event| event.seq >= mark.0)
    }

    /// Only those of this user's sessions, after their logins.
    #[must_use]
    pub fn uid(self, uid: i64) -> Frames {
        self.only(|event| event.uid == Some(uid))
    }

    /// Only those of this command.
    #[must_use]
    pub fn cmd(self, cmd: Cmd) -> Frames {
        self.only(|event| event.cmd == Some(cmd))
    }

    /// Only those at this access server, or at the `gateway`.
    #[must_use]
    pub fn server(self, name: &str) -> Frames {
        self.only(|event| &*event.server == name)
    }

    /// Only those that went this way.
    #[must_use]
    pub fn direction(self, direction: Direction) -> Frames {
        self.only(|event| event.what == What::Frame(direction))
    }

    fn only(mut self, is_meant: impl Fn(&Event) -> bool) -> Frames {
        self.events.retain(is_meant);
        self
    }

    /// The frames.
    pub fn collect(self) -> Vec<Event> {
        self.events
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::ManualClock;

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
            what: What::Frame(Direction::In),
            server: &"access-1".into(),
            session: Some(1),
            uid: Some(uid),
            cmd: Some(Cmd::Ping),
            frame,
        });
    }

    fn seqs(events: &[Event]) -> Vec<u64> {
        events.iter().map(|event| event.seq).collect()
    }

    #[test]
    fn the_oldest_fall_out_and_are_counted() {
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
    fn bytes_bound_it_too() {
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
    fn frames_are_found_by_what_they_are() {
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
    fn by_itself_it_records_while_someone_reads() {
        let (journal, switches) = journal(Capture::Auto, FEW);
        assert!(!switches.records());
        let one = journal.read(journal.mark());
        let other = journal.read(journal.mark());
        drop(one);
        assert!(switches.records());
        drop(other);
        assert!(!switches.records());
        let (off, switches) = self::journal(Capture::Off, FEW);
        let _reader = off.read(off.mark());
        assert!(!switches.records());
    }

    #[tokio::test]
    async fn a_reader_gets_what_is_there_and_what_comes() {
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
}
