//! Removes old entries, and the ids of messages that were removed long enough ago, in pieces between which others get
//! the lock. Serves `MemoryStore::clean`.

use std::sync::Arc;

use super::entries::RemovedEntry;
use super::ids::Identity;
use super::inbox::{Inbox, KnownId, REMOVED_ID, RemovedId};
use super::state::{ENTRY, State, above, body_size, id_size};
use crate::id::{Uid, Version};
use crate::store::{Kind, Message, Scope, keep_ids_from};

/// The number of steps after which others get the lock. A step may remove a text and an id, both of which are seldom in
/// a cache of the processor: it takes longer than to append an entry.
const STEPS_AT_ONCE: usize = 512;

/// The progress of a cleaning: first the inboxes, in the order of their users, and then the ids that have outlived
/// their messages.
pub(super) struct Cleaning {
    /// The generation of the contents in which the cleaning began. It ends in another one.
    generation: u64,
    /// The send time before which entries are too old, in Unix milliseconds.
    keep_from: i64,
    /// The send time before which the ids of removed messages are forgotten, in Unix milliseconds.
    keep_ids_from: i64,
    /// How many entries an inbox may keep.
    max_inbox: i64,
    /// The inbox that is being cleaned; none when all are clean.
    inbox: Option<Uid>,
    /// The newest version that is removed from this inbox because of `max_inbox`. Fixed by the first step in the inbox:
    /// otherwise entries that keep arriving could hold the cleaning there for ever.
    remove_through: Option<Version>,
    /// The number of entries that were removed.
    pub removed: u64,
    /// The messages that the last piece has removed, which the owner frees without the lock.
    pub freed: Vec<Arc<Message>>,
}

impl Cleaning {
    /// Begins a cleaning at the time `now`, in Unix milliseconds.
    pub fn new(state: &State, now: i64) -> Self {
        let retention = state.retention;
        let max_inbox = retention.max_inbox.map(i64::try_from);
        let first = state.inbox_uids.first().copied();
        Cleaning {
            generation: state.generation,
            keep_from: retention.keep_from(now),
            keep_ids_from: keep_ids_from(now),
            max_inbox: max_inbox.and_then(Result::ok).unwrap_or(i64::MAX),
            inbox: first.filter(|_| !retention.is_off()),
            remove_through: None,
            removed: 0,
            freed: Vec::new(),
        }
    }
}

impl State {
    /// Does a piece of a cleaning. Returns true when nothing is left to do.
    pub(super) fn clean(&mut self, cleaning: &mut Cleaning) -> bool {
        if cleaning.generation != self.generation {
            return true;
        }
        for _ in 0..STEPS_AT_ONCE {
            match cleaning.inbox {
                Some(uid) => self.clean_step(uid, cleaning),
                None if self.forget_expired_id(cleaning.keep_ids_from) => {}
                None => return true,
            }
        }
        false
    }

    /// Does one step of a cleaning in an inbox: removes the oldest entry, or else forgets the oldest ordered id of a removed
    /// entry, or else moves the cleaning to the next inbox.
    fn clean_step(&mut self, uid: Uid, cleaning: &mut Cleaning) {
        let mut forgot = false;
        let removed = self.inboxes.get_mut(uid).and_then(|inbox| {
            let last = inbox.entries.total().saturating_sub(cleaning.max_inbox);
            let remove_through = *cleaning.remove_through.get_or_insert(last);
            let Some(removed) = inbox.remove_oldest_if_due(remove_through, cleaning.keep_from)
            else {
                forgot = inbox.forget_oldest_if_expired(cleaning.keep_ids_from);
                return None;
            };
            if removed.version > inbox.delivered_through {
                self.ledger.removed += 1;
                inbox.ledger.removed += 1;
            }
            Some(removed)
        });
        if let Some(removed) = removed {
            self.used = self.used.saturating_sub(ENTRY + removed.bytes);
            match removed.message.kind {
                Kind::Group => self.drop_group_entry(&removed.message, cleaning.keep_ids_from),
                Kind::P2p | Kind::Ack => {
                    self.keep_or_forget_id(uid, &removed, cleaning.keep_ids_from)
                }
            }
            cleaning.removed += 1;
            cleaning.freed.push(removed.message);
        } else if forgot {
            self.used = self.used.saturating_sub(REMOVED_ID);
        } else {
            cleaning.inbox = self.inbox_uids.range(above(uid)).next().copied();
            cleaning.remove_through = None;
        }
    }

    /// Keeps the id of a removed entry, whose message was to `uid` alone; forgets it if the message was sent before
    /// `keep_ids_from`.
    fn keep_or_forget_id(&mut self, uid: Uid, removed: &RemovedEntry, keep_ids_from: i64) {
        let Some(inbox) = self.inboxes.get_mut(uid) else {
            return;
        };
        let message = &removed.message;
        let is_kept = message.sent_at >= keep_ids_from;
        if removed.has_ordered_id {
            if is_kept && let Ok(id) = message.msg_id().0.parse() {
                self.used += REMOVED_ID;
                inbox.removed_ids.push_back(RemovedId {
                    id,
                    source: message.source,
                    sent_at: message.sent_at,
                });
            }
            return;
        }
        let is_it = |known: &KnownId| matches!(known, KnownId::Entry(v) if *v == removed.version);
        if !is_kept {
            inbox.ids.forget(Identity::of(message), is_it);
            self.used = self.used.saturating_sub(id_size(message.msg_id()));
            return;
        }
        if let Some(known) = inbox.ids.get_mut(Identity::of(message), is_it) {
            *known = KnownId::Removed(Arc::clone(message));
        }
        self.schedule_id_expiry(Scope::Inbox(uid), Arc::clone(message));
    }

    /// Counts that one inbox less holds a message to a group. With the last one the text is freed, and the id is forgotten
    /// if the message was sent before `keep_ids_from`.
    fn drop_group_entry(&mut self, message: &Message, keep_ids_from: i64) {
        let group = message.group().unwrap_or_default();
        let known = self.groups.get_mut(&group);
        let Some(known) = known.and_then(|group| group.ids.message_mut(message)) else {
            return;
        };
        known.holders = known.holders.saturating_sub(1);
        if known.holders > 0 {
            return;
        }
        self.used = self.used.saturating_sub(body_size(message));
        if message.sent_at < keep_ids_from {
            self.forget(Scope::Group(group), message);
            return;
        }
        let without_text = Arc::new(message.with_text(""));
        known.message = Arc::clone(&without_text);
        self.schedule_id_expiry(Scope::Group(group), without_text);
    }

    /// Schedules that the id of a message which no inbox holds is forgotten when it is old enough. The id stays known until
    /// then.
    pub(super) fn schedule_id_expiry(&mut self, scope: Scope, without_text: Arc<Message>) {
        self.expiring_count += 1;
        let key = (without_text.sent_at, self.expiring_count);
        self.expiring_ids.insert(key, (scope, without_text));
    }

    /// Forgets the oldest id in `expiring_ids`, if its message was sent before `keep_ids_from`. Returns whether it has
    /// forgotten one.
    fn forget_expired_id(&mut self, keep_ids_from: i64) -> bool {
        let oldest = self.expiring_ids.first_key_value();
        if oldest.is_none_or(|((sent_at, _), _)| *sent_at >= keep_ids_from) {
            return false;
        }
        if let Some((_, (scope, message))) = self.expiring_ids.pop_first() {
            self.forget(scope, &message);
        }
        true
    }

    /// Forgets the id of a message that no inbox holds any more.
    fn forget(&mut self, scope: Scope, message: &Message) {
        let id = Identity::of(message);
        match scope {
            Scope::Inbox(uid) => {
                if let Some(inbox) = self.inboxes.get_mut(uid) {
                    inbox.ids.forget(id, |known| known.is_removed(id));
                }
            }
            Scope::Group(group) => {
                if let Some(group) = self.groups.get_mut(&group) {
                    group
                        .ids
                        .forget(id, |known| Identity::of(&known.message) == id);
                }
            }
        }
        self.used = self.used.saturating_sub(id_size(message.msg_id()));
    }
}

impl Inbox {
    /// Removes and returns the oldest entry, if its version is at most `remove_through`, or it was sent before `keep_from`.
    fn remove_oldest_if_due(
        &mut self,
        remove_through: Version,
        keep_from: i64,
    ) -> Option<RemovedEntry> {
        let entries = &mut self.entries;
        let is_too_old = |sent_at| sent_at < keep_from;
        if entries.trimmed_through() >= remove_through
            && !entries.oldest_sent_at().is_some_and(is_too_old)
        {
            // Room for up to three times the entries is left for new ones; more is freed.
            entries.shrink();
            return None;
        }
        self.remove_oldest()
    }

    /// Forgets the oldest ordered id of a removed entry, if the message was sent before `keep_ids_from`. Returns whether one
    /// was forgotten.
    fn forget_oldest_if_expired(&mut self, keep_ids_from: i64) -> bool {
        let ids = &mut self.removed_ids;
        let is_expired = ids.front().is_some_and(|id| id.sent_at < keep_ids_from);
        if is_expired {
            ids.pop_front();
        } else if ids.capacity() / 4 > ids.len() {
            ids.shrink_to(2 * ids.len());
        }
        is_expired
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::id::{GroupId, MsgId};
    use crate::store::memory::state::NEW_INBOX;
    use crate::store::{KEEP_IDS, Retention, Write, WriteOutcome};

    fn message(kind: Kind, msg_id: &str) -> Arc<Message> {
        let group = if kind == Kind::Group {
            Some(GroupId(50))
        } else {
            None
        };
        Arc::new(Message::new(
            kind,
            Uid(1),
            group,
            MsgId(msg_id),
            "some text",
            0,
        ))
    }

    fn state(max_inbox: u64) -> State {
        let max_inbox = Some(max_inbox);
        let retention = Retention {
            keep: None,
            max_inbox,
        };
        State {
            limit: usize::MAX,
            retention,
            ..State::default()
        }
    }

    fn send(state: &mut State, target: Uid, msg_id: &str) {
        let message = message(Kind::P2p, msg_id);
        state
            .apply(Write::P2p { target, message }, &mut Vec::new())
            .unwrap();
    }

    fn clean(state: &mut State, now: i64) -> u64 {
        let mut cleaning = Cleaning::new(state, now);
        while !state.clean(&mut cleaning) {}
        cleaning.removed
    }

    #[test]
    fn removed_entries_and_forgotten_ids_take_no_memory() {
        let mut state = state(1);
        let mut apply = |write| state.apply(write, &mut Vec::new()).unwrap();
        apply(Write::CreateGroup {
            group: GroupId(50),
            name: String::new(),
            owner: Uid(1),
            members: Vec::new(),
            made_at: 1,
        });
        apply(Write::Join {
            group: GroupId(50),
            uids: vec![Uid(2)],
            max_members: 9,
        });
        let empty = state.used;
        for uid in [1, 2] {
            send(&mut state, Uid(uid), "old");
        }
        let one_left = state.used;
        assert!(one_left > empty + 2 * NEW_INBOX);
        for msg_id in ["a", "b"] {
            let message = message(Kind::Group, msg_id);
            let write = Write::Group { message };
            state.apply(write, &mut Vec::new()).unwrap();
        }
        let message = message(Kind::Ack, "a");
        let write = Write::Ack {
            target: Uid(1),
            message,
        };
        state.apply(write, &mut Vec::new()).unwrap();
        // One message is left in each inbox then, of the same size as at first.
        for uid in [1, 2] {
            send(&mut state, Uid(uid), "new");
        }
        assert_eq!(clean(&mut state, 0), 7);
        let ids_left = state.used;
        assert!(ids_left > one_left);
        let a_day = i64::try_from(KEEP_IDS.as_millis()).unwrap();
        assert_eq!(clean(&mut state, a_day), 0);
        assert_eq!(state.used, ids_left);
        assert_eq!(clean(&mut state, a_day + 1), 0);
        assert_eq!(state.used, one_left);
        let known: usize = state.inboxes.iter().map(|(_, inbox)| inbox.ids.len()).sum();
        assert_eq!((known, state.groups[&GroupId(50)].ids.len()), (2, 0));
        assert_eq!(state.expiring_ids.len(), 0);
        assert!(
            state
                .inboxes
                .iter()
                .all(|(_, inbox)| inbox.entries.capacity() <= 128)
        );
    }

    /// The ids here are ordered: numbers whose time is nearly the send time, which is 0.
    #[test]
    fn the_ordered_ids_of_removed_entries_are_known_for_a_day() {
        let mut state = state(1);
        let again = |state: &mut State| {
            let message = message(Kind::P2p, "1");
            let target = Uid(1);
            let outcome = state.apply(Write::P2p { target, message }, &mut Vec::new());
            outcome == Ok(WriteOutcome::Duplicate)
        };
        send(&mut state, Uid(1), "1");
        let one_left = state.used;
        assert!(again(&mut state));
        for msg_id in ["2", "3"] {
            send(&mut state, Uid(1), msg_id);
        }
        let all = state.used;
        assert_eq!(clean(&mut state, 0), 2);
        assert!(state.used < all, "a removal gives room");
        let inbox = state.inboxes.get(Uid(1)).unwrap();
        assert_eq!((inbox.removed_ids.len(), inbox.ids.len()), (2, 0));
        assert!(again(&mut state));
        let a_day = i64::try_from(KEEP_IDS.as_millis()).unwrap();
        assert_eq!(clean(&mut state, a_day + 1), 0);
        assert_eq!(state.used, one_left);
        assert!(!again(&mut state));
    }

    /// An inbox that grows as fast as it is cleaned must not keep the others from being cleaned.
    #[test]
    fn a_flood_into_one_inbox_does_not_hold_the_cleaning_there() {
        let mut state = state(1);
        let mut count = 0;
        let mut flood = |state: &mut State| {
            for _ in 0..2 * STEPS_AT_ONCE {
                count += 1;
                send(state, Uid(1), &count.to_string());
            }
        };
        flood(&mut state);
        send(&mut state, Uid(2), "a");
        send(&mut state, Uid(2), "b");
        let left = |state: &State| {
            let inbox = state.inboxes.get(Uid(2)).unwrap();
            inbox.entries.after(Version(0)).count()
        };
        let mut cleaning = Cleaning::new(&state, 0);
        for _ in 0..4 {
            assert_eq!(left(&state), 2);
            if state.clean(&mut cleaning) {
                break;
            }
            flood(&mut state);
        }
        assert_eq!(left(&state), 1);
    }

    #[test]
    fn without_limits_a_cleaning_examines_no_inbox() {
        let mut state = State {
            limit: usize::MAX,
            ..State::default()
        };
        for uid in 0..=STEPS_AT_ONCE {
            send(&mut state, Uid(uid as i64), "a");
        }
        let mut cleaning = Cleaning::new(&state, i64::MAX);
        assert!(state.clean(&mut cleaning), "one piece is enough");
        assert_eq!(cleaning.removed, 0);
    }

    /// An inbox that is new during a cleaning is left to the next one if the cleaning has passed its place.
    #[test]
    fn inboxes_may_be_added_while_others_are_cleaned() {
        let mut state = state(1);
        for uid in [5, 3] {
            send(&mut state, Uid(uid), "a");
            send(&mut state, Uid(uid), "b");
        }
        let mut cleaning = Cleaning::new(&state, 0);
        assert_eq!(cleaning.inbox, Some(Uid(3)));
        state.clean_step(Uid(3), &mut cleaning);
        state.clean_step(Uid(3), &mut cleaning);
        assert_eq!(cleaning.inbox, Some(Uid(5)));
        for uid in [4, 6] {
            send(&mut state, Uid(uid), "a");
            send(&mut state, Uid(uid), "b");
        }
        while !state.clean(&mut cleaning) {}
        assert_eq!(cleaning.removed, 3);
        assert_eq!(clean(&mut state, 0), 1);
    }
}
