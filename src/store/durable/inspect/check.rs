//! Checks that every record can be read, and that the records fit one another.
//!
//! Serves `imd store check`. A problem does not end the check: it goes on behind the record, and counts all problems.

use std::collections::HashMap;
use std::path::Path;

use super::super::engine::{EngineError, View};
use super::super::folder;
use super::super::kv::Key;
use super::super::manifest;
use super::super::reader;
use super::super::record::{
    self, Damaged, EntryRecord, GroupRecord, IdRecord, MemberRecord, MessageRecord, NumberRecord,
    Record, SecretRecord, SharedMessageRecord, StateRecord, UserRecord, tag,
};
use super::walk::Walk;
use crate::id::{GroupId, MsgId, Uid, Version};
use crate::store::{Kind, Scope};

/// How many problems are kept as text. The others are counted.
const MAX_PROBLEMS: usize = 20;

/// The result of a check.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Findings {
    /// The number of registered users.
    pub users: u64,
    /// The number of groups.
    pub groups: u64,
    /// The number of members of all groups together.
    pub members: u64,
    /// The number of inboxes that have entries.
    pub inboxes: u64,
    /// The number of entries of all inboxes together.
    pub entries: u64,
    /// The number of messages to groups, each of which is stored once.
    pub group_messages: u64,
    /// The number of message ids that are kept for deduplication.
    pub ids: u64,
    /// The number of commits since the store was created.
    pub commits: u64,
    /// The first problems, as sentences.
    pub problems: Vec<String>,
    /// The number of all problems.
    pub wrong: u64,
}

impl Findings {
    fn wrong(&mut self, what: impl ToString) {
        self.wrong += 1;
        if self.problems.len() < MAX_PROBLEMS {
            self.problems.push(what.to_string());
        }
    }
}

/// Checks all records of `view`, and the tables in the folder `engine`, until `is_stopped` returns true. Returns none
/// if the check was stopped.
pub fn check(view: &View<'_>, engine: &Path, is_stopped: impl Fn() -> bool) -> Option<Findings> {
    let mut checker = Checker {
        view,
        findings: Findings::default(),
        inbox: InboxWalk::default(),
        shares: HashMap::new(),
        highest_recorded_id: 0,
    };
    checker.check_tables(engine);
    for step in Walk::new(view, Key::from([])) {
        if is_stopped() {
            return None;
        }
        match step {
            Ok((key, value)) => checker.check_record(&key, &value),
            Err(error) => checker.findings.wrong(error),
        }
    }
    checker.check_shared_messages();
    Some(checker.findings)
}

/// A check in progress.
struct Checker<'a> {
    view: &'a View<'a>,
    findings: Findings,
    /// The inbox of the entry that was read last. One is enough, because the walk is by key.
    inbox: InboxWalk,
    /// The number of inboxes that each shared message was found in.
    shares: HashMap<u64, u64>,
    /// The highest number among the recorded ids of messages to one user so far; 0 if there is none.
    highest_recorded_id: i64,
}

/// How far the check of an inbox has come.
#[derive(Default)]
struct InboxWalk {
    uid: Uid,
    /// The version of the entry that was read last, or the newest version that was removed.
    version: Version,
    /// The highest ordered id up to that entry; 0 if there is none.
    highest_ordered_id: i64,
}

impl Checker<'_> {
    /// Checks that the tables are those that were written.
    fn check_tables(&mut self, engine: &Path) {
        match manifest::altered_tables(engine, None) {
            Ok(tables) => tables
                .iter()
                .for_each(|table| self.findings.wrong(folder::not_what_was_written(table))),
            Err(error) => self.findings.wrong(error),
        }
    }

    /// Checks a record, and if it is an entry, that none is missing before it.
    fn check_record(&mut self, key: &[u8], value: &[u8]) {
        if let Err(error) = self.check_alone(key, value) {
            return self.findings.wrong(error);
        }
        if key.first() == Some(&tag::ENTRY) {
            // `check_alone` has decoded the value already.
            let entry = EntryRecord::decode_checked(key, value).unwrap_or_default();
            self.check_order(key, &entry);
            if entry.message.is_none() {
                *self.shares.entry(entry.shared).or_default() += 1;
            }
        }
    }

    /// Checks that an entry follows the one before it in its inbox, or the entries that were removed.
    fn check_order(&mut self, key: &[u8], entry: &EntryRecord) {
        let (uid, version): (Uid, Version) = (record::first_number(key), record::last_number(key));
        if self.inbox.uid != uid {
            self.findings.inboxes += 1;
            let trimmed_through = match self.view.number(&record::trimmed_through_key(uid)) {
                Ok(version) => Version(version),
                Err(error) => {
                    self.findings.wrong(error);
                    version - 1
                }
            };
            self.inbox = InboxWalk {
                uid,
                version: trimmed_through,
                highest_ordered_id: 0,
            };
        }
        let expected = self.inbox.version + 1;
        if version != expected {
            let version = expected;
            self.findings.wrong(EngineError::Missing { uid, version });
        }
        let (before, highest) = (self.inbox.highest_ordered_id, entry.highest_ordered_id());
        if highest < before || (entry.is_ordered && highest == before) {
            self.findings.wrong(format!(
                "the entry {version} of the inbox of {uid} is not in the order of the ids before it"
            ));
        }
        (self.inbox.version, self.inbox.highest_ordered_id) = (version, highest);
    }

    /// Checks a record by itself, and that the records that it refers to exist.
    fn check_alone(&mut self, key: &[u8], value: &[u8]) -> Result<(), EngineError> {
        match key.first().copied() {
            Some(tag::ENTRY) => {
                self.findings.entries += 1;
                let entry = EntryRecord::decode_checked(key, value)?;
                match (entry.message, entry.is_ordered) {
                    (Some(message), true) => {
                        self.findings.ids += 1;
                        if message.kind() != Some(Kind::P2p) {
                            return Err(Damaged::at(key).into());
                        }
                    }
                    (Some(message), false) => {
                        self.check_id(&message, Scope::Inbox(record::first_number(key)))?;
                    }
                    (None, _) => drop(reader::message(self.view, key, value)?),
                }
            }
            Some(tag::SHARED_MESSAGE) => {
                self.findings.group_messages += 1;
                let message = SharedMessageRecord::decode_checked(key, value)?.message;
                let message = message.ok_or(Damaged::at(key))?;
                self.check_id(&message, Scope::Group(GroupId(message.group)))?;
            }
            Some(tag::MESSAGE_ID) => {
                self.findings.ids += 1;
                IdRecord::decode_checked(key, value)?;
                let number = record::p2p_number(key).unwrap_or_default();
                self.highest_recorded_id = self.highest_recorded_id.max(number);
            }
            Some(tag::USER) => {
                self.findings.users += 1;
                UserRecord::decode_checked(key, value)?;
            }
            Some(tag::GROUP) => {
                self.findings.groups += 1;
                GroupRecord::decode_checked(key, value)?;
            }
            Some(tag::MEMBER) => {
                self.findings.members += 1;
                MemberRecord::decode_checked(key, value)?;
            }
            Some(tag::FORMER_MEMBER) => drop(MemberRecord::decode_checked(key, value)?),
            Some(tag::READ_MARK | tag::TRIMMED_THROUGH | tag::SHARED_REMOVED) => {
                NumberRecord::decode_checked(key, value)?;
            }
            Some(tag::SIGNING_KEY) => drop(SecretRecord::decode_checked(key, value)?),
            Some(tag::STATE) => {
                let state = StateRecord::decode_checked(key, value)?;
                self.findings.commits = state.last_commit;
                // The walk is by key, so all ids come before the state.
                if state.highest_recorded_id < self.highest_recorded_id {
                    self.findings.wrong(format!(
                        "an id up to {} has a record, and the state says up to {}",
                        self.highest_recorded_id, state.highest_recorded_id
                    ));
                }
            }
            Some(tag::EXPIRING_ID) => {
                NumberRecord::decode_checked(key, value)?;
                let (_, id) = record::expiring(key).ok_or(Damaged::at(key))?;
                if self.view.get::<IdRecord>(id)?.is_none() {
                    self.findings
                        .wrong("the id of a removed message is missing");
                }
            }
            _ => return Err(Damaged::at(key).into()),
        }
        Ok(())
    }

    /// Checks that the id of a message is stored. Without it, the message could be stored twice.
    fn check_id(&mut self, message: &MessageRecord, scope: Scope) -> Result<(), EngineError> {
        let kind = message.kind().ok_or(Damaged(tag::ENTRY))?;
        let id = record::id_key(kind, Uid(message.source), MsgId(&message.msg_id), scope);
        if self.view.get::<IdRecord>(&id)?.is_none() {
            self.findings.wrong(format!(
                "the id of a message of {} to {scope} is missing",
                message.source
            ));
        }
        Ok(())
    }

    /// Checks that each shared message is in as many inboxes as it was put into, less those that it was removed from. A
    /// record that can't be read was reported before.
    fn check_shared_messages(&mut self) {
        for (key, value) in Walk::new(self.view, Key::from(record::SHARED_MESSAGE_PREFIX)).flatten()
        {
            let Ok(shared) = SharedMessageRecord::decode_checked(&key, &value) else {
                continue;
            };
            let number = record::last_number::<i64>(&key).cast_unsigned();
            let Ok(removed) = self.view.number(&record::shared_removed_key(number)) else {
                continue;
            };
            let removed = removed.unsigned_abs();
            let there = self.shares.get(&number).copied().unwrap_or_default();
            if there + removed != shared.receivers {
                let receivers = shared.receivers;
                self.findings.wrong(format!(
                    "shared message {number} was put into {receivers} inboxes, removed from {removed}, and is in {there}"
                ));
            }
        }
    }
}
