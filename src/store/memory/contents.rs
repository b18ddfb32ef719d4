//! Makes a snapshot of the contents, and contents of a snapshot.

use std::sync::Arc;

use hashbrown::HashMap;

use super::groups::{Group, Receivers};
use super::ids::Ids;
use super::inbox::Inbox;
use super::state::{ALLOCATION, ENTRY, NEW_INBOX, State, body_size, id_size};
use crate::id::{GroupId, Uid, Version};
use crate::store::snapshot::{InboxSummary, SnapshotBuilder, StoredMessage};
use crate::store::{Message, Rejected, Retention, SaveError, Scope, Snapshot};

impl State {
    /// Returns the contents, for a snapshot of at most about `limit` bytes.
    ///
    /// The lock is held meanwhile: a snapshot is the picture of one moment, and the contents can't be read in pieces
    /// without keeping what changes between them.
    ///
    /// # Errors
    ///
    /// [`SaveError::TooLarge`] when they take more.
    pub(super) fn contents(&self, limit: usize) -> Result<SnapshotBuilder, SaveError> {
        let mut builder = SnapshotBuilder::new(limit, self.latest_time_ms);
        for (&uid, user) in &self.users {
            builder.user(uid, user.clone())?;
        }
        // The index of each message in the snapshot, by its address: the ids and the inboxes share the messages.
        let mut indexes: HashMap<*const Message, usize> = HashMap::new();
        for (&gid, group) in &self.groups {
            builder.group(group.summary().into_group(gid))?;
            for known in group.ids.iter() {
                let receivers = known.detail.members.to_vec();
                let place = builder.message(Arc::clone(&known.message), receivers)?;
                indexes.insert(Arc::as_ptr(&known.message), place);
            }
        }
        for (&uid, inbox) in &self.inboxes {
            builder.inbox(InboxSummary {
                uid,
                read: inbox.read,
                trimmed_through: inbox.trimmed_through,
                total: inbox.total(),
            })?;
            for known in inbox.ids.iter() {
                let place = builder.message(Arc::clone(&known.message), vec![uid])?;
                indexes.insert(Arc::as_ptr(&known.message), place);
            }
            for (version, message) in inbox
                .trimmed_through
                .following()
                .zip(inbox.entries.after(0))
            {
                if let Some(&place) = indexes.get(&Arc::as_ptr(message)) {
                    builder.place(place, uid, version)?;
                }
            }
        }
        Ok(builder)
    }

    /// Returns a state with the contents of a snapshot, and without counts.
    ///
    /// # Errors
    ///
    /// [`Rejected::Full`] when the contents take more than `limit` bytes.
    pub(super) fn from_snapshot(
        snapshot: Snapshot,
        limit: usize,
        retention: Retention,
    ) -> Result<State, Rejected> {
        let mut state = State {
            limit,
            retention,
            latest_time_ms: snapshot.latest_time_ms,
            ..State::default()
        };
        for (uid, user) in snapshot.users {
            state.reserve(ALLOCATION + user.name.len() + user.password_hash.len())?;
            state.users.insert(uid, user);
        }
        for group in snapshot.groups {
            state.reserve(2 * ALLOCATION + group.name.len())?;
            for &uid in &group.members {
                state.belongs(uid, group.gid)?;
            }
            let made = Group {
                name: group.name,
                owner: group.owner,
                members: Arc::new(group.members),
                all_have_inboxes: false,
                ids: Ids::default(),
            };
            state.groups.insert(group.gid, made);
        }
        // A snapshot has the entries by message, not by inbox.
        let mut entries: HashMap<Uid, Vec<(Version, Arc<Message>)>> = HashMap::new();
        for stored in snapshot.messages {
            state.add_message(stored, &mut entries)?;
        }
        for summary in snapshot.inboxes {
            let mut entries = entries.remove(&summary.uid).unwrap_or_default();
            entries.sort_unstable_by_key(|(version, _)| *version);
            state.add_inbox(summary, entries)?;
        }
        Ok(state)
    }

    /// Notes that a user is or was a member of a group.
    fn belongs(&mut self, uid: Uid, gid: GroupId) -> Result<(), Rejected> {
        let groups = self.groups_of.get(&uid);
        if groups.is_none_or(|groups| !groups.contains(&gid)) {
            self.reserve(self.membership_size(uid))?;
            self.groups_of.entry(uid).or_default().insert(gid);
        }
        Ok(())
    }

    /// Adds a message with its id, and collects its entries by inbox.
    fn add_message(
        &mut self,
        stored: StoredMessage,
        entries: &mut HashMap<Uid, Vec<(Version, Arc<Message>)>>,
    ) -> Result<(), Rejected> {
        let (.., scope, _) = stored.id();
        let StoredMessage {
            message,
            receivers,
            places,
        } = stored;
        let is_removed = places.is_empty();
        let body = if is_removed { 0 } else { body_size(&message) };
        self.reserve(body + id_size(message.msg_id()))?;
        match scope {
            Scope::Inbox(uid) => {
                let inbox = self.inboxes.entry(uid).or_default();
                self.inbox_uids.insert(uid);
                if let Some(vacant) = inbox.ids.vacancy(&message) {
                    vacant.insert(Arc::clone(&message), ());
                }
            }
            Scope::Group(group) => {
                for &uid in &receivers {
                    self.belongs(uid, group)?;
                }
                let group = self.groups.get_mut(&group).ok_or(Rejected::NoSuchGroup)?;
                // Most messages have gone to the present members, whose list can be shared.
                let members = if *group.members == receivers {
                    Arc::clone(&group.members)
                } else {
                    Arc::new(receivers)
                };
                let left = u32::try_from(places.len()).unwrap_or(u32::MAX);
                if let Some(vacant) = group.ids.vacancy(&message) {
                    vacant.insert(Arc::clone(&message), Receivers { members, left });
                }
            }
        }
        if is_removed {
            self.expiring_count += 1;
            let when = (message.sent_at, self.expiring_count);
            self.expiring_ids.insert(when, (scope, message));
            return Ok(());
        }
        for (uid, version) in places {
            let inbox = entries.entry(uid).or_default();
            inbox.push((version, Arc::clone(&message)));
        }
        Ok(())
    }

    /// Adds an inbox with its entries, in the order of their versions.
    fn add_inbox(
        &mut self,
        summary: InboxSummary,
        entries: Vec<(Version, Arc<Message>)>,
    ) -> Result<(), Rejected> {
        self.reserve(NEW_INBOX + entries.len() * ENTRY)?;
        self.inbox_uids.insert(summary.uid);
        let known = self.inboxes.entry(summary.uid).or_default();
        let ids = std::mem::take(&mut known.ids);
        *known = Inbox {
            trimmed_through: summary.trimmed_through,
            entries: entries.into_iter().map(|(_, message)| message).collect(),
            read: summary.read,
            delivered: summary.total,
            ids,
            ..Inbox::default()
        };
        Ok(())
    }
}
