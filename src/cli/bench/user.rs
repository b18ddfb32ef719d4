//! A user of `imd bench` on its connection: makes the requests that its role calls for, and counts their answers.

use std::collections::VecDeque;
use std::sync::Arc;
use std::task::Context;

use bytes::BytesMut;
use imd::codec;
use imd::load::{Client, Connection, End, FieldTable, Frames, Mailbox};
use imd::proto::Cmd;

use super::connection::ConnectionError;
use super::run::WorkerState;
use super::seqs::Seqs;
use super::tally::{Received, Tally};

/// What a user does: one implementation for each kind of request.
pub trait Role: Send {
    /// Whether this user makes requests.
    fn asks(&self) -> bool {
        true
    }

    /// Appends the request that was due at this time.
    ///
    /// # Errors
    ///
    /// When the request is too long for a frame.
    fn ask(&mut self, due: u64, out: &mut BytesMut) -> Result<(), ConnectionError>;

    /// Takes a message from the server, and appends a request if the message calls for one.
    ///
    /// # Errors
    ///
    /// When the run can't go on after this message.
    fn receive(
        &mut self,
        message: &FieldTable<'_>,
        now: u64,
        tally: &mut Tally,
        out: &mut BytesMut,
    ) -> Result<Received, ConnectionError>;

    /// Appends the last request before the connection is closed, if there is one.
    ///
    /// # Errors
    ///
    /// When the request is too long for a frame.
    fn leave(&mut self, _out: &mut BytesMut) -> Result<(), ConnectionError> {
        Ok(())
    }

    /// Whether the last request was answered.
    fn has_left(&self) -> bool {
        true
    }

    /// Returns which messages the user has sent and received.
    fn record(&mut self) -> Record {
        Record::default()
    }
}

/// Which messages a user has sent and received, by the numbers that their senders gave them.
#[derive(Debug, Default)]
pub struct Record {
    /// The user's number.
    pub user: usize,
    /// The number of the user whose messages this one receives; absent in runs without messages.
    pub receives_from: Option<usize>,
    /// The messages that this user sent and the server acknowledged.
    pub acknowledged: Seqs,
    /// The messages that this user found in a page.
    pub found: Seqs,
}

/// A user at work.
pub struct User {
    role: Box<dyn Role>,
    mailbox: Arc<Mailbox>,
    worker: WorkerState,
    /// When the unanswered requests were due, oldest first.
    open: VecDeque<u64>,
    /// When the requests were due that are to be made.
    due: VecDeque<u64>,
    end: End,
    /// Whether the last request was made.
    is_leaving: bool,
}

impl User {
    /// Creates a user who makes requests when the mailbox or a closed loop says so.
    pub fn new(role: Box<dyn Role>, mailbox: Arc<Mailbox>, worker: WorkerState) -> Self {
        User {
            role,
            mailbox,
            worker,
            open: VecDeque::new(),
            due: VecDeque::new(),
            end: End::None,
            is_leaving: false,
        }
    }

    /// Uses the connection until the run ends or the connection fails.
    pub async fn run(mut self, connection: Connection) -> Record {
        if let Err(error) = connection.run(&mut self).await {
            self.worker.tally.lock().lose(&error);
        }
        self.role.record()
    }
}

impl Client for User {
    type Framing = Frames;
    type Error = ConnectionError;

    fn turn(
        &mut self,
        cx: &Context<'_>,
        frames: &[u8],
        out: &mut BytesMut,
    ) -> Result<(), ConnectionError> {
        self.end = self.mailbox.take(cx, &mut self.due);
        let (role, worker, open) = (&mut self.role, &self.worker, &mut self.open);
        let now = worker.now();
        let tally = &mut *worker.tally.lock();
        for (message, _) in codec::frames(frames) {
            let message = FieldTable::read(message);
            if message.cmd() == Some(Cmd::ErrServer) {
                return Err(ConnectionError::refused(message.status(2)));
            }
            match role.receive(&message, now, tally, out)? {
                Received::Other => {}
                received => tally.answer(open.pop_front(), received, now),
            }
        }
        if role.asks() && self.end == End::None {
            let mut next = |open| {
                let scheduled = self.due.pop_front();
                scheduled.or_else(|| worker.allows(open, now).then_some(now))
            };
            while let Some(due) = next(open.len()) {
                role.ask(due, out)?;
                open.push_back(due);
                tally.send(due, now);
            }
        }
        if self.end > End::None && !self.is_leaving {
            self.is_leaving = true;
            role.leave(out)?;
        }
        Ok(())
    }

    fn is_done(&self) -> bool {
        self.end == End::Now || self.is_leaving && self.role.has_left()
    }
}
