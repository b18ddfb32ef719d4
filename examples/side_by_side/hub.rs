//! The state of the mock: inboxes, read marks, ids, and the tasks that wait for news.
//!
//! Serves [`mock`](crate::mock) and [`log`](crate::log). It keeps for each message what `imd` keeps: sender, receiver, group,
//! kind, id, text, time and version, in an inbox for each receiver, and a read mark for each inbox. An inbox holds its entries
//! as they stand in a page, one after the other, so that a page is copied in one piece. This is the least work that could do
//! the same; `imd` is to come close to it.
//!
//! It leaves out, by name: the search for an id that the server has given (only ids that a sender gave are looked up), one
//! copy of a text for all members of a group, removal of old messages, limits, counters, tokens, faults, checks of requests,
//! and everything that is needed to serve more than one thread.

use std::cell::RefCell;
use std::ops::Range;
use std::task::{Context, Waker};
use std::time::{SystemTime, UNIX_EPOCH};

use bytes::{BufMut, BytesMut};
use hashbrown::{HashMap, HashSet};
use imd::codec::MAX_FRAME;
use imd::load::FieldTable;
use imd::proto::Cmd;
use imd::proto::fields::number_len;

use crate::wire::digits;

/// How many bytes of entries stand in one piece of memory. An entry is never moved to another one.
const CHUNK: usize = 16 << 10;
/// What a page may take besides its entries, in bytes.
const PAGE_FIELDS: usize = 40;
/// How many digits the ids have that the server gives.
const GIVEN_ID: usize = 19;

thread_local! {
    static HUB: RefCell<Hub> = RefCell::default();
}

/// Calls `work` with the hub of this thread.
pub fn with<T>(work: impl FnOnce(&mut Hub) -> T) -> T {
    HUB.with_borrow_mut(work)
}

/// All users of the mock. It belongs to one thread, so nothing is locked.
#[derive(Default)]
pub struct Hub {
    users: HashMap<i64, User>,
    /// The members of the only group.
    pub members: Vec<i64>,
    /// Sender, target and id of each message that came with an id. One that is sent again is not stored again.
    ids: HashSet<Vec<u8>>,
    /// The id that the server gave last.
    last_id: Option<[u8; GIVEN_ID]>,
    /// Memory for the next message.
    spare: Vec<u8>,
    /// Read marks that no commit has written yet. Without a log nobody takes them, and there are none.
    marks: Option<Vec<(i64, i64)>>,
}

/// A message that was taken in, and is not in its inboxes yet.
pub struct Accepted {
    pub source: i64,
    pub target: Target,
    /// What all its entries have in common, encoded: everything but the receiver and the version.
    pub body: Vec<u8>,
    /// Where the id stands in `body`.
    id: Range<usize>,
    /// Whether the sender gave the id.
    pub has_own_id: bool,
}

impl Accepted {
    /// Returns the id of the message.
    pub fn id(&self) -> &[u8] {
        &self.body[self.id.clone()]
    }
}

/// Where a message goes.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Target {
    User(i64),
    Group(i64),
}

impl Hub {
    /// Takes in a message: gives it an id if it has none, and appends the answer to `out`. Returns nothing if the message was
    /// sent before.
    pub fn accept(
        &mut self,
        source: i64,
        request: &FieldTable<'_>,
        now: i64,
        out: &mut BytesMut,
    ) -> Option<Accepted> {
        let (target, kind) = match request.cmd() {
            Some(Cmd::SendP2PMsg) => (Target::User(request.number(4)), "p2p"),
            _ => (Target::Group(request.number(4)), "group"),
        };
        let given = request.text(5);
        let next;
        let id = if given.is_empty() {
            next = self.next_id(now);
            &next
        } else {
            given
        };
        answer(source, target, id, out);
        let mut body = std::mem::take(&mut self.spare);
        body.clear();
        put_number(1, source, &mut body);
        if let Target::Group(group) = target {
            put_number(3, group, &mut body);
        }
        put_bytes(4, kind.as_bytes(), &mut body);
        put_bytes(5, id, &mut body);
        let id = body.len() - id.len()..body.len();
        put_bytes(6, request.text(6), &mut body);
        put_number(8, now, &mut body);
        if !given.is_empty() && !self.ids.insert(id_key(source, target, given)) {
            return None;
        }
        Some(Accepted {
            source,
            target,
            body,
            id,
            has_own_id: !given.is_empty(),
        })
    }

    /// Returns the next id that the server gives: a number that begins with the time of the first one, and counts.
    fn next_id(&mut self, now: i64) -> [u8; GIVEN_ID] {
        let last = self
            .last_id
            .get_or_insert_with(|| digits((now as usize) << 22));
        for digit in last.iter_mut().rev() {
            if *digit < b'9' {
                *digit += 1;
                break;
            }
            *digit = b'0';
        }
        *last
    }

    /// Puts a message into its inboxes, and wakes the tasks of its receivers.
    pub fn deliver(&mut self, message: Accepted) {
        match message.target {
            Target::User(uid) => self.user(uid).append(uid, &message.body),
            Target::Group(_) => {
                let members = std::mem::take(&mut self.members);
                for &uid in &members {
                    self.user(uid).append(uid, &message.body);
                }
                self.members = members;
            }
        }
        self.spare = message.body;
    }

    /// Appends the page after a version, and moves the read mark.
    pub fn page(&mut self, uid: i64, after: i64, out: &mut BytesMut) {
        let user = self.user(uid);
        let has_moved = after > user.read;
        user.read = user.read.max(after);
        user.page(after, out);
        if let Some(marks) = self.marks.as_mut().filter(|_| has_moved) {
            marks.push((uid, after));
        }
    }

    /// Returns the version of the next message to a user, for the log. It reaches the inbox when it is written.
    pub fn promise(&mut self, uid: i64) -> i64 {
        let user = self.user(uid);
        user.promised += 1;
        user.promised
    }

    /// Returns the read marks that have moved since the last call, for the log.
    pub fn take_marks(&mut self) -> Vec<(i64, i64)> {
        self.marks.replace(Vec::new()).unwrap_or_default()
    }

    /// Keeps answers for a user, and wakes the task that writes them.
    pub fn answer_late(&mut self, uid: i64, answers: &[u8]) {
        let user = self.user(uid);
        user.answers.extend_from_slice(answers);
        user.wake();
    }

    /// Registers the task of a user to be woken when there is something to write.
    pub fn begin_turn(&mut self, uid: i64, cx: &Context<'_>) {
        match &mut self.user(uid).task {
            Some(task) => task.clone_from(cx.waker()),
            none => *none = Some(cx.waker().clone()),
        }
    }

    /// Appends what did not come from the requests of this read: late answers, and one notify for all new messages.
    pub fn end_turn(&mut self, uid: i64, out: &mut BytesMut) {
        let user = self.user(uid);
        if !user.answers.is_empty() {
            out.extend_from_slice(&user.answers);
            user.answers.clear();
        }
        if std::mem::take(&mut user.has_news) {
            let (read, total) = (user.read, user.total);
            frame(out, |out| {
                put_done(Cmd::Notify, out);
                put_number(5, read, out);
                put_number(6, total, out);
            });
        }
    }

    fn user(&mut self, uid: i64) -> &mut User {
        self.users.entry(uid).or_default()
    }
}

/// One user: the inbox, and what the user's task is to write.
#[derive(Default)]
struct User {
    chunks: Vec<Chunk>,
    /// The newest version.
    total: i64,
    /// The read mark: the version after which the newest page began.
    read: i64,
    /// The newest version that was given to the log.
    promised: i64,
    /// Whether there is a newer version than the user was notified of.
    has_news: bool,
    /// Answers that were not ready when their requests were read.
    answers: BytesMut,
    task: Option<Waker>,
}

/// Entries of an inbox, one after the other, as a page has them.
struct Chunk {
    /// The version before the first entry.
    before: i64,
    bytes: Vec<u8>,
    /// Where each entry ends.
    ends: Vec<u32>,
}

impl User {
    fn wake(&mut self) {
        if let Some(task) = self.task.take() {
            task.wake();
        }
    }

    fn append(&mut self, uid: i64, body: &[u8]) {
        let version = self.total + 1;
        let len = body.len() + number_len(2, uid) + number_len(7, version);
        let is_full = |chunk: &Chunk| chunk.bytes.len() + len + PAGE_FIELDS > CHUNK;
        if self.chunks.last().is_none_or(is_full) {
            self.chunks.push(Chunk {
                before: self.total,
                bytes: Vec::with_capacity(CHUNK),
                ends: Vec::new(),
            });
        }
        if let Some(chunk) = self.chunks.last_mut() {
            chunk.bytes.push(6 << 3 | 2);
            put_varint(len as u64, &mut chunk.bytes);
            put_number(2, uid, &mut chunk.bytes);
            put_number(7, version, &mut chunk.bytes);
            chunk.bytes.extend_from_slice(body);
            chunk.ends.push(chunk.bytes.len() as u32);
        }
        self.total = version;
        self.has_news = true;
        self.wake();
    }

    fn page(&mut self, after: i64, out: &mut BytesMut) {
        let (start, mut end) = (out.len(), after);
        frame(out, |out| put_done(Cmd::SyncMsg, out));
        let mut room = MAX_FRAME - PAGE_FIELDS;
        let first = self.chunks.partition_point(|chunk| chunk.before <= after);
        for chunk in &self.chunks[first.saturating_sub(1)..] {
            let (entries, last) = chunk.after(end, room);
            room -= entries.len();
            out.extend_from_slice(&chunk.bytes[entries]);
            end = last;
            if end < chunk.before + chunk.ends.len() as i64 {
                break;
            }
        }
        let mut rest = Vec::with_capacity(2 * 11);
        put_number(5, end, &mut rest);
        put_number(7, self.total, &mut rest);
        out.extend_from_slice(&rest);
        let len = (out.len() - start - 2) as u16;
        out[start..start + 2].copy_from_slice(&len.to_be_bytes());
        // The rest behind the page is notified.
        self.has_news = end < self.total;
    }
}

impl Chunk {
    /// Returns where the entries after a version are that fit into the room, and the version of the last one.
    fn after(&self, version: i64, room: usize) -> (Range<usize>, i64) {
        let skipped = (version - self.before).max(0) as usize;
        let at = |entries: usize| entries.checked_sub(1).map_or(0, |last| self.ends[last]) as usize;
        let start = at(skipped);
        let fitting = match self.bytes.len() - start <= room {
            true => self.ends.len(),
            false => self
                .ends
                .partition_point(|end| *end as usize <= start + room),
        };
        (start..at(fitting), self.before + fitting as i64)
    }
}

/// Appends the answer to a message.
fn answer(source: i64, target: Target, id: &[u8], out: &mut BytesMut) {
    frame(out, |out| match target {
        Target::User(uid) => {
            put_done(Cmd::SendP2PMsg, out);
            put_number(5, source, out);
            put_number(6, uid, out);
            put_bytes(7, id, out);
        }
        Target::Group(group) => {
            put_done(Cmd::SendGroupMsg, out);
            put_number(5, group, out);
            put_bytes(6, id, out);
        }
    });
}

/// Appends a frame with the message that `encode` appends. Most messages are a few small fields, which take less time in a
/// vector of their own.
pub fn frame(out: &mut BytesMut, encode: impl FnOnce(&mut Vec<u8>)) {
    let mut message = Vec::with_capacity(96);
    encode(&mut message);
    out.put_u16(message.len() as u16);
    out.extend_from_slice(&message);
}

/// Returns the bytes that tell a message from all others.
fn id_key(source: i64, target: Target, id: &[u8]) -> Vec<u8> {
    let (kind, number) = match target {
        Target::User(uid) => (1, uid),
        Target::Group(group) => (2, group),
    };
    [
        &[kind][..],
        &source.to_be_bytes(),
        &number.to_be_bytes(),
        id,
    ]
    .concat()
}

/// Appends the command and the text of an answer with code 0.
fn put_done(cmd: Cmd, out: &mut Vec<u8>) {
    put_number(1, cmd.number().into(), out);
    put_bytes(4, b"ok", out);
}

/// Appends a number, unless it is 0.
pub fn put_number(tag: u8, number: i64, out: &mut Vec<u8>) {
    if number != 0 {
        out.push(tag << 3);
        put_varint(number as u64, out);
    }
}

/// Appends a text.
pub fn put_bytes(tag: u8, text: &[u8], out: &mut Vec<u8>) {
    out.push(tag << 3 | 2);
    put_varint(text.len() as u64, out);
    out.extend_from_slice(text);
}

fn put_varint(mut number: u64, out: &mut Vec<u8>) {
    while number >= 0x80 {
        out.push(number as u8 | 0x80);
        number >>= 7;
    }
    out.push(number as u8);
}

/// Returns the time, in Unix milliseconds.
pub fn now() -> i64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    now.map_or(0, |now| now.as_millis() as i64)
}

#[cfg(test)]
mod tests {
    use super::*;
    use imd::codec;

    /// Sends this number of messages with 32 bytes to user 2, and returns the hub.
    fn hub_with(messages: usize) -> Hub {
        let mut hub = Hub::default();
        for _ in 0..messages {
            let mut request = Vec::new();
            put_number(1, Cmd::SendP2PMsg.number().into(), &mut request);
            put_number(4, 2, &mut request);
            put_bytes(6, &[b'x'; 32], &mut request);
            let accepted = hub.accept(1, &FieldTable::read(&request), 1, &mut BytesMut::new());
            hub.deliver(accepted.unwrap());
        }
        hub
    }

    #[test]
    fn pages_have_every_version_once_and_fit_into_a_frame() {
        let mut hub = hub_with(2_000);
        let (mut version, mut pages) = (0, 0);
        while version < 2_000 {
            let mut out = BytesMut::new();
            hub.page(2, version, &mut out);
            let (page, len) = codec::frames(&out).next().unwrap();
            assert_eq!(len, out.len());
            let page = FieldTable::read(page);
            for entry in page.entries() {
                version += 1;
                let entry = FieldTable::read(entry);
                assert_eq!((entry.number(7), entry.number(2)), (version, 2));
                assert_eq!((entry.text(5).len(), entry.text(6).len()), (19, 32));
            }
            assert_eq!((page.number(5), page.number(7)), (version, 2_000));
            assert_eq!(hub.user(2).has_news, version < 2_000);
            pages += 1;
        }
        assert!(pages > 2, "{pages}");
    }

    #[test]
    fn a_message_that_comes_again_with_its_id_is_answered_and_not_stored() {
        let mut hub = Hub::default();
        let mut request = Vec::new();
        put_number(1, Cmd::SendP2PMsg.number().into(), &mut request);
        put_number(4, 2, &mut request);
        put_bytes(5, b"an id", &mut request);
        let request = FieldTable::read(&request);
        let mut out = BytesMut::new();
        assert!(hub.accept(1, &request, 1, &mut out).is_some());
        assert!(hub.accept(1, &request, 1, &mut out).is_none());
        assert!(hub.accept(3, &request, 1, &mut out).is_some());
        assert_eq!(codec::frames(&out).count(), 3);
    }
}
