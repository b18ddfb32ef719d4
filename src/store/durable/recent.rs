//! A cache of the newest entries of the inboxes, and of what commits have to know of the inboxes; and the read marks that
//! are noted and not stored yet.
//!
//! Serves the store, which answers most pages from it at once, without the engine and without a thread, and the writer,
//! which finds inboxes and read marks in it.
//!
//! The cache shows what readers may see, no more and no less: the writer changes it together with the published state
//! of the engine, under one lock. What is not in it is read from the engine. Its size is bounded: the oldest messages
//! are evicted first.

use std::collections::VecDeque;
use std::mem;
use std::slice;
use std::sync::Arc;

use hashbrown::HashMap;
use quick_cache::unsync::Cache;

use super::bounds::{InboxBounds, InboxChange, KnownInbox};
use super::marks::ReadMarks;
use crate::id::{MsgId, Uid, Version};
use crate::store::members::Members;
use crate::store::page_builder::PageBuilder;
use crate::store::{Entry, InboxState, Kind, Message, Page, PageLimit};

/// The most entries of a commit that are added to the cache: readers wait for the lock while they are added.
const MAX_COMMIT_ENTRIES: usize = 16_384;

/// After how many evicted entries the writer releases the lock, so that waiting readers get it.
const EVICTED_AT_ONCE: usize = 4_096;

/// How many inboxes the cache knows.
const CACHED_INBOXES: usize = 65_536;

/// The approximate limit of the memory that the messages take, in bytes.
const MAX_BYTES: usize = 16 << 20;

/// The approximate memory that a message takes besides its id and text, in bytes.
const MESSAGE_OVERHEAD: usize = size_of::<CachedMessage>() + size_of::<Message>() + 64;
/// The memory that a message takes in each inbox, in bytes. A deque may have space for twice its entries.
const ENTRY_OVERHEAD: usize = 2 * size_of::<Arc<Message>>();

/// The newest entries that are published.
#[derive(Debug)]
pub struct Recent {
    /// The read marks that were noted and that no commit has stored yet. One may be at or below the published mark: the
    /// higher of the two holds.
    pub marks: ReadMarks,
    inboxes: Cache<Uid, Inbox>,
    /// All messages in the cache, the oldest first, for their eviction.
    messages: VecDeque<CachedMessage>,
    /// The approximate memory that the messages take.
    bytes: usize,
    max_bytes: usize,
    max_commit_entries: usize,
}

/// Entries that were removed from the cache. Freeing them takes long, so the owner drops this after the lock is
/// released.
#[derive(Debug, Default)]
#[must_use]
pub struct Evicted {
    _messages: Vec<CachedMessage>,
    _entries: Vec<VecDeque<Arc<Message>>>,
}

/// The part of an inbox that the cache has.
#[derive(Debug)]
struct Inbox {
    known: KnownInbox,
    /// The newest entries, up to the newest version, without gaps.
    newest: VecDeque<Arc<Message>>,
}

/// A message, and the users into whose inboxes it was put.
#[derive(Debug)]
pub struct CachedMessage {
    pub message: Arc<Message>,
    pub receivers: Receivers,
}

/// The users into whose inboxes a message was put.
#[derive(Debug)]
pub enum Receivers {
    /// The receiver of a message to one user.
    One(Uid),
    /// The members of a group when the message was sent to it.
    Members(Members),
}

impl Default for Recent {
    fn default() -> Self {
        Recent::with_limits(MAX_BYTES, MAX_COMMIT_ENTRIES)
    }
}

impl Recent {
    fn with_limits(max_bytes: usize, max_commit_entries: usize) -> Self {
        Recent {
            marks: ReadMarks::default(),
            inboxes: Cache::new(CACHED_INBOXES),
            messages: VecDeque::new(),
            bytes: 0,
            max_bytes,
            max_commit_entries,
        }
    }

    /// Returns the bounds of an inbox, if they are in the cache.
    fn bounds(&self, uid: Uid) -> Option<InboxBounds> {
        self.known(uid).map(|known| known.bounds)
    }

    /// Returns what a commit has to know of an inbox, if the inbox is in the cache.
    pub fn known(&self, uid: Uid) -> Option<KnownInbox> {
        self.inboxes.get(&uid).map(|inbox| inbox.known)
    }

    /// Returns the state of an inbox as clients are told, if its bounds are in the cache.
    pub fn inbox_state(&self, uid: Uid) -> Option<InboxState> {
        let bounds = self.bounds(uid)?.with_mark(self.marks.get(uid));
        Some(bounds.inbox_state(uid))
    }

    /// Empties the cache, and returns what was in it. The read marks stay, since they are nowhere else.
    pub fn forget(&mut self) -> Recent {
        let marks = mem::take(&mut self.marks);
        mem::replace(
            self,
            Recent {
                marks,
                ..Recent::default()
            },
        )
    }

    /// Adds an inbox, which has to be as in the published state.
    pub fn learn(&mut self, uid: Uid, known: KnownInbox) {
        let newest = VecDeque::new();
        self.inboxes.insert(uid, Inbox { known, newest });
    }

    /// Returns the page that [`reader::page`](super::reader::page) would read, and the read mark of the published
    /// state, if all its entries are in the cache.
    pub fn page(&self, uid: Uid, after: Version, limit: PageLimit) -> Option<(Page, Version)> {
        let Inbox { known, newest } = self.inboxes.get(&uid)?;
        let bounds = &known.bounds;
        // A version beyond the inbox comes from contents that the store no longer has. Such a page begins with the
        // oldest entry. This is rare, so it is left to the engine.
        if after > bounds.total {
            return None;
        }
        let current = after.max(bounds.trimmed_through);
        let wanted = usize::try_from(bounds.total - current).ok()?;
        let skipped = newest.len().checked_sub(wanted)?;
        let mut page = PageBuilder::new(uid, current, limit);
        for (version, message) in current.following().zip(newest.range(skipped..)) {
            let message = Arc::clone(message);
            if page.is_full() || !page.add(Entry { version, message }) {
                break;
            }
        }
        Some((page.finish(bounds.total), bounds.read))
    }

    /// Adds what a commit has changed, when it is published. The cache may be too large afterwards, until
    /// [`evict`](Recent::evict) has made space.
    pub fn publish(
        &mut self,
        changes: &HashMap<Uid, InboxChange>,
        new_messages: Vec<CachedMessage>,
    ) -> Evicted {
        let entries: usize = new_messages.iter().map(CachedMessage::entries).sum();
        if entries > self.max_commit_entries {
            return self.publish_bounds_only(changes, new_messages);
        }
        for (&uid, change) in changes {
            self.advance(uid, change);
        }
        for new_message in new_messages {
            for uid in new_message.receivers.uids() {
                if let Some(mut inbox) = self.inboxes.get_mut(uid) {
                    inbox.newest.push_back(Arc::clone(&new_message.message));
                }
            }
            self.bytes += new_message.size();
            self.messages.push_back(new_message);
        }
        Evicted::default()
    }

    /// Takes over the bounds of a large commit without its entries. The entries of the inboxes that have grown would
    /// have a gap behind them, so they are removed. Their messages stay in `messages` until they are evicted.
    fn publish_bounds_only(
        &mut self,
        changes: &HashMap<Uid, InboxChange>,
        new_messages: Vec<CachedMessage>,
    ) -> Evicted {
        let mut entries = Vec::new();
        for (&uid, change) in changes {
            if change.new.bounds.total > change.old.bounds.total
                && let Some(mut inbox) = self.inboxes.get_mut(&uid)
            {
                entries.push(mem::take(&mut inbox.newest));
            }
            self.advance(uid, change);
        }
        Evicted {
            _messages: new_messages,
            _entries: entries,
        }
    }

    fn advance(&mut self, uid: Uid, change: &InboxChange) {
        match self.inboxes.get_mut(&uid) {
            Some(mut inbox) => inbox.advance(change.new),
            None => self.learn(uid, change.new),
        }
    }

    /// Evicts the oldest messages while the cache is too large, at most about [`EVICTED_AT_ONCE`] entries. None if
    /// nothing was to be evicted.
    pub fn evict(&mut self) -> Option<Evicted> {
        let mut evicted = Vec::new();
        let mut entries = 0;
        while self.bytes > self.max_bytes && entries < EVICTED_AT_ONCE {
            let Some(oldest) = self.evict_oldest() else {
                break;
            };
            entries += oldest.entries();
            evicted.push(oldest);
        }
        if evicted.is_empty() {
            return None;
        }
        Some(Evicted {
            _messages: evicted,
            _entries: Vec::new(),
        })
    }

    fn evict_oldest(&mut self) -> Option<CachedMessage> {
        let oldest = self.messages.pop_front()?;
        self.bytes = self.bytes.saturating_sub(oldest.size());
        for uid in oldest.receivers.uids() {
            if let Some(mut inbox) = self.inboxes.get_mut(uid) {
                inbox.evict(&oldest.message);
            }
        }
        Some(oldest)
    }
}

impl Inbox {
    /// Moves the bounds, before the entries up to the new total are added.
    fn advance(&mut self, known: KnownInbox) {
        let kept = self.known.bounds.total - known.bounds.trimmed_through;
        let kept = usize::try_from(kept).unwrap_or(0);
        if self.newest.len() > kept {
            self.newest.drain(..self.newest.len() - kept);
        }
        self.known = known;
    }

    /// Evicts the oldest entry if it is this message. The oldest entry is another one if retention has removed this
    /// message, if its commit was skipped, or if the inbox has left the cache in the meantime.
    fn evict(&mut self, message: &Arc<Message>) {
        let oldest = self.newest.front();
        if oldest.is_some_and(|oldest| Arc::ptr_eq(oldest, message)) {
            self.newest.pop_front();
        }
        // The size of an entry allows for as much unused space; more than that is freed.
        if self.newest.capacity() / 4 > self.newest.len() {
            self.newest.shrink_to(2 * self.newest.len());
        }
    }
}

impl CachedMessage {
    /// Returns whether this is the message to `target` alone that `source` has sent with this id.
    pub fn is_from(&self, source: Uid, msg_id: MsgId<'_>, target: Uid) -> bool {
        matches!(self.receivers, Receivers::One(receiver) if receiver == target)
            && self.message.kind == Kind::P2p
            && self.message.source == source
            && self.message.msg_id() == msg_id
    }

    fn entries(&self) -> usize {
        self.receivers.uids().len()
    }

    fn size(&self) -> usize {
        let texts = self.message.msg_id().0.len() + self.message.text().len();
        MESSAGE_OVERHEAD + texts + ENTRY_OVERHEAD * self.entries()
    }
}

impl Receivers {
    fn uids(&self) -> &[Uid] {
        match self {
            Receivers::One(uid) => slice::from_ref(uid),
            Receivers::Members(uids) => uids,
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const ALL: PageLimit = PageLimit {
        entries: 0,
        bytes: usize::MAX,
    };

    fn message(id: &str) -> Arc<Message> {
        Arc::new(Message::new(Kind::P2p, Uid(1), None, MsgId(id), "text", 1))
    }

    /// The contents that inboxes have, and a cache of them.
    struct Fixture {
        recent: Recent,
        bounds: HashMap<Uid, InboxBounds>,
        inboxes: HashMap<Uid, Vec<Arc<Message>>>,
        sent: usize,
    }

    impl Fixture {
        fn new(max_bytes: usize) -> Fixture {
            Fixture::with(Recent::with_limits(max_bytes, MAX_COMMIT_ENTRIES))
        }

        fn with(recent: Recent) -> Fixture {
            Fixture {
                recent,
                bounds: HashMap::new(),
                inboxes: HashMap::new(),
                sent: 0,
            }
        }

        /// Makes one commit: a message to each of the lists in `to`, then removes the entries through the versions of
        /// `trimmed` and moves the read marks to those of `read`.
        fn commit(&mut self, to: &[Vec<Uid>], trimmed: &[(Uid, Version)], read: &[(Uid, Version)]) {
            let mut touched = HashMap::new();
            let mut new_messages = Vec::new();
            let mut touch = |uid: Uid,
                             bounds: &HashMap<Uid, InboxBounds>,
                             change: &dyn Fn(&mut InboxBounds)| {
                let old = bounds.get(&uid).copied().unwrap_or_default();
                let old = KnownInbox {
                    bounds: old,
                    ..KnownInbox::default()
                };
                let entry = touched.entry(uid).or_insert(InboxChange { old, new: old });
                change(&mut entry.new.bounds);
            };
            for uids in to {
                self.sent += 1;
                let message = message(&self.sent.to_string());
                for &uid in uids {
                    touch(uid, &self.bounds, &|bounds| bounds.total += 1);
                    let inbox = self.inboxes.entry(uid).or_default();
                    inbox.push(Arc::clone(&message));
                }
                let receivers = match *uids.as_slice() {
                    [uid] => Receivers::One(uid),
                    _ => Receivers::Members(uids.clone().into()),
                };
                new_messages.push(CachedMessage { message, receivers });
            }
            for &(uid, through) in trimmed {
                // Retention removes only entries of earlier commits.
                let total = self
                    .bounds
                    .get(&uid)
                    .map_or(Version::START, |bounds| bounds.total);
                touch(uid, &self.bounds, &|bounds| {
                    bounds.trimmed_through = bounds.trimmed_through.max(through.min(total));
                });
            }
            for &(uid, read) in read {
                touch(uid, &self.bounds, &|bounds| {
                    bounds.read = bounds.read.max(read.min(bounds.total));
                });
            }
            drop(self.recent.publish(&touched, new_messages));
            for (uid, touched) in touched {
                self.bounds.insert(uid, touched.new.bounds);
            }
        }

        /// Evicts until the cache is within its limit, and returns the number of steps.
        fn evict(&mut self) -> usize {
            std::iter::from_fn(|| self.recent.evict()).count()
        }

        /// Returns whether the cache has a page, and asserts that it is the true one.
        fn check(&self, uid: Uid, after: Version, limit: PageLimit) -> bool {
            let bounds = self.bounds.get(&uid).copied().unwrap_or_default();
            let Some((page, read)) = self.recent.page(uid, after, limit) else {
                return false;
            };
            let start = after.max(bounds.trimmed_through);
            let mut expected = PageBuilder::new(uid, start, limit);
            let inbox = self.inboxes.get(&uid).map_or(&[][..], Vec::as_slice);
            let skipped = usize::try_from(start.0).unwrap();
            for (version, message) in Version::START.following().zip(inbox).skip(skipped) {
                let message = Arc::clone(message);
                if expected.is_full() || !expected.add(Entry { version, message }) {
                    break;
                }
            }
            assert_eq!(page, expected.finish(bounds.total));
            assert_eq!(read, bounds.read);
            assert_eq!(self.recent.inbox_state(uid), Some(bounds.inbox_state(uid)));
            true
        }
    }

    #[test]
    fn the_newest_entries_are_in_the_cache_and_evicted_ones_are_not() {
        let mut fixture = Fixture::new(4 * (MESSAGE_OVERHEAD + ENTRY_OVERHEAD + 6));
        assert!(!fixture.check(Uid(2), Version(0), ALL));
        for _ in 0..4 {
            fixture.commit(&[vec![Uid(2)]], &[], &[]);
        }
        assert!((0..=4).all(|after| fixture.check(Uid(2), Version(after), ALL)));
        assert_eq!(fixture.evict(), 0);
        fixture.commit(&[vec![Uid(2)], vec![Uid(2)]], &[], &[]);
        // The cache may be too large until the eviction.
        assert!((0..=6).all(|after| fixture.check(Uid(2), Version(after), ALL)));
        assert_eq!(fixture.evict(), 1);
        assert!((0..2).all(|after| !fixture.check(Uid(2), Version(after), ALL)));
        assert!((2..=6).all(|after| fixture.check(Uid(2), Version(after), ALL)));
        // A version from contents that the store no longer has.
        assert!(!fixture.check(Uid(2), Version(7), ALL));
    }

    #[test]
    fn entries_that_retention_has_removed_are_not_served() {
        let mut fixture = Fixture::new(1 << 20);
        fixture.commit(
            &[vec![Uid(2)], vec![Uid(2)], vec![Uid(2), Uid(3)]],
            &[],
            &[(Uid(2), Version(1))],
        );
        fixture.commit(&[vec![Uid(2)]], &[(Uid(2), Version(2))], &[]);
        assert!((-1..=4).all(|after| fixture.check(Uid(2), Version(after), ALL)));
        assert_eq!(
            fixture
                .recent
                .page(Uid(2), Version(0), ALL)
                .unwrap()
                .0
                .entries
                .len(),
            2
        );
        fixture.commit(&[], &[(Uid(2), Version(4)), (Uid(3), Version(1))], &[]);
        assert!(
            fixture
                .recent
                .page(Uid(2), Version(0), ALL)
                .unwrap()
                .0
                .entries
                .is_empty()
        );
        assert_eq!(
            fixture
                .recent
                .page(Uid(2), Version(0), ALL)
                .unwrap()
                .0
                .current,
            4
        );
    }

    #[test]
    fn a_message_is_held_once_and_freed() {
        let mut fixture = Fixture::new(10_000);
        let everyone: Vec<Uid> = (1..=50).map(Uid).collect();
        let mut held = Vec::new();
        for _ in 0..100 {
            fixture.commit(std::slice::from_ref(&everyone), &[], &[]);
            fixture.evict();
            held.push(Arc::downgrade(&fixture.inboxes[&Uid(1)][0]));
            fixture.inboxes.clear();
        }
        let held = held.iter().filter(|message| message.strong_count() > 0);
        assert_eq!(held.count(), fixture.recent.messages.len());
        assert!(fixture.recent.bytes <= fixture.recent.max_bytes);
        let places = |uid| fixture.recent.inboxes.get(uid).unwrap().newest.capacity();
        assert!(everyone.iter().all(|uid| places(uid) <= 64));
    }

    #[test]
    fn a_commit_with_too_many_entries_is_skipped_and_leaves_no_gap() {
        let mut fixture = Fixture::new(1 << 20);
        let everyone: Vec<Uid> = (1..=1_000).map(Uid).collect();
        fixture.commit(&[everyone.clone(), vec![Uid(2_000)]], &[], &[]);
        let flood = vec![everyone.clone(); 1 + MAX_COMMIT_ENTRIES / 1_000];
        fixture.commit(
            &flood,
            &[],
            &[(Uid(1), Version(9)), (Uid(2_000), Version(1))],
        );
        let total = flood.len() as i64 + 1;
        for uid in [Uid(1), Uid(1_000)] {
            assert_eq!(
                fixture.recent.inbox_state(uid),
                Some(fixture.bounds[&uid].inbox_state(uid))
            );
            assert!((0..total).all(|after| !fixture.check(uid, Version(after), ALL)));
            // A reader who has read everything needs no entries.
            assert!(fixture.check(uid, Version(total), ALL));
        }
        assert!(
            fixture.check(Uid(2_000), Version(0), ALL),
            "the inbox has not grown"
        );

        fixture.commit(&[vec![Uid(1)], everyone], &[], &[]);
        assert!((total..=total + 2).all(|after| fixture.check(Uid(1), Version(after), ALL)));
        assert!((total..=total + 1).all(|after| fixture.check(Uid(2), Version(after), ALL)));
        assert!(
            !fixture.check(Uid(1), Version(total - 1), ALL)
                && !fixture.check(Uid(2), Version(total - 1), ALL)
        );
        // The eviction of a message that a large commit has removed leaves the later entries in place.
        fixture.recent.max_bytes = fixture.recent.bytes - 1;
        assert_eq!(fixture.evict(), 1);
        assert!(
            fixture.check(Uid(1), Version(total), ALL)
                && fixture.check(Uid(2), Version(total), ALL)
        );
        fixture.recent.max_bytes = 0;
        fixture.evict();
        assert!(
            !fixture.check(Uid(1), Version(total), ALL)
                && fixture.check(Uid(1), Version(total + 2), ALL)
        );
        assert_eq!(
            (fixture.recent.bytes, fixture.recent.messages.len()),
            (0, 0)
        );
    }

    #[test]
    fn readers_get_the_lock_while_much_is_evicted() {
        let mut fixture = Fixture::new(1 << 20);
        let everyone: Vec<Uid> = (1..=1_000).map(Uid).collect();
        fixture.commit(&vec![everyone; MAX_COMMIT_ENTRIES / 1_000], &[], &[]);
        assert_eq!(fixture.evict(), 0);
        fixture.recent.max_bytes = 0;
        assert!(fixture.recent.evict().is_some());
        let left = (0..=16).filter(|&after| fixture.check(Uid(7), Version(after), ALL));
        assert_eq!(left.count(), 12);
        assert_eq!(fixture.evict(), 3);
    }

    proptest! {
        #[test]
        fn every_page_from_the_cache_is_the_true_one(
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
            let mut fixture = Fixture::with(Recent::with_limits(room, at_once));
            for (to, trimmed, read) in commits {
                let to: Vec<Vec<Uid>> =
                    to.into_iter().map(|uids| uids.into_iter().map(Uid).collect()).collect();
                let ids = |(uid, version)| (Uid(uid), Version(version));
                let trimmed: Vec<_> = trimmed.into_iter().map(ids).collect();
                let read: Vec<_> = read.into_iter().map(ids).collect();
                fixture.commit(&to, &trimmed, &read);
                for is_evicted in [false, true] {
                    if is_evicted {
                        fixture.evict();
                    }
                    for (uid, after) in (1..5).flat_map(|uid| (-1..30).map(move |n| (uid, n))) {
                        fixture.check(Uid(uid), Version(after), ALL);
                        fixture.check(Uid(uid), Version(after), PageLimit { entries, bytes });
                    }
                }
            }
        }
    }
}
