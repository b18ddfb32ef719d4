//! Encodes and decodes the ids of the messages of `imd bench`.
//!
//! Serves `sender`. All that is needed to check a message is in its id, so nothing has to be remembered for messages
//! on their way.

/// Length of a stamp as text, in bytes: as long as the ids that the client of `imd` makes.
pub const LEN: usize = 32;

/// The contents of a message id: the run, the number of the message, and when it was due.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stamp {
    /// The id of the run. Inboxes may hold messages of other runs.
    pub run: u32,
    /// The number that the sender gave to the message, counted from 0; 40 bits.
    pub seq: u64,
    /// When the message was due, in nanoseconds since the run began; 56 bits, which last for two years.
    pub due: u64,
}

impl Stamp {
    /// Returns the stamp as hex digits.
    pub fn digits(self) -> [u8; LEN] {
        let bits = u128::from(self.run) << 96 | u128::from(self.seq) << 56 | u128::from(self.due);
        let mut digits = [0; LEN];
        // The buffer has exactly the right length, so encoding can't fail.
        let _ = base16ct::lower::encode(&bits.to_be_bytes(), &mut digits);
        digits
    }

    /// Decodes a message id. Returns `None` for an id that is not a stamp.
    pub fn read(id: &[u8]) -> Option<Stamp> {
        let mut bytes = [0; LEN / 2];
        if id.len() != LEN || base16ct::lower::decode(id, &mut bytes).is_err() {
            return None;
        }
        let bits = u128::from_be_bytes(bytes);
        let low = |bits: u128, width: u32| (bits as u64) & ((1 << width) - 1);
        Some(Stamp {
            run: (bits >> 96) as u32,
            seq: low(bits >> 56, 40),
            due: low(bits, 56),
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
            seq: (1 << 40) - 1,
            due: 77,
        };
        let id = stamp.digits();
        assert_eq!(&id, b"ffffffffffffffffff0000000000004d");
        assert_eq!(Stamp::read(&id), Some(stamp));
        for other in ["", "1", "zfffffffffffffffff0000000000004d"] {
            assert_eq!(Stamp::read(other.as_bytes()), None);
        }
    }
}
