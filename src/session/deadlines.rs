use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use super::CloseReason;

/// How long a session may go without what.
#[derive(Debug, Clone)]
pub struct Deadlines {
    /// From connect to login; none where there is no login.
    pub login: Option<Duration>,
    /// Between frames: after the login, or ever where there is none.
    pub idle: Duration,
    /// From the first byte of a frame to its last.
    pub half_frame: Duration,
    /// Between two writes of which the peer took something.
    pub write: Duration,
}

impl Deadlines {
    /// How often to look for who has missed one: it is met at most a tenth of the shortest one late, and at most a second.
    pub(super) fn tick(&self) -> Duration {
        (self.shortest() / 10).clamp(Duration::from_millis(1), Duration::from_secs(1))
    }

    /// Nothing that a session does from now on can be late before so long.
    pub(super) fn shortest(&self) -> Duration {
        let all = [self.idle, self.half_frame, self.write];
        all.into_iter().chain(self.login).min().unwrap_or_default()
    }

    /// What a session has missed at this time, if anything.
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

    /// When a session has missed the first one, if nothing happens before.
    pub(super) fn first(&self, timers: &Timers, logged_in: bool) -> Option<Duration> {
        let ends = self.ends(timers, logged_in);
        ends.map(|(end, _)| end).min()
    }

    /// When which one is over for a session, and what it is closed for then: what comes first here counts.
    fn ends(
        &self,
        timers: &Timers,
        logged_in: bool,
    ) -> impl Iterator<Item = (Duration, CloseReason)> {
        let end = |since: &Since, limit, reason| {
            let since = since.get();
            since.map(|since| (since.saturating_add(limit), reason))
        };
        let awaiting_peer = timers.awaits_peer.load(Ordering::Acquire);
        let of_peer = |since, limit, reason| awaiting_peer.then(|| end(since, limit, reason))?;
        let last = match self.login.filter(|_| !logged_in) {
            Some(login) => end(&timers.opened, login, CloseReason::LoginDeadline),
            None => of_peer(&timers.last_frame, self.idle, CloseReason::Idle),
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

/// The times that a session's deadlines run from.
#[derive(Debug)]
pub(super) struct Timers {
    opened: Since,
    last_frame: Since,
    half_frame_since: Since,
    write_stalled_since: Since,
    /// Whether the next step is the peer's. While a handler works, or too much waits to be written, frames lie unread:
    /// then it is not the peer who is late.
    awaits_peer: AtomicBool,
}

impl Timers {
    pub fn new(opened: Duration) -> Self {
        Timers {
            opened: Since::at(opened),
            last_frame: Since::at(opened),
            half_frame_since: Since::unset(),
            write_stalled_since: Since::unset(),
            awaits_peer: AtomicBool::new(true),
        }
    }

    /// A frame has come, or nothing is read for now.
    pub fn server_busy(&self) {
        self.awaits_peer.store(false, Ordering::Release);
    }

    /// Whether everything is answered.
    pub fn is_awaiting_peer(&self) -> bool {
        self.awaits_peer.load(Ordering::Acquire)
    }

    /// Everything is answered: the peer's times run from now.
    pub fn awaiting_peer(&self, now: impl FnOnce() -> Duration) {
        if !self.awaits_peer.load(Ordering::Acquire) {
            let now = now();
            self.last_frame.set(now);
            if self.half_frame_since.get().is_some() {
                self.half_frame_since.set(now);
            }
            self.awaits_peer.store(true, Ordering::Release);
        }
    }

    /// The beginning of a frame is there, and the rest is not. `is_new`: it was not there before.
    pub fn frame_begun(&self, is_new: bool, now: Duration) {
        if is_new || self.half_frame_since.get().is_none() {
            self.half_frame_since.set(now);
        }
    }

    /// Nothing is left of the frames that were read.
    pub fn frame_completed(&self) {
        self.half_frame_since.clear();
    }

    /// The socket takes no more.
    pub fn write_stalled(&self, now: Duration) {
        if self.write_stalled_since.get().is_none() {
            self.write_stalled_since.set(now);
        }
    }

    /// Whether the socket takes no more.
    pub fn is_stalled(&self) -> bool {
        self.write_stalled_since.get().is_some()
    }

    /// The socket has taken something, or there is nothing to take.
    pub fn write_progressed(&self) {
        self.write_stalled_since.clear();
    }

    /// The server has rested for so long, until now: no deadline counts that time.
    pub fn postpone(&self, by: Duration, now: Duration) {
        let all = [
            &self.opened,
            &self.last_frame,
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

    /// Moves it, but not past now. Who sets it meanwhile is right.
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

/// In milliseconds, and never [`Since::UNSET`].
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
        timers.server_busy();
        assert_eq!(DEADLINES.missed(&timers, true, s(500)), None);
        timers.awaiting_peer(|| s(500));
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
        timers.awaiting_peer(|| s(9));
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
    fn a_stalled_write_counts_in_any_turn_and_progress_ends_it() {
        let timers = Timers::new(s(0));
        timers.server_busy();
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
    fn time_in_which_the_server_rests_is_not_counted() {
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
        // What began while the server rested begins when it goes on.
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
