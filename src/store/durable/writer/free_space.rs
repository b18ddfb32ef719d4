//! How much space the disk has, and what the writer does without it.
//!
//! Serves the writer, which asks for the allowed jobs before each commit. An engine that finds no space has to be
//! closed and opened again, so writes are refused while there still is some.

use std::io::ErrorKind;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::super::answers::Outcome;
use super::super::draft::MembersCache;
use super::super::engine::{EngineError, in_words};
use super::Writer;
use super::allowed_jobs::AllowedJobs;
use crate::store::StoreError;

/// If a poisoned engine has less free space than this, in bytes, want of space is taken for the cause: its compactions
/// need some.
const TIGHT: u64 = 64 << 20;

/// With at least this many free bytes above the floor, there is plenty of space: the system is asked for the free space
/// again only after [`BYTES_PER_CHECK`] written bytes or [`CHECK_INTERVAL`]. Other programs may use the space up
/// meanwhile; the floor is for them too.
pub const PLENTY: u64 = 64 << 20;
/// How many bytes may be written before the free space is asked for again, while there is plenty.
pub const BYTES_PER_CHECK: usize = 1 << 20;
/// How long the free space is not asked for again, while there is plenty.
const CHECK_INTERVAL: Duration = Duration::from_millis(100);

/// The knowledge of the free space on the disk.
#[derive(Debug, Default)]
pub struct FreeSpace {
    /// Whether there was less than the floor when the system was asked last.
    pub is_short: bool,
    /// When the system said that there is plenty, and how many bytes may be written before it is asked again; none if
    /// there is less.
    plenty: Option<(Instant, usize)>,
}

impl FreeSpace {
    /// Notes what the system has said: `free` bytes, of which `floor` should stay free.
    fn note(&mut self, free: u64, floor: u64) {
        let is_plenty = free >= floor.saturating_add(PLENTY);
        self.plenty = is_plenty.then(|| (Instant::now(), BYTES_PER_CHECK));
        self.is_short = free < floor;
    }

    /// Counts the bytes that a commit has written.
    pub fn count_written(&mut self, bytes: usize) {
        if let Some((_, left)) = &mut self.plenty {
            *left = left.saturating_sub(bytes);
        }
    }

    /// Returns whether there was plenty of space just now.
    fn is_plenty(&self) -> bool {
        self.plenty
            .is_some_and(|(since, left)| left > 0 && since.elapsed() < CHECK_INTERVAL)
    }
}

impl Writer {
    /// Returns which jobs may be done now. Waits while the engine is behind, and opens a poisoned engine again if
    /// there is space.
    pub(super) fn allowed_jobs(&mut self) -> AllowedJobs {
        self.wait_for_engine();
        if !self.is_poisoned && self.free_space.is_plenty() {
            return AllowedJobs::All;
        }
        if let Err(why) = self.folder_guard.check_all() {
            self.shared.fail(StoreError::FolderGone(why));
            return AllowedJobs::Nothing;
        }
        let free = self.free();
        self.note_free_space(free);
        if self.free_space.is_short {
            self.stop_engine_compactions();
        }
        let floor = self.shared.min_free;
        if self.is_poisoned
            && !self.reclaim_state.is_compacting()
            && (free >= floor.max(TIGHT) || self.reclaim_state.may_retry(free))
        {
            self.reopen_poisoned();
        }
        match self.is_poisoned {
            true => AllowedJobs::Nothing,
            false => AllowedJobs::of(free, floor),
        }
    }

    /// Notes how much space there is. Logs, and wakes the cleaning of the store, when space becomes short; logs when
    /// there is enough again.
    fn note_free_space(&mut self, free: u64) {
        let floor = self.shared.min_free;
        let was_short = self.free_space.is_short;
        self.free_space.note(free, floor);
        match (was_short, self.free_space.is_short) {
            (false, true) => {
                tracing::warn!(free, floor, "the disk is full: sends are refused");
                self.reclaim_state.is_wanted = true;
                self.shared.cleaning_due.notify_one();
            }
            (true, false) => {
                self.reclaim_state.end_pauses();
                tracing::warn!(free, floor, "there is enough free space again");
            }
            _ => {}
        }
    }

    /// Returns how many bytes the disk has left; 0 if the system does not say, since writes could then find no space.
    pub(super) fn free(&self) -> u64 {
        self.shared.free_space().unwrap_or_else(|error| {
            tracing::warn!(%error, "how much free space the disk has is not known, and taken for none");
            0
        })
    }

    /// Waits while the engine has more to flush and to compact than it should. Otherwise the engine itself would make
    /// commits wait, and for ever if its threads have ended on a full disk.
    fn wait_for_engine(&mut self) {
        let shared = Arc::clone(&self.shared);
        let engine = shared.engine.read();
        let Some(engine) = engine.as_ref().filter(|_| !self.is_poisoned) else {
            return;
        };
        let caught_up = engine.wait_until(|| {
            if !engine.is_behind() {
                return true;
            }
            // The store's compaction is stopped, because the engine's own compactions wait for its end.
            self.reclaim_state.stop();
            // The engine's compactions may also be paused for want of space. Then only removals are allowed, and they
            // make some.
            self.free() < self.shared.min_free / 2
        });
        if let Err(error) = caught_up {
            self.note_poisoned("tables were not written", error);
        }
    }

    /// Notes that the engine takes no more commits. If want of space is the cause, the engine is opened again when
    /// there is some. For any other cause, the store has failed.
    pub(super) fn note_poisoned(&mut self, what: &'static str, error: fjall::Error) -> Outcome {
        self.members_cache = MembersCache::default();
        self.shared.forget_recent();
        if let Err(why) = self.folder_guard.check_all() {
            return Outcome::Failed(self.shared.fail(StoreError::FolderGone(why)));
        }
        let error_text = in_words(&error);
        let is_stopped = self.reclaim_state.has_stopped_engine();
        if is_full(&error) || self.free_space.is_short || is_stopped || self.is_tight() {
            tracing::warn!(error = error_text, "{what}: there is no free space");
            self.is_poisoned = true;
            return Outcome::Full;
        }
        let failed = StoreError::from(EngineError::from(error)).during(what);
        Outcome::Failed(self.shared.fail(failed))
    }

    /// Opens an engine again that was poisoned for want of free space. If it fails because there still is too little,
    /// the next job tries again.
    pub(super) fn reopen_poisoned(&mut self) {
        match self.shared.reopen_after_cut(self.state) {
            Ok((checkpoint_file, state)) => {
                self.adopt_engine(checkpoint_file, state);
                self.is_poisoned = false;
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

    /// Returns whether there is so little space that the engine may fail for want of it.
    fn is_tight(&self) -> bool {
        self.free() < self.shared.min_free.max(TIGHT)
    }
}

/// Returns whether the engine failed for want of free space. A commit that was not written for that reason can be
/// written later; one that was not synced can't be.
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
