//! Users who write to one another as fast as they are answered, and read what they are notified of.

use std::sync::Arc;
use std::task::Waker;
use std::time::{Duration, Instant};

use bytes::BytesMut;
use imd::proto::{Cmd, ReqSendGroupMsg, ReqSendP2pMsg};
use parking_lot::Mutex;

use crate::Fault;
use crate::link::{Prefixed, messages};
use crate::load::{Client, Crowd, Cue, Sample, log_in};
use crate::memory;
use crate::serve::GROUP;
use crate::server::Server;
use crate::wire::{self, Fields, Flat, ID_DIGITS, Template, Value};

/// Bytes of a message.
pub const TEXT: usize = 32;

/// After the last message was sent, the rest must arrive in this time.
const DRAIN: Duration = Duration::from_secs(10);

/// Every message of a run.
pub struct Run {
    /// For each message: how many have received it, and whether it was answered.
    messages: Vec<(u16, bool)>,
    /// In how many inboxes each is put.
    receivers: u16,
    answered: usize,
    delivered: u64,
    is_over: bool,
    /// None if the messages are not timed.
    due: Option<Due>,
    /// For each delivery that is timed: how long after it was due.
    latencies: Vec<Duration>,
}

/// When messages are due.
struct Due {
    /// The number of the first, and its time.
    first: usize,
    at: Instant,
    /// How long after it the next is due.
    every: Duration,
    /// From which on they are timed.
    timed: usize,
}

impl Run {
    pub fn new(receivers: u16) -> Arc<Mutex<Run>> {
        Arc::new(Mutex::new(Run {
            messages: Vec::new(),
            receivers,
            answered: 0,
            delivered: 0,
            is_over: false,
            due: None,
            latencies: Vec::new(),
        }))
    }

    /// The next message is due at this time, the others after it; it is taken down how long they take, but for the first
    /// `untimed`.
    pub fn due(&mut self, at: Instant, every: Duration, untimed: usize) {
        let first = self.messages.len();
        self.due = Some(Due {
            first,
            at,
            every,
            timed: first + untimed,
        });
    }

    /// How long the timed messages have taken since this was last asked.
    pub fn take_latencies(&mut self) -> Vec<Duration> {
        std::mem::take(&mut self.latencies)
    }

    /// Puts the next message, and says its number.
    pub fn send(&mut self, template: &Template, out: &mut BytesMut) -> usize {
        let id = self.messages.len();
        template.put(id, out);
        self.messages.push((0, false));
        id
    }

    /// Whether nothing more is to be sent.
    pub fn is_over(&self) -> bool {
        self.is_over
    }

    fn find(&mut self, id: usize) -> Result<&mut (u16, bool), Fault> {
        let found = self.messages.get_mut(id);
        found.ok_or_else(|| "an unknown message".into())
    }

    pub fn answer(&mut self, id: &[u8]) -> Result<(), Fault> {
        self.answer_to(wire::id(id)?)
    }

    pub fn answer_to(&mut self, id: usize) -> Result<(), Fault> {
        let (_, is_answered) = self.find(id)?;
        if std::mem::replace(is_answered, true) {
            return Err("a message was answered twice".into());
        }
        self.answered += 1;
        Ok(())
    }

    pub fn arrive(&mut self, id: &[u8]) -> Result<(), Fault> {
        let (id, most) = (wire::id(id)?, self.receivers);
        let (received, _) = self.find(id)?;
        *received += 1;
        if *received > most {
            return Err("a message arrived twice".into());
        }
        self.delivered += 1;
        if let Some(due) = self.due.as_ref().filter(|due| id >= due.timed) {
            let at = due.at + due.every.mul_f64((id - due.first) as f64);
            self.latencies.push(at.elapsed());
        }
        Ok(())
    }

    fn is_done(&self) -> bool {
        let (sent, delivered) = (self.messages.len(), self.delivered);
        self.answered == sent && delivered == sent as u64 * u64::from(self.receivers)
    }
}

/// When a user sends.
pub enum Pace {
    /// The next message whenever one is answered, with so many outstanding.
    Outstanding(usize),
    /// Whenever told to.
    Cued(Arc<Cue>),
}

/// One user.
pub struct User {
    uid: i64,
    run: Arc<Mutex<Run>>,
    /// What is sent, and when; none for one who only reads.
    sends: Option<(Template, Pace)>,
    /// The last version that was read.
    current: i64,
    /// The newest version that is known of.
    total: i64,
    /// Whether a page is under way.
    is_syncing: bool,
    has_begun: bool,
}

impl User {
    pub fn new(uid: i64, run: &Arc<Mutex<Run>>, sends: Option<(Template, Pace)>) -> Self {
        User {
            uid,
            run: Arc::clone(run),
            sends,
            current: 0,
            total: 0,
            is_syncing: false,
            has_begun: false,
        }
    }

    fn frame(&mut self, run: &mut Run, message: &[u8], out: &mut BytesMut) -> Result<(), Fault> {
        let reply = Flat::read(message);
        if reply.number(3) != 0 {
            return Err(String::from_utf8_lossy(reply.text(4)).into());
        }
        if reply.is(Cmd::SyncMsg) {
            self.page(run, message)?;
            if self.current != reply.number(5) {
                return Err("a page is not as long as it says".into());
            }
            self.total = self.total.max(reply.number(7));
            self.is_syncing = false;
        } else if reply.is(Cmd::Notify) {
            self.total = self.total.max(reply.number(6));
        } else if reply.is(Cmd::SendP2PMsg) || reply.is(Cmd::SendGroupMsg) {
            let id = if reply.is(Cmd::SendP2PMsg) { 7 } else { 6 };
            run.answer(reply.text(id))?;
            if let (Some((template, Pace::Outstanding(_))), false) = (&self.sends, run.is_over) {
                run.send(template, out);
            }
        } else {
            return Err("an unexpected frame".into());
        }
        Ok(())
    }

    fn page(&mut self, run: &mut Run, page: &[u8]) -> Result<(), Fault> {
        for (field, value) in Fields(page) {
            if let (6, Value::Bytes(entry)) = (field, value) {
                let entry = Flat::read(entry);
                self.current += 1;
                if entry.number(7) != self.current {
                    return Err("a version is missing".into());
                }
                run.arrive(entry.text(5))?;
            }
        }
        Ok(())
    }
}

impl Client for User {
    type Framing = Prefixed;

    fn begin(&mut self, task: &Waker) {
        if let Some((_, Pace::Cued(cue))) = &self.sends {
            cue.wakes(task);
        }
    }

    fn turn(&mut self, frames: &[u8], out: &mut BytesMut) -> Result<(), Fault> {
        let shared = Arc::clone(&self.run);
        let mut run = shared.lock();
        let has_begun = std::mem::replace(&mut self.has_begun, true);
        if let Some((template, pace)) = &self.sends {
            let due = match pace {
                Pace::Outstanding(messages) if !has_begun => *messages,
                Pace::Outstanding(_) => 0,
                Pace::Cued(cue) => cue.take(),
            };
            for _ in 0..due {
                run.send(template, out);
            }
        }
        for message in messages(frames) {
            self.frame(&mut run, message, out)?;
        }
        if !self.is_syncing && self.total > self.current {
            self.is_syncing = true;
            wire::put_sync(self.uid, self.current, out);
        }
        Ok(())
    }
}

pub fn p2p_template(source_uid: i64, target_uid: i64) -> Template {
    Template::new(&ReqSendP2pMsg {
        cmd: Cmd::SendP2PMsg.number(),
        source_uid,
        target_uid,
        msg_id: "0".repeat(ID_DIGITS),
        msg: "x".repeat(TEXT),
        ..Default::default()
    })
}

pub fn group_template(source_uid: i64) -> Template {
    Template::new(&ReqSendGroupMsg {
        cmd: Cmd::SendGroupMsg.number(),
        source_uid,
        group_id: GROUP,
        msg_id: "0".repeat(ID_DIGITS),
        msg: "x".repeat(TEXT),
        ..Default::default()
    })
}

/// Users in a ring: each writes to the next. Tells deliveries per second.
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

/// The first of a group writes to all. Tells deliveries per second.
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
    // The readers first: whoever writes finds all of them there.
    for uid in (1..=users).rev() {
        let stream = log_in(&server.access, uid).await?;
        crowd.add(stream, User::new(uid, &run, sends(uid)));
    }
    measure(server, &mut crowd, &run, secs).await
}

/// Counts what a crowd delivers for a while, and then lets it come to its end.
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

/// Waits until every message was answered and has arrived, and a moment longer for one too many.
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
