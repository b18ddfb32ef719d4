//! Users who send messages to one another as fast as they are answered, and read what they are notified of.

use std::collections::VecDeque;
use std::sync::Arc;
use std::task::Context;
use std::time::{Duration, Instant};

use bytes::BytesMut;
use imd::codec;
use imd::load::{Client, FieldTable, Frames, Latency, Mailbox, Template, request};
use imd::proto::Cmd;
use parking_lot::Mutex;

use crate::Fault;
use crate::load::{Crowd, Sample, log_in};
use crate::memory;
use crate::serve::GROUP;
use crate::server::Server;
use crate::wire::{self, NO_ID};

/// The length of a message's text, in bytes.
pub const TEXT: usize = 32;

/// How long messages may take to arrive after the last one was sent.
const DRAIN: Duration = Duration::from_secs(10);

/// All messages of a run.
pub struct Run {
    /// How many users have received each message, and whether it was answered.
    messages: Vec<(u16, bool)>,
    /// How many inboxes each message is put into.
    receivers: u16,
    answered: usize,
    delivered: u64,
    is_over: bool,
    /// The schedule; `None` if the messages are not timed.
    due: Option<Due>,
    /// How long after it was due each timed message was delivered.
    latencies: Latency,
}

/// The schedule of the messages.
struct Due {
    /// The number of the first message of the schedule, and when it is due.
    first: usize,
    at: Instant,
    /// How long after a message the next one is due.
    every: Duration,
    /// The number of the first message that is timed.
    timed: usize,
}

impl Run {
    /// Creates a run without messages. Each message goes into that many inboxes.
    pub fn new(receivers: u16) -> Arc<Mutex<Run>> {
        Arc::new(Mutex::new(Run {
            messages: Vec::new(),
            receivers,
            answered: 0,
            delivered: 0,
            is_over: false,
            due: None,
            latencies: Latency::default(),
        }))
    }

    /// Begins a schedule: the next message is due at `at`, and each later one `every` after the one before. The first
    /// `untimed` messages are not timed.
    pub fn due(&mut self, at: Instant, every: Duration, untimed: usize) {
        let first = self.messages.len();
        self.due = Some(Due {
            first,
            at,
            every,
            timed: first + untimed,
        });
    }

    /// Returns the latencies of the messages that were timed since the last call.
    pub fn take_latencies(&mut self) -> Latency {
        std::mem::take(&mut self.latencies)
    }

    /// Appends the next message, and returns its number.
    pub fn send(&mut self, template: &Template, out: &mut BytesMut) -> usize {
        let number = self.messages.len();
        template.put(&wire::id(number), out);
        self.messages.push((0, false));
        number
    }

    /// Returns whether no more messages are to be sent.
    pub fn is_over(&self) -> bool {
        self.is_over
    }

    fn find(&mut self, id: usize) -> Result<&mut (u16, bool), Fault> {
        let found = self.messages.get_mut(id);
        found.ok_or_else(|| "an unknown message".into())
    }

    /// Counts the answer to the message with this id.
    pub fn answer(&mut self, id: &[u8]) -> Result<(), Fault> {
        self.answer_to(wire::number(id)?)
    }

    /// Counts the answer to the message with this number.
    pub fn answer_to(&mut self, id: usize) -> Result<(), Fault> {
        let (_, is_answered) = self.find(id)?;
        if std::mem::replace(is_answered, true) {
            return Err("a message was answered twice".into());
        }
        self.answered += 1;
        Ok(())
    }

    /// Counts the arrival of the message with this id.
    pub fn arrive(&mut self, id: &[u8]) -> Result<(), Fault> {
        let (id, most) = (wire::number(id)?, self.receivers);
        let (received, _) = self.find(id)?;
        *received += 1;
        if *received > most {
            return Err("a message arrived twice".into());
        }
        self.delivered += 1;
        if let Some(due) = self.due.as_ref().filter(|due| id >= due.timed) {
            let at = due.at + due.every.mul_f64((id - due.first) as f64);
            self.latencies.record_duration(at.elapsed());
        }
        Ok(())
    }

    fn is_done(&self) -> bool {
        let (sent, delivered) = (self.messages.len(), self.delivered);
        self.answered == sent && delivered == sent as u64 * u64::from(self.receivers)
    }
}

/// When a user sends a message.
pub enum Pace {
    /// Whenever a message is answered, so that this number is unanswered.
    Outstanding(usize),
    /// When the mailbox has one that is due.
    Scheduled(Arc<Mailbox>),
}

/// One user.
pub struct User {
    uid: i64,
    run: Arc<Mutex<Run>>,
    /// The user's messages, and when they are sent; `None` for users who only read.
    sends: Option<(Template, Pace)>,
    /// The version up to which the user has read.
    current: i64,
    /// The newest version that the server has named.
    total: i64,
    /// Whether a page was requested and has not arrived.
    is_syncing: bool,
    /// When the messages that are to be sent were due; any number if nothing is timed.
    due: VecDeque<u64>,
}

impl User {
    /// Creates a user who has read nothing.
    pub fn new(uid: i64, run: &Arc<Mutex<Run>>, sends: Option<(Template, Pace)>) -> Self {
        let first = match &sends {
            Some((_, Pace::Outstanding(messages))) => *messages,
            _ => 0,
        };
        User {
            uid,
            run: Arc::clone(run),
            sends,
            current: 0,
            total: 0,
            is_syncing: false,
            due: std::iter::repeat_n(0, first).collect(),
        }
    }

    fn receive(
        &mut self,
        run: &mut Run,
        message: &FieldTable<'_>,
        out: &mut BytesMut,
    ) -> Result<(), Fault> {
        if message.number(3) != 0 {
            return Err(String::from_utf8_lossy(message.text(4)).into());
        }
        match message.cmd() {
            Some(Cmd::SyncMsg) => self.page(run, message),
            Some(Cmd::Notify) => {
                self.total = self.total.max(message.number(6));
                Ok(())
            }
            Some(Cmd::SendP2PMsg) => self.answer(run, message.text(7), out),
            Some(Cmd::SendGroupMsg) => self.answer(run, message.text(6), out),
            _ => Err("an unexpected frame".into()),
        }
    }

    fn answer(&mut self, run: &mut Run, id: &[u8], out: &mut BytesMut) -> Result<(), Fault> {
        run.answer(id)?;
        if let (Some((template, Pace::Outstanding(_))), false) = (&self.sends, run.is_over) {
            run.send(template, out);
        }
        Ok(())
    }

    fn page(&mut self, run: &mut Run, page: &FieldTable<'_>) -> Result<(), Fault> {
        for entry in page.entries().map(FieldTable::read) {
            self.current += 1;
            if entry.number(7) != self.current {
                return Err("a version is missing".into());
            }
            run.arrive(entry.text(5))?;
        }
        if self.current != page.number(5) {
            return Err("a page is not as long as it says".into());
        }
        self.total = self.total.max(page.number(7));
        self.is_syncing = false;
        Ok(())
    }
}

impl Client for User {
    type Framing = Frames;
    type Error = Fault;

    fn turn(&mut self, cx: &Context<'_>, frames: &[u8], out: &mut BytesMut) -> Result<(), Fault> {
        let shared = Arc::clone(&self.run);
        let mut run = shared.lock();
        if let Some((template, pace)) = &self.sends {
            if let Pace::Scheduled(mailbox) = pace {
                mailbox.take(cx, &mut self.due);
            }
            for _ in self.due.drain(..) {
                run.send(template, out);
            }
        }
        for (message, _) in codec::frames(frames) {
            self.receive(&mut run, &FieldTable::read(message), out)?;
        }
        if !self.is_syncing && self.total > self.current {
            self.is_syncing = true;
            wire::put(&request::sync(self.uid, self.current), out);
        }
        Ok(())
    }
}

/// Makes a template of the messages from one user to another.
pub fn p2p_template(source: i64, target: i64) -> Template {
    wire::template(&wire::frame(&request::p2p(source, target, NO_ID, &text())))
}

/// Makes a template of the messages from one user to the group.
pub fn group_template(source: i64) -> Template {
    wire::template(&wire::frame(&request::group(source, GROUP, NO_ID, &text())))
}

fn text() -> String {
    "x".repeat(TEXT)
}

/// Lets users send messages in a ring, each to the next one. The figure is deliveries per second.
pub async fn p2p(
    server: &Server,
    users: i64,
    outstanding: usize,
    secs: f64,
) -> Result<Sample, Fault> {
    let sends = |uid| {
        let template = p2p_template(uid, uid % users + 1);
        Some((template, Pace::Outstanding(outstanding)))
    };
    run(server, users, Run::new(1), sends, secs).await
}

/// Lets the first user of a group send to all. The figure is deliveries per second.
pub async fn group(
    server: &Server,
    members: i64,
    outstanding: usize,
    secs: f64,
) -> Result<Sample, Fault> {
    let sends = |uid| (uid == 1).then(|| (group_template(uid), Pace::Outstanding(outstanding)));
    run(server, members, Run::new(members as u16), sends, secs).await
}

async fn run(
    server: &Server,
    users: i64,
    run: Arc<Mutex<Run>>,
    sends: impl Fn(i64) -> Option<(Template, Pace)>,
    secs: f64,
) -> Result<Sample, Fault> {
    let mut crowd = Crowd::default();
    // In a group the sender comes last, when all readers are logged in.
    for uid in (1..=users).rev() {
        let stream = log_in(&server.access, uid).await?;
        crowd.add(stream, User::new(uid, &run, sends(uid)));
    }
    measure(server, &mut crowd, &run, secs).await
}

/// Counts what a crowd delivers for a while, and then waits until everything has arrived.
pub async fn measure(
    server: &Server,
    crowd: &mut Crowd,
    run: &Mutex<Run>,
    secs: f64,
) -> Result<Sample, Fault> {
    memory::warm()?;
    let sample = Sample::rate(server, crowd, secs, || run.lock().delivered).await?;
    run.lock().is_over = true;
    settle(crowd, run).await?;
    Ok(sample)
}

/// Waits until every message was answered and has arrived, and a moment longer, in case one arrives twice.
pub async fn settle(crowd: &mut Crowd, run: &Mutex<Run>) -> Result<(), Fault> {
    let begun = Instant::now();
    while !run.lock().is_done() {
        if begun.elapsed() > DRAIN {
            return Err("messages were lost".into());
        }
        crowd.for_(Duration::from_millis(10)).await?;
    }
    crowd.for_(Duration::from_millis(50)).await
}
