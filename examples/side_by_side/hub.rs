//! The state of the mock: inboxes, read marks, connections. It belongs to one thread, so nothing is locked.

use std::cell::RefCell;
use std::rc::Rc;
use std::task::{Context, Waker};
use std::time::{SystemTime, UNIX_EPOCH};

use bytes::{BufMut, BytesMut};
use hashbrown::{HashMap, HashSet};
use imd::codec::{self, MAX_FRAME};
use imd::proto::{
    Base, Cmd, Error, Payload, ReqLogin, ReqSendGroupMsg, ReqSendP2pMsg, ReqSyncMsg, ResNotify,
    ResSendGroupMsg, ResSendP2pMsg,
};
use prost::Message as _;
use prost::encoding::{WireType, encode_key, encode_varint, encoded_len_varint, int64};

thread_local! {
    static HUB: RefCell<Hub> = RefCell::default();
}

/// Calls `work` with the hub of this thread.
pub fn with<T>(work: impl FnOnce(&mut Hub) -> T) -> T {
    HUB.with_borrow_mut(work)
}

#[derive(Default)]
pub struct Hub {
    users: HashMap<i64, User>,
    /// The members of the only group.
    pub members: Vec<i64>,
    group_ids: HashSet<(i64, String)>,
    /// Read marks that were not written to the log yet.
    marks: Vec<(i64, i64)>,
    keeps_marks: bool,
    texts: i64,
}

#[derive(Default)]
struct User {
    /// The entries by version: that of version n is at n - 1.
    inbox: Vec<Rc<Message>>,
    /// The ids of all messages with their senders. By the contract, a message that is sent again is not stored again.
    ids: HashSet<(i64, String)>,
    read: i64,
    /// The newest version that was given to the log; 0 without a log.
    promised: i64,
    /// Whether there is a newer version than the user was notified of.
    news: bool,
    /// Answers that were not ready when their requests were read.
    answers: BytesMut,
    /// Whether requests wait for the disk. Nothing is read meanwhile.
    waits: bool,
    task: Option<Waker>,
}

struct Message {
    source: i64,
    group: i64,
    kind: &'static str,
    id: String,
    text: String,
    sent_at: i64,
}

/// A decoded frame.
pub enum Request {
    Login(ReqLogin),
    Ping,
    P2p(ReqSendP2pMsg),
    Group(ReqSendGroupMsg),
    Sync(ReqSyncMsg),
}

impl Request {
    pub fn decode(frame: &[u8]) -> Option<Request> {
        let cmd = Cmd::from_number(Base::decode(frame).ok()?.cmd)?;
        Some(match cmd {
            Cmd::Login => Request::Login(ReqLogin::decode(frame).ok()?),
            Cmd::Ping => Request::Ping,
            Cmd::SendP2PMsg => Request::P2p(ReqSendP2pMsg::decode(frame).ok()?),
            Cmd::SendGroupMsg => Request::Group(ReqSendGroupMsg::decode(frame).ok()?),
            Cmd::SyncMsg => Request::Sync(ReqSyncMsg::decode(frame).ok()?),
            _ => return None,
        })
    }
}

pub fn now() -> i64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    now.map_or(0, |now| now.as_millis() as i64)
}

impl Hub {
    /// Answers a request of `uid`, and appends the answer to `out`.
    pub fn answer(&mut self, uid: i64, request: Request, now: i64, out: &mut BytesMut) {
        match request {
            Request::Login(_) => put(&ok(Cmd::Login), out),
            Request::Ping => put(&ok(Cmd::Ping), out),
            Request::P2p(request) => {
                let answer = ResSendP2pMsg {
                    cmd: Cmd::SendP2PMsg.number(),
                    err_str: "ok".into(),
                    source_uid: uid,
                    target_uid: request.target_uid,
                    msg_id: request.msg_id.clone(),
                    ..Default::default()
                };
                put(&answer, out);
                let message = Message {
                    source: uid,
                    group: 0,
                    kind: "p2p",
                    id: request.msg_id,
                    text: request.msg,
                    sent_at: now,
                };
                self.deliver(request.target_uid, Rc::new(message));
            }
            Request::Group(request) => {
                let answer = ResSendGroupMsg {
                    cmd: Cmd::SendGroupMsg.number(),
                    err_str: "ok".into(),
                    group_id: request.group_id,
                    msg_id: request.msg_id.clone(),
                    ..Default::default()
                };
                put(&answer, out);
                let message = Rc::new(Message {
                    source: uid,
                    group: request.group_id,
                    kind: "group",
                    id: request.msg_id,
                    text: request.msg,
                    sent_at: now,
                });
                if !self.group_ids.insert((uid, message.id.clone())) {
                    return;
                }
                let members = std::mem::take(&mut self.members);
                for &member in &members {
                    self.deliver(member, Rc::clone(&message));
                }
                self.members = members;
            }
            Request::Sync(request) => {
                if self.keeps_marks {
                    self.marks.push((uid, request.current_id));
                }
                self.user(uid).page(uid, request.current_id, out);
            }
        }
    }

    fn deliver(&mut self, target: i64, message: Rc<Message>) {
        let user = self.user(target);
        if message.group == 0 && !user.ids.insert((message.source, message.id.clone())) {
            return;
        }
        user.inbox.push(message);
        user.news = true;
        if let Some(task) = user.task.take() {
            task.wake();
        }
    }

    /// Returns the version of the next message of a user, for the log.
    pub fn promise(&mut self, uid: i64) -> i64 {
        let user = self.user(uid);
        user.promised += 1;
        user.promised
    }

    /// Returns the number of the next group message, for the log.
    pub fn next_text(&mut self) -> i64 {
        self.texts += 1;
        self.texts
    }

    /// Returns the read marks that have moved since the last call, for the log.
    pub fn take_marks(&mut self) -> Vec<(i64, i64)> {
        self.keeps_marks = true;
        std::mem::take(&mut self.marks)
    }

    /// Keeps the answers to this user from now on, until the log has been written.
    pub fn wait(&mut self, uid: i64) {
        self.user(uid).waits = true;
    }

    /// Answers requests that have waited for the log.
    pub fn answer_late(&mut self, uid: i64, requests: Vec<Request>, now: i64) {
        let mut answers = std::mem::take(&mut self.user(uid).answers);
        for request in requests {
            self.answer(uid, request, now, &mut answers);
        }
        let user = self.user(uid);
        user.answers = answers;
        user.waits = false;
        if let Some(task) = user.task.take() {
            task.wake();
        }
    }

    /// Returns whether the task of a user may read. Registers it to be woken when there is something to write.
    pub fn begin_turn(&mut self, uid: i64, cx: &Context<'_>) -> bool {
        let user = self.user(uid);
        match &mut user.task {
            Some(task) => task.clone_from(cx.waker()),
            none => *none = Some(cx.waker().clone()),
        }
        !user.waits
    }

    /// Appends what did not come from the requests of this read: late answers, and one notify for all new messages.
    pub fn end_turn(&mut self, uid: i64, out: &mut BytesMut) {
        let user = self.user(uid);
        if !user.answers.is_empty() {
            out.extend_from_slice(&std::mem::take(&mut user.answers));
        }
        if std::mem::take(&mut user.news) {
            let notify = ResNotify {
                cmd: Cmd::Notify.number(),
                err_str: "ok".into(),
                current_id: user.read,
                total_id: user.inbox.len() as i64,
                ..Default::default()
            };
            put(&notify, out);
        }
    }

    fn user(&mut self, uid: i64) -> &mut User {
        self.users.entry(uid).or_default()
    }
}

impl User {
    /// Appends a page, encoded straight from the inbox.
    fn page(&mut self, uid: i64, after: i64, out: &mut BytesMut) {
        self.read = self.read.max(after);
        let start = out.len();
        out.put_u16(0);
        encode_number(1, i64::from(Cmd::SyncMsg.number()), out);
        encode_text(4, "ok", out);
        let most = start + MAX_FRAME - 30;
        let mut end = after;
        for message in &self.inbox[after as usize..] {
            let version = end + 1;
            let body = message.body_len(uid, version);
            if out.len() + 1 + encoded_len_varint(body as u64) + body > most {
                break;
            }
            encode_key(6, WireType::LengthDelimited, out);
            encode_varint(body as u64, out);
            message.encode(uid, version, out);
            end = version;
        }
        let total = self.inbox.len() as i64;
        encode_number(5, end, out);
        encode_number(7, total, out);
        let len = (out.len() - start - 2) as u16;
        out[start..start + 2].copy_from_slice(&len.to_be_bytes());
        // The rest behind the page is notified.
        self.news = end < total;
    }
}

impl Message {
    fn body_len(&self, target: i64, version: i64) -> usize {
        let number = |n: i64| if n == 0 { 0 } else { int64::encoded_len(1, &n) };
        let text = |len: usize| 1 + encoded_len_varint(len as u64) + len;
        number(self.source)
            + number(target)
            + number(self.group)
            + text(self.kind.len())
            + text(self.id.len())
            + text(self.text.len())
            + number(version)
            + number(self.sent_at)
    }

    fn encode(&self, target: i64, version: i64, out: &mut BytesMut) {
        encode_number(1, self.source, out);
        encode_number(2, target, out);
        encode_number(3, self.group, out);
        encode_text(4, self.kind, out);
        encode_text(5, &self.id, out);
        encode_text(6, &self.text, out);
        encode_number(7, version, out);
        encode_number(8, self.sent_at, out);
    }
}

fn encode_number(field: u32, n: i64, out: &mut BytesMut) {
    if n != 0 {
        int64::encode(field, &n, out);
    }
}

fn encode_text(field: u32, text: &str, out: &mut BytesMut) {
    encode_key(field, WireType::LengthDelimited, out);
    encode_varint(text.len() as u64, out);
    out.put_slice(text.as_bytes());
}

fn ok(cmd: Cmd) -> Error {
    Error {
        cmd: cmd.number(),
        err_code: 0,
        err_str: "ok".into(),
    }
}

fn put(message: &impl Payload, out: &mut BytesMut) {
    codec::encode(message, out).expect("the mock sends short messages only");
}
