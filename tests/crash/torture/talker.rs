//! A user under load: sends to users and groups, accepts, and syncs when there is something new, all on one connection
//! and without waiting for one answer before the next request.

use std::collections::VecDeque;
use std::sync::Arc;

use bytes::Bytes;
use imd::proto::{Cmd, ResAcceptP2pMsgAck, ResSendGroupMsg, ResSendP2pMsg};
use rand::RngExt;
use rand::rngs::StdRng;
use rand::seq::IndexedRandom;

use super::event::{Event, Page};
use super::key::{Key, Kind};
use super::load::{QUIET, Shared, USERS};
use super::wire::{self, Gone, Wire};

/// So many requests may be unanswered on one connection.
const WINDOW: usize = 16;

/// What stands in place of the text when an acknowledged message is sent again: it must not count.
const OTHER_TEXT: &str = "the first text counts";

/// A user who talks until the server is gone.
pub struct Talker {
    pub uid: i64,
    /// The number of this connection.
    pub connection: u64,
    pub rng: StdRng,
    pub shared: Arc<Shared>,
    /// What was sent before the crash, and whether it is known to be stored.
    pub again: Vec<(Key, bool)>,
}

/// What waits for its answer, in the order of the requests.
enum Open {
    Send(Key),
    Sync(i64),
}

struct Talk {
    talker: Talker,
    wire: Wire,
    open: VecDeque<Open>,
    events: Vec<Event>,
    /// Counts what this connection has sent.
    sends: u64,
    /// How far this user has read.
    current: i64,
    /// How far there is something to read.
    total: i64,
    is_syncing: bool,
    /// The last page: what shows the same again is not worth keeping.
    last: Option<Page>,
    /// What can be accepted: who sent it, and its id.
    received: Vec<(i64, String)>,
}

impl Talker {
    /// Talks until the connection ends, and tells all that happened.
    pub async fn run(self) -> Vec<Event> {
        let mut wire = match Wire::connect(self.shared.access(self.uid)).await {
            Ok(wire) => wire,
            Err(_) => return Vec::new(),
        };
        let login = wire.login(self.uid, None).await;
        let mut talk = Talk {
            talker: self,
            wire,
            open: VecDeque::new(),
            events: Vec::new(),
            sends: 0,
            current: 0,
            total: 0,
            is_syncing: false,
            last: None,
            received: Vec::new(),
        };
        let gone = match login {
            Ok(0) => talk.talk().await,
            Ok(code) => Gone::Told {
                what: format!("the login of {}", talk.talker.uid),
                code,
            },
            Err(gone) => gone,
        };
        talk.events.extend(gone.event());
        talk.events
    }
}

impl Talk {
    async fn talk(&mut self) -> Gone {
        loop {
            self.ask();
            if let Err(gone) = self.wire.send().await {
                return gone;
            }
            // About half of the window is answered before more is asked.
            let rest = match self.talker.uid {
                QUIET => 0,
                _ => self.talker.rng.random_range(0..=WINDOW / 2),
            };
            while self.open.len() > rest {
                let taken = match self.wire.frame().await {
                    Ok((cmd, frame)) => self.take(cmd, frame),
                    Err(gone) => Err(gone),
                };
                if let Err(gone) = taken {
                    return gone;
                }
            }
        }
    }

    /// Pushes a burst of requests; its length decides what comes together to the server.
    fn ask(&mut self) {
        if self.talker.uid == QUIET && self.talker.again.is_empty() && self.sends > 0 {
            // Nothing of its own that a sync would have to wait for.
            return self.sync();
        }
        let most = WINDOW - self.open.len();
        let burst = match self.talker.rng.random_range(0..4) {
            0 => 1,
            1 => 4,
            _ => most,
        };
        for _ in 0..burst.clamp(1, most) {
            if let Some((key, is_stored)) = self.talker.again.pop() {
                let text = if is_stored {
                    OTHER_TEXT.to_owned()
                } else {
                    key.text()
                };
                self.send(key, text);
                continue;
            }
            match self.talker.rng.random_range(0..100) {
                0..8 => self.accept(),
                8..20 if !self.is_syncing && self.current < self.total => self.sync(),
                8..40 => self.send_to_group(),
                _ => self.send_to_user(),
            }
        }
    }

    fn send(&mut self, key: Key, text: String) {
        self.wire.push_send(&key, text);
        let connection = self.talker.connection;
        self.events.push(Event::Sent {
            key: key.clone(),
            connection,
        });
        self.open.push_back(Open::Send(key));
    }

    fn send_new(&mut self, kind: Kind, scope: i64) {
        self.sends += 1;
        let (source, connection) = (self.talker.uid, self.talker.connection);
        let msg_id = format!("{connection}.{source}.{}", self.sends);
        let key = Key {
            kind,
            source,
            scope,
            msg_id,
        };
        let text = key.text();
        self.send(key, text);
    }

    fn send_to_user(&mut self) {
        let target = match self.talker.rng.random_range(USERS) {
            // Seldom.
            QUIET if self.talker.rng.random_ratio(7, 8) => *USERS.start(),
            target => target,
        };
        self.send_new(Kind::P2p, target);
    }

    fn send_to_group(&mut self) {
        match self
            .talker
            .shared
            .a_group_of(self.talker.uid, &mut self.talker.rng)
        {
            Some(group) => self.send_new(Kind::Group, group),
            None => self.send_to_user(),
        }
    }

    fn accept(&mut self) {
        match self.received.choose(&mut self.talker.rng).cloned() {
            Some((from, msg_id)) => self.send(
                Key {
                    kind: Kind::Ack,
                    source: self.talker.uid,
                    scope: from,
                    msg_id,
                },
                String::new(),
            ),
            None => self.send_to_user(),
        }
    }

    fn sync(&mut self) {
        let limits: &[u32] = match self.talker.uid {
            QUIET => &[0],
            _ => &[0, 0, 1, 3, 20],
        };
        let limit = limits.choose(&mut self.talker.rng).copied().unwrap_or(0);
        // Now and then from the beginning, as a client does that has lost everything. That page moves no read mark, so
        // that it waits for nothing; and where the inbox is short, it shows the newest.
        let is_new = self.talker.rng.random_ratio(1, 5) || self.talker.uid == QUIET;
        let after = if is_new { 0 } else { self.current };
        let uid = self.talker.uid;
        self.wire.push_sync(uid, after, limit);
        self.events.push(Event::Asked { uid, after });
        self.open.push_back(Open::Sync(after));
        self.is_syncing = true;
    }

    fn take(&mut self, cmd: Option<Cmd>, frame: Bytes) -> Result<(), Gone> {
        let uid = self.talker.uid;
        if cmd == Some(Cmd::Notify) {
            let (current, total) = wire::level(frame)?;
            self.events.push(Event::Notified { uid, total });
            // At the login this says where to go on.
            self.current = self.current.max(current);
            self.total = self.total.max(total);
            return Ok(());
        }
        match self.open.pop_front() {
            Some(Open::Send(key)) => self.take_answer(cmd, frame, key),
            Some(Open::Sync(after)) if cmd == Some(Cmd::SyncMsg) => {
                match wire::page(uid, after, frame)? {
                    Ok(page) => {
                        let others = page.entries.iter().filter(|entry| entry.source != uid);
                        let others = others.filter(|entry| entry.msg_type != "ack");
                        let new = others.map(|entry| (entry.source, entry.msg_id.clone()));
                        self.received = new.collect();
                        self.current = self.current.max(page.current);
                        self.total = self.total.max(page.total);
                        if self.last.as_ref() != Some(&page) {
                            self.last = Some(page.clone());
                            self.events.push(Event::Paged(page));
                        }
                    }
                    Err(code) => {
                        let what = format!("a sync of {uid} after {after}");
                        self.events.push(Event::Refused { what, code });
                    }
                }
                self.is_syncing = false;
                Ok(())
            }
            _ => Err(wire::unexpected(&frame)),
        }
    }

    /// The answer names what it answers, but for acks.
    fn take_answer(&mut self, cmd: Option<Cmd>, frame: Bytes, key: Key) -> Result<(), Gone> {
        let raw = frame.clone();
        let (code, is_mine) = match (cmd, key.kind) {
            (Some(Cmd::SendP2PMsg), Kind::P2p) => {
                let reply: ResSendP2pMsg = wire::decode(frame)?;
                let ids = (reply.source_uid, reply.target_uid);
                let is_mine = ids == (key.source, key.scope) && reply.msg_id == key.msg_id;
                (reply.err_code, is_mine)
            }
            (Some(Cmd::SendGroupMsg), Kind::Group) => {
                let reply: ResSendGroupMsg = wire::decode(frame)?;
                let is_mine = reply.group_id == key.scope && reply.msg_id == key.msg_id;
                (reply.err_code, is_mine)
            }
            (Some(Cmd::AcceptP2PMsgAck), Kind::Ack) => {
                (wire::decode::<ResAcceptP2pMsgAck>(frame)?.err_code, true)
            }
            _ => (0, false),
        };
        if !is_mine {
            return Err(wire::unexpected(&raw));
        }
        if code == 0 {
            self.talker.shared.acknowledged.add_permits(1);
        }
        self.events.push(Event::Answered { key, code });
        Ok(())
    }
}
