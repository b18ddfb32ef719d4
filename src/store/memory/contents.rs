//! Everything as a snapshot, and from one.

use std::sync::Arc;

use hashbrown::HashMap;

use super::{
    ENTRY, Group, Ids, Inbox, Members, NEW_INBOX, OVERHEAD, Receivers, State, body_size, id_size,
};
use crate::id::{GroupId, Uid, Version};
use crate::store::snapshot::{Draft, Ends, Stored};
use crate::store::{self, Message, Rejected, Retention, SaveError, Scope, Snapshot};

/// What others are told of a group, as of one moment. Cheap to make, whatever the number of members.
pub(super) struct Summary {
    name: String,
    owner: Option<Uid>,
    members: Members,
}

impl Group {
    pub(super) fn summary(&self) -> Summary {
        Summary {
            name: self.name.clone(),
            owner: self.owner,
            members: Arc::clone(&self.members),
        }
    }
}

impl Summary {
    /// The group as others see it.
    pub(super) fn told(self, gid: GroupId) -> store::Group {
        let mut members = self.members.to_vec();
        members.sort_unstable();
        store::Group {
            gid,
            name: self.name,
            owner: self.owner,
            members,
        }
    }
}

impl State {
    /// Everything, as far as it fits `limit` bytes.
    pub(super) fn contents(&self, limit: usize) -> Result<Draft, SaveError> {
        let mut draft = Draft::new(limit, self.newest);
        for (&uid, user) in &self.users {
            draft.user(uid, user.clone())?;
        }
        // Where a message stands in the draft. While it is in an inbox, it is the same one there and among the ids.
        let mut drafted: HashMap<*const Message, usize> = HashMap::new();
        for (&gid, group) in &self.groups {
            draft.group(group.summary().told(gid))?;
            for known in group.ids.iter() {
                let receivers = known.more.members.to_vec();
                let place = draft.message(Arc::clone(&known.message), receivers)?;
                drafted.insert(Arc::as_ptr(&known.message), place);
            }
        }
        for (&uid, inbox) in &self.inboxes {
            draft.inbox(Ends {
                uid,
                read: inbox.read,
                removed: inbox.removed,
                total: inbox.total(),
            })?;
            for known in inbox.ids.iter() {
                let place = draft.message(Arc::clone(&known.message), vec![uid])?;
                drafted.insert(Arc::as_ptr(&known.message), place);
            }
            for (version, message) in inbox.removed.following().zip(inbox.entries.after(0)) {
                if let Some(&place) = drafted.get(&Arc::as_ptr(message)) {
                    draft.place(place, uid, version)?;
                }
            }
        }
        Ok(draft)
    }

    /// A state that holds all of a snapshot, of which nothing is counted yet.
    ///
    /// # Errors
    ///
    /// When it takes more than `limit` bytes.
    pub(super) fn holding(
        snapshot: Snapshot,
        limit: usize,
        retention: Retention,
    ) -> Result<State, Rejected> {
        let mut state = State {
            limit,
            retention,
            newest: snapshot.newest,
            ..State::default()
        };
        for (uid, user) in snapshot.users {
            state.take(OVERHEAD + user.name.len() + user.password_hash.len())?;
            state.users.insert(uid, user);
        }
        for group in snapshot.groups {
            state.take(2 * OVERHEAD + group.name.len())?;
            for &uid in &group.members {
                state.belongs(uid, group.gid)?;
            }
            let made = Group {
                name: group.name,
                owner: group.owner,
                members: Arc::new(group.members),
                is_known: false,
                ids: Ids::default(),
            };
            state.groups.insert(group.gid, made);
        }
        // The entries come in any order.
        let mut entries: HashMap<Uid, Vec<(Version, Arc<Message>)>> = HashMap::new();
        for stored in snapshot.messages {
            state.remembering(stored, &mut entries)?;
        }
        for ends in snapshot.inboxes {
            let mut entries = entries.remove(&ends.uid).unwrap_or_default();
            entries.sort_unstable_by_key(|(version, _)| *version);
            state.inbox(ends, entries)?;
        }
        Ok(state)
    }

    /// Notes a group that a user is or was a member of.
    fn belongs(&mut self, uid: Uid, gid: GroupId) -> Result<(), Rejected> {
        let groups = self.groups_of.get(&uid);
        if groups.is_none_or(|groups| !groups.contains(&gid)) {
            self.take(self.membership_size(uid))?;
            self.groups_of.entry(uid).or_default().insert(gid);
        }
        Ok(())
    }

    /// Takes in a message, but for its entries.
    fn remembering(
        &mut self,
        stored: Stored,
        entries: &mut HashMap<Uid, Vec<(Version, Arc<Message>)>>,
    ) -> Result<(), Rejected> {
        let (.., scope, _) = stored.id();
        let Stored {
            message,
            receivers,
            places,
        } = stored;
        let is_gone = places.is_empty();
        let body = if is_gone { 0 } else { body_size(&message) };
        self.take(body + id_size(message.msg_id()))?;
        match scope {
            Scope::Inbox(uid) => {
                let inbox = self.inboxes.entry(uid).or_default();
                self.inbox_uids.insert(uid);
                if let Some(place) = inbox.ids.place(&message) {
                    place.note(Arc::clone(&message), ());
                }
            }
            Scope::Group(group) => {
                for &uid in &receivers {
                    self.belongs(uid, group)?;
                }
                let group = self.groups.get_mut(&group).ok_or(Rejected::NoSuchGroup)?;
                // Most messages went to all who are there now.
                let members = if *group.members == receivers {
                    Arc::clone(&group.members)
                } else {
                    Arc::new(receivers)
                };
                let left = u32::try_from(places.len()).unwrap_or(u32::MAX);
                if let Some(place) = group.ids.place(&message) {
                    place.note(Arc::clone(&message), Receivers { members, left });
                }
            }
        }
        if is_gone {
            self.remembered_ever += 1;
            let when = (message.sent_at, self.remembered_ever);
            self.remembered.insert(when, (scope, message));
            return Ok(());
        }
        for (uid, version) in places {
            let inbox = entries.entry(uid).or_default();
            inbox.push((version, Arc::clone(&message)));
        }
        Ok(())
    }

    fn inbox(&mut self, ends: Ends, entries: Vec<(Version, Arc<Message>)>) -> Result<(), Rejected> {
        self.take(NEW_INBOX + entries.len() * ENTRY)?;
        if !self.retention.is_off() && ends.total > Version::START {
            self.owners.push(ends.uid);
        }
        self.inbox_uids.insert(ends.uid);
        let known = self.inboxes.entry(ends.uid).or_default();
        let ids = std::mem::take(&mut known.ids);
        *known = Inbox {
            removed: ends.removed,
            entries: entries.into_iter().map(|(_, message)| message).collect(),
            read: ends.read,
            delivered: ends.total,
            ids,
            ..Inbox::default()
        };
        Ok(())
    }
}
