//! How much room the disk has, and what the writer does without it.

use std::io::ErrorKind;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::super::answers::Outcome;
use super::super::draft::GroupCache;
use super::super::engine::{EngineError, in_words};
use super::Writer;
use super::admission::Admission;
use crate::store::StoreError;

/// An engine that has given up with less free room than this, in bytes, has done so for want of room: it needs some for
/// its compactions.
const TIGHT: u64 = 64 << 20;

/// With so many free bytes above the floor, the system is asked for the free room again only after [`ASK_AFTER`] written
/// bytes or [`ASK_EVERY`]. Other programs may use the room up meanwhile; the floor is for them too.
pub const PLENTY: u64 = 64 << 20;
/// See [`PLENTY`].
pub const ASK_AFTER: usize = 1 << 20;
/// See [`PLENTY`].
const ASK_EVERY: Duration = Duration::from_millis(100);

/// What is known of the room on the disk.
#[derive(Debug, Default)]
pub struct Room {
    /// Whether there was less than the floor when the system was asked last.
    pub is_short: bool,
    /// When there was plenty, and how many bytes may be written before the system is asked again.
    plenty: Option<(Instant, usize)>,
}

impl Room {
    /// Notes what the system has said: `free` bytes, of which `floor` should stay free.
    fn note(&mut self, free: u64, floor: u64) {
        let is_plenty = free >= floor.saturating_add(PLENTY);
        self.plenty = is_plenty.then(|| (Instant::now(), ASK_AFTER));
        self.is_short = free < floor;
    }

    /// Counts the bytes that a commit has written.
    pub fn count_written(&mut self, bytes: usize) {
        if let Some((_, left)) = &mut self.plenty {
            *left = left.saturating_sub(bytes);
        }
    }

    /// Returns whether there was plenty of room just now.
    fn is_plenty(&self) -> bool {
        self.plenty
            .is_some_and(|(since, left)| left > 0 && since.elapsed() < ASK_EVERY)
    }
}

impl Writer {
    /// Returns which jobs may be done now. Waits while the engine is behind, and opens an engine that has given up again if
    /// there is room.
    pub(super) fn admission(&mut self) -> Admission {
        self.wait_for_engine();
        if !self.is_broken && self.room.is_plenty() {
            return Admission::All;
        }
        if let Err(why) = self.watchdog.check_all() {
            self.shared.fail(StoreError::FolderGone(why));
            return Admission::Nothing;
        }
        let free = self.free();
        self.note_room(free);
        if self.room.is_short {
            self.hurry_compaction();
        }
        let floor = self.shared.min_free;
        if self.is_broken
            && !self.reclaimer.is_compacting()
            && (free >= floor.max(TIGHT) || self.reclaimer.may_retry(free))
        {
            self.reopen();
        }
        match self.is_broken {
            true => Admission::Nothing,
            false => Admission::of(free, floor),
        }
    }

    /// Notes how much room there is, and says so when it gets short or is enough again.
    fn note_room(&mut self, free: u64) {
        let floor = self.shared.min_free;
        let was_short = self.room.is_short;
        self.room.note(free, floor);
        match (was_short, self.room.is_short) {
            (false, true) => {
                tracing::warn!(free, floor, "the disk is full: sends are refused");
                self.reclaimer.is_wanted = true;
                self.shared.short.notify_one();
            }
            (true, false) => {
                self.reclaimer.has_room();
                tracing::warn!(free, floor, "there is room again");
            }
            _ => {}
        }
    }

    /// Returns how many bytes the disk has left; 0 if the system does not say, because then nothing is known of the disk.
    pub(super) fn free(&self) -> u64 {
        self.shared.free_space().unwrap_or_else(|error| {
            tracing::warn!(%error, "how much room the disk has is not known, and taken for none");
            0
        })
    }

    /// Waits while the engine has more to flush and to merge than it should. The engine would wait itself otherwise, and
    /// for ever if its threads have ended on a full disk.
    fn wait_for_engine(&mut self) {
        let shared = Arc::clone(&self.shared);
        let engine = shared.engine.read();
        let Some(engine) = engine.as_ref().filter(|_| !self.is_broken) else {
            return;
        };
        let caught_up = engine.wait_until(|| {
            if !engine.is_behind() {
                return true;
            }
            // The engine's own compactions wait for that of the store.
            self.reclaimer.stop();
            // They wait for room too, and the removals that are admitted then give room.
            self.free() < self.shared.min_free / 2
        });
        if let Err(error) = caught_up {
            self.gave_up("tables were not written", error);
        }
    }

    /// Notes that the engine takes no more commits. For want of room that lasts until there is some; for another reason the
    /// store has failed.
    pub(super) fn gave_up(&mut self, what: &'static str, error: fjall::Error) -> Outcome {
        self.remembered = GroupCache::default();
        self.shared.forget_recent();
        if let Err(why) = self.watchdog.check_all() {
            return Outcome::Failed(self.shared.fail(StoreError::FolderGone(why)));
        }
        let error_text = in_words(&error);
        let is_stopped = self.reclaimer.has_stopped_engine();
        if is_full(&error) || self.room.is_short || is_stopped || self.is_tight() {
            tracing::warn!(error = error_text, "{what}: there is no room");
            self.is_broken = true;
            return Outcome::Full;
        }
        let failed = StoreError::from(EngineError::from(error)).during(what);
        Outcome::Failed(self.shared.fail(failed))
    }

    /// Opens an engine that has given up for want of room again. If there still is too little, the next job tries it again.
    pub(super) fn reopen(&mut self) {
        match self.shared.reopen(self.state) {
            Ok((mark, state)) => {
                self.adopt(mark, state);
                self.is_broken = false;
                tracing::warn!("the engine works again");
            }
            Err(error) if self.is_tight() => {
                tracing::warn!(%error, "the engine was not opened again");
            }
            Err(error) => {
                let failed = StoreError::from(error).during("it could not be opened again");
                self.shared.fail(failed);
            }
        }
    }

    /// Returns whether there is so little room that the engine may fail for want of it.
    fn is_tight(&self) -> bool {
        self.free() < self.shared.min_free.max(TIGHT)
    }
}

/// Returns whether the engine failed for want of room. What was not written can be written later; what was not synced
/// can't.
fn is_full(error: &fjall::Error) -> bool {
    let kind = match error {
        fjall::Error::Io(error) => error.kind(),
        _ => return false,
    };
    matches!(
        kind,
        ErrorKind::StorageFull | ErrorKind::QuotaExceeded | ErrorKind::FileTooLarge
    )
}
