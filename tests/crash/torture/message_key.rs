//! The key of a message: what the server recognises it by when it is sent again.
//!
//! Serves the senders and the checker. The text of a message follows from its key, so that the checker can tell whether a
//! text is whole without having kept it.

use std::fmt;

/// The kinds of inbox entries.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum EntryKind {
    P2p,
    Group,
    Ack,
}

/// Identifies a message or an ack. The server stores each key once, however often it is sent.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct MessageKey {
    pub kind: EntryKind,
    /// The user who sent the message, or who accepted a message by this ack.
    pub source: i64,
    /// The receiver's uid, or the id of the group for a group message.
    pub scope: i64,
    pub msg_id: String,
}

impl fmt::Display for MessageKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let MessageKey {
            kind,
            source,
            scope,
            msg_id,
        } = self;
        let what = match kind {
            EntryKind::P2p => "message",
            EntryKind::Group => "group message",
            EntryKind::Ack => "ack",
        };
        write!(f, "{what} {msg_id:?} from {source} to {scope}")
    }
}

impl MessageKey {
    /// Returns the text of the message with this key: mostly short, sometimes empty, sometimes up to 3 KB. An ack has none.
    pub fn text(&self) -> String {
        const LETTERS: [char; 16] = [
            'a', 'b', 'c', 'd', 'e', 'f', 'g', 'h', ' ', '0', '1', '"', '\\', '\n', 'ö', '語',
        ];
        if self.kind == EntryKind::Ack {
            return String::new();
        }
        let mut bits = self.hash();
        let max_len = match bits % 10 {
            0..6 => 64,
            6..9 => 512,
            _ => 3_000,
        };
        let len = usize::try_from(bits >> 32).unwrap_or_default() % max_len;
        let mut text = String::with_capacity(2 * len);
        while text.len() < len {
            text.push(LETTERS[(bits >> 60) as usize]);
            bits = bits.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        }
        text
    }

    /// Returns the FNV-1a hash of the key. It is the same in every process, which the hasher of a map does not promise.
    fn hash(&self) -> u64 {
        let numbers = [self.source.to_le_bytes(), self.scope.to_le_bytes()].concat();
        let bytes = numbers.iter().chain(self.msg_id.as_bytes());
        bytes.fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
            (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3)
        })
    }
}
