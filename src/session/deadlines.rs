//! The deadlines of a session, and the times from which they run.
//!
//! Serves the connection, which notes what happens, and the sweep, which asks which deadline was missed. Times are those of
//! the stack's clock. Only time in which the peer could act counts: all deadlines stand still while the server is
//! paused, and those for idling and for half frames also while a handler runs.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use super::CloseReason;

/// How long the peer of a session may take for each thing that it has to do.
#[derive(Debug, Clone)]
pub struct Deadlines {
    /// The time from connect to login; none for a listener without logins.
    pub login: Option<Duration>,
    /// The time from the moment at which every request is answered to the next whole frame. It runs after the login, or always
    /// at a listener without logins.
    pub idle: Duration,
    /// The time from the first byte of a frame to its last.
    pub half_frame: Duration,
    /// How long the socket may take nothing of what is written.
    pub write: Duration,
}

impl Deadlines {
    /// Returns how often to check for missed deadlines. A session is closed late by a tenth of the shortest deadline at most,
    /// and by a second at most.
    pub(super) fn tick(&self) -> Duration {
        (self.shortest() / 10).clamp(Duration::from_millis(1), Duration::from_secs(1))
    }

    /// Returns the shortest deadline. A session that begins something now can't miss a deadline of it earlier.
    pub(super) fn shortest(&self) -> Duration {
        let all = [self.idle, self.half_frame, self.write];
        all.into_iter().chain(self.login).min().unwrap_or_default()
    }

    /// Returns the deadline that a session has missed by `now`, if any.
    pub(super) fn missed(
        &self,
        timers: &Timers,
        logged_in: bool,
        now: Duration,
    ) -> Option<CloseReason> {
        let mut ends = self.ends(timers, logged_in);
        let missed = ends.find(|(end, _)| *end <= now);
        missed.map(|(_, reason)| reason)
    }

    /// Returns the time at which a session misses its first deadline, if nothing happens until then.
    pub(super) fn first(&self, timers: &Timers, logged_in: bool) -> Option<Duration> {
        let ends = self.ends(timers, logged_in);
        ends.map(|(end, _)| end).min()
    }

    /// Returns the end of each deadline that runs, with the reason to close the session. If several were missed, the first
    /// one in this order counts.
    fn ends(
        &self,
        timers: &Timers,
        logged_in: bool,
    ) -> impl Iterator<Item = (Duration, CloseReason)> {
        let end = |since: &Since, limit, reason| {
            let since = since.get();
            since.map(|since| (since.saturating_add(limit), reason))
        };
        let awaiting_peer = timers.is_awaiting_peer.load(Ordering::Acquire);
        let of_peer = |since, limit, reason| awaiting_peer.then(|| end(since, limit, reason))?;
        let last = match self.login.filter(|_| !logged_in) {
            Some(login) => end(&timers.opened, login, CloseReason::LoginDeadline),
            None => of_peer(&timers.awaiting_peer_since, self.idle, CloseReason::Idle),
        };
        let write = end(
            &timers.write_stalled_since,
            self.write,
            CloseReason::WriteDeadline,
        );
        let half_frame = of_peer(
            &timers.half_frame_since,
            self.half_frame,
            CloseReason::HalfFrame,
        );
        [write, half_frame, last].into_iter().flatten()
    }
}

/// The times from which the deadlines of a session run.
#[derive(Debug)]
pub(super) struct Timers {
    opened: Since,
    awaiting_peer_since: Since,
    half_frame_since: Since,
    write_stalled_since: Since,
    /// Whether the peer has to act next. While a handler runs, or too much waits to be written, frames lie unread, and no
    /// deadline of the peer runs.
    is_awaiting_peer: AtomicBool,
}

impl Timers {
    /// Creates the timers of a session that was opened at this time. The peer has to act first.
    pub fn new(opened: Duration) -> Self {
        Timers {
            opened: Since::at(opened),
            awaiting_peer_since: Since::at(opened),
            half_frame_since: Since::unset(),
            write_stalled_since: Since::unset(),
            is_awaiting_peer: AtomicBool::new(true),
        }
    }

    /// Notes that a request is being handled, or that nothing is read for now.
    pub fn note_server_busy(&self) {
        self.is_awaiting_peer.store(false, Ordering::Release);
    }

    /// Returns whether every request is answered, so that the peer has to act next.
    pub fn is_awaiting_peer(&self) -> bool {
        self.is_awaiting_peer.load(Ordering::Acquire)
    }

    /// Notes that every request is answered: the deadlines of the peer run from now.
    pub fn note_awaiting_peer(&self, now: impl FnOnce() -> Duration) {
        if !self.is_awaiting_peer.load(Ordering::Acquire) {
            let now = now();
            self.awaiting_peer_since.set(now);
            if self.half_frame_since.get().is_some() {
                self.half_frame_since.set(now);
            }
            self.is_awaiting_peer.store(true, Ordering::Release);
        }
    }

    /// Notes that a part of a frame has arrived. `is_new` if no part of that frame was there before.
    pub fn frame_begun(&self, is_new: bool, now: Duration) {
        if is_new || self.half_frame_since.get().is_none() {
            self.half_frame_since.set(now);
        }
    }

    /// Notes that no part of a frame is left.
    pub fn frame_completed(&self) {
        self.half_frame_since.clear();
    }

    /// Notes that the socket takes no more.
    pub fn write_stalled(&self, now: Duration) {
        if self.write_stalled_since.get().is_none() {
            self.write_stalled_since.set(now);
        }
    }

    /// Returns whether the socket takes no more.
    pub fn is_stalled(&self) -> bool {
        self.write_stalled_since.get().is_some()
    }

    /// Notes that the socket has taken something, or there is nothing to take.
    pub fn write_progressed(&self) {
        self.write_stalled_since.clear();
    }

    /// Moves all times by the length of a pause that ends `now`, so that no deadline counts it.
    pub fn postpone(&self, by: Duration, now: Duration) {
        let all = [
            &self.opened,
            &self.awaiting_peer_since,
            &self.half_frame_since,
            &self.write_stalled_since,
        ];
        for since in all {
            since.postpone(by, now);
        }
    }
}

/// A point in time that may be unset, in one atomic.
#[derive(Debug)]
struct Since(AtomicU64);

impl Since {
    const UNSET: u64 = u64::MAX;

    const fn unset() -> Self {
        Since(AtomicU64::new(Self::UNSET))
    }

    fn at(at: Duration) -> Self {
        Since(AtomicU64::new(ms(at)))
    }

    fn set(&self, at: Duration) {
        self.0.store(ms(at), Ordering::Release);
    }

    /// Moves the time, but not past `now`. A time that is set concurrently is left as it is.
    fn postpone(&self, by: Duration, now: Duration) {
        if let Some(since) = self.get() {
            let (old, new) = (ms(since), ms((since + by).min(now)));
            let _ = self
                .0
                .compare_exchange(old, new, Ordering::AcqRel, Ordering::Relaxed);
        }
    }

    fn clear(&self) {
        self.0.store(Self::UNSET, Ordering::Release);
    }

    fn get(&self) -> Option<Duration> {
        match self.0.load(Ordering::Acquire) {
            Self::UNSET => None,
            ms => Some(Duration::from_millis(ms)),
        }
    }
}

/// Returns a time in milliseconds; never [`Since::UNSET`].
fn ms(at: Duration) -> u64 {
    u64::try_from(at.as_millis()).unwrap_or(Since::UNSET - 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn s(n: u64) -> Duration {
        Duration::from_secs(n)
    }

    const DEADLINES: Deadlines = Deadlines {
        login: Some(s(300)),
        idle: s(60),
        half_frame: s(10),
        write: s(20),
    };

    #[test]
    fn time_in_which_the_peer_can_not_act_is_not_counted() {
        let timers = Timers::new(s(0));
        timers.frame_begun(true, s(1));
        timers.note_server_busy();
        assert_eq!(DEADLINES.missed(&timers, true, s(500)), None);
        timers.note_awaiting_peer(|| s(500));
        assert_eq!(DEADLINES.missed(&timers, true, s(509)), None);
        assert_eq!(
            DEADLINES.missed(&timers, true, s(510)),
            Some(CloseReason::HalfFrame)
        );
        timers.frame_completed();
        assert_eq!(DEADLINES.missed(&timers, true, s(559)), None);
        assert_eq!(
            DEADLINES.missed(&timers, true, s(560)),
            Some(CloseReason::Idle)
        );
    }

    #[test]
    fn a_frame_that_trickles_in_has_one_deadline() {
        let timers = Timers::new(s(0));
        timers.frame_begun(true, s(1));
        timers.frame_begun(false, s(9));
        timers.note_awaiting_peer(|| s(9));
        assert_eq!(
            DEADLINES.missed(&timers, true, s(11)),
            Some(CloseReason::HalfFrame)
        );
        timers.frame_begun(true, s(11));
        assert_eq!(
            DEADLINES.missed(&timers, true, s(20)),
            None,
            "another frame has its own"
        );
    }

    #[test]
    fn a_stalled_write_counts_while_the_server_is_busy_and_progress_ends_it() {
        let timers = Timers::new(s(0));
        timers.note_server_busy();
        timers.write_stalled(s(5));
        timers.write_stalled(s(24));
        assert_eq!(DEADLINES.missed(&timers, true, s(24)), None);
        assert_eq!(
            DEADLINES.missed(&timers, true, s(25)),
            Some(CloseReason::WriteDeadline)
        );
        timers.write_progressed();
        timers.write_stalled(s(25));
        assert_eq!(DEADLINES.missed(&timers, true, s(44)), None);
    }

    #[test]
    fn a_pause_is_not_counted() {
        let timers = Timers::new(s(0));
        timers.frame_begun(true, s(5));
        timers.postpone(s(1_000), s(1_008));
        assert_eq!(DEADLINES.missed(&timers, true, s(1_014)), None);
        assert_eq!(
            DEADLINES.missed(&timers, true, s(1_015)),
            Some(CloseReason::HalfFrame)
        );
        timers.frame_completed();
        assert_eq!(DEADLINES.missed(&timers, true, s(1_059)), None);
        assert_eq!(
            DEADLINES.missed(&timers, true, s(1_060)),
            Some(CloseReason::Idle)
        );
        assert_eq!(DEADLINES.missed(&timers, false, s(1_299)), None);
        assert_eq!(
            DEADLINES.missed(&timers, false, s(1_300)),
            Some(CloseReason::LoginDeadline)
        );
        // A deadline that began during a pause runs from the end of the pause.
        timers.write_stalled(s(1_900));
        timers.postpone(s(1_000), s(2_000));
        assert_eq!(DEADLINES.missed(&timers, false, s(2_019)), None);
        assert_eq!(
            DEADLINES.missed(&timers, false, s(2_020)),
            Some(CloseReason::WriteDeadline)
        );
    }

    #[test]
    fn before_the_login_only_the_login_counts() {
        let timers = Timers::new(s(0));
        assert_eq!(DEADLINES.missed(&timers, false, s(299)), None);
        assert_eq!(
            DEADLINES.missed(&timers, false, s(300)),
            Some(CloseReason::LoginDeadline)
        );
        let gateway = Deadlines {
            login: None,
            ..DEADLINES
        };
        assert_eq!(
            gateway.missed(&timers, false, s(60)),
            Some(CloseReason::Idle)
        );
    }
}
