//! A user under load: sends messages to users and groups, accepts messages, and syncs when there is something new.
//!
//! Serves the [load](super::load), which runs one sender for each user. All requests of a sender go over one connection,
//! and up to [`MAX_PENDING`] of them wait for their answers at the same time, so that a server has whole batches to commit
//! when it is killed.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use imd::proto::{Cmd, ResAcceptP2pMsgAck, ResSendGroupMsg, ResSendP2pMsg};
use rand::RngExt;
use rand::rngs::StdRng;
use rand::seq::IndexedRandom;

use super::connection::{self, PipelinedConnection, SessionEnd};
use super::event::{Event, Page};
use super::load::{LoadState, QUIET_USER, USERS};
use super::message_key::{EntryKind, MessageKey};

/// How many requests of one connection may be unanswered, at most.
const MAX_PENDING: usize = 16;

/// The text of an acknowledged message that is sent again. The server must keep the first text.
const OTHER_TEXT: &str = "the first text counts";

/// A user who sends until the server is gone.
pub struct Sender {
    pub uid: i64,
    /// The number of the connection, which no other connection of this user has.
    pub connection: u64,
    pub rng: StdRng,
    pub load: Arc<LoadState>,
    /// Messages that were sent before the last crash, and whether they were acknowledged.
    pub to_resend: Vec<(MessageKey, bool)>,
}

/// A request that is not answered yet.
enum PendingRequest {
    Send(MessageKey),
    /// A sync from the version behind this one.
    Sync(i64),
}

/// A sender at work on its connection.
struct Session {
    sender: Sender,
    connection: PipelinedConnection,
    /// In the order in which they were sent, which is the order of the answers.
    pending: VecDeque<PendingRequest>,
    events: Vec<Event>,
    /// How many new messages were sent. Makes message ids unique.
    new_messages: u64,
    /// The version up to which this user has read.
    current: i64,
    /// The newest version of the inbox that the server has reported.
    total: i64,
    is_syncing: bool,
    /// The last page. An equal one is not recorded again.
    last_page: Option<Page>,
    /// The source and id of each message of the last page that this user can accept.
    acceptable: Vec<(i64, String)>,
}

impl Sender {
    /// Sends until the connection ends, and returns everything that happened on it.
    pub async fn run(self) -> Vec<Event> {
        let addr = self.load.access(self.uid);
        let Ok(mut connection) = PipelinedConnection::connect(addr).await else {
            return Vec::new();
        };
        let login = connection.login(self.uid, None).await;
        let mut session = Session {
            sender: self,
            connection,
            pending: VecDeque::new(),
            events: Vec::new(),
            new_messages: 0,
            current: 0,
            total: 0,
            is_syncing: false,
            last_page: None,
            acceptable: Vec::new(),
        };
        let end = match login {
            Ok(0) => session.run().await,
            Ok(code) => SessionEnd::Refused {
                request: format!("the login of {}", session.sender.uid),
                code,
            },
            Err(end) => end,
        };
        session.events.extend(end.event());
        session.events
    }
}

impl Session {
    /// Sends requests and takes their answers until the connection ends.
    async fn run(&mut self) -> SessionEnd {
        loop {
            self.queue_requests();
            if let Err(end) = self.connection.flush().await {
                return end;
            }
            // Go on while some answers are outstanding, so that the server gets the next requests in the middle of a batch.
            let outstanding = match self.sender.uid {
                QUIET_USER => 0,
                _ => self.sender.rng.random_range(0..=MAX_PENDING / 2),
            };
            while self.pending.len() > outstanding {
                let taken = match self.connection.frame().await {
                    Ok((cmd, frame)) => self.take_frame(cmd, frame),
                    Err(end) => Err(end),
                };
                if let Err(end) = taken {
                    return end;
                }
            }
        }
    }

    /// Queues a burst of requests. Its length decides how many of them the server reads at once.
    fn queue_requests(&mut self) {
        let has_sent_all = self.sender.to_resend.is_empty() && self.new_messages > 0;
        if self.sender.uid == QUIET_USER && has_sent_all {
            // No message of this user is pending then, which a sync would have to wait for.
            return self.sync();
        }
        let max_burst = MAX_PENDING - self.pending.len();
        let burst = match self.sender.rng.random_range(0..4) {
            0 => 1,
            1 => 4,
            _ => max_burst,
        };
        for _ in 0..burst.clamp(1, max_burst) {
            if let Some((key, is_acknowledged)) = self.sender.to_resend.pop() {
                let text = if is_acknowledged {
                    OTHER_TEXT.to_owned()
                } else {
                    key.text()
                };
                self.send(key, &text);
                continue;
            }
            match self.sender.rng.random_range(0..100) {
                0..8 => self.accept(),
                8..20 if !self.is_syncing && self.current < self.total => self.sync(),
                8..40 => self.send_to_group(),
                _ => self.send_to_user(),
            }
        }
    }

    fn send(&mut self, key: MessageKey, text: &str) {
        self.connection.queue_send(&key, text);
        let connection = self.sender.connection;
        self.events.push(Event::Sent {
            key: key.clone(),
            connection,
            at: Instant::now(),
        });
        self.pending.push_back(PendingRequest::Send(key));
    }

    fn send_new(&mut self, kind: EntryKind, scope: i64) {
        self.new_messages += 1;
        let (source, connection) = (self.sender.uid, self.sender.connection);
        let msg_id = format!("{connection}.{source}.{}", self.new_messages);
        let key = MessageKey {
            kind,
            source,
            scope,
            msg_id,
        };
        let text = key.text();
        self.send(key, &text);
    }

    fn send_to_user(&mut self) {
        let target = match self.sender.rng.random_range(USERS) {
            // The inbox of the quiet user stays short, so that one page shows its newest entry.
            QUIET_USER if self.sender.rng.random_ratio(7, 8) => *USERS.start(),
            target => target,
        };
        self.send_new(EntryKind::P2p, target);
    }

    fn send_to_group(&mut self) {
        let Sender { uid, rng, load, .. } = &mut self.sender;
        match load.random_group_of(*uid, rng) {
            Some(group) => self.send_new(EntryKind::Group, group),
            None => self.send_to_user(),
        }
    }

    fn accept(&mut self) {
        match self.acceptable.choose(&mut self.sender.rng).cloned() {
            Some((scope, msg_id)) => self.send(
                MessageKey {
                    kind: EntryKind::Ack,
                    source: self.sender.uid,
                    scope,
                    msg_id,
                },
                "",
            ),
            None => self.send_to_user(),
        }
    }

    fn sync(&mut self) {
        let limits: &[u32] = match self.sender.uid {
            QUIET_USER => &[0],
            _ => &[0, 0, 1, 3, 20],
        };
        let limit = limits.choose(&mut self.sender.rng).copied().unwrap_or(0);
        // Sometimes a client that has lost its state asks for everything. In a short inbox such a page shows the newest entry.
        let from_start = self.sender.rng.random_ratio(1, 5) || self.sender.uid == QUIET_USER;
        let after = if from_start { 0 } else { self.current };
        let uid = self.sender.uid;
        self.connection.queue_sync(uid, after, limit);
        self.events.push(Event::SyncRequested { uid, after });
        self.pending.push_back(PendingRequest::Sync(after));
        self.is_syncing = true;
    }

    /// Takes a frame, which must be a notify or the answer to the oldest pending request.
    fn take_frame(&mut self, cmd: Option<Cmd>, frame: Bytes) -> Result<(), SessionEnd> {
        let uid = self.sender.uid;
        if cmd == Some(Cmd::Notify) {
            let (current, total) = connection::decode_notify(frame)?;
            self.events.push(Event::Notified { uid, total });
            // The notify of the login tells how far this user had read before.
            self.current = self.current.max(current);
            self.total = self.total.max(total);
            return Ok(());
        }
        match self.pending.pop_front() {
            Some(PendingRequest::Send(key)) => self.take_answer(cmd, frame, key),
            Some(PendingRequest::Sync(after)) if cmd == Some(Cmd::SyncMsg) => {
                self.is_syncing = false;
                match connection::decode_page(uid, after, frame)? {
                    Ok(page) => self.take_page(page),
                    Err(code) => {
                        let request = format!("a sync of {uid} after {after}");
                        self.events.push(Event::Refused { request, code });
                    }
                }
                Ok(())
            }
            _ => Err(connection::unexpected(&frame)),
        }
    }

    fn take_page(&mut self, page: Page) {
        let of_others = |entry: &&super::event::Entry| {
            entry.source != self.sender.uid && entry.msg_type != "ack"
        };
        let messages = page.entries.iter().filter(of_others);
        self.acceptable = messages
            .map(|entry| (entry.source, entry.msg_id.clone()))
            .collect();
        self.current = self.current.max(page.current);
        self.total = self.total.max(page.total);
        if self.last_page.as_ref() != Some(&page) {
            self.last_page = Some(page.clone());
            let at = Instant::now();
            self.events.push(Event::PageReceived { page, at });
        }
    }

    /// Takes the answer to a message or an ack. Except for acks, the answer must name the message.
    fn take_answer(
        &mut self,
        cmd: Option<Cmd>,
        frame: Bytes,
        key: MessageKey,
    ) -> Result<(), SessionEnd> {
        let raw = frame.clone();
        let (code, names_message) = match (cmd, key.kind) {
            (Some(Cmd::SendP2PMsg), EntryKind::P2p) => {
                let reply: ResSendP2pMsg = connection::decode(frame)?;
                let uids = (reply.source_uid, reply.target_uid);
                let names_message = uids == (key.source, key.scope) && reply.msg_id == key.msg_id;
                (reply.err_code, names_message)
            }
            (Some(Cmd::SendGroupMsg), EntryKind::Group) => {
                let reply: ResSendGroupMsg = connection::decode(frame)?;
                let names_message = reply.group_id == key.scope && reply.msg_id == key.msg_id;
                (reply.err_code, names_message)
            }
            (Some(Cmd::AcceptP2PMsgAck), EntryKind::Ack) => {
                let reply: ResAcceptP2pMsgAck = connection::decode(frame)?;
                (reply.err_code, true)
            }
            _ => (0, false),
        };
        if !names_message {
            return Err(connection::unexpected(&raw));
        }
        if code == 0 {
            self.sender.load.acknowledged.add_permits(1);
        }
        self.events.push(Event::Answered { key, code });
        Ok(())
    }
}
