//! What passed, newest last: a ring that is bounded by count and by bytes.
//!
//! | file | what it does |
//! |---|---|
//! | `ring` | the events |
//! | `recording` | when they are recorded, and how much passed while they were not |
//! | `reader` | reading them one by one |
//! | `frames` | choosing from them |

mod frames;
mod reader;
mod recording;
mod ring;
#[cfg(test)]
mod tests;

pub use frames::Frames;
pub use reader::{Reader, Step};
pub use recording::{Capture, MARKED, Missed};

use std::collections::VecDeque;
use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use bytes::Bytes;
use parking_lot::Mutex;
use tokio::sync::Notify;

use super::{Direction, Switches};
use crate::clock::Clock;
use crate::proto::Cmd;
use recording::Recording;
use ring::Ring;

/// Something that happened.
#[derive(Debug, Clone)]
pub struct Event {
    /// Its number, from 0. Each is one more than the one before; one number is left out where something passed while
    /// nothing was recorded.
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

/// Why it can't be known whether an event has passed since a mark.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Unknowable {
    /// The mark lies beyond the journal.
    #[error(
        "{mark} is beyond the newest event, {}: it was given out by another run of imd; take a new mark",
        newest(*next)
    )]
    Beyond {
        /// The mark.
        mark: u64,
        /// The number that the next event has.
        next: u64,
    },
    /// Something passed while nothing was recorded, and the event may have been among it.
    #[error(
        "{count} frames and other events have passed since the mark and were not recorded, since nobody read the journal: \
         take the mark with GET /v1/mark or imd.mark(), which turns the recording on, or set [journal] capture = \"always\""
    )]
    Unrecorded {
        /// How much has passed.
        count: u64,
    },
    /// Nothing is ever recorded.
    #[error("nothing is recorded: [journal] capture is \"off\"")]
    Off,
}

fn newest(next: u64) -> String {
    match next.checked_sub(1) {
        Some(newest) => format!("which is {newest}"),
        None => "of which there is none yet".to_owned(),
    }
}

/// Counts what has passed so far, recorded or not.
type Passed = Box<dyn Fn() -> u64 + Send + Sync>;

/// The events, as far back as the bounds allow.
pub struct Journal {
    state: Mutex<State>,
    bounds: Bounds,
    /// Counts the frames that have passed; unset in tests of parts alone.
    frames: OnceLock<Passed>,
    /// What else has passed while nothing was recorded.
    others: AtomicU64,
    clock: Arc<dyn Clock>,
    grown: Notify,
}

#[derive(Debug)]
struct State {
    ring: Ring,
    recording: Recording,
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
        Journal {
            state: Mutex::new(State {
                ring: Ring::default(),
                recording: Recording::new(capture, switches),
            }),
            bounds,
            frames: OnceLock::new(),
            others: AtomicU64::new(0),
            clock,
            grown: Notify::new(),
        }
    }

    /// Says where the frames are counted that have passed, recorded or not. Only the first call counts.
    pub fn count_frames_by(&self, frames: impl Fn() -> u64 + Send + Sync + 'static) {
        let _ = self.frames.set(Box::new(frames));
    }

    /// Something other than a frame has passed while nothing was recorded.
    pub fn passed_unrecorded(&self) {
        self.others.fetch_add(1, Ordering::Relaxed);
    }

    fn passed(&self) -> u64 {
        let frames = self.frames.get().map_or(0, |frames| frames());
        frames.saturating_add(self.others.load(Ordering::Relaxed))
    }

    /// Turns the recording on or off as is wanted now.
    fn settle(&self, State { ring, recording }: &mut State) {
        if recording.settle(Instant::now(), ring.next, || self.passed()) {
            ring.next += 1;
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
        {
            let mut state = self.state.lock();
            state.ring.push(event, self.bounds);
            if state.recording.has_lapsed(Instant::now) {
                self.settle(&mut state);
            }
        }
        self.grown.notify_waiters();
    }

    /// Takes a mark: events that come from now on have its number or a higher one. With [`Capture::Auto`] this turns the
    /// recording on for [`MARKED`], so that what passes after the mark can be found.
    pub fn mark(&self) -> Mark {
        let mut state = self.state.lock();
        state.recording.stay_on(Instant::now() + MARKED);
        self.settle(&mut state);
        Mark(state.ring.next)
    }

    /// Where the journal ends now, without turning anything on.
    pub fn end(&self) -> Mark {
        Mark(self.state.lock().ring.next)
    }

    /// When frames are recorded.
    pub fn capture(&self) -> Capture {
        self.state.lock().recording.capture()
    }

    /// Whether what passes now is recorded.
    pub fn is_recording(&self) -> bool {
        let mut state = self.state.lock();
        self.settle(&mut state);
        state.recording.is_on()
    }

    /// Keeps the recording on for so long, if it is on.
    pub fn stay_on(&self, time: Duration) {
        self.state.lock().recording.stay_on(Instant::now() + time);
    }

    /// Makes sure that this journal can have given out a mark.
    ///
    /// # Errors
    ///
    /// [`Unknowable::Beyond`]
    pub fn check(&self, mark: Mark) -> Result<(), Unknowable> {
        let mut state = self.state.lock();
        self.settle(&mut state);
        let (mark, next) = (mark.0, state.ring.next);
        if mark > next {
            return Err(Unknowable::Beyond { mark, next });
        }
        Ok(())
    }

    /// The events from a mark on, as far as they are still there.
    pub fn since(&self, mark: Mark) -> Vec<Event> {
        self.state.lock().ring.since(mark).cloned().collect()
    }

    /// The events from a mark on, as far as they are still there, with a mark behind them, and what is missing.
    pub fn read_on(&self, mark: Mark) -> Page {
        let state = self.state.lock();
        let State { ring, recording } = &*state;
        Page {
            events: ring.since(mark).cloned().collect(),
            mark: Mark(ring.next),
            missed: Missed {
                dropped: recording.missed(mark.0, ring.first(mark)).dropped,
                unrecorded: recording.unrecorded(mark.0),
            },
            dropped: ring.dropped,
        }
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
        self.state.lock().ring.dropped
    }

    /// Forgets all events. Their numbers are not used again.
    pub fn clear(&self) {
        let ring = &mut self.state.lock().ring;
        ring.dropped += ring.events.len() as u64;
        ring.events.clear();
        ring.bytes = 0;
    }

    /// Reads along: while the reader is held, everything is recorded, unless the capture is off.
    pub fn read(self: &Arc<Self>, from: Mark) -> Reader {
        let mut reader = self.read_new();
        reader.at = from;
        reader
    }

    /// Reads along from now on.
    pub fn read_new(self: &Arc<Self>) -> Reader {
        let mut state = self.state.lock();
        state.recording.reader_came();
        self.settle(&mut state);
        Reader {
            journal: Arc::clone(self),
            at: Mark(state.ring.next),
            taken: VecDeque::new(),
        }
    }

    /// Reads along for one who waits for an event from a mark on.
    ///
    /// # Errors
    ///
    /// [`Unknowable`] when the event is not there, and may have passed all the same.
    pub fn read_for(
        self: &Arc<Self>,
        from: Mark,
        is_meant: impl Fn(&Event) -> bool,
    ) -> Result<Reader, Unknowable> {
        self.check(from)?;
        let reader = self.read(from);
        let state = self.state.lock();
        let count = state.recording.unrecorded(from.0);
        let why = match state.recording.capture() {
            Capture::Off => Unknowable::Off,
            _ if count > 0 => Unknowable::Unrecorded { count },
            _ => {
                return Ok({
                    drop(state);
                    reader
                });
            }
        };
        let is_there = state.ring.since(from).any(is_meant);
        drop(state);
        if is_there { Ok(reader) } else { Err(why) }
    }

    fn reader_left(&self) {
        let mut state = self.state.lock();
        state.recording.reader_left();
        self.settle(&mut state);
    }
}

impl fmt::Debug for Journal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Journal").finish_non_exhaustive()
    }
}

/// The events from a mark on.
#[derive(Debug)]
pub struct Page {
    /// Those that are still there, oldest first.
    pub events: Vec<Event>,
    /// Where to go on.
    pub mark: Mark,
    /// What is missing of those since the mark.
    pub missed: Missed,
    /// How many events the journal has dropped since its start, whatever the mark.
    pub dropped: u64,
}
