//! Looking into a folder that no `imd` has open.

use std::collections::HashMap;
use std::path::Path;

use serde::Serialize;

use super::copy::{self, Copied};
use super::draft;
use super::engine::{EngineError, Key, Value, View};
use super::folder::{self, Opened};
use super::layout::ENGINE;
use super::manifest;
use super::reader;
use super::record::{
    self, Damaged, EntryRecord, GroupRecord, IdRecord, MemberRecord, MessageRecord, NumberRecord,
    Record, SecretRecord, StateRecord, TextRecord, UserRecord,
};
use crate::config;
use crate::id::{GroupId, MsgId, Uid, Version};
use crate::store::{OpenError, Scope, StoreError};

/// So many problems are kept word for word.
const TOLD: usize = 20;

/// A store's folder, to be looked at: nothing in it is changed.
#[derive(Debug)]
pub struct Inspection {
    copied: Copied,
}

/// Why a folder was not compacted.
#[derive(Debug, thiserror::Error)]
pub enum CompactError {
    /// It can't be used.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// The engine could not write.
    #[error(transparent)]
    Failed(#[from] StoreError),
}

/// What a folder holds.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Findings {
    /// Registered users.
    pub users: u64,
    /// Groups.
    pub groups: u64,
    /// Memberships.
    pub members: u64,
    /// Inboxes that were ever written to.
    pub inboxes: u64,
    /// Entries in them.
    pub entries: u64,
    /// Group messages.
    pub texts: u64,
    /// Message ids that are remembered.
    pub ids: u64,
    /// Commits so far.
    pub commits: u64,
    /// What is wrong, as far as it fits.
    pub problems: Vec<String>,
    /// How much is wrong in all.
    pub wrong: u64,
}

impl Findings {
    fn wrong_or<T>(&mut self, what: impl ToString, instead: T) -> T {
        self.wrong(what);
        instead
    }

    fn wrong(&mut self, what: impl ToString) {
        self.wrong += 1;
        if self.problems.len() < TOLD {
            self.problems.push(what.to_string());
        }
    }
}

/// One thing that is stored.
#[derive(Debug, Serialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum Item {
    /// A registered user. The password is not told.
    User {
        /// Who.
        uid: Uid,
        /// As registered.
        name: String,
    },
    /// A group. Ids of 64 bits are text, because they do not fit a JSON number everywhere.
    Group {
        /// Its id.
        gid: String,
        /// As created.
        name: String,
        /// Who gets its messages.
        members: Vec<Uid>,
    },
    /// An inbox, before its entries.
    Inbox {
        /// Whose.
        uid: Uid,
        /// The read mark.
        read: Version,
        /// Up to here it was removed.
        removed: Version,
        /// The newest version.
        total: Version,
    },
    /// An entry, with the names of the wire.
    #[serde(rename_all = "camelCase")]
    Entry {
        /// Whose inbox.
        uid: Uid,
        /// Its place.
        version: Version,
        /// `p2p`, `group` or `ack`.
        msg_type: &'static str,
        /// Who sent it.
        #[serde(rename = "sourceUID")]
        source_uid: Uid,
        /// The group, or "0".
        #[serde(rename = "groupID")]
        group_id: String,
        /// The sender's id for it.
        #[serde(rename = "msgID")]
        msg_id: String,
        /// The text.
        msg: String,
        /// Unix time in milliseconds.
        send_time: i64,
    },
}

impl Inspection {
    /// Opens a store's folder. No `imd` may have it open, and none can as long as this is there; others may look.
    ///
    /// It has to be readable, and need not be writable. The journals are copied to the system's folder for temporary
    /// files, as long as this is there.
    ///
    /// # Errors
    ///
    /// When it is none, or not in order, or when there is no room for the copy.
    pub fn open(path: &Path) -> Result<Inspection, OpenError> {
        Ok(Inspection {
            copied: copy::open(path, config::Store::default().buffer)?,
        })
    }

    /// The folder of the copy that is looked into. It goes when this is dropped.
    pub fn copy(&self) -> &Path {
        self.copied.path()
    }

    fn view(&self) -> View<'_> {
        self.copied.opened.engine.engine.view()
    }

    /// Reads every record, and makes sure that they fit one another.
    pub fn check(&self) -> Findings {
        self.check_until(|| false).unwrap_or_default()
    }

    /// Does the same until it `is_stopped`, which it asks before each record; none where it was.
    pub fn check_until(&self, is_stopped: impl Fn() -> bool) -> Option<Findings> {
        let view = self.view();
        let mut findings = Findings::default();
        let engine = self.copied.original().join(ENGINE);
        match manifest::altered_tables(&engine, None) {
            Ok(tables) => tables
                .iter()
                .for_each(|table| findings.wrong(folder::not_what_was_written(table))),
            Err(error) => findings.wrong(error),
        }
        // The end of each inbox as far as it was read; the order of the keys lets one number do.
        let mut inbox = (Uid::default(), Version::START);
        // In how many inboxes each text was found.
        let mut found: HashMap<u64, u64> = HashMap::new();
        let walk = Walk::new(&view, Key::from([]));
        for step in walk {
            if is_stopped() {
                return None;
            }
            let (key, value) = match step {
                Ok(record) => record,
                Err(error) => {
                    findings.wrong(error);
                    continue;
                }
            };
            if let Err(error) = check_record(&view, &key, &value, &mut findings) {
                findings.wrong(error);
                continue;
            }
            if key.first() != Some(&b'i') {
                continue;
            }
            let (uid, version): (Uid, Version) =
                (record::first_number(&key), record::last_number(&key));
            if inbox.0 != uid {
                findings.inboxes += 1;
                let cut = number(&view, &record::cut_key(uid));
                inbox = (
                    uid,
                    cut.unwrap_or_else(|error| findings.wrong_or(error, version - 1)),
                );
            }
            if version != inbox.1 + 1 {
                let version = inbox.1 + 1;
                findings.wrong(EngineError::Missing { uid, version });
            }
            inbox.1 = version;
            // It was opened above.
            let entry = EntryRecord::open(&key, &value).unwrap_or_default();
            if entry.message.is_none() {
                *found.entry(entry.text).or_default() += 1;
            }
        }
        check_texts(&view, &found, &mut findings);
        Some(findings)
    }

    /// Gives everything to `item`, or what belongs to one user. What is damaged or missing is left out, and said in the
    /// answer.
    ///
    /// # Errors
    ///
    /// What `item` answers.
    pub fn dump<E>(
        &self,
        only: Option<Uid>,
        mut item: impl FnMut(Item) -> Result<(), E>,
    ) -> Result<Vec<String>, E> {
        let view = self.view();
        let prefixes = match only {
            None => vec![Key::from([])],
            Some(uid) => vec![record::inbox_prefix(uid), record::user_key(uid)],
        };
        let mut problems = Vec::new();
        // Whose inbox it is, and the end of it as far as it was printed.
        let mut inbox = None;
        let walks = prefixes.into_iter().map(|prefix| Walk::new(&view, prefix));
        for step in walks.flatten() {
            let (key, value) = match step {
                Ok(record) => record,
                Err(error) => {
                    problems.push(error);
                    continue;
                }
            };
            let uid = record::first_number(&key);
            let found = match key.first() {
                Some(b'u') => user(&key, &value, uid),
                Some(b'g') => group(&view, &key, &value, record::first_number(&key)),
                Some(b'i') => {
                    let version = record::last_number(&key);
                    let last = match inbox {
                        Some((whose, last)) if whose == uid => last,
                        _ => match draft::Head::read(&view, uid) {
                            Ok(head) => {
                                item(ends(uid, &head))?;
                                head.cut
                            }
                            Err(error) => {
                                problems.push(error.to_string());
                                version - 1
                            }
                        },
                    };
                    if version != last + 1 {
                        let version = last + 1;
                        problems.push(EngineError::Missing { uid, version }.to_string());
                    }
                    inbox = Some((uid, version));
                    entry(&view, &key, &value, uid)
                }
                _ => continue,
            };
            match found {
                Ok(found) => item(found)?,
                Err(error) => problems.push(error.to_string()),
            }
        }
        Ok(problems)
    }

    /// Merges everything in a folder, so that what was removed takes no room any more. This one writes.
    ///
    /// # Errors
    ///
    /// When the folder can't be used, and when the engine can't write.
    pub fn compact(path: &Path) -> Result<(), CompactError> {
        let failed = |error: fjall::Error| StoreError::from(EngineError::from(error));
        let Opened { lock, engine, .. } =
            folder::open_existing(path, config::Store::default().buffer)?;
        let engine = engine.engine;
        engine.compact().map_err(failed)?;
        drop(engine);
        folder::empty_journals(path).map_err(|error| failed(error.into()))?;
        drop(lock);
        Ok(())
    }
}

/// All records under a prefix, also behind those that can't be read.
struct Walk<'a> {
    view: &'a View<'a>,
    prefix: Key,
    found: Box<dyn Iterator<Item = Result<Stored, EngineError>> + 'a>,
    /// The last key that was read since it was begun anew.
    last: Option<Vec<u8>>,
    /// What kind of record is read now.
    kind: u8,
}

/// A key and its value.
type Stored = (Vec<u8>, Vec<u8>);

impl<'a> Walk<'a> {
    fn new(view: &'a View<'a>, prefix: Key) -> Self {
        let from = prefix.clone();
        let mut walk = Walk {
            view,
            kind: prefix.first().copied().unwrap_or_default(),
            prefix,
            found: Box::new(std::iter::empty()),
            last: None,
        };
        walk.begin(&from);
        walk
    }

    fn begin(&mut self, from: &[u8]) {
        let end = [self.prefix.as_slice(), &[u8::MAX; 64]].concat();
        let found = self.view.range(from, &end);
        let to_vecs = |(key, value): (Key, Value)| (key.to_vec(), value.to_vec());
        self.found = Box::new(found.map(move |found| found.map(to_vecs)));
        self.last = None;
    }

    /// Goes on behind what can't be read: with the next inbox, or the next kind of record. Says what is left out.
    fn skip(&mut self, error: &EngineError) -> String {
        let inbox = match &self.last {
            Some(last) if last.first() == Some(&b'i') => Some(record::first_number::<Uid>(last)),
            _ => None,
        };
        let (from, what) = match inbox {
            Some(uid) => {
                let next = record::inbox_prefix(uid.saturating_add(1));
                (next, format!("the rest of the inbox of {uid}"))
            }
            None => {
                let kind = char::from(self.kind);
                self.kind = self.kind.saturating_add(1);
                (
                    Key::from([self.kind]),
                    format!("the rest of the records of kind {kind:?}"),
                )
            }
        };
        if from.starts_with(&self.prefix) {
            self.begin(&from);
        } else {
            self.found = Box::new(std::iter::empty());
        }
        format!("{what} can't be read: {error}")
    }
}

impl Iterator for Walk<'_> {
    type Item = Result<Stored, String>;

    fn next(&mut self) -> Option<Self::Item> {
        match self.found.next()? {
            Ok((key, value)) => {
                self.kind = key.first().copied().unwrap_or_default();
                self.last = Some(key.clone());
                Some(Ok((key, value)))
            }
            Err(error) => Some(Err(self.skip(&error))),
        }
    }
}

fn number(view: &View<'_>, key: &[u8]) -> Result<Version, EngineError> {
    let stored: Option<NumberRecord> = view.get(key)?;
    Ok(Version(stored.map_or(0, |number| number.value)))
}

fn user(key: &[u8], value: &[u8], uid: Uid) -> Result<Item, EngineError> {
    let name = UserRecord::open(key, value)?.name;
    Ok(Item::User { uid, name })
}

fn group(view: &View<'_>, key: &[u8], value: &[u8], gid: GroupId) -> Result<Item, EngineError> {
    let name = GroupRecord::open(key, value)?.name;
    let members = view.prefix(&record::members_prefix(gid));
    let members = members.map(|found| Ok(record::last_number(&found?.0)));
    Ok(Item::Group {
        gid: gid.to_string(),
        name,
        members: members.collect::<Result<_, EngineError>>()?,
    })
}

fn ends(uid: Uid, head: &draft::Head) -> Item {
    Item::Inbox {
        uid,
        read: head.read,
        removed: head.cut,
        total: head.total,
    }
}

fn entry(view: &View<'_>, key: &[u8], value: &[u8], uid: Uid) -> Result<Item, EngineError> {
    let version = record::last_number(key);
    let message = reader::message(view, key, value)?;
    Ok(Item::Entry {
        uid,
        version,
        msg_type: message.kind.msg_type(),
        source_uid: message.source,
        group_id: GroupId::or_zero(message.group()).to_string(),
        msg_id: message.msg_id().to_string(),
        msg: message.text().to_owned(),
        send_time: message.sent_at,
    })
}

/// Checks one record by itself, and that what it points to is there.
fn check_record(
    view: &View<'_>,
    key: &[u8],
    value: &[u8],
    findings: &mut Findings,
) -> Result<(), EngineError> {
    match key.first() {
        Some(b'i') => {
            findings.entries += 1;
            let entry = EntryRecord::open(key, value)?;
            match entry.message {
                Some(message) => {
                    let scope = Scope::Inbox(record::first_number(key));
                    check_id(view, &message, scope, findings)?;
                }
                None => drop(reader::message(view, key, value)?),
            }
        }
        Some(b't') => {
            findings.texts += 1;
            let message = TextRecord::open(key, value)?.message;
            let message = message.ok_or(Damaged::at(key))?;
            let scope = Scope::Group(GroupId(message.group));
            check_id(view, &message, scope, findings)?;
        }
        Some(b'd') => {
            findings.ids += 1;
            IdRecord::open(key, value)?;
        }
        Some(b'u') => {
            findings.users += 1;
            UserRecord::open(key, value)?;
        }
        Some(b'g') => {
            findings.groups += 1;
            GroupRecord::open(key, value)?;
        }
        Some(b'm') => {
            findings.members += 1;
            MemberRecord::open(key, value)?;
        }
        Some(b'f') => drop(MemberRecord::open(key, value)?),
        Some(b'r' | b'c' | b'o' | b'x') => drop(NumberRecord::open(key, value)?),
        Some(b'k') => drop(SecretRecord::open(key, value)?),
        Some(b's') => findings.commits = StateRecord::open(key, value)?.commits,
        _ => return Err(Damaged::at(key).into()),
    }
    Ok(())
}

/// A message that could be stored twice is as wrong as one that is missing.
fn check_id(
    view: &View<'_>,
    message: &MessageRecord,
    scope: Scope,
    findings: &mut Findings,
) -> Result<(), EngineError> {
    let kind = message.kind().ok_or(Damaged(b'i'))?;
    let id = record::id_key(kind, Uid(message.source), MsgId(&message.msg_id), scope);
    if view.get::<IdRecord>(&id)?.is_none() {
        findings.wrong(format!(
            "the id of a message of {} to {scope} is missing",
            message.source
        ));
    }
    Ok(())
}

/// Each text must be in as many inboxes as it was put in, less those that it was removed from.
fn check_texts(view: &View<'_>, found: &HashMap<u64, u64>, findings: &mut Findings) {
    for step in Walk::new(view, Key::from(b"t")) {
        let Ok((key, value)) = step else {
            continue; // Said already.
        };
        let Ok(text) = TextRecord::open(&key, &value) else {
            continue; // Said already.
        };
        let number = record::last_number::<i64>(&key).cast_unsigned();
        let Ok(removed) = self::number(view, &record::removed_key(number)) else {
            continue; // Said already.
        };
        let removed = removed.0.unsigned_abs();
        let there = found.get(&number).copied().unwrap_or_default();
        if there + removed != text.receivers {
            let receivers = text.receivers;
            findings.wrong(format!(
                "text {number} was put into {receivers} inboxes, removed from {removed}, and is in {there}"
            ));
        }
    }
}
