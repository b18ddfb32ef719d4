//! What the simulated store holds, and the records that it is made of.

use imd::id::{GroupId, Uid, Version};
use imd::store::{InboxState, Kind, Message, Rejected, User, Write};
use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use super::bug::Bug;

/// The same message when it is sent again: kind, source, receiver or group, id.
pub type Identity = (Kind, Uid, i64, String);

/// The smallest change.
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
    Sent(Identity),
    Entry {
        uid: Uid,
        version: Version,
        message: Arc<Message>,
    },
    /// Another text for an entry, which only a bug would write.
    Text {
        uid: Uid,
        version: Version,
        text: String,
    },
    Mark {
        uid: Uid,
        read: Version,
    },
    /// Something was made at this time.
    Made(i64),
}

#[derive(Default)]
pub struct State {
    pub users: HashMap<Uid, User>,
    groups: HashMap<GroupId, Vec<Uid>>,
    pub inboxes: HashMap<Uid, Inbox>,
    /// The newest time at which something was sent or made.
    pub newest: i64,
    sent: HashSet<Identity>,
}

#[derive(Default)]
pub struct Inbox {
    /// With their versions, which are 1 to n unless a bug says otherwise.
    pub entries: Vec<(Version, Arc<Message>)>,
    read: Version,
}

/// Gives the next version of an inbox, whose newest is `total`.
pub trait Versions {
    fn next(&mut self, uid: Uid, total: Version) -> Version;
}

/// The right way.
pub struct AfterTheNewest;

impl Versions for AfterTheNewest {
    fn next(&mut self, _uid: Uid, total: Version) -> Version {
        total + 1
    }
}

impl State {
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
            Record::Sent(identity) => {
                self.sent.insert(identity.clone());
            }
            Record::Entry {
                uid,
                version,
                message,
            } => {
                self.newest = self.newest.max(message.sent_at);
                let inbox = self.inboxes.entry(*uid).or_default();
                inbox.entries.push((*version, Arc::clone(message)));
            }
            Record::Text { uid, version, text } => {
                let inbox = self.inboxes.entry(*uid).or_default();
                for (_, message) in inbox.entries.iter_mut().filter(|(at, _)| at == version) {
                    *message = Arc::new(message.with_text(text));
                }
            }
            Record::Mark { uid, read } => {
                let inbox = self.inboxes.entry(*uid).or_default();
                inbox.read = inbox.read.max(*read);
            }
            Record::Made(at) => self.newest = self.newest.max(*at),
        }
    }

    /// What a write changes.
    pub fn records(
        &self,
        write: &Write,
        versions: &mut dyn Versions,
        bug: Option<Bug>,
    ) -> Result<Vec<Record>, Rejected> {
        let members = |group| self.groups.get(&group).ok_or(Rejected::NoSuchGroup);
        Ok(match write {
            // Who accepts what they never got is no part of these tests.
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
                members.chain([Record::Made(*made_at)]).collect()
            }
            Write::Join { group, uids, .. } => {
                let (group, there) = (*group, members(*group)?);
                let new = uids.iter().filter(|uid| !there.contains(uid));
                new.map(|&uid| Record::Member { group, uid }).collect()
            }
            Write::IssuedIds { reached } => vec![Record::Made(*reached)],
            Write::Quit { group, uid } => {
                members(*group)?;
                let (group, uid) = (*group, *uid);
                vec![Record::Left { group, uid }]
            }
            Write::Read { .. } if bug == Some(Bug::MarkBack) => Vec::new(),
            Write::Read { uid, after } if *after > self.inbox_state(*uid).total => Vec::new(),
            Write::Read { uid, after } => {
                let (uid, read) = (*uid, *after);
                vec![Record::Mark { uid, read }]
            }
        })
    }

    fn delivery(
        &self,
        scope: i64,
        receivers: &[Uid],
        message: &Message,
        versions: &mut dyn Versions,
        bug: Option<Bug>,
    ) -> Vec<Record> {
        let identity = (
            message.kind,
            message.source,
            scope,
            message.msg_id().to_string(),
        );
        if self.sent.contains(&identity) {
            return match bug {
                Some(Bug::Overwrites) => self.overwriting(receivers, message),
                _ => Vec::new(),
            };
        }
        let message = Arc::new(message.clone());
        let entries = receivers.iter().map(|&uid| Record::Entry {
            uid,
            version: versions.next(uid, self.inbox_state(uid).total),
            message: Arc::clone(&message),
        });
        [Record::Sent(identity)]
            .into_iter()
            .chain(entries)
            .collect()
    }

    fn overwriting(&self, receivers: &[Uid], message: &Message) -> Vec<Record> {
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
            records.extend(same.map(|(version, _)| Record::Text {
                uid,
                version: *version,
                text: message.text().to_owned(),
            }));
        }
        records
    }

    /// Leaves each group with the member that it had first.
    pub fn forget_members(&mut self) {
        for members in self.groups.values_mut() {
            members.truncate(1);
        }
    }

    /// Cuts the end off the newest text of each inbox.
    pub fn tear_the_newest(&mut self) {
        for inbox in self.inboxes.values_mut() {
            if let Some((_, message)) = inbox.entries.last_mut() {
                let mut text = message.text().to_owned();
                text.pop();
                *message = Arc::new(message.with_text(&text));
            }
        }
    }

    /// The newest two entries of each inbox change places; not two of one sender, which another promise is about.
    pub fn swap_the_newest(&mut self) {
        for inbox in self.inboxes.values_mut() {
            if let [.., (_, before), (_, newest)] = inbox.entries.as_mut_slice()
                && before.source != newest.source
            {
                std::mem::swap(before, newest);
            }
        }
    }
}
