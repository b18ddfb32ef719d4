//! The entries of an inbox, in chunks that only grow. Serves `inbox`, and the modules that append, copy and remove entries.
//!
//! A message to one user stands in a chunk as it stands in a page, so that a page is copied from there, and neither the
//! message nor its place in a list has an allocation of its own. A message to a group is shared by the inboxes of its
//! members, and is encoded for each page.
//!
//! A chunk has a bounded size: to append an entry never copies much, also when a message to a group makes thousands of
//! inboxes grow at once.

use std::collections::VecDeque;
use std::iter;
use std::mem;
use std::sync::Arc;

use crate::id::{Uid, Version};
use crate::proto::fields::Fields;
use crate::proto::{MeasuredEntry, PageEntry};
use crate::store::{Entry, Message, PageLimit};

/// The most entries of a chunk.
const CHUNK_ENTRIES: usize = 256;

/// The most bytes of a chunk that has more than one entry.
const CHUNK_BYTES: usize = 16 * 1024;

/// The bytes that a new chunk has room for. The room is doubled until it is [`CHUNK_BYTES`].
pub(super) const FIRST_BYTES: usize = 128;

/// The entries of an inbox, in the order of their versions, without gaps.
#[derive(Default)]
pub(super) struct Entries {
    /// The chunks that are complete, oldest first.
    complete: VecDeque<Chunk>,
    /// The chunk of the newest entries.
    last: Chunk,
    /// The newest version that was removed, or 0.
    trimmed_through: Version,
    /// The newest version.
    total: Version,
}

/// An entry that was removed.
pub(super) struct RemovedEntry {
    /// The message; without its text if it was to one user.
    pub message: Arc<Message>,
    /// The version that the entry had.
    pub version: Version,
    /// The bytes that the message took in its chunk; 0 if the inboxes of a group share it.
    pub bytes: usize,
    /// Whether the entry was found by its ordered id: see [`Entries::highest_ordered_id`].
    pub has_ordered_id: bool,
}

/// Consecutive entries.
#[derive(Default)]
struct Chunk {
    /// The version of the first entry, also if it was removed.
    first: Version,
    /// How many entries were removed from the beginning. Their bytes are left until the chunk is compacted.
    removed: usize,
    /// The encoded entries, one behind the other.
    bytes: Vec<u8>,
    /// The end in `bytes` of each entry. A shared one takes no bytes.
    ends: Vec<u32>,
    /// The shared messages of the entries that were not removed.
    shared: VecDeque<Arc<Message>>,
    /// A bit for each entry: whether it has an ordered id.
    ordered: [u64; CHUNK_ENTRIES / 64],
    /// The highest ordered id up to the end of the chunk, in this and all earlier chunks.
    highest_ordered_id: i64,
}

/// A reference to an entry in its chunk.
enum EntryRef<'a> {
    /// The entry as it stands in a page.
    Encoded(&'a [u8]),
    /// The message, which other inboxes have too.
    Shared(&'a Arc<Message>),
}

impl Entries {
    /// Creates a list whose first entry has the version after `trimmed_through`.
    pub fn beginning_after(trimmed_through: Version) -> Self {
        Entries {
            trimmed_through,
            total: trimmed_through,
            ..Entries::default()
        }
    }

    /// Returns the newest version that was removed, or 0.
    pub fn trimmed_through(&self) -> Version {
        self.trimmed_through
    }

    /// Returns the newest version, or 0 if there has never been an entry.
    pub fn total(&self) -> Version {
        self.total
    }

    /// Returns the highest id of an entry that was appended as ordered, or 0. The next ordered id has to be higher, so that
    /// entries can be found by their ordered ids without a table.
    pub fn highest_ordered_id(&self) -> i64 {
        self.last.highest_ordered_id
    }

    /// Appends an entry with a message to one user, which must have the version after the newest one. `ordered_id` is the
    /// id of the message as a number, if it is higher than all ordered ones before.
    pub fn push(&mut self, entry: &MeasuredEntry<'_>, ordered_id: Option<i64>) {
        self.make_room(entry.size());
        let chunk = &mut self.last;
        entry.write(&mut Fields::to(&mut chunk.bytes));
        if let Some(id) = ordered_id {
            chunk.mark_ordered(chunk.ends.len());
            chunk.highest_ordered_id = id;
        }
        self.end_entry();
    }

    /// Appends a message that other inboxes have too.
    pub fn push_shared(&mut self, message: Arc<Message>) {
        self.make_room(0);
        self.last.shared.push_back(message);
        self.end_entry();
    }

    fn end_entry(&mut self) {
        // A chunk of several entries has few bytes, and a single entry fits into a frame.
        let end = u32::try_from(self.last.bytes.len()).unwrap_or(u32::MAX);
        self.last.ends.push(end);
        self.total += 1;
    }

    /// Makes the last chunk one that has room for `bytes` more.
    fn make_room(&mut self, bytes: usize) {
        let chunk = &mut self.last;
        let needed = chunk.bytes.len() + bytes;
        if chunk.ends.len() == CHUNK_ENTRIES || needed > CHUNK_BYTES && !chunk.ends.is_empty() {
            let next = Chunk {
                highest_ordered_id: chunk.highest_ordered_id,
                ..Chunk::default()
            };
            let mut complete = mem::replace(chunk, next);
            complete.free_unused();
            self.complete.push_back(complete);
        }
        let chunk = &mut self.last;
        if chunk.ends.is_empty() {
            chunk.first = self.total + 1;
        }
        let needed = chunk.bytes.len() + bytes;
        if needed > chunk.bytes.capacity() {
            // A chunk with more bytes has a single entry.
            let room = match needed > CHUNK_BYTES {
                true => needed,
                false => needed.next_power_of_two().max(FIRST_BYTES),
            };
            chunk.bytes.reserve_exact(room - chunk.bytes.len());
        }
    }

    /// Returns when the oldest entry was sent, in Unix milliseconds.
    pub fn oldest_sent_at(&self) -> Option<i64> {
        let first = self.complete.front().unwrap_or(&self.last);
        Some(match first.get(first.removed)? {
            EntryRef::Encoded(bytes) => PageEntry::read(bytes).send_time,
            EntryRef::Shared(message) => message.sent_at,
        })
    }

    /// Removes and returns the oldest entry.
    pub fn pop_front(&mut self) -> Option<RemovedEntry> {
        let chunk = self.complete.front_mut().unwrap_or(&mut self.last);
        let index = chunk.removed;
        let (message, bytes) = match chunk.get(index)? {
            EntryRef::Encoded(bytes) => {
                // Texts may be long, and nobody needs this one.
                let entry = PageEntry {
                    msg: "",
                    ..PageEntry::read(bytes)
                };
                (Arc::new(Message::from_page(&entry)), bytes.len())
            }
            EntryRef::Shared(_) => (chunk.shared.pop_front()?, 0),
        };
        let has_ordered_id = chunk.is_ordered(index);
        chunk.removed += 1;
        if chunk.removed == chunk.ends.len() {
            match self.complete.is_empty() {
                false => drop(self.complete.pop_front()),
                true => self.last.clear(),
            }
        }
        self.trimmed_through += 1;
        Some(RemovedEntry {
            message,
            version: self.trimmed_through,
            bytes,
            has_ordered_id,
        })
    }

    /// Frees the room of removed entries, if it is much.
    pub fn shrink(&mut self) {
        if self.complete.capacity() / 4 > self.complete.len() {
            self.complete.shrink_to(2 * self.complete.len());
        }
        let first = self.complete.front_mut().unwrap_or(&mut self.last);
        let removed_bytes = first.start(first.removed);
        if 2 * first.removed > first.ends.len() || 2 * removed_bytes > first.bytes.len() {
            first.compact();
        }
        if self.last.bytes.capacity() / 4 > self.last.bytes.len() {
            self.last.free_unused();
        }
    }

    /// Returns the entries after version `after`, with their versions.
    pub fn after(&self, after: Version) -> impl Iterator<Item = Entry> {
        let after = after.max(self.trimmed_through);
        let chunks = self.complete.iter().skip(self.index_of(after + 1));
        chunks.chain(iter::once(&self.last)).flat_map(move |chunk| {
            let from = chunk.index_of(after + 1);
            (from..chunk.ends.len()).filter_map(|index| chunk.entry(index))
        })
    }

    /// Appends to `page` the entries after version `after` of the inbox of `uid`, as they stand in a page, as far as `limit`
    /// allows. Returns how many they are.
    pub fn copy_after(
        &self,
        uid: Uid,
        after: Version,
        limit: PageLimit,
        page: &mut Vec<u8>,
    ) -> usize {
        let mut left = limit;
        if left.entries == 0 {
            left.entries = usize::MAX;
        }
        let mut next = after.max(self.trimmed_through) + 1;
        let mut count = 0;
        let chunks = self.complete.iter().skip(self.index_of(next));
        for chunk in chunks.chain(iter::once(&self.last)) {
            let from = chunk.index_of(next);
            let copied = chunk.copy_from(uid, from, &mut left, page);
            count += copied;
            if from + copied < chunk.ends.len() {
                break;
            }
            next += copied.cast_signed() as i64;
        }
        count
    }

    /// Returns the entry with an ordered id.
    pub fn find_ordered(&self, id: i64) -> Option<PageEntry<'_>> {
        if id > self.highest_ordered_id() {
            return None;
        }
        let index = self
            .complete
            .partition_point(|chunk| chunk.highest_ordered_id < id);
        self.complete.get(index).unwrap_or(&self.last).find(id)
    }

    /// Returns the entry with a version, if its message is to this user alone.
    pub fn get_encoded(&self, version: Version) -> Option<PageEntry<'_>> {
        if version <= self.trimmed_through {
            return None;
        }
        let chunk = self.complete.get(self.index_of(version));
        let chunk = chunk.unwrap_or(&self.last);
        match chunk.get(chunk.index_of(version))? {
            EntryRef::Encoded(bytes) => Some(PageEntry::read(bytes)),
            EntryRef::Shared(_) => None,
        }
    }

    /// Returns the index of the complete chunk that has a version; their number, if none has it.
    fn index_of(&self, version: Version) -> usize {
        // Nearly all reads are of the newest entries.
        if version >= self.last.first && !self.last.ends.is_empty() {
            return self.complete.len();
        }
        let after = self.complete.partition_point(|c| c.first <= version);
        after.saturating_sub(1)
    }

    #[cfg(test)]
    pub fn capacity(&self) -> usize {
        let chunks = self.complete.iter().chain(iter::once(&self.last));
        chunks.map(|chunk| chunk.bytes.capacity()).sum()
    }
}

/// Returns the end of an entry as an index into the bytes of its chunk.
fn offset(end: u32) -> usize {
    usize::try_from(end).unwrap_or(usize::MAX)
}

impl Chunk {
    fn clear(&mut self) {
        *self = Chunk {
            highest_ordered_id: self.highest_ordered_id,
            ..Chunk::default()
        };
    }

    /// Returns the index of a version: 0 for an older one.
    fn index_of(&self, version: Version) -> usize {
        usize::try_from(version - self.first).unwrap_or(0)
    }

    /// Returns the index in `bytes` at which an entry begins.
    fn start(&self, index: usize) -> usize {
        let before = index.checked_sub(1);
        before
            .and_then(|i| self.ends.get(i))
            .map_or(0, |end| offset(*end))
    }

    fn get(&self, index: usize) -> Option<EntryRef<'_>> {
        let (start, end) = (self.start(index), offset(*self.ends.get(index)?));
        if start == end {
            return self
                .shared
                .get(self.shared_index(index))
                .map(EntryRef::Shared);
        }
        self.bytes.get(start..end).map(EntryRef::Encoded)
    }

    /// Returns the index in `shared` of the first shared message from entry `index` on.
    fn shared_index(&self, index: usize) -> usize {
        // All entries that are left are shared.
        if self.shared.len() == self.ends.len() - self.removed {
            return index - self.removed;
        }
        // A shared entry takes no bytes: its end is that of the entry before.
        let mut start = self.start(self.removed);
        let mut count = 0;
        for &end in self.ends.get(self.removed..index).unwrap_or_default() {
            let end = offset(end);
            if end == start {
                count += 1;
            }
            start = end;
        }
        count
    }

    fn entry(&self, index: usize) -> Option<Entry> {
        let message = match self.get(index)? {
            EntryRef::Encoded(bytes) => Arc::new(Message::from_page(&PageEntry::read(bytes))),
            EntryRef::Shared(message) => Arc::clone(message),
        };
        let version = self.first + index.cast_signed() as i64;
        Some(Entry { version, message })
    }

    fn mark_ordered(&mut self, index: usize) {
        if let Some(bits) = self.ordered.get_mut(index / 64) {
            *bits |= 1 << (index % 64);
        }
    }

    fn is_ordered(&self, index: usize) -> bool {
        let bits = self.ordered.get(index / 64).copied().unwrap_or_default();
        bits >> (index % 64) & 1 == 1
    }

    /// Returns the entry with an ordered id.
    fn find(&self, id: i64) -> Option<PageEntry<'_>> {
        let (mut low, mut high) = (self.removed, self.ends.len());
        while low < high {
            let middle = usize::midpoint(low, high);
            let ordered = (middle..high).find(|index| self.is_ordered(*index));
            let Some(ordered) = ordered else {
                high = middle;
                continue;
            };
            let EntryRef::Encoded(bytes) = self.get(ordered)? else {
                return None;
            };
            let entry = PageEntry::read(bytes);
            match entry.msg_id.parse::<i64>().ok()?.cmp(&id) {
                std::cmp::Ordering::Less => low = ordered + 1,
                std::cmp::Ordering::Greater => high = middle,
                std::cmp::Ordering::Equal => return Some(entry),
            }
        }
        None
    }

    /// Appends the entries from index `from` on to a page, as far as `left` allows, and takes them off `left`. Returns how many
    /// they are.
    fn copy_from(&self, uid: Uid, from: usize, left: &mut PageLimit, page: &mut Vec<u8>) -> usize {
        if !self.shared.is_empty() {
            return self.encode_from(uid, from, left, page);
        }
        let start = self.start(from);
        let ends = self.ends.get(from..).unwrap_or_default();
        let limit = start.saturating_add(left.bytes);
        let count = ends
            .partition_point(|end| offset(*end) <= limit)
            .min(left.entries);
        let end = self.start(from + count);
        page.extend_from_slice(self.bytes.get(start..end).unwrap_or_default());
        left.bytes -= end - start;
        left.entries -= count;
        count
    }

    /// Does what [`copy_from`](Self::copy_from) does for a chunk that has shared messages.
    fn encode_from(
        &self,
        uid: Uid,
        from: usize,
        left: &mut PageLimit,
        page: &mut Vec<u8>,
    ) -> usize {
        let mut start = self.start(from);
        let mut shared = self.shared.iter().skip(self.shared_index(from));
        let mut count = 0;
        for &end in self.ends.get(from..).unwrap_or_default() {
            let end = offset(end);
            if left.entries == 0 {
                break;
            }
            let before = page.len();
            let size;
            if start < end {
                size = end - start;
                if size > left.bytes {
                    break;
                }
                page.extend_from_slice(self.bytes.get(start..end).unwrap_or_default());
            } else {
                let Some(message) = shared.next() else { break };
                let version = self.first + (from + count).cast_signed() as i64;
                let entry = message.in_page(uid, version).measured();
                size = entry.size();
                if size > left.bytes {
                    break;
                }
                entry.write(&mut Fields::to(page));
            }
            debug_assert_eq!(page.len(), before + size);
            left.bytes -= size;
            left.entries -= 1;
            start = end;
            count += 1;
        }
        count
    }

    /// Frees the room for further entries.
    fn free_unused(&mut self) {
        if self.bytes.capacity() - self.bytes.len() > CHUNK_BYTES / 16 {
            self.bytes.shrink_to_fit();
        }
        self.ends.shrink_to_fit();
        self.shared.shrink_to_fit();
    }

    /// Frees the room of the removed entries.
    fn compact(&mut self) {
        let start = self.start(self.removed);
        let mut compacted = Chunk {
            first: self.first + self.removed.cast_signed() as i64,
            bytes: self.bytes.get(start..).unwrap_or_default().to_vec(),
            shared: mem::take(&mut self.shared),
            highest_ordered_id: self.highest_ordered_id,
            ..Chunk::default()
        };
        let ends = self.ends.get(self.removed..).unwrap_or_default();
        let from_start = |end: &u32| end.saturating_sub(u32::try_from(start).unwrap_or(u32::MAX));
        compacted.ends = ends.iter().map(from_start).collect();
        compacted.shared.shrink_to_fit();
        for index in 0..compacted.ends.len() {
            if self.is_ordered(self.removed + index) {
                compacted.mark_ordered(index);
            }
        }
        *self = compacted;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::id::{GroupId, MsgId};
    use crate::store::{EncodedPage, Kind, Page};
    use proptest::prelude::*;

    const UID: Uid = Uid(300);

    fn message(kind: Kind, id: i64, text: &str) -> Arc<Message> {
        let group = (kind == Kind::Group).then_some(GroupId(50));
        let id = id.to_string();
        Arc::new(Message::new(kind, Uid(1), group, MsgId(&id), text, 7))
    }

    fn push(entries: &mut Entries, message: &Arc<Message>, ordered_id: Option<i64>) {
        if message.kind == Kind::Group {
            entries.push_shared(Arc::clone(message));
        } else {
            let entry = message.in_page(UID, entries.total() + 1);
            entries.push(&entry.measured(), ordered_id);
        }
    }

    /// What is kept, from the version after `trimmed` on.
    struct Model {
        trimmed: i64,
        kept: VecDeque<Arc<Message>>,
    }

    impl Model {
        fn after(&self, after: i64) -> Vec<Entry> {
            let numbered = (self.trimmed + 1..).zip(&self.kept);
            let newer = numbered.filter(|(version, _)| *version > after);
            let entry = |(version, message): (i64, &Arc<Message>)| Entry {
                version: Version(version),
                message: Arc::clone(message),
            };
            newer.map(entry).collect()
        }
    }

    fn check(entries: &Entries, model: &Model, after: i64, limit: PageLimit) {
        let after = after.max(model.trimmed);
        let expected = model.after(after);
        let found: Vec<Entry> = entries.after(Version(after)).collect();
        assert_eq!(found, expected);
        assert_eq!(entries.total(), model.trimmed + model.kept.len() as i64);
        let mut page = crate::store::page_builder::PageBuilder::new(UID, Version(after), limit);
        for entry in expected {
            if page.is_full() || !page.add(entry) {
                break;
            }
        }
        let page: Page = page.finish(entries.total());
        let mut copied = Vec::new();
        let count = entries.copy_after(UID, Version(after), limit, &mut copied);
        assert_eq!(count, page.entries.len());
        assert_eq!(copied, EncodedPage::new(UID, &page).entries);
    }

    /// A step of a test: entries are appended, or removed, or the room of removed ones is freed.
    #[derive(Debug, Clone)]
    enum Step {
        Push {
            kind: Kind,
            ordered: bool,
            count: usize,
            len: usize,
        },
        Pop(usize),
        Shrink,
    }

    fn steps() -> impl Strategy<Value = Vec<Step>> {
        let kind = prop::sample::select(vec![Kind::P2p, Kind::Group, Kind::Ack]);
        let len = prop_oneof![8 => 0_usize..100, 1 => 5_000_usize..60_000];
        let count = prop_oneof![6 => 1_usize..8, 1 => 200_usize..600];
        let push = (kind, any::<bool>(), count, len).prop_map(|(kind, ordered, count, len)| {
            // Long texts are few, so that a case does not take long.
            let count = if len > 100 { count.min(3) } else { count };
            Step::Push {
                kind,
                ordered,
                count,
                len,
            }
        });
        let pops = (1_usize..400).prop_map(Step::Pop);
        let step = prop_oneof![6 => push, 2 => pops, 1 => Just(Step::Shrink)];
        prop::collection::vec(step, 1..20)
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(150))]

        #[test]
        fn chunks_are_one_list_wherever_it_begins(
            steps in steps(),
            reads in prop::collection::vec((any::<prop::sample::Index>(), 0_usize..40, 0_usize..3_000), 4),
        ) {
            let mut entries = Entries::default();
            let mut model = Model { trimmed: 0, kept: VecDeque::new() };
            let mut ordered_ids: VecDeque<(i64, i64)> = VecDeque::new();
            let mut next_id = 0;
            for step in steps {
                match step {
                    Step::Push { kind, ordered, count, len } => {
                        for _ in 0..count {
                            next_id += 3;
                            let message = message(kind, next_id, &"x".repeat(len));
                            let ordered = ordered && kind == Kind::P2p;
                            push(&mut entries, &message, ordered.then_some(next_id));
                            model.kept.push_back(message);
                            if ordered {
                                ordered_ids.push_back((entries.total().0, next_id));
                            }
                        }
                    }
                    Step::Pop(count) => {
                        for _ in 0..count {
                            let oldest = model.kept.pop_front();
                            prop_assert_eq!(entries.oldest_sent_at(), oldest.as_ref().map(|_| 7));
                            let removed = entries.pop_front();
                            prop_assert_eq!(removed.is_some(), oldest.is_some());
                            let (Some(removed), Some(oldest)) = (removed, oldest) else { break };
                            model.trimmed += 1;
                            let was_ordered = ordered_ids.front().is_some_and(|(v, _)| *v == model.trimmed);
                            if was_ordered {
                                ordered_ids.pop_front();
                            }
                            let is_shared = oldest.kind == Kind::Group;
                            let text = if is_shared { oldest.text() } else { "" };
                            prop_assert_eq!(&*removed.message, &oldest.with_text(text));
                            prop_assert_eq!(removed.version, Version(model.trimmed));
                            prop_assert_eq!(removed.has_ordered_id, was_ordered);
                        }
                    }
                    Step::Shrink => entries.shrink(),
                }
                let total = entries.total().0;
                for (at, count, bytes) in &reads {
                    let after = at.index(total as usize + 1) as i64;
                    check(&entries, &model, after, PageLimit { entries: *count, bytes: *bytes });
                    check(&entries, &model, after, PageLimit { entries: 0, bytes: 60_000 });
                }
                for (version, id) in ordered_ids.iter().step_by(7) {
                    let found = entries.find_ordered(*id).map(|entry| entry.increment_id);
                    prop_assert_eq!(found, Some(*version));
                    prop_assert!(entries.find_ordered(id + 1).is_none());
                    let encoded = entries.get_encoded(Version(*version));
                    let id = id.to_string();
                    prop_assert_eq!(encoded.map(|entry| entry.msg_id), Some(id.as_str()));
                }
            }
        }
    }

    #[test]
    fn removed_entries_leave_little_behind() {
        let mut entries = Entries::default();
        let text = "x".repeat(100);
        for id in 1..=10_000 {
            push(&mut entries, &message(Kind::P2p, id, &text), Some(id));
            push(&mut entries, &message(Kind::Group, id, &text), None);
        }
        while entries.total() - entries.trimmed_through() > 1 {
            assert!(entries.pop_front().is_some());
        }
        entries.shrink();
        assert!(entries.capacity() <= 256, "{}", entries.capacity());
        assert!(entries.complete.capacity() <= 4);
    }

    #[test]
    fn a_long_entry_that_was_removed_leaves_little_behind() {
        let mut entries = Entries::default();
        push(
            &mut entries,
            &message(Kind::P2p, 1, &"x".repeat(15_000)),
            None,
        );
        push(&mut entries, &message(Kind::P2p, 2, "ok"), None);
        assert!(entries.pop_front().is_some());
        entries.shrink();
        assert!(entries.capacity() <= 256, "{}", entries.capacity());
        let left: Vec<Entry> = entries.after(Version(0)).collect();
        assert_eq!(left[0].message.text(), "ok");
    }

    #[test]
    fn no_chunk_is_larger_than_it_may_be() {
        let mut entries = Entries::default();
        for id in 1..=10_000 {
            push(
                &mut entries,
                &message(Kind::P2p, id, "a text of some length"),
                Some(id),
            );
        }
        let used: usize = entries.complete.iter().map(|chunk| chunk.bytes.len()).sum();
        assert!(
            entries
                .complete
                .iter()
                .all(|c| c.bytes.capacity() <= CHUNK_BYTES)
        );
        let held = entries.capacity();
        assert!(held < used + used / 16 + CHUNK_BYTES, "{held} for {used}");
    }
}
