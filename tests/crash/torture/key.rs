//! What makes a message the same one when it is sent again, and the text that belongs to it.

use std::fmt;

/// What an inbox entry is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Kind {
    P2p,
    Group,
    Ack,
}

/// The identity of a message.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Key {
    pub kind: Kind,
    /// Who sent it; of an ack, who accepted.
    pub source: i64,
    /// The receiver, or the group.
    pub scope: i64,
    pub msg_id: String,
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Key {
            kind,
            source,
            scope,
            msg_id,
        } = self;
        let what = match kind {
            Kind::P2p => "message",
            Kind::Group => "group message",
            Kind::Ack => "ack",
        };
        write!(f, "{what} {msg_id:?} from {source} to {scope}")
    }
}

impl Key {
    /// The text that was sent under this identity. It follows from the identity alone, so that a reader can tell whether
    /// it is whole: mostly short, sometimes empty, sometimes a few KB.
    pub fn text(&self) -> String {
        const LETTERS: [char; 16] = [
            'a', 'b', 'c', 'd', 'e', 'f', 'g', 'h', ' ', '0', '1', '"', '\\', '\n', 'ö', '語',
        ];
        if self.kind == Kind::Ack {
            return String::new();
        }
        let mut bits = self.seed();
        let most = match bits % 10 {
            0..6 => 64,
            6..9 => 512,
            _ => 3_000,
        };
        let len = usize::try_from(bits >> 32).unwrap_or_default() % most;
        let mut text = String::with_capacity(2 * len);
        while text.len() < len {
            text.push(LETTERS[(bits >> 60) as usize]);
            bits = bits.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        }
        text
    }

    /// FNV-1a: the same in every run, which the hasher of a map does not promise.
    fn seed(&self) -> u64 {
        let numbers = [self.source.to_le_bytes(), self.scope.to_le_bytes()].concat();
        let bytes = numbers.iter().chain(self.msg_id.as_bytes());
        bytes.fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
            (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3)
        })
    }
}
