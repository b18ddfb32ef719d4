//! The journal: frames, connections, closes and injected faults, in a ring buffer that is bounded by count and by bytes.
//!
//! Serves the sessions and the services, which record events, and tests, the admin API and the console, which read them. The
//! sequence numbers of events only rise, also over a reset, and a reader is told of every event that it can't get.
//!
//! | file | content |
//! |---|---|
//! | `ring` | the ring buffer of events |
//! | `recording` | when events are recorded, and how many were not |
//! | `reader` | reading events one by one as they come |
//! | `frames` | filters over recorded frames |

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
use crate::id::Uid;
use crate::proto::Cmd;
use recording::Recording;
use ring::Ring;

/// A recorded event.
#[derive(Debug, Clone)]
pub struct Event {
    /// Sequence number, from 0. Numbers are consecutive, except that each interval in which events happened while nothing
    /// was recorded takes one number of its own.
    pub seq: u64,
    /// Time since the start of `imd`, by its clock.
    pub time: Duration,
    /// Unix time in milliseconds, by `imd`'s wall clock.
    pub unix_ms: i64,
    /// What happened.
    pub what: EventKind,
    /// Name of the access server, `gateway`, or the name of the site for a fault at no server.
    pub server: Arc<str>,
    /// Id of the session; `None` for a fault at a site without sessions.
    pub session: Option<u64>,
    /// User of the session; `None` before the login.
    pub uid: Option<i64>,
    /// Command of the frame; `None` for other events and for frames of an unknown command.
    pub cmd: Option<Cmd>,
    /// Message of the frame, without its length prefix; empty for other events. It may contain a token: show it with
    /// [`describe`](fn@super::describe).
    pub frame: Bytes,
}

/// The kind of an event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum EventKind {
    /// A frame was received or sent.
    Frame(Direction),
    /// A connection was accepted.
    Opened,
    /// A session was closed, for this reason.
    Closed(&'static str),
    /// A fault was injected: name of the rule and of the action. At a site with frames, the event has the frame.
    Fault(String, &'static str),
}

impl EventKind {
    /// Every value of [`name`](Self::name).
    pub const NAMES: [&str; 5] = ["in", "out", "opened", "closed", "fault"];

    /// Returns the name of the kind in JSON and on the command line.
    pub const fn name(&self) -> &'static str {
        match self {
            EventKind::Frame(Direction::In) => "in",
            EventKind::Frame(Direction::Out) => "out",
            EventKind::Opened => "opened",
            EventKind::Closed(_) => "closed",
            EventKind::Fault(..) => "fault",
        }
    }
}

/// A position in the journal: later events have this sequence number or a higher one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Mark(pub u64);

/// Upper bounds of the journal. The oldest events are dropped beyond them.
#[derive(Debug, Clone, Copy)]
pub struct Bounds {
    /// Number of events.
    pub events: usize,
    /// Memory of all events in bytes, estimated.
    pub bytes: usize,
}

/// Why the journal can't tell whether an event has happened since a mark.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Unknowable {
    /// The mark is higher than any that this run of `imd` has given out.
    #[error(
        "{mark} is beyond the newest event, {}: it was given out by another run of imd; take a new mark",
        newest(*next)
    )]
    Beyond {
        /// The given mark.
        mark: u64,
        /// Sequence number of the next event.
        next: u64,
    },
    /// Events happened while nothing was recorded, and the wanted one may be among them.
    #[error(
        "{count} frames and other events have passed since the mark and were not recorded, since nobody read the journal: \
         take the mark with GET /v1/mark or imd.mark(), which turns the recording on, or set [journal] capture = \"always\""
    )]
    Unrecorded {
        /// Number of events that were not recorded.
        count: u64,
    },
    /// The config has turned the journal off.
    #[error("nothing is recorded: [journal] capture is \"off\"")]
    Off,
}

fn newest(next: u64) -> String {
    match next.checked_sub(1) {
        Some(newest) => format!("which is {newest}"),
        None => "of which there is none yet".to_owned(),
    }
}

/// Returns the number of all frames so far, recorded or not.
type FrameCount = Box<dyn Fn() -> u64 + Send + Sync>;

/// The newest events, as many as the bounds allow.
pub struct Journal {
    contents: Mutex<Contents>,
    bounds: Bounds,
    /// Counts the frames; unset in unit tests without sessions.
    frame_count: OnceLock<FrameCount>,
    /// Number of events other than frames that were not recorded.
    unrecorded_others: AtomicU64,
    clock: Arc<dyn Clock>,
    /// Wakes the readers after each event.
    appended: Notify,
}

#[derive(Debug)]
struct Contents {
    ring: Ring,
    recording: Recording,
}

/// An event to be appended. The journal adds sequence number and time.
#[derive(Debug)]
pub struct Record<'a> {
    /// See [`Event::what`].
    pub what: EventKind,
    /// See [`Event::server`].
    pub server: &'a Arc<str>,
    /// See [`Event::session`].
    pub session: Option<u64>,
    /// See [`Event::uid`].
    pub uid: Option<Uid>,
    /// See [`Event::cmd`].
    pub cmd: Option<Cmd>,
    /// See [`Event::frame`].
    pub frame: &'a [u8],
}

impl Journal {
    /// Creates an empty journal. It sets the switch of the recording in `switches`.
    pub(super) fn new(
        switches: Arc<Switches>,
        clock: Arc<dyn Clock>,
        capture: Capture,
        bounds: Bounds,
    ) -> Journal {
        Journal {
            contents: Mutex::new(Contents {
                ring: Ring::default(),
                recording: Recording::new(capture, switches),
            }),
            bounds,
            frame_count: OnceLock::new(),
            unrecorded_others: AtomicU64::new(0),
            clock,
            appended: Notify::new(),
        }
    }

    /// Sets the function that returns the number of all frames so far, recorded or not. Calls after the first are ignored.
    pub fn count_frames_by(&self, frames: impl Fn() -> u64 + Send + Sync + 'static) {
        let _ = self.frame_count.set(Box::new(frames));
    }

    /// Counts an event other than a frame that happened while nothing was recorded.
    pub(super) fn count_unrecorded(&self) {
        self.unrecorded_others.fetch_add(1, Ordering::Relaxed);
    }

    /// Returns a count that grows with every event that is not recorded. It also grows with recorded frames, so only its
    /// difference over an interval without recording has a meaning.
    fn event_count(&self) -> u64 {
        let frames = self.frame_count.get().map_or(0, |frames| frames());
        frames.saturating_add(self.unrecorded_others.load(Ordering::Relaxed))
    }

    /// Turns the recording on or off, depending on readers, marks and config.
    fn update_recording(&self, Contents { ring, recording }: &mut Contents) {
        if recording.update(Instant::now(), ring.next, || self.event_count()) {
            ring.next += 1;
        }
    }

    /// Appends an event. The caller has checked [`Lab::is_recording`](super::Lab::is_recording).
    pub fn push(&self, record: Record<'_>) {
        let event = Event {
            seq: 0,
            time: self.clock.now(),
            unix_ms: self.clock.unix_ms(),
            what: record.what,
            server: Arc::clone(record.server),
            session: record.session,
            uid: record.uid.map(i64::from),
            cmd: record.cmd,
            frame: Bytes::copy_from_slice(record.frame),
        };
        {
            let mut contents = self.contents.lock();
            contents.ring.push(event, self.bounds);
            if contents.recording.has_lapsed(Instant::now) {
                self.update_recording(&mut contents);
            }
        }
        self.appended.notify_waiters();
    }

    /// Takes a mark: later events have its number or a higher one. With [`Capture::Auto`] this turns the recording on for
    /// [`MARKED`], so that a wait for an event after the mark can find it.
    pub fn mark(&self) -> Mark {
        let mut contents = self.contents.lock();
        contents.recording.stay_on(Instant::now() + MARKED);
        self.update_recording(&mut contents);
        Mark(contents.ring.next)
    }

    /// Returns the position behind the newest event, without turning the recording on.
    pub fn end(&self) -> Mark {
        Mark(self.contents.lock().ring.next)
    }

    /// Returns the config of when events are recorded.
    pub fn capture(&self) -> Capture {
        self.contents.lock().recording.capture()
    }

    /// Returns whether events are recorded at the moment.
    pub fn is_recording(&self) -> bool {
        let mut contents = self.contents.lock();
        self.update_recording(&mut contents);
        contents.recording.is_on()
    }

    /// Keeps the recording on for this time of the system's clock at least, if it is on.
    pub fn stay_on(&self, time: Duration) {
        self.contents
            .lock()
            .recording
            .stay_on(Instant::now() + time);
    }

    /// Checks that this journal can have given out a mark.
    ///
    /// # Errors
    ///
    /// [`Unknowable::Beyond`] if the mark is higher than the position behind the newest event.
    pub fn check(&self, mark: Mark) -> Result<(), Unknowable> {
        let mut contents = self.contents.lock();
        self.update_recording(&mut contents);
        let (mark, next) = (mark.0, contents.ring.next);
        if mark > next {
            return Err(Unknowable::Beyond { mark, next });
        }
        Ok(())
    }

    /// Returns the events from a mark on. Those that were dropped or not recorded are left out.
    pub fn since(&self, mark: Mark) -> Vec<Event> {
        self.contents.lock().ring.since(mark).cloned().collect()
    }

    /// Returns the events from a mark on, the mark to go on from, and the number of missing events.
    pub fn read_on(&self, mark: Mark) -> Page {
        let contents = self.contents.lock();
        let Contents { ring, recording } = &*contents;
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

    /// Returns all frames that are still recorded, for the caller to filter.
    pub fn frames(&self) -> Frames {
        let events = self.since(Mark(0));
        Frames {
            events: events
                .into_iter()
                .filter(|event| matches!(event.what, EventKind::Frame(_)))
                .collect(),
        }
    }

    /// Returns how many recorded events were dropped or cleared since the start.
    pub fn dropped(&self) -> u64 {
        self.contents.lock().ring.dropped
    }

    /// Removes all events. Their sequence numbers are not used again.
    pub fn clear(&self) {
        let ring = &mut self.contents.lock().ring;
        ring.dropped += ring.events.len() as u64;
        ring.events.clear();
        ring.bytes = 0;
    }

    /// Returns a reader of the events from a mark on. While it exists everything is recorded, unless the config says never.
    pub fn read(self: &Arc<Self>, from: Mark) -> Reader {
        let mut reader = self.read_new();
        reader.next = from;
        reader
    }

    /// Returns a reader of the events from now on. While it exists everything is recorded, unless the config says never.
    pub fn read_new(self: &Arc<Self>) -> Reader {
        let mut contents = self.contents.lock();
        contents.recording.add_reader();
        self.update_recording(&mut contents);
        Reader {
            journal: Arc::clone(self),
            next: Mark(contents.ring.next),
            buffered: VecDeque::new(),
        }
    }

    /// Returns a reader of the events from a mark on, for a caller that waits for one that `is_wanted`.
    ///
    /// # Errors
    ///
    /// [`Unknowable`] if the event is not recorded but may have happened.
    pub fn read_for(
        self: &Arc<Self>,
        from: Mark,
        is_wanted: impl Fn(&Event) -> bool,
    ) -> Result<Reader, Unknowable> {
        self.check(from)?;
        let reader = self.read(from);
        // The guard is a temporary of this statement: the reader's drop takes the same lock.
        let unknowable = self.contents.lock().unknowable(from, is_wanted);
        match unknowable {
            None => Ok(reader),
            Some(why) => Err(why),
        }
    }

    /// Counts a reader less.
    fn remove_reader(&self) {
        let mut contents = self.contents.lock();
        contents.recording.remove_reader();
        self.update_recording(&mut contents);
    }
}

impl fmt::Debug for Journal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Journal").finish_non_exhaustive()
    }
}

impl Contents {
    /// Returns why it can't be known whether a wanted event has happened since `from`; `None` if it is recorded, or if all
    /// events since then are.
    fn unknowable(&self, from: Mark, is_wanted: impl Fn(&Event) -> bool) -> Option<Unknowable> {
        let count = self.recording.unrecorded(from.0);
        let why = match self.recording.capture() {
            Capture::Off => Unknowable::Off,
            Capture::Auto | Capture::Always if count > 0 => Unknowable::Unrecorded { count },
            Capture::Auto | Capture::Always => return None,
        };
        let is_recorded = self.ring.since(from).any(is_wanted);
        (!is_recorded).then_some(why)
    }
}

/// The events from a mark on.
#[derive(Debug)]
pub struct Page {
    /// The events that are still recorded, oldest first.
    pub events: Vec<Event>,
    /// The mark to read on from.
    pub mark: Mark,
    /// The events since the mark that are missing in `events`.
    pub missed: Missed,
    /// Number of events that the journal has dropped since its start.
    pub dropped: u64,
}
