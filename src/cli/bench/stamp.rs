//! Encodes and decodes the stamps of the messages of `imd bench`.
//!
//! Serves `sender`. A stamp is the message's id, or the beginning of its text where the server gives the id. All that is
//! needed to check a message is in its stamp, so nothing has to be remembered for messages on their way.

/// Length of a stamp as text, in bytes: as long as the ids that the client of `imd` makes.
pub const LEN: usize = 32;

/// The receiver in the stamp of a message to the group. No user has this number: a run has at most a million.
pub const GROUP: usize = (1 << 20) - 1;

/// What a message says of itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stamp {
    /// The id of the run. Inboxes may hold messages of other runs.
    pub run: u32,
    /// The number of the user to whom the message was sent, or [`GROUP`]; 20 bits.
    pub receiver: usize,
    /// The number that the sender gave to the message among those to this receiver, counted from 0; 28 bits.
    pub seq: u64,
    /// When the message was due, in nanoseconds since the run began; 48 bits, which last for three days.
    pub due: u64,
}

impl Stamp {
    /// Returns the stamp as hex digits.
    pub fn digits(self) -> [u8; LEN] {
        let bits = u128::from(self.run) << 96
            | (self.receiver as u128) << 76
            | u128::from(self.seq) << 48
            | u128::from(self.due);
        let mut digits = [0; LEN];
        // The buffer has exactly the right length, so encoding can't fail.
        let _ = base16ct::lower::encode(&bits.to_be_bytes(), &mut digits);
        digits
    }

    /// Decodes a stamp. Returns `None` for bytes that are not one.
    pub fn read(stamp: &[u8]) -> Option<Stamp> {
        let mut bytes = [0; LEN / 2];
        if stamp.len() != LEN || base16ct::lower::decode(stamp, &mut bytes).is_err() {
            return None;
        }
        let bits = u128::from_be_bytes(bytes);
        let low = |bits: u128, width: u32| (bits as u64) & ((1 << width) - 1);
        Some(Stamp {
            run: (bits >> 96) as u32,
            receiver: low(bits >> 76, 20) as usize,
            seq: low(bits >> 48, 28),
            due: low(bits, 48),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stamp_is_decoded_and_other_ids_are_refused() {
        let stamp = Stamp {
            run: u32::MAX,
            receiver: 3,
            seq: (1 << 28) - 1,
            due: 77,
        };
        let id = stamp.digits();
        assert_eq!(&id, b"ffffffff00003fffffff00000000004d");
        assert_eq!(Stamp::read(&id), Some(stamp));
        for other in ["", "1", "zfffffffffffffffff0000000000004d"] {
            assert_eq!(Stamp::read(other.as_bytes()), None);
        }
    }
}
