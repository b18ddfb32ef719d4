use std::sync::Arc;

use super::{ENTRY, Inbox, State, body_size, id_size};
use crate::id::{Uid, Version};
use crate::store::{Kind, Message, Scope, keep_ids_from};

/// After so many steps the lock is given to others. A step may look up and remove a text and an id, all of them cold:
/// it takes longer than to append an entry.
const TURN: usize = 512;

/// How far a cleaning has come: inbox by inbox, and then through the ids that outlived their messages.
pub(super) struct Cleaning {
    /// The life of the store that it began in. In another one, what it knows of the inboxes is not true.
    life: u64,
    /// Entries sent before this are too old.
    keep_from: i64,
    /// Ids of messages sent before this are forgotten with their message.
    keep_ids_from: i64,
    max_inbox: i64,
    /// The next inbox, by its place among the owners.
    next: usize,
    /// In that inbox, entries up to this version are too many. It does not move while the inbox is cleaned, or a flood
    /// into one could keep the others waiting.
    too_many: Option<Version>,
    /// How many entries were removed.
    pub removed: u64,
    /// What the last turn has removed.
    pub gone: Vec<Arc<Message>>,
}

impl Cleaning {
    pub fn new(state: &State, now: i64) -> Self {
        let retention = state.retention;
        let max_inbox = retention.max_inbox.map(i64::try_from);
        Cleaning {
            life: state.lives,
            keep_from: retention.keep_from(now),
            keep_ids_from: keep_ids_from(now),
            max_inbox: max_inbox.and_then(Result::ok).unwrap_or(i64::MAX),
            next: 0,
            too_many: None,
            removed: 0,
            gone: Vec::new(),
        }
    }
}

impl State {
    /// Does one turn of a cleaning. True when nothing is left to do.
    pub(super) fn clean(&mut self, cleaning: &mut Cleaning) -> bool {
        if cleaning.life != self.lives {
            return true;
        }
        for _ in 0..TURN {
            match self.owners.get(cleaning.next).copied() {
                Some(uid) => self.remove_oldest(uid, cleaning),
                None if self.forget_oldest(cleaning.keep_ids_from) => {}
                None => return true,
            }
        }
        false
    }

    /// Removes the oldest entry of this inbox; where it may stay, the next inbox is next.
    fn remove_oldest(&mut self, uid: Uid, cleaning: &mut Cleaning) {
        let removed = self.inboxes.get_mut(&uid).and_then(|inbox| {
            let last = inbox.total().saturating_sub(cleaning.max_inbox);
            let too_many = *cleaning.too_many.get_or_insert(last);
            let message = inbox.remove_oldest(too_many, cleaning.keep_from)?;
            if inbox.removed > inbox.delivered {
                self.ledger.removed += 1;
                inbox.ledger.removed += 1;
            }
            Some(message)
        });
        let Some(message) = removed else {
            cleaning.next += 1;
            cleaning.too_many = None;
            return;
        };
        self.used = self.used.saturating_sub(ENTRY);
        self.let_go(uid, &message, cleaning.keep_ids_from);
        cleaning.removed += 1;
        cleaning.gone.push(message);
    }

    /// The inbox of `uid` holds this message no more.
    fn let_go(&mut self, uid: Uid, message: &Arc<Message>, keep_ids_from: i64) {
        let scope = scope(uid, message);
        if let Scope::Group(group) = scope
            && let Some(group) = self.groups.get_mut(&group)
            && let Some(known) = group.ids.get_mut(message)
        {
            known.more.left = known.more.left.saturating_sub(1);
            if known.more.left > 0 {
                return;
            }
        }
        self.used = self.used.saturating_sub(body_size(message));
        if message.sent_at < keep_ids_from {
            self.forget(scope, message);
        } else {
            self.remember(scope, message);
        }
    }

    /// Keeps the id of a message that is gone.
    fn remember(&mut self, scope: Scope, message: &Message) {
        let without_text = Arc::new(message.with_text(""));
        let known = match scope {
            Scope::Inbox(uid) => {
                let inbox = self.inboxes.get_mut(&uid);
                inbox.and_then(|inbox| Some(&mut inbox.ids.get_mut(message)?.message))
            }
            Scope::Group(group) => {
                let group = self.groups.get_mut(&group);
                group.and_then(|group| Some(&mut group.ids.get_mut(message)?.message))
            }
        };
        if let Some(known) = known {
            *known = Arc::clone(&without_text);
        }
        self.remembered_ever += 1;
        let when = (message.sent_at, self.remembered_ever);
        self.remembered.insert(when, (scope, without_text));
    }

    /// Forgets the oldest id that has outlived its message, if it is old enough.
    fn forget_oldest(&mut self, keep_ids_from: i64) -> bool {
        let oldest = self.remembered.first_key_value();
        if oldest.is_none_or(|((sent_at, _), _)| *sent_at >= keep_ids_from) {
            return false;
        }
        if let Some((_, (scope, message))) = self.remembered.pop_first() {
            self.forget(scope, &message);
        }
        true
    }

    fn forget(&mut self, scope: Scope, message: &Message) {
        match scope {
            Scope::Inbox(uid) => {
                if let Some(inbox) = self.inboxes.get_mut(&uid) {
                    inbox.ids.forget(message);
                }
            }
            Scope::Group(group) => {
                if let Some(group) = self.groups.get_mut(&group) {
                    group.ids.forget(message);
                }
            }
        }
        self.used = self.used.saturating_sub(id_size(message.msg_id()));
    }
}

/// Where the id of a message in the inbox of `uid` stands: in that inbox, or in its group.
fn scope(uid: Uid, message: &Message) -> Scope {
    match message.group() {
        Some(group) if message.kind == Kind::Group => Scope::Group(group),
        _ => Scope::Inbox(uid),
    }
}

impl Inbox {
    /// The oldest entry, if it is one of those up to version `too_many`, or was sent before `keep_from`.
    fn remove_oldest(&mut self, too_many: Version, keep_from: i64) -> Option<Arc<Message>> {
        let is_too_old = |message: &Arc<Message>| message.sent_at < keep_from;
        if self.removed >= too_many && !self.entries.front().is_some_and(is_too_old) {
            // An entry is counted with room for as many again; what stands empty beyond that is given back.
            self.entries.shrink();
            return None;
        }
        let message = self.entries.pop_front()?;
        self.removed += 1;
        self.read = self.read.max(self.removed);
        Some(message)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::id::{GroupId, MsgId};
    use crate::store::memory::NEW_INBOX;
    use crate::store::{KEEP_IDS, Retention, Write};

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
    fn what_is_removed_and_forgotten_takes_no_room() {
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
            most: 9,
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
        // So that one message is left in each inbox, of the size that it had at first.
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
        let known: usize = state.inboxes.values().map(|inbox| inbox.ids.len()).sum();
        assert_eq!((known, state.groups[&GroupId(50)].ids.len()), (2, 0));
        assert_eq!(state.remembered.len(), 0);
        assert!(
            state
                .inboxes
                .values()
                .all(|inbox| inbox.entries.capacity() <= 4)
        );
    }

    /// Else one inbox that grows as fast as it is cleaned would keep the others full.
    #[test]
    fn a_flood_into_one_inbox_does_not_hold_the_cleaning_there() {
        let mut state = state(1);
        let mut count = 0;
        let mut flood = |state: &mut State| {
            for _ in 0..2 * TURN {
                count += 1;
                send(state, Uid(1), &count.to_string());
            }
        };
        flood(&mut state);
        send(&mut state, Uid(2), "a");
        send(&mut state, Uid(2), "b");
        let mut cleaning = Cleaning::new(&state, 0);
        for _ in 0..4 {
            assert_eq!(state.inboxes[&Uid(2)].entries.len(), 2);
            if state.clean(&mut cleaning) {
                break;
            }
            flood(&mut state);
        }
        assert_eq!(state.inboxes[&Uid(2)].entries.len(), 1);
    }

    #[test]
    fn nothing_is_kept_for_a_cleaning_that_never_comes() {
        let mut state = State {
            limit: usize::MAX,
            ..State::default()
        };
        send(&mut state, Uid(2), "a");
        assert_eq!(state.owners.capacity(), 0);
        assert_eq!(clean(&mut state, i64::MAX), 0);
    }
}
