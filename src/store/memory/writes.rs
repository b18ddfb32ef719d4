//! Does the writes in the contents of a memory store. Serves `batch`, which does the writes of a batch in pieces.
//!
//! A write that is refused changes nothing. One that has begun is done as a whole: its conditions are met by then, and its
//! memory is reserved.

use std::sync::Arc;

use super::groups::GroupMessage;
use super::ids::Identity;
use super::inbox::Inbox;
use super::membership::NewMembers;
use super::state::{
    ALLOCATION, ENTRY, MEMBERS_PER_WORK, NEW_INBOX, State, WORK_AT_ONCE, body_size, id_size,
    with_room,
};
use super::table::Slot;
use crate::id::{MsgId, Uid, Version};
use crate::store::members::Members;
use crate::store::{InboxState, Kind, Message, Rejected, Write, WriteOutcome};

/// The result of the first step of a write.
pub(super) enum FirstStep {
    /// The write is done.
    Done(WriteOutcome),
    /// The rest of the write is to be done by [`State::continue_write`].
    Begun(SteppedWrite),
}

/// A message to a group, or a change of members, of which a part is done. Its conditions are met and its memory is reserved,
/// so it is done as a whole. Only a write that [is long](State::is_long) lets others have the lock between its steps;
/// [`State::apply`] does all steps of any other at once.
pub(super) enum SteppedWrite {
    FanOut(FanOut),
    NewMembers(NewMembers),
}

/// A message to a group that is being put into the inboxes of the members.
pub(super) struct FanOut {
    message: Arc<Message>,
    /// The members of the group when the write began.
    members: Members,
    /// How many of the members have the message.
    done: usize,
}

impl State {
    /// Returns whether a write concerns so many users that others have to get the lock before it is done.
    pub fn is_long(&self, write: &Write) -> bool {
        let users = match write {
            Write::Group { message } => {
                let group = self.groups.get(&message.group().unwrap_or_default());
                group.map_or(0, |group| group.members.len())
            }
            Write::CreateGroup { members, .. } => members.len(),
            Write::Join { uids, .. } => uids.len(),
            _ => 1,
        };
        users > WORK_AT_ONCE
    }

    /// Does one write, as a whole or not at all. `grown_inboxes` has the inboxes that the present commit has grown.
    ///
    /// # Errors
    ///
    /// The reason for which the write is refused. Nothing has changed then.
    pub fn apply(
        &mut self,
        write: Write,
        grown_inboxes: &mut Vec<InboxState>,
    ) -> Result<WriteOutcome, Rejected> {
        let mut begun = match self.begin(write, grown_inboxes)? {
            FirstStep::Done(outcome) => return Ok(outcome),
            FirstStep::Begun(begun) => begun,
        };
        loop {
            if let Some(result) = self.continue_write(&mut begun, usize::MAX, grown_inboxes) {
                return result;
            }
        }
    }

    /// Begins a write. One that concerns a single inbox or account is done at once.
    ///
    /// # Errors
    ///
    /// The reason for which the write is refused. Nothing has changed then.
    pub fn begin(
        &mut self,
        write: Write,
        grown_inboxes: &mut Vec<InboxState>,
    ) -> Result<FirstStep, Rejected> {
        self.work += 1;
        let outcome = match write {
            Write::P2p { target, message } => {
                self.put_into_inbox(target, &message, grown_inboxes)?
            }
            Write::Ack { target, message } => {
                if !self.has_received(message.source, target, message.msg_id()) {
                    return Err(Rejected::NoSuchMessage);
                }
                self.put_into_inbox(target, &message, grown_inboxes)?
            }
            Write::Group { message } => match self.begin_fan_out(message)? {
                Some(fan_out) => return Ok(FirstStep::Begun(SteppedWrite::FanOut(fan_out))),
                None => WriteOutcome::Duplicate,
            },
            Write::Register { uid, user } => {
                if self.users.contains_key(&uid) {
                    return Err(Rejected::UserExists);
                }
                self.reserve(ALLOCATION + user.name.len() + user.password_hash.len())?;
                self.users.insert(uid, Arc::new(user));
                WriteOutcome::Done
            }
            Write::CreateGroup {
                group,
                name,
                owner,
                members,
                made_at,
            } => {
                let new = self.begin_creation(group, name, owner, &members, made_at)?;
                return Ok(FirstStep::Begun(SteppedWrite::NewMembers(new)));
            }
            Write::Join {
                group,
                uids,
                max_members,
            } => match self.begin_joining(group, &uids, max_members)? {
                Some(new) => return Ok(FirstStep::Begun(SteppedWrite::NewMembers(new))),
                None => WriteOutcome::Done,
            },
            Write::Quit { group, uid } => self.quit(group, uid)?,
            Write::MarkRead { uid, read } => {
                if let Some(inbox) = self.inboxes.get_mut(uid)
                    && read <= inbox.entries.total()
                {
                    inbox.read = inbox.read.max(read);
                }
                WriteOutcome::Done
            }
            Write::IssuedIds { up_to_ms } => {
                self.latest_time_ms = self.latest_time_ms.max(up_to_ms);
                WriteOutcome::Done
            }
        };
        Ok(FirstStep::Done(outcome))
    }

    /// Does up to `steps` steps of a write that has begun, and returns its result when it is done.
    pub fn continue_write(
        &mut self,
        long: &mut SteppedWrite,
        steps: usize,
        grown_inboxes: &mut Vec<InboxState>,
    ) -> Option<Result<WriteOutcome, Rejected>> {
        match long {
            SteppedWrite::FanOut(fan_out) => {
                self.continue_fan_out(fan_out, steps, grown_inboxes).map(Ok)
            }
            SteppedWrite::NewMembers(new) => self.continue_members(new, steps),
        }
    }

    /// Puts a message or an ack into one inbox.
    fn put_into_inbox(
        &mut self,
        target: Uid,
        message: &Message,
        grown_inboxes: &mut Vec<InboxState>,
    ) -> Result<WriteOutcome, Rejected> {
        let inbox = match self.inboxes.slot(target) {
            Slot::Occupied((_, inbox)) => inbox,
            Slot::Vacant(slot) => {
                // A write that is refused must not leave an inbox behind.
                let entry = message.in_page(target, Version::START + 1).measured();
                let size = NEW_INBOX + ENTRY + entry.size() + id_size(message.msg_id());
                with_room(self.used, size, self.limit)?;
                self.used += NEW_INBOX;
                self.inbox_uids.insert(target);
                &mut slot.insert((target, Inbox::default())).1
            }
        };
        let Some((entries, place)) = inbox.place_of_id(message) else {
            return Ok(WriteOutcome::Duplicate);
        };
        let entry = message.in_page(target, entries.total() + 1).measured();
        let mut size = ENTRY + entry.size();
        if place.is_in_table() {
            size += id_size(message.msg_id());
        }
        self.used = with_room(self.used, size, self.limit)?;
        self.latest_time_ms = self.latest_time_ms.max(message.sent_at);
        place.append(entries, &entry);
        self.ledger.stored += 1;
        let version = inbox.count_entry(target, self.current_commit, grown_inboxes);
        Ok(WriteOutcome::Stored {
            uid: target,
            version,
        })
    }

    /// Begins to put a message into the inboxes of all members of its group. Returns none if the message was sent before.
    ///
    /// # Errors
    ///
    /// [`Rejected::NoSuchGroup`], [`Rejected::NotAMember`], and [`Rejected::Full`] when there is no room for all entries.
    fn begin_fan_out(&mut self, message: Arc<Message>) -> Result<Option<FanOut>, Rejected> {
        let group = message.group().unwrap_or_default();
        let group = self.groups.get_mut(&group).ok_or(Rejected::NoSuchGroup)?;
        self.work += group.members.len() / MEMBERS_PER_WORK;
        if !group.members.contains(&message.source) {
            return Err(Rejected::NotAMember);
        }
        let Some(vacant) = group.ids.place_of(&message) else {
            return Ok(None);
        };
        let new = if group.all_have_inboxes {
            0
        } else {
            let members = group.members.iter();
            members.filter(|uid| !self.inboxes.contains(**uid)).count()
        };
        let entries = group.members.len() * ENTRY + new * NEW_INBOX;
        let size = body_size(&message) + id_size(message.msg_id()) + entries;
        self.used = with_room(self.used, size, self.limit)?;
        self.latest_time_ms = self.latest_time_ms.max(message.sent_at);
        let receivers = Arc::clone(&group.members);
        vacant.insert(GroupMessage {
            message: Arc::clone(&message),
            holders: u32::try_from(receivers.len()).unwrap_or(u32::MAX),
            receivers: Arc::clone(&receivers),
        });
        group.all_have_inboxes = true;
        Ok(Some(FanOut {
            message,
            members: receivers,
            done: 0,
        }))
    }

    /// Puts a message into up to `steps` of the inboxes that do not have it yet, and returns the outcome when all have it.
    fn continue_fan_out(
        &mut self,
        fan_out: &mut FanOut,
        steps: usize,
        grown_inboxes: &mut Vec<InboxState>,
    ) -> Option<WriteOutcome> {
        let before = fan_out.done;
        for &uid in fan_out.members.iter().skip(before).take(steps) {
            fan_out.done += 1;
            let inbox = match self.inboxes.slot(uid) {
                Slot::Occupied((_, inbox)) => inbox,
                Slot::Vacant(slot) => {
                    self.inbox_uids.insert(uid);
                    &mut slot.insert((uid, Inbox::default())).1
                }
            };
            inbox.entries.push_shared(Arc::clone(&fan_out.message));
            inbox.count_entry(uid, self.current_commit, grown_inboxes);
        }
        let steps = fan_out.done - before;
        self.work += steps;
        self.ledger.stored += steps as u64;
        (fan_out.done == fan_out.members.len()).then(|| WriteOutcome::StoredForGroup {
            receivers: Arc::clone(&fan_out.members),
        })
    }

    /// Returns whether `uid` has received a message with this id from `source`, alone or as a member of a group.
    fn has_received(&mut self, uid: Uid, source: Uid, msg_id: MsgId<'_>) -> bool {
        let identity = |kind| Identity {
            kind,
            source,
            msg_id,
        };
        let inbox = self.inboxes.get(uid);
        if inbox.is_some_and(|inbox| inbox.has(identity(Kind::P2p))) {
            return true;
        }
        let groups = self.groups_of.get(uid).into_iter().flatten();
        let (mut work, mut searched) = (0, 0);
        let has_received = groups
            .filter_map(|group| {
                work += 1;
                let group = self.groups.get(group)?;
                group.ids.message(identity(Kind::Group))
            })
            .map(|known| &known.receivers)
            .inspect(|members| searched += members.len())
            .any(|members| members.contains(&uid));
        self.work += work + searched / MEMBERS_PER_WORK;
        has_received
    }
}
