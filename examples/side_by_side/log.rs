//! The disk below the durable mock: the same engine with the same settings as `imd`'s, and the same keys for a message.
//!
//! Serves [`mock`](crate::mock). A message is written under its inbox and version, and its id, if the sender gave it, under a
//! key of its own; a group message and its id once, with a pointer to it for every inbox; read marks ride with the next commit;
//! each commit writes the state.
//! All requests that wait become one batch with one sync, and then their answers and notifies go out. Whoever changes the keys
//! of `imd` changes them here too, or the comparison is none.
//!
//! It leaves out, by name: the look-up of ids from before its start, the checksums (there is room for them), and reading
//! anything back: pages come from memory.

use std::path::Path;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread;

use bytes::BytesMut;
use fjall::{Database, Keyspace, KeyspaceCreateOptions, PersistMode};
use tokio::sync::mpsc::{UnboundedSender, unbounded_channel};

use crate::Fault;
use crate::hub::{self, Accepted, Hub, Target};

/// Stands for the checksum at the end of each record of `imd`.
const CHECK: [u8; 4] = [0; 4];

type Change = (Vec<u8>, Vec<u8>);

/// A handle on the thread that writes.
#[derive(Clone)]
pub struct Log {
    jobs: Sender<Job>,
}

/// The messages of one read, with their answers.
pub struct Job {
    uid: i64,
    pub messages: Vec<Accepted>,
    pub answers: BytesMut,
    changes: Vec<Change>,
}

impl Job {
    /// Creates the job of a user, without messages.
    pub fn of(uid: i64) -> Job {
        Job {
            uid,
            messages: Vec::new(),
            answers: BytesMut::new(),
            changes: Vec::new(),
        }
    }
}

impl Log {
    /// Opens a log in an empty folder. It answers on the runtime of this thread.
    pub fn open(folder: &Path) -> Result<Log, Fault> {
        let db = Database::builder(folder)
            .manual_journal_persist(true)
            .worker_threads(2)
            .open()?;
        let buffer = imd::config::Store::default().buffer;
        let options = || KeyspaceCreateOptions::default().max_memtable_size(buffer);
        let records = db.keyspace("records", options)?;
        let (jobs, waiting) = channel();
        let (done, mut written) = unbounded_channel::<Vec<Job>>();
        thread::spawn(move || write(&db, &records, &waiting, &done));
        tokio::spawn(async move {
            while let Some(jobs) = written.recv().await {
                hub::with(|hub| {
                    for job in jobs {
                        job.messages
                            .into_iter()
                            .for_each(|message| hub.deliver(message));
                        hub.answer_late(job.uid, &job.answers);
                    }
                });
            }
        });
        hub::with(Hub::take_marks);
        Ok(Log { jobs })
    }

    /// Writes the messages of a job; then delivers them and sends the answers.
    pub fn submit(&self, hub: &mut Hub, mut job: Job) {
        for message in &job.messages {
            add(hub, message, &mut job.changes);
        }
        for (uid, read) in hub.take_marks() {
            job.changes
                .push((key(b'r', &[uid]), value(&read.to_be_bytes())));
        }
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

/// Adds what is written for a message: its id, unless an entry alone has it, and an entry of each inbox.
fn add(hub: &mut Hub, message: &Accepted, changes: &mut Vec<Change>) {
    match message.target {
        Target::User(uid) => {
            if message.has_own_id {
                changes.push(seen(1, message, uid));
            }
            let version = hub.promise(uid);
            changes.push((key(b'i', &[uid, version]), value(&message.body)));
        }
        Target::Group(group) => {
            changes.push(seen(2, message, group));
            // Texts are numbered as the messages of a user that nobody is.
            let text = hub.promise(0);
            changes.push((key(b't', &[text]), value(&message.body)));
            for member in hub.members.clone() {
                let version = hub.promise(member);
                let pointer = [text.to_be_bytes(), [0; 8]].concat();
                changes.push((key(b'i', &[member, version]), value(&pointer)));
            }
        }
    }
}

/// Returns the key that records that a message was stored.
fn seen(kind: u8, message: &Accepted, scope: i64) -> Change {
    let mut key = vec![b'd', kind];
    key.extend_from_slice(&message.source.to_be_bytes());
    key.extend_from_slice(&[0, 0, 0, message.id().len() as u8]);
    key.extend_from_slice(message.id());
    key.extend_from_slice(&scope.to_be_bytes());
    (key, CHECK.to_vec())
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
