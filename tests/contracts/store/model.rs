//! Compares every store with a model: a store in a few lines that are obviously right, and slow.
//!
//! Random writes, pages, cleanings and snapshots go to both, and all answers must agree. A test that is named after one
//! promise is in the other files of this folder; a failure here prints the steps that lead to it.

use std::collections::{BTreeMap, HashMap};

use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};

use super::*;
use imd::id::{GroupId, Uid, Version};

const MINUTE: i64 = 60_000;
const HOUR: i64 = 60 * MINUTE;
const START: i64 = 1_700_000_000_000;
const GROUP: i64 = 50;
const USERS: std::ops::Range<i64> = 1..4;

/// One operation, which is done on the store and on the model.
#[derive(Debug, Clone)]
enum Step {
    Send {
        source: i64,
        target: i64,
        id: u8,
    },
    Group {
        source: i64,
        id: u8,
    },
    Ack {
        by: i64,
        target: i64,
        id: u8,
    },
    Join {
        uid: i64,
    },
    Quit {
        uid: i64,
    },
    Sync {
        uid: i64,
        after: i64,
        count: usize,
    },
    Wait {
        minutes: i64,
    },
    Clean,
    /// Saves the contents as a snapshot, and replaces them by it.
    Reload,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let uid = || USERS;
    let id = || 0..9_u8;
    let step = prop_oneof![
        4 => (uid(), uid(), id()).prop_map(|(source, target, id)| Step::Send { source, target, id }),
        3 => (uid(), id()).prop_map(|(source, id)| Step::Group { source, id }),
        2 => (uid(), uid(), id()).prop_map(|(by, target, id)| Step::Ack { by, target, id }),
        1 => uid().prop_map(|uid| Step::Join { uid }),
        1 => uid().prop_map(|uid| Step::Quit { uid }),
        3 => (uid(), -1..16_i64, 0..4_usize)
            .prop_map(|(uid, after, count)| Step::Sync { uid, after, count }),
        3 => (0..900_i64).prop_map(|minutes| Step::Wait { minutes }),
        3 => Just(Step::Clean),
        1 => Just(Step::Reload),
    ];
    prop::collection::vec(step, 1..80)
}

fn retention() -> impl Strategy<Value = Retention> {
    let hours = |hours| std::time::Duration::from_secs(hours * 3600);
    let keep = prop::option::of((1..40_u64).prop_map(hours));
    let max_inbox = prop::option::of(1..5_u64);
    (keep, max_inbox).prop_map(|(keep, max_inbox)| Retention { keep, max_inbox })
}

/// Identifies a message. A message with the same key that is sent again is stored once.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct MessageKey {
    kind: Kind,
    source: i64,
    /// The receiver, or the group of a group message.
    scope: i64,
    msg_id: String,
}

#[derive(Clone)]
struct ModelEntry {
    version: i64,
    key: MessageKey,
    sent_at: i64,
}

#[derive(Default)]
struct Inbox {
    /// The entries that were not removed, oldest first.
    entries: Vec<ModelEntry>,
    /// The read mark.
    read: i64,
    /// The newest version.
    total: i64,
    /// The newest version that a page has delivered.
    delivered: i64,
}

impl Inbox {
    /// Returns the newest version that was removed.
    fn removed(&self) -> i64 {
        self.total - self.entries.len() as i64
    }
}

/// What the model remembers of a stored message.
struct SentMessage {
    sent_at: i64,
    receivers: Vec<i64>,
}

/// A store that does everything in the simplest way. It has one group.
struct Model {
    retention: Retention,
    /// Unix milliseconds.
    now: i64,
    /// The members of the group.
    members: Vec<i64>,
    inboxes: BTreeMap<i64, Inbox>,
    /// The messages whose keys are remembered.
    sent: HashMap<MessageKey, SentMessage>,
    /// The message ids that were made as the server makes its own.
    server_ids: Vec<i64>,
    ledger: Ledger,
}

impl Model {
    /// Returns the message id that a step names by a small number: that number as a text, or an id as the server makes them,
    /// which is a new one or one of the newest.
    fn msg_id(&mut self, id: u8) -> String {
        let earlier = match id {
            0..3 => return id.to_string(),
            3..6 => Some(2 * usize::from(id - 3)),
            _ => None,
        };
        if let Some(&earlier) = earlier.and_then(|back| self.server_ids.iter().rev().nth(back)) {
            return earlier.to_string();
        }
        let new = (self.now << 22) + self.server_ids.len() as i64;
        self.server_ids.push(new);
        new.to_string()
    }

    /// Stores a message for these receivers. Returns the outcome, and the inboxes that have grown.
    fn store(&mut self, key: MessageKey, receivers: Vec<i64>) -> (WriteOutcome, Vec<InboxState>) {
        if self.sent.contains_key(&key) {
            return (WriteOutcome::Duplicate, Vec::new());
        }
        for uid in &receivers {
            let inbox = self.inboxes.entry(*uid).or_default();
            inbox.total += 1;
            inbox.entries.push(ModelEntry {
                version: inbox.total,
                key: key.clone(),
                sent_at: self.now,
            });
            self.ledger.stored += 1;
        }
        let grown: Vec<InboxState> = receivers.iter().map(|uid| self.inbox_state(*uid)).collect();
        let outcome = match key.kind {
            Kind::Group => WriteOutcome::StoredForGroup {
                receivers: Arc::new(receivers.iter().copied().map(Uid).collect()),
            },
            Kind::P2p | Kind::Ack => WriteOutcome::Stored {
                uid: grown[0].uid,
                version: grown[0].total,
            },
        };
        let sent_at = self.now;
        self.sent.insert(key, SentMessage { sent_at, receivers });
        (outcome, grown)
    }

    fn has_received(&self, uid: i64, source: i64, id: &str) -> bool {
        self.sent.iter().any(|(key, sent)| {
            let is_message = key.kind != Kind::Ack && key.source == source && key.msg_id == id;
            is_message && sent.receivers.contains(&uid)
        })
    }

    fn inbox_state(&self, uid: i64) -> InboxState {
        let (read, total) = self.inboxes.get(&uid).map_or((0, 0), |inbox| {
            (inbox.read.max(inbox.removed()), inbox.total)
        });
        InboxState {
            uid: Uid(uid),
            read: Version(read),
            total: Version(total),
        }
    }

    /// Reads a page of at most `count` entries, or of all if it is 0. Returns the entries as (version, key), and the version
    /// at which the page ends.
    fn read_page(&mut self, uid: i64, after: i64, count: usize) -> (Vec<(i64, MessageKey)>, i64) {
        let inbox = self.inboxes.entry(uid).or_default();
        if after <= inbox.total {
            inbox.read = inbox.read.max(after);
        }
        let after = if after > inbox.total { 0 } else { after };
        let max_entries = if count == 0 { usize::MAX } else { count };
        let newer = inbox.entries.iter().filter(|entry| entry.version > after);
        let page: Vec<_> = newer
            .take(max_entries)
            .map(|entry| (entry.version, entry.key.clone()))
            .collect();
        let end = page
            .last()
            .map_or(after.max(inbox.removed()), |last| last.0);
        let new = page.iter().filter(|entry| entry.0 > inbox.delivered);
        self.ledger.delivered += new.count() as u64;
        if let Some((version, _)) = page.last() {
            inbox.delivered = inbox.delivered.max(*version);
        }
        (page, end)
    }

    /// Removes what the retention does not keep, and returns the number of removed entries.
    fn clean(&mut self) -> u64 {
        let keep = self.retention.keep;
        let keep = keep.map_or(i64::MAX, |keep| keep.as_millis() as i64);
        let max_inbox = self.retention.max_inbox.unwrap_or(u64::MAX);
        let mut removed = 0;
        for inbox in self.inboxes.values_mut() {
            while let Some(oldest) = inbox.entries.first()
                && (self.now - oldest.sent_at > keep || inbox.entries.len() as u64 > max_inbox)
            {
                self.ledger.removed += u64::from(oldest.version > inbox.delivered);
                inbox.entries.remove(0);
                removed += 1;
            }
        }
        if self.retention.is_off() {
            return 0;
        }
        let held: Vec<&MessageKey> = self
            .inboxes
            .values()
            .flat_map(|inbox| inbox.entries.iter().map(|entry| &entry.key))
            .collect();
        self.sent
            .retain(|key, sent| held.contains(&key) || self.now - sent.sent_at <= 24 * HOUR);
        removed
    }
}

/// Does random steps on a store and on the model, and compares all results. `cases` is the number of sequences of steps.
pub fn compare(cases: u32, make: impl AsyncFn(Retention) -> Arc<dyn Store>) {
    let config = Config {
        failure_persistence: None,
        ..Config::with_cases(cases)
    };
    let compared = TestRunner::new(config).run(&(retention(), steps()), |(retention, steps)| {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        runtime.block_on(async {
            let store = make(retention).await;
            commit(&*store, vec![create(GROUP, 1), join(GROUP, 2)]).await;
            let mut model = Model {
                retention,
                now: START,
                members: vec![1, 2],
                inboxes: BTreeMap::new(),
                sent: HashMap::new(),
                server_ids: Vec::new(),
                ledger: Ledger::default(),
            };
            for step in steps {
                do_step(&*store, &mut model, step).await;
                assert_eq!(store.ledger(), model.ledger);
                for uid in USERS {
                    assert_eq!(
                        store.inbox_state(Uid(uid)).await.unwrap(),
                        model.inbox_state(uid)
                    );
                }
            }
        });
        Ok(())
    });
    compared.unwrap();
}

fn key(kind: Kind, source: i64, scope: i64, msg_id: String) -> MessageKey {
    MessageKey {
        kind,
        source,
        scope,
        msg_id,
    }
}

/// Does one step on the store and on the model, and compares the results.
async fn do_step(store: &dyn Store, model: &mut Model, step: Step) {
    let now = model.now;
    let at = |kind, source, group, id: &str| {
        let mut message = message(kind, source, group, id, id);
        Arc::make_mut(&mut message).sent_at = now;
        message
    };
    let (write, expected, mut grown) = match step {
        Step::Send { source, target, id } => {
            // Messages to users and to the group have the same ids, so that an ack may be for either.
            let id = model.msg_id(id);
            let message = at(Kind::P2p, source, 0, &id);
            let (outcome, grown) = model.store(key(Kind::P2p, source, target, id), vec![target]);
            (
                Write::P2p {
                    target: Uid(target),
                    message,
                },
                Ok(outcome),
                grown,
            )
        }
        Step::Group { source, id } => {
            let id = model.msg_id(id);
            let message = at(Kind::Group, source, GROUP, &id);
            let (expected, grown) = if model.members.contains(&source) {
                let members = model.members.clone();
                let (outcome, grown) = model.store(key(Kind::Group, source, GROUP, id), members);
                (Ok(outcome), grown)
            } else {
                (Err(Rejected::NotAMember), Vec::new())
            };
            (Write::Group { message }, expected, grown)
        }
        Step::Ack { by, target, id } => {
            let id = model.msg_id(id);
            let message = at(Kind::Ack, by, 0, &id);
            let (expected, grown) = if model.has_received(by, target, &id) {
                let (outcome, grown) = model.store(key(Kind::Ack, by, target, id), vec![target]);
                (Ok(outcome), grown)
            } else {
                (Err(Rejected::NoSuchMessage), Vec::new())
            };
            (
                Write::Ack {
                    target: Uid(target),
                    message,
                },
                expected,
                grown,
            )
        }
        Step::Join { uid } => {
            if !model.members.contains(&uid) {
                model.members.push(uid);
            }
            (join(GROUP, uid), Ok(WriteOutcome::Done), Vec::new())
        }
        Step::Quit { uid } => {
            model.members.retain(|member| *member != uid);
            (quit(GROUP, uid), Ok(WriteOutcome::Done), Vec::new())
        }
        Step::Sync { uid, after, count } => {
            let limit = PageLimit {
                entries: count,
                bytes: usize::MAX,
            };
            let (reader, newer_than) = (Uid(uid), Version(after));
            let page = store.peek(reader, newer_than, limit).await.unwrap();
            if after % 2 == 0 {
                let read = store.read_page(reader, newer_than, limit).await;
                assert_eq!(read.unwrap(), page);
            } else {
                let read = store.read_encoded_page(reader, newer_than, limit).await;
                assert_eq!(read.unwrap(), EncodedPage::new(reader, &page));
            }
            let got = page.entries.iter().map(|entry| {
                let message = &entry.message;
                let scope = match message.kind {
                    Kind::Group => GroupId::or_zero(message.group()),
                    Kind::P2p | Kind::Ack => uid,
                };
                let id = message.msg_id().to_string();
                (
                    entry.version.0,
                    key(message.kind, message.source.0, scope, id),
                )
            });
            let (expected, end) = model.read_page(uid, after, count);
            assert_eq!(got.collect::<Vec<_>>(), expected);
            assert_eq!(page.current, end.max(0));
            assert_eq!(page.total, model.inbox_state(uid).total);
            return;
        }
        Step::Wait { minutes } => {
            model.now += minutes * MINUTE;
            return;
        }
        Step::Reload => {
            let mut file = Vec::new();
            let saved = store.snapshot(usize::MAX).await.unwrap();
            saved.write(&mut file).unwrap();
            let read = Snapshot::read(&file).unwrap();
            assert!(read == saved);
            store.replace(read).await.unwrap();
            assert!(store.snapshot(usize::MAX).await.unwrap() == saved);
            model.ledger = Ledger::default();
            for inbox in model.inboxes.values_mut() {
                inbox.delivered = inbox.total;
            }
            return;
        }
        Step::Clean => {
            assert_eq!(store.clean(now).await.unwrap(), model.clean());
            return;
        }
    };
    let mut committed = commit(store, vec![write]).await;
    assert_eq!(in_order(committed.results), in_order(vec![expected]));
    committed.grown_inboxes.sort_by_key(|inbox| inbox.uid);
    grown.sort_by_key(|inbox| inbox.uid);
    assert_eq!(committed.grown_inboxes, grown);
}
