//! The newest entries of the inboxes, and how far the inboxes go: most pages are answered from here, at once, without
//! the engine and without a thread.
//!
//! It says what readers may see, no more and no less: the writer changes it with the engine's published state, under one
//! lock. Whatever is not here is asked of the engine. What it holds is bounded: the oldest message falls out first.

use std::collections::VecDeque;
use std::sync::Arc;

use hashbrown::HashMap;
use quick_cache::unsync::Cache;

use super::draft::{Head, Touched};
use super::reader::Filling;
use crate::id::{Uid, Version};
use crate::store::members::Members;
use crate::store::{Entry, Level, Message, Page, PageLimit};

/// With more entries than this a commit is not taken in: every reader would wait for it.
const MOST_AT_ONCE: usize = 16_384;

/// After so many entries that have fallen out, readers have their turn.
const TURN: usize = 4_096;

/// Inboxes that are known here.
const INBOXES: usize = 65_536;

/// What the messages here may take, in bytes, roughly.
const BYTES: usize = 16 << 20;

/// What a message takes beside its texts, and its place in an inbox: with room for as many again.
const OVERHEAD: usize = size_of::<Delivery>() + size_of::<Message>() + 64;
const PLACE: usize = 2 * size_of::<Arc<Message>>();

/// The newest of what is published.
#[derive(Debug)]
pub struct Recent {
    inboxes: Cache<Uid, Inbox>,
    /// All messages that are held, the oldest first.
    deliveries: VecDeque<Delivery>,
    /// What they take.
    bytes: usize,
    most: usize,
    most_at_once: usize,
}

/// What is no longer held. To give back so much memory takes its time, so it is dropped when the lock is free again.
#[derive(Debug, Default)]
#[must_use]
pub struct Gone {
    _deliveries: Vec<Delivery>,
    _entries: Vec<VecDeque<Arc<Message>>>,
}

#[derive(Debug)]
struct Inbox {
    head: Head,
    /// The newest entries, up to `head.total`, without gaps.
    newest: VecDeque<Arc<Message>>,
}

/// A message, and the inboxes that it was put into.
#[derive(Debug)]
pub struct Delivery {
    pub message: Arc<Message>,
    pub receivers: Receivers,
}

/// Whose inboxes.
#[derive(Debug)]
pub enum Receivers {
    One(Uid),
    Members(Members),
}

impl Default for Recent {
    fn default() -> Self {
        Recent::with_room(BYTES, MOST_AT_ONCE)
    }
}

impl Recent {
    fn with_room(most: usize, most_at_once: usize) -> Self {
        Recent {
            inboxes: Cache::new(INBOXES),
            deliveries: VecDeque::new(),
            bytes: 0,
            most,
            most_at_once,
        }
    }

    /// The ends of an inbox, if they are known.
    pub fn head(&self, uid: Uid) -> Option<Head> {
        self.inboxes.get(&uid).map(|inbox| inbox.head)
    }

    /// The same for a client.
    pub fn level(&self, uid: Uid) -> Option<Level> {
        self.head(uid).map(|head| head.level(uid))
    }

    /// Learns the ends of an inbox, as the published state has them.
    pub fn learn(&mut self, uid: Uid, head: Head) {
        let newest = VecDeque::new();
        self.inboxes.insert(uid, Inbox { head, newest });
    }

    /// The page that [`reader::page`](super::reader::page) would read, and the read mark, if all of it is here.
    pub fn page(&self, uid: Uid, after: Version, limit: PageLimit) -> Option<(Page, Version)> {
        let Inbox { head, newest } = self.inboxes.get(&uid)?;
        // From another life of the store: that is not for here.
        if after > head.total {
            return None;
        }
        let current = after.max(head.cut);
        let wanted = usize::try_from(head.total - current).ok()?;
        let skipped = newest.len().checked_sub(wanted)?;
        let mut filling = Filling::new(uid, current, limit);
        for (version, message) in current.following().zip(newest.range(skipped..)) {
            let message = Arc::clone(message);
            if filling.is_full() || !filling.add(Entry { version, message }) {
                break;
            }
        }
        Some((filling.page(head.total), head.read))
    }

    /// Takes over what a commit has changed, when it is published. There may be too much afterwards, until it is
    /// [trimmed](Recent::trim).
    pub fn publish(&mut self, touched: &HashMap<Uid, Touched>, deliveries: Vec<Delivery>) -> Gone {
        let entries: usize = deliveries.iter().map(Delivery::entries).sum();
        if entries > self.most_at_once {
            return self.skip(touched, deliveries);
        }
        for (&uid, touched) in touched {
            self.advance(uid, touched.now);
        }
        for delivery in deliveries {
            for uid in delivery.receivers.uids() {
                if let Some(mut inbox) = self.inboxes.get_mut(uid) {
                    inbox.newest.push_back(Arc::clone(&delivery.message));
                }
            }
            self.bytes += delivery.size();
            self.deliveries.push_back(delivery);
        }
        Gone::default()
    }

    /// Takes over where the inboxes end, and not what was put into them. What is held of those that have grown would
    /// have a gap behind it, so it goes; the messages stay among the deliveries until their time has come.
    fn skip(&mut self, touched: &HashMap<Uid, Touched>, deliveries: Vec<Delivery>) -> Gone {
        let mut entries = Vec::new();
        for (&uid, Touched { before, now }) in touched {
            if now.total > before.total
                && let Some(mut inbox) = self.inboxes.get_mut(&uid)
            {
                entries.push(std::mem::take(&mut inbox.newest));
            }
            self.advance(uid, *now);
        }
        Gone {
            _deliveries: deliveries,
            _entries: entries,
        }
    }

    fn advance(&mut self, uid: Uid, head: Head) {
        match self.inboxes.get_mut(&uid) {
            Some(mut inbox) => inbox.advance(head),
            None => self.learn(uid, head),
        }
    }

    /// Lets the oldest fall out while there is too much, for one turn: none if there is nothing more to do.
    pub fn trim(&mut self) -> Option<Gone> {
        let mut gone = Vec::new();
        let mut entries = 0;
        while self.bytes > self.most && entries < TURN {
            let Some(oldest) = self.forget_oldest() else {
                break;
            };
            entries += oldest.entries();
            gone.push(oldest);
        }
        if gone.is_empty() {
            return None;
        }
        Some(Gone {
            _deliveries: gone,
            _entries: Vec::new(),
        })
    }

    fn forget_oldest(&mut self) -> Option<Delivery> {
        let oldest = self.deliveries.pop_front()?;
        self.bytes = self.bytes.saturating_sub(oldest.size());
        for uid in oldest.receivers.uids() {
            if let Some(mut inbox) = self.inboxes.get_mut(uid) {
                inbox.forget(&oldest.message);
            }
        }
        Some(oldest)
    }
}

impl Inbox {
    /// Moves the ends, before entries are added up to the new one.
    fn advance(&mut self, head: Head) {
        let kept = usize::try_from(self.head.total - head.cut).unwrap_or(0);
        if self.newest.len() > kept {
            self.newest.drain(..self.newest.len() - kept);
        }
        self.head = head;
    }

    /// Forgets the oldest entry, if it is this one: it may have been removed or skipped, or the inbox forgotten, in the
    /// meantime.
    fn forget(&mut self, message: &Arc<Message>) {
        let oldest = self.newest.front();
        if oldest.is_some_and(|oldest| Arc::ptr_eq(oldest, message)) {
            self.newest.pop_front();
        }
        // Each place is counted twice; what stands empty beyond that is given back.
        if self.newest.capacity() / 4 > self.newest.len() {
            self.newest.shrink_to(2 * self.newest.len());
        }
    }
}

impl Delivery {
    fn entries(&self) -> usize {
        self.receivers.uids().len()
    }

    fn size(&self) -> usize {
        let texts = self.message.msg_id().0.len() + self.message.text().len();
        OVERHEAD + texts + PLACE * self.entries()
    }
}

impl Receivers {
    fn uids(&self) -> &[Uid] {
        match self {
            Receivers::One(uid) => std::slice::from_ref(uid),
            Receivers::Members(uids) => uids,
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::id::MsgId;
    use crate::store::Kind;

    const ALL: PageLimit = PageLimit {
        entries: 0,
        bytes: usize::MAX,
    };

    fn message(id: &str) -> Arc<Message> {
        Arc::new(Message::new(Kind::P2p, Uid(1), None, MsgId(id), "text", 1))
    }

    /// Inboxes as they are, and what is known of them.
    struct Side {
        recent: Recent,
        heads: HashMap<Uid, Head>,
        inboxes: HashMap<Uid, Vec<Arc<Message>>>,
        sent: usize,
    }

    impl Side {
        fn new(most: usize) -> Side {
            Side::with(Recent::with_room(most, MOST_AT_ONCE))
        }

        fn with(recent: Recent) -> Side {
            Side {
                recent,
                heads: HashMap::new(),
                inboxes: HashMap::new(),
                sent: 0,
            }
        }

        /// One commit: to these inboxes, each as one message; then these are cut and read.
        fn commit(&mut self, to: &[Vec<Uid>], cut: &[(Uid, Version)], read: &[(Uid, Version)]) {
            let mut touched = HashMap::new();
            let mut deliveries = Vec::new();
            let mut touch = |uid: Uid, heads: &HashMap<Uid, Head>, change: &dyn Fn(&mut Head)| {
                let before = heads.get(&uid).copied().unwrap_or_default();
                let now = before;
                let entry = touched.entry(uid).or_insert(Touched { before, now });
                change(&mut entry.now);
            };
            for uids in to {
                self.sent += 1;
                let message = message(&self.sent.to_string());
                for &uid in uids {
                    touch(uid, &self.heads, &|head| head.total += 1);
                    let inbox = self.inboxes.entry(uid).or_default();
                    inbox.push(Arc::clone(&message));
                }
                let receivers = match *uids.as_slice() {
                    [uid] => Receivers::One(uid),
                    _ => Receivers::Members(uids.clone().into()),
                };
                deliveries.push(Delivery { message, receivers });
            }
            for &(uid, cut) in cut {
                // Only what was there before the commit is removed.
                let most = self
                    .heads
                    .get(&uid)
                    .map_or(Version::START, |head| head.total);
                touch(uid, &self.heads, &|head| {
                    head.cut = head.cut.max(cut.min(most));
                });
            }
            for &(uid, read) in read {
                touch(uid, &self.heads, &|head| {
                    head.read = head.read.max(read.min(head.total));
                });
            }
            drop(self.recent.publish(&touched, deliveries));
            for (uid, touched) in touched {
                self.heads.insert(uid, touched.now);
            }
        }

        /// Lets everything fall out for which there is no room; answers in how many turns.
        fn trim(&mut self) -> usize {
            std::iter::from_fn(|| self.recent.trim()).count()
        }

        /// What is known must be what is.
        fn check(&self, uid: Uid, after: Version, limit: PageLimit) -> bool {
            let head = self.heads.get(&uid).copied().unwrap_or_default();
            let Some((page, read)) = self.recent.page(uid, after, limit) else {
                return false;
            };
            let start = after.max(head.cut);
            let mut expected = Filling::new(uid, start, limit);
            let inbox = self.inboxes.get(&uid).map_or(&[][..], Vec::as_slice);
            let skipped = usize::try_from(start.0).unwrap();
            for (version, message) in Version::START.following().zip(inbox).skip(skipped) {
                let message = Arc::clone(message);
                if expected.is_full() || !expected.add(Entry { version, message }) {
                    break;
                }
            }
            assert_eq!(page, expected.page(head.total));
            assert_eq!(read, head.read);
            assert_eq!(self.recent.level(uid), Some(head.level(uid)));
            true
        }
    }

    #[test]
    fn the_newest_is_known_and_what_fell_out_is_not() {
        let mut side = Side::new(4 * (OVERHEAD + PLACE + 6));
        assert!(!side.check(Uid(2), Version(0), ALL));
        for _ in 0..4 {
            side.commit(&[vec![Uid(2)]], &[], &[]);
        }
        assert!((0..=4).all(|after| side.check(Uid(2), Version(after), ALL)));
        assert_eq!(side.trim(), 0);
        side.commit(&[vec![Uid(2)], vec![Uid(2)]], &[], &[]);
        // Until then there is a little more.
        assert!((0..=6).all(|after| side.check(Uid(2), Version(after), ALL)));
        assert_eq!(side.trim(), 1);
        assert!((0..2).all(|after| !side.check(Uid(2), Version(after), ALL)));
        assert!((2..=6).all(|after| side.check(Uid(2), Version(after), ALL)));
        // From another life of the store.
        assert!(!side.check(Uid(2), Version(7), ALL));
    }

    #[test]
    fn what_was_removed_is_not_served() {
        let mut side = Side::new(1 << 20);
        side.commit(
            &[vec![Uid(2)], vec![Uid(2)], vec![Uid(2), Uid(3)]],
            &[],
            &[(Uid(2), Version(1))],
        );
        side.commit(&[vec![Uid(2)]], &[(Uid(2), Version(2))], &[]);
        assert!((-1..=4).all(|after| side.check(Uid(2), Version(after), ALL)));
        assert_eq!(
            side.recent
                .page(Uid(2), Version(0), ALL)
                .unwrap()
                .0
                .entries
                .len(),
            2
        );
        side.commit(&[], &[(Uid(2), Version(4)), (Uid(3), Version(1))], &[]);
        assert!(
            side.recent
                .page(Uid(2), Version(0), ALL)
                .unwrap()
                .0
                .entries
                .is_empty()
        );
        assert_eq!(
            side.recent.page(Uid(2), Version(0), ALL).unwrap().0.current,
            4
        );
    }

    #[test]
    fn a_message_is_held_once_and_let_go() {
        let mut side = Side::new(10_000);
        let everyone: Vec<Uid> = (1..=50).map(Uid).collect();
        let mut held = Vec::new();
        for _ in 0..100 {
            side.commit(std::slice::from_ref(&everyone), &[], &[]);
            side.trim();
            held.push(Arc::downgrade(&side.inboxes[&Uid(1)][0]));
            side.inboxes.clear();
        }
        let held = held.iter().filter(|message| message.strong_count() > 0);
        assert_eq!(held.count(), side.recent.deliveries.len());
        assert!(side.recent.bytes <= side.recent.most);
        let places = |uid| side.recent.inboxes.get(uid).unwrap().newest.capacity();
        assert!(everyone.iter().all(|uid| places(uid) <= 64));
    }

    #[test]
    fn a_commit_with_too_many_entries_is_not_held_and_leaves_no_gap() {
        let mut side = Side::new(1 << 20);
        let everyone: Vec<Uid> = (1..=1_000).map(Uid).collect();
        side.commit(&[everyone.clone(), vec![Uid(2_000)]], &[], &[]);
        let flood = vec![everyone.clone(); 1 + MOST_AT_ONCE / 1_000];
        side.commit(
            &flood,
            &[],
            &[(Uid(1), Version(9)), (Uid(2_000), Version(1))],
        );
        let total = flood.len() as i64 + 1;
        for uid in [Uid(1), Uid(1_000)] {
            assert_eq!(side.recent.level(uid), Some(side.heads[&uid].level(uid)));
            assert!((0..total).all(|after| !side.check(uid, Version(after), ALL)));
            // Who has everything is told so from here.
            assert!(side.check(uid, Version(total), ALL));
        }
        assert!(side.check(Uid(2_000), Version(0), ALL), "it has not grown");

        side.commit(&[vec![Uid(1)], everyone], &[], &[]);
        assert!((total..=total + 2).all(|after| side.check(Uid(1), Version(after), ALL)));
        assert!((total..=total + 1).all(|after| side.check(Uid(2), Version(after), ALL)));
        assert!(
            !side.check(Uid(1), Version(total - 1), ALL)
                && !side.check(Uid(2), Version(total - 1), ALL)
        );
        // What was let go early falls out without taking what came later with it.
        side.recent.most = side.recent.bytes - 1;
        assert_eq!(side.trim(), 1);
        assert!(side.check(Uid(1), Version(total), ALL) && side.check(Uid(2), Version(total), ALL));
        side.recent.most = 0;
        side.trim();
        assert!(
            !side.check(Uid(1), Version(total), ALL) && side.check(Uid(1), Version(total + 2), ALL)
        );
        assert_eq!((side.recent.bytes, side.recent.deliveries.len()), (0, 0));
    }

    #[test]
    fn readers_have_their_turn_while_much_falls_out() {
        let mut side = Side::new(1 << 20);
        let everyone: Vec<Uid> = (1..=1_000).map(Uid).collect();
        side.commit(&vec![everyone; MOST_AT_ONCE / 1_000], &[], &[]);
        assert_eq!(side.trim(), 0);
        side.recent.most = 0;
        assert!(side.recent.trim().is_some());
        let left = (0..=16).filter(|&after| side.check(Uid(7), Version(after), ALL));
        assert_eq!(left.count(), 12);
        assert_eq!(side.trim(), 3);
    }

    proptest! {
        #[test]
        fn whatever_is_known_is_so(
            room in 0..3_000_usize,
            at_once in 0..12_usize,
            commits in prop::collection::vec(
                (
                    prop::collection::vec(prop::collection::btree_set(1..5_i64, 1..4), 0..4),
                    prop::collection::vec((1..5_i64, 0..30_i64), 0..2),
                    prop::collection::vec((1..5_i64, 0..30_i64), 0..2),
                ),
                1..30,
            ),
            entries in 0..4_usize,
            bytes in prop_oneof![Just(usize::MAX), 0..200_usize],
        ) {
            let mut side = Side::with(Recent::with_room(room, at_once));
            for (to, cut, read) in commits {
                let to: Vec<Vec<Uid>> =
                    to.into_iter().map(|uids| uids.into_iter().map(Uid).collect()).collect();
                let ids = |(uid, version)| (Uid(uid), Version(version));
                let cut: Vec<_> = cut.into_iter().map(ids).collect();
                let read: Vec<_> = read.into_iter().map(ids).collect();
                side.commit(&to, &cut, &read);
                for is_trimmed in [false, true] {
                    if is_trimmed {
                        side.trim();
                    }
                    for (uid, after) in (1..5).flat_map(|uid| (-1..30).map(move |n| (uid, n))) {
                        side.check(Uid(uid), Version(after), ALL);
                        side.check(Uid(uid), Version(after), PageLimit { entries, bytes });
                    }
                }
            }
        }
    }
}
