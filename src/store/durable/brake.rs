//! Pauses and stops compactions of the engine.
//!
//! Serves `engine`, which installs a brake, and through it the writer. The engine has no switch for its compactions,
//! but it gives each record of a compaction to a filter, and a filter may block or fail. No record is ever changed
//! here.
//!
//! The engine's own threads compact whenever enough was written, and end for good when a compaction fails. On a disk
//! that is nearly full their compactions wait: otherwise they would use up the space that the removal of old messages
//! needs. The store's own compaction, which gives space back, may fail without harm, and is stopped when it would need
//! too much space.

use std::fmt;
use std::io;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, ThreadId};
use std::time::Duration;

use fjall::LsmError;
use fjall::compaction::filter::{
    CompactionFilter, CompactionFilterResult, Context, Factory, ItemAccessor, Verdict,
};
use parking_lot::Mutex;

/// Returns whether a compaction may go on now.
pub type MayContinue = dyn Fn() -> bool + Send + Sync;

/// A compaction asks whether it may go on once in this many records, because each question may cost a system call.
const RECORDS_PER_CHECK: u32 = 64;

/// The interval at which a paused compaction asks again. What it waits for is free space on the disk, and the system
/// offers no event for that.
const WAIT: Duration = Duration::from_millis(10);

/// The brake of one engine. Clones share their state.
#[derive(Clone, Default)]
pub struct Brake(Arc<AssertUnwindSafe<Inner>>);

/// The shared state. Nothing under its locks can panic, so a panic of the engine leaves it usable.
#[derive(Default)]
struct Inner {
    /// The thread that runs the store's own compaction, and the function that says whether it may go on.
    own: Mutex<Option<(ThreadId, Arc<MayContinue>)>>,
    /// Says whether compactions of other threads may go on. They pause while it returns false.
    others: Mutex<Option<Arc<MayContinue>>>,
    /// Whether compactions of other threads end with an error.
    are_others_stopped: AtomicBool,
    /// Whether compactions of other threads end with an error where they would wait.
    is_closing: AtomicBool,
    /// Whether a compaction of another thread is paused. The engine has two threads, and needs the other one for
    /// flushes.
    is_one_waiting: AtomicBool,
}

impl fmt::Debug for Brake {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Brake").finish_non_exhaustive()
    }
}

impl Brake {
    /// Ends compactions of the calling thread with an error as soon as `may_continue` returns false, until the guard is
    /// dropped.
    pub fn watch(&self, may_continue: Arc<MayContinue>) -> WatchGuard<'_> {
        *self.0.own.lock() = Some((thread::current().id(), may_continue));
        WatchGuard(self)
    }

    /// Pauses compactions of all other threads whenever `may_continue` returns false. Only one waits. A second one ends
    /// with an error, after which the engine takes no more commits: with both threads waiting, nothing would ever be
    /// flushed.
    pub fn pause_others_unless(&self, may_continue: Arc<MayContinue>) {
        *self.0.others.lock() = Some(may_continue);
    }

    /// Ends compactions of all other threads with an error. If there is one, the engine takes no more commits.
    pub fn stop_others(&self) {
        self.0.are_others_stopped.store(true, Ordering::Release);
    }

    /// Ends the compactions of other threads that are paused, or are about to pause, with an error. The other
    /// compactions go on.
    pub fn close(&self) {
        self.0.is_closing.store(true, Ordering::Release);
    }

    /// Blocks until a compaction of the engine's own threads may go on.
    fn wait(&self) -> io::Result<()> {
        if self.may_continue()? {
            return Ok(());
        }
        if self.0.is_one_waiting.swap(true, Ordering::AcqRel) {
            return Err(stopped());
        }
        let waited = loop {
            thread::sleep(WAIT);
            match self.may_continue() {
                Ok(false) => {}
                waited => break waited.map(drop),
            }
        };
        self.0.is_one_waiting.store(false, Ordering::Release);
        waited
    }

    /// Returns whether a compaction of the engine's own threads may go on, or has to wait.
    fn may_continue(&self) -> io::Result<bool> {
        if self.0.are_others_stopped.load(Ordering::Acquire) {
            return Err(stopped());
        }
        let may_continue = self.0.others.lock().clone();
        if may_continue.is_none_or(|may_continue| may_continue()) {
            return Ok(true);
        }
        match self.0.is_closing.load(Ordering::Acquire) {
            true => Err(stopped()),
            false => Ok(false),
        }
    }
}

/// The text of the error that ends a compaction on purpose: when the store closes, or when others need the space. The
/// engine logs it as an error of its own, although nothing is lost; so a program may leave out log lines that contain
/// it.
pub const COMPACTION_STOPPED: &str = "imd has stopped this compaction: nothing is lost";

/// Returns the error that ends a compaction on purpose.
fn stopped() -> io::Error {
    io::Error::other(COMPACTION_STOPPED)
}

/// Ends the effect of [`Brake::watch`] when it is dropped.
#[derive(Debug)]
#[must_use]
pub struct WatchGuard<'a>(&'a Brake);

impl Drop for WatchGuard<'_> {
    fn drop(&mut self) {
        *self.0.0.own.lock() = None;
    }
}

impl Factory for Brake {
    fn name(&self) -> &'static str {
        "brake"
    }

    fn make_filter(&self, _: &Context) -> Box<dyn CompactionFilter> {
        let own = self.0.own.lock();
        let mine = own
            .as_ref()
            .filter(|(thread, _)| *thread == thread::current().id());
        Box::new(Filter {
            brake: self.clone(),
            own: mine.map(|(_, may_continue)| Arc::clone(may_continue)),
            seen: 0,
        })
    }
}

/// Sees the records of one compaction, and keeps all of them.
struct Filter {
    brake: Brake,
    /// Says whether the compaction may go on, if it is the store's own.
    own: Option<Arc<MayContinue>>,
    seen: u32,
}

impl CompactionFilter for Filter {
    fn filter_item(&mut self, _: ItemAccessor<'_>, _: &Context) -> CompactionFilterResult {
        self.seen = self.seen.wrapping_add(1);
        if self.seen % RECORDS_PER_CHECK != 1 {
            return Ok(Verdict::Keep);
        }
        let checked = match &self.own {
            Some(may_continue) if !may_continue() => Err(stopped()),
            Some(_) => Ok(()),
            None => self.brake.wait(),
        };
        checked.map_err(LsmError::Io)?;
        Ok(Verdict::Keep)
    }
}
