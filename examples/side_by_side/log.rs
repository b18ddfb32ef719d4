//! The disk below the mock. It writes the same keys for a message as `imd` does, into the same engine: one batch and
//! one sync for all requests that wait, and then their answers. Pages still come from memory.

use std::path::Path;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread;

use bytes::BytesMut;
use fjall::{Database, Keyspace, KeyspaceCreateOptions, PersistMode};
use imd::proto::{ReqSendGroupMsg, ReqSendP2pMsg};
use prost::Message as _;
use tokio::sync::mpsc::{UnboundedSender, unbounded_channel};

use crate::Fault;
use crate::hub::{self, Hub, Request};

/// Stands for the checksum at the end of each record of `imd`.
const CHECK: [u8; 4] = [0; 4];

type Change = (Vec<u8>, Vec<u8>);

/// A handle on the thread that writes.
#[derive(Clone)]
pub struct Log {
    jobs: Sender<Job>,
}

/// The requests of one read that has brought a message.
struct Job {
    uid: i64,
    requests: Vec<Request>,
    now: i64,
    changes: Vec<Change>,
}

impl Log {
    /// Opens a log in an empty folder. It answers requests on the runtime of this thread.
    pub fn open(folder: &Path) -> Result<Log, Fault> {
        let db = Database::builder(folder)
            .manual_journal_persist(true)
            .worker_threads(2)
            .open()?;
        let buffer = imd::config::Store::default().buffer;
        let options = || KeyspaceCreateOptions::default().max_memtable_size(buffer);
        let records = db.keyspace("records", options)?;
        let (jobs, waiting) = channel();
        let (done, mut answers) = unbounded_channel::<Vec<Job>>();
        thread::spawn(move || write(&db, &records, &waiting, &done));
        tokio::spawn(async move {
            while let Some(jobs) = answers.recv().await {
                hub::with(|hub| {
                    for job in jobs {
                        hub.answer_late(job.uid, job.requests, job.now);
                    }
                });
            }
        });
        Ok(Log { jobs })
    }

    /// Answers the requests of one read: at once, or when their messages are on the disk.
    pub fn submit(
        &self,
        hub: &mut Hub,
        uid: i64,
        requests: Vec<Request>,
        now: i64,
        out: &mut BytesMut,
    ) {
        let mut changes = Vec::new();
        for request in &requests {
            match request {
                Request::P2p(request) => p2p(hub, uid, request, now, &mut changes),
                Request::Group(request) => group(hub, uid, request, now, &mut changes),
                Request::Login(_) | Request::Ping | Request::Sync(_) => {}
            }
        }
        if changes.is_empty() {
            for request in requests {
                hub.answer(uid, request, now, out);
            }
            return;
        }
        for (uid, read) in hub.take_marks() {
            changes.push((key(b'r', &[uid]), value(&read.to_be_bytes())));
        }
        hub.wait(uid);
        let job = Job {
            uid,
            requests,
            now,
            changes,
        };
        self.jobs.send(job).expect("the log has failed");
    }
}

fn write(
    db: &Database,
    records: &Keyspace,
    waiting: &Receiver<Job>,
    done: &UnboundedSender<Vec<Job>>,
) {
    let mut commits: u64 = 0;
    while let Ok(first) = waiting.recv() {
        let mut jobs = vec![first];
        jobs.extend(waiting.try_iter());
        let mut batch = db.batch().durability(Some(PersistMode::SyncData));
        for job in &mut jobs {
            for (key, value) in job.changes.drain(..) {
                batch.insert(records, key, value);
            }
        }
        commits += 1;
        batch.insert(records, key(b's', &[]), value(&commits.to_be_bytes()));
        batch.commit().expect("the log can't be written");
        if done.send(jobs).is_err() {
            return;
        }
    }
}

fn p2p(hub: &mut Hub, uid: i64, request: &ReqSendP2pMsg, now: i64, changes: &mut Vec<Change>) {
    let target = request.target_uid;
    let version = hub.promise(target);
    changes.push(seen(1, uid, &request.msg_id, target));
    changes.push((
        key(b'i', &[target, version]),
        message(&request.encode_to_vec(), now),
    ));
}

/// Writes the text once, and a pointer to it for every inbox.
fn group(hub: &mut Hub, uid: i64, request: &ReqSendGroupMsg, now: i64, changes: &mut Vec<Change>) {
    let text = hub.next_text();
    changes.push(seen(2, uid, &request.msg_id, request.group_id));
    changes.push((key(b't', &[text]), message(&request.encode_to_vec(), now)));
    for member in hub.members.clone() {
        let version = hub.promise(member);
        let pointer = [text.to_be_bytes(), now.to_be_bytes()].concat();
        changes.push((key(b'i', &[member, version]), value(&pointer)));
    }
}

/// Returns the key that records that a message was stored.
fn seen(kind: u8, source: i64, id: &str, scope: i64) -> Change {
    let mut key = vec![b'd', kind];
    key.extend_from_slice(&source.to_be_bytes());
    key.extend_from_slice(&[0, 0, 0, id.len() as u8]);
    key.extend_from_slice(id.as_bytes());
    key.extend_from_slice(&scope.to_be_bytes());
    (key, CHECK.to_vec())
}

fn message(request: &[u8], now: i64) -> Vec<u8> {
    let mut bytes = value(request);
    bytes.extend_from_slice(&now.to_be_bytes());
    bytes
}

fn value(bytes: &[u8]) -> Vec<u8> {
    [bytes, &CHECK].concat()
}

fn key(tag: u8, numbers: &[i64]) -> Vec<u8> {
    let mut key = Vec::with_capacity(1 + 8 * numbers.len());
    key.push(tag);
    for number in numbers {
        key.extend_from_slice(&number.to_be_bytes());
    }
    key
}
