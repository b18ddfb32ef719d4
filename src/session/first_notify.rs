//! The wait of the notify that follows a login.
//!
//! Serves the handler of the access servers. Existing clients ask for their inbox as soon as they are logged in. A notify
//! right behind the login's reply would make them ask, and show everything, twice. So it waits, and is not written if a
//! page has caught up meanwhile.
//!
//! Invariants: the notify itself stays in the session, which needs no timer. All waits of a listener share one task, which
//! exists only while there are any. As the waits are equally long, they end in the order in which they began.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;

use super::{Session, SessionId, SessionManager};
use crate::clock::{Ticks, running};
use crate::store::InboxState;

/// How many waits are kept, beyond two for each session, before those of closed sessions are removed.
const SPARE_WAITS: usize = 64;

/// The notifies of one listener that wait after a login.
///
/// A wait ends when its time has passed by the stack's clock, or else in real time: a manual clock that nobody advances must
/// not keep a client waiting for ever.
#[derive(Debug)]
pub struct FirstNotifies {
    manager: Arc<SessionManager>,
    /// How long each notify waits; zero for not at all.
    wait: Duration,
    /// Locked before the clock and before the sessions of the manager.
    waits: Mutex<Waits>,
}

#[derive(Debug, Default)]
struct Waits {
    /// In the order in which they end.
    queue: VecDeque<Wait>,
    /// Whether a task ends the waits of the queue.
    has_task: bool,
}

/// A session whose first notify waits, or did so until something else caused it.
#[derive(Debug)]
struct Wait {
    session: SessionId,
    /// When the wait ends by the stack's clock.
    due: Duration,
    /// When the wait began, in real time.
    begun: Instant,
}

/// How long the earliest wait still lasts by each clock.
struct Left {
    clock: Duration,
    real: Duration,
}

impl FirstNotifies {
    /// Creates the waits of the sessions of a manager, of which each lasts for `wait`.
    pub fn new(manager: Arc<SessionManager>, wait: Duration) -> Arc<Self> {
        Arc::new(FirstNotifies {
            manager,
            wait,
            waits: Mutex::default(),
        })
    }

    /// Notifies a session that has just logged in of its inbox, after the wait. A notify for any other reason, and one that
    /// follows a page, is not held up by the wait: it ends it.
    ///
    /// The time of the wait runs from this call, so that whoever has seen the login's reply can advance a manual clock.
    pub fn notify(self: &Arc<Self>, session: &Session, inbox: &InboxState) {
        if self.wait.is_zero() {
            session.notify(inbox.read, inbox.total);
            return;
        }
        if !session.notify_after_wait(inbox.read, inbox.total) {
            return;
        }
        let ticks = {
            let mut waits = self.waits.lock();
            waits.remove_closed(&self.manager);
            waits.queue.push_back(Wait {
                session: session.id(),
                due: self.manager.clock().now().saturating_add(self.wait),
                begun: Instant::now(),
            });
            if std::mem::replace(&mut waits.has_task, true) {
                return;
            }
            self.manager.clock().ticks(self.wait)
        };
        self.manager
            .tasks()
            .spawn(Arc::clone(self).end_waits(ticks));
    }

    /// Ends each wait at its time, until there are none or the server ends. `ticks` ticks at the end of the first one.
    async fn end_waits(self: Arc<Self>, mut ticks: Box<dyn Ticks>) {
        let mut real = self.wait;
        loop {
            tokio::select! {
                biased;
                () = self.manager.tasks().shutdown_begun() => return,
                _ = ticks.tick() => {}
                () = running::sleep(real) => {}
            }
            while let Some(session) = self.take_ended() {
                if let Some(session) = self.manager.session(session) {
                    session.end_wait();
                }
            }
            let Some(left) = self.left_or_end() else {
                return;
            };
            real = left.real;
            // The new timer exists before the old one is dropped. Otherwise, an advance of a manual clock could pass the end
            // of the next wait in between.
            ticks = self.manager.clock().ticks(left.clock);
        }
    }

    /// Removes the earliest wait and returns its session, if the wait has ended.
    fn take_ended(&self) -> Option<SessionId> {
        let now = self.manager.clock().now();
        let mut waits = self.waits.lock();
        let has_ended = |wait: &&Wait| wait.due <= now || wait.begun.elapsed() >= self.wait;
        waits.queue.front().filter(has_ended)?;
        waits.queue.pop_front().map(|wait| wait.session)
    }

    /// Returns how long the earliest wait lasts. If there is none, the task of the caller has to end.
    fn left_or_end(&self) -> Option<Left> {
        let mut waits = self.waits.lock();
        let Some(next) = waits.queue.front() else {
            *waits = Waits::default();
            return None;
        };
        let now = self.manager.clock().now();
        Some(Left {
            // A wait can end between two calls; no timer ticks at once.
            clock: next.due.saturating_sub(now).max(Duration::from_nanos(1)),
            real: self.wait.saturating_sub(next.begun.elapsed()),
        })
    }
}

impl Waits {
    /// Removes the waits of sessions that are gone, if there are many waits. So the queue is bounded by the number of
    /// sessions, however many have come and gone within the time of a wait.
    fn remove_closed(&mut self, manager: &SessionManager) {
        if self.queue.len() >= 2 * manager.len() + SPARE_WAITS {
            self.queue.retain(|wait| manager.has(wait.session));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::{ClockControl, ManualClock};
    use crate::id::{Uid, Version};
    use crate::session::{CloseReason, Deadlines, SessionIds};

    const WAIT: Duration = Duration::from_secs(3_600);

    fn start() -> (ManualClock, Arc<SessionManager>, Arc<FirstNotifies>) {
        let deadlines = Deadlines {
            login: None,
            idle: WAIT,
            half_frame: WAIT,
            write: WAIT,
        };
        let clock = ManualClock::default();
        let manager = SessionManager::new(
            SessionIds::default(),
            Arc::new(clock.clone()),
            deadlines,
            1 << 20,
        );
        let first_notifies = FirstNotifies::new(Arc::clone(&manager), WAIT);
        (clock, manager, first_notifies)
    }

    /// Opens a session that has just logged in, with one unread message.
    fn log_in(manager: &SessionManager, first_notifies: &Arc<FirstNotifies>) -> Arc<Session> {
        let addr = ([127, 0, 0, 1], 1).into();
        let session = manager.open(addr, addr);
        let inbox = InboxState {
            uid: Uid(1),
            read: Version(0),
            total: Version(1),
        };
        first_notifies.notify(&session, &inbox);
        session
    }

    fn is_pending(session: &Session) -> bool {
        session.output.lock().has_work()
    }

    #[tokio::test]
    async fn all_waits_share_one_task_that_ends_with_the_last() {
        let (clock, manager, first_notifies) = start();
        let first = log_in(&manager, &first_notifies);
        clock.advance(WAIT / 2).await;
        let others: Vec<_> = (0..1_000)
            .map(|_| log_in(&manager, &first_notifies))
            .collect();
        assert_eq!(manager.tasks().unfinished(), 1);
        clock.advance(WAIT / 2).await;
        assert!(is_pending(&first) && !others.iter().any(|session| is_pending(session)));
        clock.advance(WAIT / 2).await;
        assert!(others.iter().all(|session| is_pending(session)));
        tokio::task::yield_now().await;
        assert_eq!(manager.tasks().unfinished(), 0);
        assert_eq!(first_notifies.waits.lock().queue.capacity(), 0);
        // The next wait has a task again.
        let next = log_in(&manager, &first_notifies);
        clock.advance(WAIT).await;
        assert!(is_pending(&next));
    }

    #[tokio::test]
    async fn sessions_that_come_and_go_during_a_wait_leave_a_bounded_queue() {
        let (_, manager, first_notifies) = start();
        let stays = log_in(&manager, &first_notifies);
        for _ in 0..10_000 {
            let session = log_in(&manager, &first_notifies);
            session.close(CloseReason::PeerClosed);
            manager.remove(session.id());
        }
        let waits = first_notifies.waits.lock();
        assert!(waits.queue.len() <= 2 + SPARE_WAITS);
        assert_eq!(waits.queue[0].session, stays.id());
    }

    #[tokio::test]
    async fn the_task_ends_with_the_server_however_long_the_wait() {
        let (_, manager, first_notifies) = start();
        log_in(&manager, &first_notifies);
        manager.kill();
        assert_eq!(manager.tasks().end_at_once().await, 0);
    }
}
