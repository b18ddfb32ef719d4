//! Finds the sessions that have missed a deadline, without a timer for each session and without a check of all sessions at
//! each tick.
//!
//! Serves the session manager, which closes the sessions that are found. A deadline that begins to run after a check can't
//! be missed before the shortest deadline has passed. So it is enough to check each session once in that time, and to check
//! again those whose deadline ends earlier.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use super::{CloseReason, Deadlines, Session, SessionId, Sessions};
use crate::sharded::SHARDS;

/// The largest number of ticks in a round. The checks of all sessions are spread over the ticks of a round.
const TICKS: u32 = 10;

/// Which sessions to check, and when.
pub(super) struct Sweep {
    deadlines: Deadlines,
    /// The time from one check of a session to the next.
    round: Duration,
    /// The number of the round in which each shard was last checked. The rounds of shards begin at different times, so that
    /// no tick has to check all of them.
    rounds: [u128; SHARDS],
    /// The sessions whose deadline ends before the next check, by that end. A session is in it several times if it was
    /// checked several times with different ends.
    due: BTreeSet<(Duration, SessionId)>,
}

impl Sweep {
    /// Creates a sweep that begins now. It has to be called at each of the deadlines' [ticks](Deadlines::tick).
    pub fn new(deadlines: Deadlines, now: Duration) -> Self {
        let tick = deadlines.tick();
        let round = deadlines.shortest().clamp(tick, tick * TICKS);
        Sweep {
            deadlines,
            round,
            rounds: std::array::from_fn(|shard| rounds_until(round, shard, now)),
            due: BTreeSet::new(),
        }
    }

    /// Returns the sessions that have missed a deadline by now, each with the reason to close it.
    pub fn tick(&mut self, sessions: &Sessions, now: Duration) -> Vec<(Arc<Session>, CloseReason)> {
        for (index, shard) in sessions.iter().enumerate() {
            let rounds = rounds_until(self.round, index, now);
            let checked = self.rounds.get_mut(index);
            if checked.is_some_and(|checked| std::mem::replace(checked, rounds) != rounds) {
                for session in shard.lock().values() {
                    self.watch(session, now);
                }
            }
        }
        let later = self.due.split_off(&(now, SessionId(u64::MAX)));
        let mut missed = Vec::new();
        for (_, id) in std::mem::replace(&mut self.due, later) {
            let found = sessions.of(id.0).lock().get(&id).cloned();
            let Some(session) = found.filter(|session| session.is_served()) else {
                continue;
            };
            let logged_in = session.uid().is_some();
            match self.deadlines.missed(&session.timers, logged_in, now) {
                Some(reason) => missed.push((session, reason)),
                None => self.watch(&session, now),
            }
        }
        missed
    }

    /// Notes a session whose deadline may end before its next check, which is at most a round and a tick away.
    fn watch(&mut self, session: &Session, now: Duration) {
        let logged_in = session.uid().is_some();
        let end = self.deadlines.first(&session.timers, logged_in);
        let next = now + self.round + self.deadlines.tick();
        if let Some(end) = end.filter(|end| *end <= next)
            && session.is_served()
        {
            self.due.insert((end, session.id()));
        }
    }
}

/// Returns how many rounds of a shard have begun by now.
fn rounds_until(round: Duration, shard: usize, now: Duration) -> u128 {
    let round = round.as_nanos();
    let ahead = round * shard as u128 / SHARDS as u128;
    (now.as_nanos() + ahead) / round.max(1)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::id::Uid;
    use crate::session::Addresses;

    const fn s(n: u64) -> Duration {
        Duration::from_secs(n)
    }

    /// Returns deadlines of which the shortest has ten of these units.
    fn deadlines(unit: Duration) -> Deadlines {
        Deadlines {
            login: Some(unit * 40),
            idle: unit * 30,
            half_frame: unit * 10,
            write: unit * 20,
        }
    }

    fn open(sessions: &Sessions, id: u64, now: Duration) -> Arc<Session> {
        let addr = ([127, 0, 0, 1], 1).into();
        let addresses = Addresses::new(addr, addr);
        let session = Arc::new(Session::new(SessionId(id), addresses, now, 1));
        let shard = sessions.of(id);
        shard.lock().insert(session.id(), Arc::clone(&session));
        session
    }

    /// What may happen to a session.
    #[derive(Debug, Clone)]
    enum Event {
        Open,
        LogIn,
        ServerBusy,
        AwaitingPeer,
        HalfFrame,
        WholeFrame,
        Stall,
        GoOn,
        HalfOpen,
        Postpone(u32),
        Leave,
    }

    fn happens(sessions: &Sessions, id: u64, event: &Event, now: Duration, unit: Duration) {
        let found = sessions.of(id).lock().get(&SessionId(id)).cloned();
        let Some(session) = found else {
            if matches!(event, Event::Open) {
                open(sessions, id, now);
            }
            return;
        };
        match event {
            Event::Open => {}
            Event::LogIn => {
                session.timers.note_server_busy();
                session.log_in(Uid(1));
            }
            Event::ServerBusy => session.timers.note_server_busy(),
            Event::AwaitingPeer => session.timers.note_awaiting_peer(|| now),
            Event::HalfFrame => session.timers.frame_begun(true, now),
            Event::WholeFrame => session.timers.frame_completed(),
            Event::Stall => session.timers.write_stalled(now),
            Event::GoOn => session.timers.write_progressed(),
            Event::HalfOpen => session.half_open(),
            Event::Postpone(by) => session.timers.postpone(unit * *by, now),
            Event::Leave => drop(sessions.of(id).lock().remove(&SessionId(id))),
        }
    }

    fn event() -> impl Strategy<Value = Event> {
        prop_oneof![
            4 => Just(Event::Open),
            2 => Just(Event::LogIn),
            2 => Just(Event::ServerBusy),
            4 => Just(Event::AwaitingPeer),
            2 => Just(Event::HalfFrame),
            2 => Just(Event::WholeFrame),
            1 => Just(Event::Stall),
            1 => Just(Event::GoOn),
            1 => Just(Event::HalfOpen),
            1 => (0..20_u32).prop_map(Event::Postpone),
            1 => Just(Event::Leave),
        ]
    }

    proptest! {
        /// The sweep is compared with a check of every session at each tick.
        #[test]
        fn who_has_missed_a_deadline_is_found_at_the_next_tick_or_the_one_after_it(
            // The shortest deadline is 10 s, 10 ms or 2 ms.
            unit in prop::sample::select(vec![s(1), s(1) / 1_000, s(1) / 5_000]),
            steps in prop::collection::vec(
                (prop::collection::vec((1..40_u64, event()), 0..6), 0..8_u32, 1..3_u32),
                1..200,
            ),
        ) {
            let deadlines = deadlines(unit);
            let sessions = Sessions::default();
            let mut now = s(5);
            let mut sweep = Sweep::new(deadlines.clone(), now);
            let mut late = BTreeSet::new();
            for (events, eighths, jump) in steps {
                // A moment between two ticks, some of which come late. Sessions keep their times in milliseconds.
                now += Duration::from_millis(u64::from((deadlines.tick() * eighths / 8).subsec_millis()));
                for (id, event) in &events {
                    happens(&sessions, *id, event, now, unit);
                    // A session that was late may not be late any more.
                    late.remove(&SessionId(*id));
                }
                now += deadlines.tick() * jump;
                for (session, reason) in sweep.tick(&sessions, now) {
                    let logged_in = session.uid().is_some();
                    prop_assert_eq!(deadlines.missed(&session.timers, logged_in, now), Some(reason));
                    session.close(reason);
                }
                let is_late = |session: &Arc<Session>| {
                    let logged_in = session.uid().is_some();
                    session.is_served() && deadlines.missed(&session.timers, logged_in, now).is_some()
                };
                let mut still = BTreeSet::new();
                for shard in sessions.iter() {
                    let shard = shard.lock();
                    still.extend(shard.values().filter(|one| is_late(one)).map(|one| one.id()));
                }
                prop_assert!(still.is_disjoint(&late), "{:?} were late before", still);
                late = still;
            }
        }
    }

    #[test]
    fn an_active_session_is_never_noted_for_an_early_check() {
        let sessions = Sessions::default();
        let mut now = s(0);
        let all: Vec<_> = (1..100).map(|id| open(&sessions, id, now)).collect();
        let mut sweep = Sweep::new(deadlines(s(1)), now);
        for _ in 0..60 {
            now += s(1);
            for session in &all {
                session.log_in(Uid(1));
                session.timers.note_server_busy();
                session.timers.note_awaiting_peer(|| now);
            }
            assert!(sweep.tick(&sessions, now).is_empty());
            assert!(sweep.due.is_empty());
        }
    }
}
