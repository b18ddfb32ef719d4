use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use async_trait::async_trait;
use parking_lot::Mutex;

use super::{
    Committed, Entry, Kind, Ledger, Level, Message, Page, PageLimit, Rejected, Store, StoreFailed,
    User, Write,
};

/// What a map entry or a shared allocation takes beside its contents, in bytes, roughly.
const OVERHEAD: usize = 64;

/// Everything in memory, up to a limit; gone with the process.
#[derive(Debug)]
pub struct MemoryStore {
    limit: usize,
    signing_key: [u8; 32],
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// What is held, in bytes, roughly.
    used: usize,
    ledger: Ledger,
    users: HashMap<i64, User>,
    groups: HashMap<i64, Group>,
    /// The groups that each user is or was a member of.
    groups_of: HashMap<i64, HashSet<i64>>,
    inboxes: HashMap<i64, Inbox>,
    /// Every message that was stored, by what makes it the same one when it is sent again.
    sent: HashMap<Identity, Receivers>,
}

#[derive(Debug)]
struct Group {
    /// Shared with the messages that went to just these members; replaced when one joins or quits.
    members: Arc<[i64]>,
}

#[derive(Debug, Default)]
struct Inbox {
    /// The entry of version n is at n - 1.
    entries: Vec<Arc<Message>>,
    read: i64,
    /// The highest version that stood in a page.
    delivered: i64,
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct Identity {
    kind: Kind,
    source: i64,
    /// The receiver, or the group.
    scope: i64,
    msg_id: Box<str>,
}

#[derive(Debug)]
enum Receivers {
    /// The scope is the receiver.
    Scope,
    Members(Arc<[i64]>),
}

impl Inbox {
    fn total(&self) -> i64 {
        self.entries.len().cast_signed() as i64
    }
}

impl MemoryStore {
    /// An empty store that holds at most about `limit` bytes.
    pub fn new(limit: usize) -> Self {
        MemoryStore {
            limit,
            signing_key: rand::random(),
            state: Mutex::default(),
        }
    }
}

impl State {
    fn apply(
        &mut self,
        write: Write,
        limit: usize,
        grown: &mut Vec<Level>,
    ) -> Result<(), Rejected> {
        match write {
            Write::P2p { target, message } => self.deliver(target, message, limit, grown),
            Write::Ack { target, message } => {
                if !self.has_received(message.source, target, &message.msg_id) {
                    return Err(Rejected::NoSuchMessage);
                }
                self.deliver(target, message, limit, grown)
            }
            Write::Group { message } => self.deliver_to_group(message, limit, grown),
            Write::Register { uid, user } => {
                if self.users.contains_key(&uid) {
                    return Err(Rejected::UserExists);
                }
                self.take(OVERHEAD + user.name.len() + user.password_hash.len(), limit)?;
                self.users.insert(uid, user);
                Ok(())
            }
            Write::CreateGroup { group, name, owner } => {
                self.take(4 * OVERHEAD + name.len(), limit)?;
                self.groups.insert(
                    group,
                    Group {
                        members: Arc::from([owner]),
                    },
                );
                self.groups_of.entry(owner).or_default().insert(group);
                Ok(())
            }
            Write::Join { group, uid, most } => self.join(group, uid, most, limit),
            Write::Quit { group, uid } => {
                let group = self.groups.get_mut(&group).ok_or(Rejected::NoSuchGroup)?;
                if group.members.contains(&uid) {
                    group.members = group
                        .members
                        .iter()
                        .copied()
                        .filter(|&m| m != uid)
                        .collect();
                }
                Ok(())
            }
        }
    }

    /// Counts `bytes` as used, if there is room for them.
    fn take(&mut self, bytes: usize, limit: usize) -> Result<(), Rejected> {
        let used = self.used.saturating_add(bytes);
        if used > limit {
            return Err(Rejected::Full);
        }
        self.used = used;
        Ok(())
    }

    fn deliver(
        &mut self,
        target: i64,
        message: Message,
        limit: usize,
        grown: &mut Vec<Level>,
    ) -> Result<(), Rejected> {
        let identity = Identity::of(&message, target);
        if self.sent.contains_key(&identity) {
            return Ok(());
        }
        self.take(message_size(&message) + entry_size(1), limit)?;
        self.sent.insert(identity, Receivers::Scope);
        grown.push(self.append(target, Arc::new(message)));
        Ok(())
    }

    fn deliver_to_group(
        &mut self,
        message: Message,
        limit: usize,
        grown: &mut Vec<Level>,
    ) -> Result<(), Rejected> {
        let group = self
            .groups
            .get(&message.group)
            .ok_or(Rejected::NoSuchGroup)?;
        if !group.members.contains(&message.source) {
            return Err(Rejected::NotAMember);
        }
        let identity = Identity::of(&message, message.group);
        if self.sent.contains_key(&identity) {
            return Ok(());
        }
        let members = Arc::clone(&group.members);
        self.take(message_size(&message) + entry_size(members.len()), limit)?;
        let message = Arc::new(message);
        grown.extend(
            members
                .iter()
                .map(|&uid| self.append(uid, Arc::clone(&message))),
        );
        self.sent.insert(identity, Receivers::Members(members));
        Ok(())
    }

    fn append(&mut self, uid: i64, message: Arc<Message>) -> Level {
        let inbox = self.inboxes.entry(uid).or_default();
        inbox.entries.push(message);
        self.ledger.stored += 1;
        Level {
            uid,
            read: inbox.read,
            total: inbox.total(),
        }
    }

    fn join(&mut self, gid: i64, uid: i64, most: usize, limit: usize) -> Result<(), Rejected> {
        let members = &self.groups.get(&gid).ok_or(Rejected::NoSuchGroup)?.members;
        if members.contains(&uid) {
            return Ok(());
        }
        if members.len() >= most {
            return Err(Rejected::GroupFull);
        }
        let members = members.iter().copied().chain([uid]).collect();
        self.take(2 * OVERHEAD, limit)?;
        self.groups.insert(gid, Group { members });
        self.groups_of.entry(uid).or_default().insert(gid);
        Ok(())
    }

    /// Whether `uid` got a message of that id from `source`, alone or as a member of a group.
    fn has_received(&self, uid: i64, source: i64, msg_id: &str) -> bool {
        let find = |kind, scope| {
            self.sent.get(&Identity {
                kind,
                source,
                scope,
                msg_id: msg_id.into(),
            })
        };
        if find(Kind::P2p, uid).is_some() {
            return true;
        }
        let groups = self.groups_of.get(&uid).into_iter().flatten();
        groups
            .filter_map(|&group| find(Kind::Group, group))
            .any(|receivers| match receivers {
                Receivers::Members(members) => members.contains(&uid),
                Receivers::Scope => false,
            })
    }
}

impl Identity {
    fn of(message: &Message, scope: i64) -> Self {
        Identity {
            kind: message.kind,
            source: message.source,
            scope,
            msg_id: message.msg_id.as_str().into(),
        }
    }
}

/// What a message takes, its identity included.
fn message_size(message: &Message) -> usize {
    size_of::<Message>() + message.text.len() + 2 * message.msg_id.len() + 3 * OVERHEAD
}

/// What it takes in the inboxes of its receivers.
fn entry_size(receivers: usize) -> usize {
    2 * size_of::<Arc<Message>>() * receivers
}

#[async_trait]
impl Store for MemoryStore {
    fn describe(&self) -> String {
        "memory".into()
    }

    async fn commit(&self, batch: Vec<Write>) -> Result<Committed, StoreFailed> {
        let mut grown = Vec::with_capacity(batch.len());
        let mut state = self.state.lock();
        let results = batch
            .into_iter()
            .map(|write| state.apply(write, self.limit, &mut grown))
            .collect();
        Ok(Committed { results, grown })
    }

    async fn sync(&self, uid: i64, after: i64, limit: PageLimit) -> Result<Page, StoreFailed> {
        let mut state = self.state.lock();
        let State {
            inboxes, ledger, ..
        } = &mut *state;
        let Some(inbox) = inboxes.get_mut(&uid) else {
            return Ok(Page {
                entries: Vec::new(),
                current: 0,
                total: 0,
            });
        };
        let total = inbox.total();
        let mut current = after.max(0);
        if current > total {
            current = 0;
        } else {
            inbox.read = inbox.read.max(current);
        }
        let most = if limit.entries == 0 {
            usize::MAX
        } else {
            limit.entries
        };
        let mut room = limit.bytes;
        let mut entries = Vec::new();
        let start = usize::try_from(current).unwrap_or(usize::MAX);
        for message in inbox.entries.iter().skip(start).take(most) {
            let entry = Entry {
                version: current + 1,
                message: Arc::clone(message),
            };
            match room.checked_sub(entry.wire_len(uid)) {
                Some(left) => room = left,
                None => break,
            }
            current = entry.version;
            entries.push(entry);
        }
        if !entries.is_empty() && current > inbox.delivered {
            ledger.delivered += (current - inbox.delivered).unsigned_abs();
            inbox.delivered = current;
        }
        Ok(Page {
            entries,
            current,
            total,
        })
    }

    async fn level(&self, uid: i64) -> Result<Level, StoreFailed> {
        let state = self.state.lock();
        let (read, total) = state
            .inboxes
            .get(&uid)
            .map_or((0, 0), |i| (i.read, i.total()));
        Ok(Level { uid, read, total })
    }

    async fn user(&self, uid: i64) -> Result<Option<User>, StoreFailed> {
        Ok(self.state.lock().users.get(&uid).cloned())
    }

    async fn signing_key(&self) -> Result<[u8; 32], StoreFailed> {
        Ok(self.signing_key)
    }

    fn ledger(&self) -> Ledger {
        self.state.lock().ledger
    }

    async fn flush(&self) -> Result<(), StoreFailed> {
        Ok(())
    }
}
