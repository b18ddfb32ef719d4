//! The entries of an inbox, in pieces, so that to append one never copies many. In one deque, a message to a group
//! could have to copy thousands of inboxes at once, since they grow together.

use std::collections::VecDeque;
use std::iter;
use std::mem;
use std::sync::Arc;

use crate::store::Message;

/// The number of entries in a full piece.
const PIECE: usize = 256;

/// The entries of an inbox, in the order of their versions.
#[derive(Default)]
pub(super) struct Entries {
    /// The pieces that were filled. All but the first are full; entries are removed from the first.
    full: VecDeque<VecDeque<Arc<Message>>>,
    /// The newest entries.
    last: VecDeque<Arc<Message>>,
}

impl Entries {
    /// Returns the number of entries.
    pub fn len(&self) -> usize {
        let first = self.full.front().map_or(0, VecDeque::len);
        first + self.full.len().saturating_sub(1) * PIECE + self.last.len()
    }

    /// Appends an entry.
    pub fn push_back(&mut self, message: Arc<Message>) {
        if self.last.len() == PIECE {
            self.full.push_back(mem::take(&mut self.last));
        }
        self.last.push_back(message);
    }

    /// Returns the oldest entry.
    pub fn front(&self) -> Option<&Arc<Message>> {
        self.full.front().unwrap_or(&self.last).front()
    }

    /// Removes and returns the oldest entry.
    pub fn pop_front(&mut self) -> Option<Arc<Message>> {
        let Some(first) = self.full.front_mut() else {
            return self.last.pop_front();
        };
        let message = first.pop_front();
        if first.is_empty() {
            self.full.pop_front();
        }
        message
    }

    /// Frees the room of removed entries, if it is much.
    pub fn shrink(&mut self) {
        if self.full.capacity() / 4 > self.full.len() {
            self.full.shrink_to(2 * self.full.len());
        }
        if self.last.capacity() / 4 > self.last.len() {
            self.last.shrink_to(2 * self.last.len());
        }
    }

    /// Returns the entries after the first `skipped`.
    pub fn after(&self, skipped: usize) -> impl Iterator<Item = &Arc<Message>> {
        let first = self.full.front().unwrap_or(&self.last).len();
        let (pieces, skipped) = match skipped.checked_sub(first) {
            None => (0, skipped),
            Some(beyond) => (1 + beyond / PIECE, beyond % PIECE),
        };
        let all = self.full.iter().chain(iter::once(&self.last));
        all.skip(pieces).flatten().skip(skipped)
    }

    #[cfg(test)]
    pub fn capacity(&self) -> usize {
        let full = self.full.iter().map(VecDeque::capacity);
        full.sum::<usize>() + self.last.capacity()
    }
}

impl FromIterator<Arc<Message>> for Entries {
    fn from_iter<T: IntoIterator<Item = Arc<Message>>>(messages: T) -> Self {
        let mut entries = Entries::default();
        messages.into_iter().for_each(|m| entries.push_back(m));
        entries
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::id::{MsgId, Uid};
    use crate::store::Kind;

    #[test]
    fn pieces_are_one_list_wherever_it_begins() {
        let message = |n: usize| {
            Arc::new(Message::new(
                Kind::P2p,
                Uid(1),
                None,
                MsgId(&n.to_string()),
                "",
                1,
            ))
        };
        for len in [0, 1, PIECE - 1, PIECE, 2 * PIECE + 7] {
            let mut entries: Entries = (0..len).map(message).collect();
            for removed in 0..=len {
                assert_eq!(entries.len(), len - removed);
                let front = entries.front().map(|message| message.msg_id().to_string());
                assert_eq!(front, (removed < len).then(|| removed.to_string()));
                for skipped in [0, 1, PIECE - 1, PIECE, 2 * PIECE + 3, len - removed] {
                    let after = entries
                        .after(skipped)
                        .map(|message| message.msg_id().to_string());
                    let expected = (removed + skipped..len).map(|n| n.to_string());
                    assert!(after.eq(expected), "{len} {removed} {skipped}");
                }
                assert_eq!(entries.pop_front().is_some(), removed < len);
                entries.shrink();
            }
            assert!(entries.capacity() <= 4);
        }
    }

    #[test]
    fn no_piece_is_copied_when_entries_are_appended() {
        let message = Arc::new(Message::new(Kind::P2p, Uid(1), None, MsgId("m"), "", 1));
        let entries: Entries = std::iter::repeat_n(message, 100 * PIECE).collect();
        assert!(entries.full.iter().all(|piece| piece.len() == PIECE));
        assert!(entries.last.capacity() <= PIECE);
    }
}
