//! Drives one user of `imd bench` on its connection: makes the requests that its role calls for, and counts their
//! answers.
//!
//! Serves `worker`, which runs one task per user. Answers arrive in the order of the requests.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::task::Context;

use bytes::BytesMut;
use imd::codec;
use imd::load::{Connection, Delivery, Driver, End, FieldTable, LengthPrefixed, Mailbox};
use imd::proto::Cmd;

use super::connection::ConnectionError;
use super::run::WorkerState;
use super::seqs::Seqs;
use super::tally::{Received, Tally};

/// The behaviour of a user; there is one implementation for each kind of request.
pub trait Role: Send {
    /// Returns whether this user makes requests.
    fn asks(&self) -> bool {
        true
    }

    /// Appends the request that was due at `due`, in nanoseconds since the run began.
    ///
    /// # Errors
    ///
    /// [`ConnectionError::TooLong`] when the request does not fit a frame.
    fn ask(&mut self, due: u64, out: &mut BytesMut) -> Result<(), ConnectionError>;

    /// Handles a message from the server, and appends a request if the message calls for one.
    ///
    /// # Errors
    ///
    /// When the run can't go on after this message, for example because a page was refused.
    fn receive(
        &mut self,
        message: &FieldTable<'_>,
        now: u64,
        tally: &mut Tally,
        out: &mut BytesMut,
    ) -> Result<Received, ConnectionError>;

    /// Returns how many requests were answered and are not done yet, because their messages were not delivered.
    fn undelivered(&self) -> usize {
        0
    }

    /// Handles the delivery of a message that this user has sent.
    fn delivered(&mut self, _delivery: Delivery) {}

    /// Appends the last request before the connection is closed, if there is one.
    ///
    /// # Errors
    ///
    /// [`ConnectionError::TooLong`] when the request does not fit a frame.
    fn leave(&mut self, _out: &mut BytesMut) -> Result<(), ConnectionError> {
        Ok(())
    }

    /// Returns whether the last request was answered, so that the connection may be closed.
    fn has_left(&self) -> bool {
        true
    }

    /// Removes and returns the record of the messages that were sent and received.
    fn record(&mut self) -> DeliveryRecord {
        DeliveryRecord::default()
    }
}

/// The messages that a user has sent and received, by the numbers that their senders gave them.
#[derive(Debug, Default)]
pub struct DeliveryRecord {
    /// Number of the user within the run.
    pub user: usize,
    /// Numbers of the messages that this user sent and the server acknowledged, by the number of the receiver.
    pub acknowledged: HashMap<usize, Seqs>,
    /// Numbers of the messages that this user found in a page, by the number of the sender.
    pub found: HashMap<usize, Seqs>,
}

/// A user with its open requests.
pub struct User {
    /// What the user does.
    role: Box<dyn Role>,
    /// The requests that the schedule assigns to this user, and the end of the run.
    mailbox: Arc<Mailbox>,
    /// The state shared by the users of this thread.
    worker: WorkerState,
    /// When the unanswered requests were due, oldest first.
    open: VecDeque<u64>,
    /// When the scheduled requests were due that are still to be made, oldest first.
    due: VecDeque<u64>,
    /// Whether the run has ended, and how the user is to end then.
    end: End,
    /// Set once the last request was made.
    is_leaving: bool,
}

impl User {
    /// Creates a user who makes requests when the mailbox or the closed loop allows them.
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

    /// Runs the user until the run ends or the connection fails, and returns its record.
    pub async fn run(mut self, connection: Connection) -> DeliveryRecord {
        if let Err(error) = connection.run(&mut self).await {
            self.worker.tally.lock().lose(&error);
        }
        self.role.record()
    }
}

impl Driver for User {
    type Scanner = LengthPrefixed;
    type Error = ConnectionError;

    fn react(
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
        for delivery in self.mailbox.take_deliveries() {
            role.delivered(delivery);
        }
        if role.asks() && self.end == End::None {
            let mut next = |open| {
                let scheduled = self.due.pop_front();
                scheduled.or_else(|| worker.allows(open, now).then_some(now))
            };
            while let Some(due) = next(open.len() + role.undelivered()) {
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
