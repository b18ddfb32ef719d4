//! The contents of the simulated store, and the records that change them.
//!
//! Serves the [store](super::store), which keeps a log of records and makes the contents from it after a crash. A write is
//! turned into records in one place, [`State::records`], where the planted bugs of writes are too.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use imd::id::{GroupId, Uid, Version};
use imd::store::{InboxState, Kind, Message, Rejected, User, Write};

use super::bug::Bug;

/// What a message is recognised by when it is sent again.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct DedupKey {
    pub kind: Kind,
    source: Uid,
    /// The receiver, or the group of a group message.
    scope: i64,
    msg_id: String,
}

/// The smallest change of the contents. A crash keeps a record or loses it as a whole.
#[derive(Debug, Clone)]
pub enum Record {
    User {
        uid: Uid,
        user: User,
    },
    Member {
        group: GroupId,
        uid: Uid,
    },
    Left {
        group: GroupId,
        uid: Uid,
    },
    /// A message was stored. It is not stored again when it is sent again.
    Stored(DedupKey),
    Entry {
        uid: Uid,
        version: Version,
        message: Arc<Message>,
    },
    /// An entry gets another text, which only a bug does.
    NewText {
        uid: Uid,
        version: Version,
        text: String,
    },
    /// A read mark moves forward.
    ReadMark {
        uid: Uid,
        read: Version,
    },
    /// The store has seen this time, in Unix milliseconds.
    TimeSeen(i64),
}

/// The contents of the store: all records, applied in their order.
#[derive(Default)]
pub struct State {
    pub users: HashMap<Uid, User>,
    groups: HashMap<GroupId, Vec<Uid>>,
    pub inboxes: HashMap<Uid, Inbox>,
    /// The newest time that the store has seen, in Unix milliseconds.
    pub latest_time_ms: i64,
    stored: HashSet<DedupKey>,
}

#[derive(Default)]
pub struct Inbox {
    /// The versions are 1 to n, unless a bug gives out others.
    pub entries: Vec<(Version, Arc<Message>)>,
    read: Version,
}

/// Gives out versions. The right way to do so is [`SequentialVersions`]; the other ways are planted bugs.
pub trait Versions {
    /// Returns the version of the next entry of an inbox whose newest version is `total`.
    fn next(&mut self, uid: Uid, total: Version) -> Version;
}

/// Gives each entry the version behind the newest one.
pub struct SequentialVersions;

impl Versions for SequentialVersions {
    fn next(&mut self, _uid: Uid, total: Version) -> Version {
        total + 1
    }
}

impl State {
    /// Returns how far an inbox goes, and how far it is read.
    pub fn inbox_state(&self, uid: Uid) -> InboxState {
        let (read, total) = self.inboxes.get(&uid).map_or(Default::default(), |inbox| {
            let newest = inbox.entries.last();
            (
                inbox.read,
                newest.map_or(Version::START, |(version, _)| *version),
            )
        });
        InboxState { uid, read, total }
    }

    /// Applies one record.
    pub fn apply(&mut self, record: &Record) {
        match record {
            Record::User { uid, user } => {
                self.users.insert(*uid, user.clone());
            }
            Record::Member { group, uid } => self.groups.entry(*group).or_default().push(*uid),
            Record::Left { group, uid } => {
                let members = self.groups.entry(*group).or_default();
                members.retain(|member| member != uid);
            }
            Record::Stored(key) => {
                self.stored.insert(key.clone());
            }
            Record::Entry {
                uid,
                version,
                message,
            } => {
                self.latest_time_ms = self.latest_time_ms.max(message.sent_at);
                let inbox = self.inboxes.entry(*uid).or_default();
                inbox.entries.push((*version, Arc::clone(message)));
            }
            Record::NewText { uid, version, text } => {
                let inbox = self.inboxes.entry(*uid).or_default();
                for (_, message) in inbox.entries.iter_mut().filter(|(at, _)| at == version) {
                    *message = Arc::new(message.with_text(text));
                }
            }
            Record::ReadMark { uid, read } => {
                let inbox = self.inboxes.entry(*uid).or_default();
                inbox.read = inbox.read.max(*read);
            }
            Record::TimeSeen(at) => self.latest_time_ms = self.latest_time_ms.max(*at),
        }
    }

    /// Returns the records that a write adds, or why the write is rejected. Changes nothing.
    pub fn records(
        &self,
        write: &Write,
        versions: &mut dyn Versions,
        bug: Option<Bug>,
    ) -> Result<Vec<Record>, Rejected> {
        let members = |group| self.groups.get(&group).ok_or(Rejected::NoSuchGroup);
        Ok(match write {
            // Acks of messages that were never received are not sent by these tests, so they are not rejected here.
            Write::P2p { target, message } | Write::Ack { target, message } => {
                self.delivery(target.0, &[*target], message, versions, bug)
            }
            Write::Group { message } => {
                let group = message.group().ok_or(Rejected::NoSuchGroup)?;
                let members = members(group)?;
                if !members.contains(&message.source) {
                    return Err(Rejected::NotAMember);
                }
                self.delivery(group.0, members, message, versions, bug)
            }
            Write::Register { uid, user } => {
                if self.users.contains_key(uid) {
                    return Err(Rejected::UserExists);
                }
                let (uid, user) = (*uid, user.clone());
                vec![Record::User { uid, user }]
            }
            Write::CreateGroup {
                group,
                owner,
                members,
                made_at,
                ..
            } => {
                let group = *group;
                let others = members.iter().filter(|uid| *uid != owner);
                let all = [owner].into_iter().chain(others);
                let members = all.map(|&uid| Record::Member { group, uid });
                members.chain([Record::TimeSeen(*made_at)]).collect()
            }
            Write::Join { group, uids, .. } => {
                let (group, members) = (*group, members(*group)?);
                let new = uids.iter().filter(|uid| !members.contains(uid));
                new.map(|&uid| Record::Member { group, uid }).collect()
            }
            Write::IssuedIds { up_to_ms } => vec![Record::TimeSeen(*up_to_ms)],
            Write::Quit { group, uid } => {
                members(*group)?;
                let (group, uid) = (*group, *uid);
                vec![Record::Left { group, uid }]
            }
            Write::MarkRead { .. } if bug == Some(Bug::ReadMarkNotSynced) => Vec::new(),
            Write::MarkRead { uid, read } if *read > self.inbox_state(*uid).total => Vec::new(),
            Write::MarkRead { uid, read } => {
                let (uid, read) = (*uid, *read);
                vec![Record::ReadMark { uid, read }]
            }
        })
    }

    /// Returns the records that store a message or an ack in the inboxes of its receivers. There are none if it was stored
    /// before.
    fn delivery(
        &self,
        scope: i64,
        receivers: &[Uid],
        message: &Message,
        versions: &mut dyn Versions,
        bug: Option<Bug>,
    ) -> Vec<Record> {
        let key = DedupKey {
            kind: message.kind,
            source: message.source,
            scope,
            msg_id: message.msg_id().to_string(),
        };
        if self.stored.contains(&key) {
            return match bug {
                Some(Bug::Overwrites) => self.new_text(receivers, message),
                _ => Vec::new(),
            };
        }
        let message = Arc::new(message.clone());
        let entries = receivers.iter().map(|&uid| Record::Entry {
            uid,
            version: versions.next(uid, self.inbox_state(uid).total),
            message: Arc::clone(&message),
        });
        [Record::Stored(key)].into_iter().chain(entries).collect()
    }

    /// Returns the records that replace the text of a stored message: the bug [`Bug::Overwrites`].
    fn new_text(&self, receivers: &[Uid], message: &Message) -> Vec<Record> {
        let mut records = Vec::new();
        for &uid in receivers {
            let entries = self
                .inboxes
                .get(&uid)
                .into_iter()
                .flat_map(|inbox| &inbox.entries);
            let same = entries.filter(|(_, entry)| {
                (entry.kind, entry.source, entry.msg_id())
                    == (message.kind, message.source, message.msg_id())
            });
            records.extend(same.map(|(version, _)| Record::NewText {
                uid,
                version: *version,
                text: message.text().to_owned(),
            }));
        }
        records
    }

    /// Removes all members of each group except the first, its creator: the bug [`Bug::ForgetsMembers`].
    pub fn forget_members(&mut self) {
        for members in self.groups.values_mut() {
            members.truncate(1);
        }
    }

    /// Cuts the last character off the newest text of each inbox: the bug [`Bug::TornText`].
    pub fn tear_newest_texts(&mut self) {
        for inbox in self.inboxes.values_mut() {
            if let Some((_, message)) = inbox.entries.last_mut() {
                let mut text = message.text().to_owned();
                text.pop();
                *message = Arc::new(message.with_text(&text));
            }
        }
    }

    /// Swaps the messages of the newest two entries of each inbox, if two users have sent them: the bug [`Bug::Reordered`].
    /// Two messages of one user stay, because their order is another promise.
    pub fn swap_newest_entries(&mut self) {
        for inbox in self.inboxes.values_mut() {
            if let [.., (_, before), (_, newest)] = inbox.entries.as_mut_slice()
                && before.source != newest.source
            {
                std::mem::swap(before, newest);
            }
        }
    }
}
