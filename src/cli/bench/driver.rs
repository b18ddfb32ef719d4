//! The task of a connection: it reads, lets a role say what comes next, and writes.

use std::collections::VecDeque;
use std::future::poll_fn;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::BytesMut;

use super::feed::{End, Feed};
use super::floor::Floor;
use super::line::{Broken, Line};
use super::seqs::Seqs;
use super::tally::Tally;

/// What a frame was.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Heard {
    /// The answer to the oldest open request.
    Answer,
    /// Its refusal.
    Refusal,
    /// Something else.
    Other,
}

/// What a user of the benchmark does.
pub trait Role: Send + 'static {
    /// Whether this user makes requests.
    fn asks(&self) -> bool;

    /// Appends the request that was due then.
    ///
    /// # Errors
    ///
    /// When it fits no frame.
    fn ask(&mut self, due: u64, out: &mut BytesMut) -> Result<(), Broken>;

    /// Takes a frame, and appends what it calls for.
    ///
    /// # Errors
    ///
    /// When the run can't go on after it.
    fn hear(
        &mut self,
        frame: &[u8],
        now: u64,
        tally: &mut Tally,
        out: &mut BytesMut,
    ) -> Result<Heard, Broken>;

    /// Appends the last question, if there is one.
    ///
    /// # Errors
    ///
    /// When it fits no frame.
    fn leave(&mut self, _out: &mut BytesMut) -> Result<(), Broken> {
        Ok(())
    }

    /// Whether the last question is answered.
    fn has_left(&self) -> bool {
        true
    }

    /// What the user knows of messages.
    fn record(self) -> Record;
}

/// What a user knows of messages.
#[derive(Debug, Default)]
pub struct Record {
    /// The user's number.
    pub user: usize,
    /// Whose messages the user gets; nobody's in runs without messages.
    pub hears: Option<usize>,
    /// Those of the user's own that were acknowledged.
    pub acknowledged: Seqs,
    /// Those that were found in a page.
    pub found: Seqs,
}

/// A connection, and what it is used for.
pub struct Driver<R> {
    pub role: R,
    pub line: Line,
    pub feed: Arc<Feed>,
    pub floor: Floor,
    /// When the open requests were due.
    pub open: VecDeque<u64>,
    /// When the requests were due that are to be made.
    pub due: VecDeque<u64>,
    /// Whether the last question was asked.
    pub is_leaving: bool,
}

impl<R: Role> Driver<R> {
    /// Runs to the end.
    pub async fn run(mut self) -> Record {
        let ended = poll_fn(|cx| self.poll(cx)).await;
        if let Err(broken) = ended {
            let mut desk = self.floor.desk.lock();
            desk.tally.lost.get_or_insert_with(|| broken.to_string());
        }
        self.role.record()
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Broken>> {
        loop {
            let end = self.feed.take(cx, &mut self.due);
            let read = self.turn(cx, end)?;
            let written = self.line.poll_write(cx)?;
            if end == End::Now || self.is_leaving && written.is_ready() && self.role.has_left() {
                return Poll::Ready(Ok(()));
            }
            if read.is_pending() {
                return Poll::Pending;
            }
        }
    }

    /// Reads once, hears all that came, and asks what is to be asked.
    fn turn(&mut self, cx: &mut Context<'_>, end: End) -> Result<Poll<()>, Broken> {
        let mut desk = self.floor.desk.lock();
        let desk = &mut *desk;
        let read = self.line.poll_read(cx, &mut desk.scratch)?;
        let now = self.floor.now();
        if let Poll::Ready(len) = read {
            let (role, open, tally) = (&mut self.role, &mut self.open, &mut desk.tally);
            let read = desk.scratch.get(..len).unwrap_or_default();
            self.line.frames(read, |frame, out| {
                let heard = role.hear(frame, now, tally, out)?;
                count(heard, open, now, tally);
                Ok(())
            })?;
        }
        if self.role.asks() && end == End::None {
            while let Some(due) = next(&mut self.due, &self.floor, self.open.len(), now) {
                self.role.ask(due, &mut self.line.out)?;
                self.open.push_back(due);
                desk.tally.counts.send(now);
                desk.tally.lateness.record(now.saturating_sub(due));
            }
        }
        if end > End::None && !self.is_leaving {
            self.is_leaving = true;
            self.role.leave(&mut self.line.out)?;
        }
        Ok(read.map(|_| ()))
    }
}

/// When the next request was due, if one is.
fn next(due: &mut VecDeque<u64>, floor: &Floor, open: usize, now: u64) -> Option<u64> {
    let scheduled = due.pop_front();
    scheduled.or_else(|| floor.allows(open, now).then_some(now))
}

fn count(heard: Heard, open: &mut VecDeque<u64>, now: u64, tally: &mut Tally) {
    if heard == Heard::Other {
        return;
    }
    let counts = &mut tally.counts;
    let Some(due) = open.pop_front() else {
        counts.unasked += 1;
        return;
    };
    counts.answered += 1;
    counts.refused += u64::from(heard == Heard::Refusal);
    counts.last_answer = now;
    tally.acknowledgement.record(now.saturating_sub(due));
}
