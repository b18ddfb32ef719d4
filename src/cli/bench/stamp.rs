/// A stamp as text, in bytes: as long as the ids that `imd`'s client makes.
const LEN: usize = 32;

/// What a message's id says, so that nothing has to be kept about a message under way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stamp {
    /// Which run it belongs to: inboxes may hold messages of others.
    pub run: u32,
    /// The sender's number for it, from 0; 40 bits.
    pub seq: u64,
    /// When it was due, in nanoseconds since the run began; 56 bits, which are two years.
    pub due: u64,
}

impl Stamp {
    /// Writes it as hex digits in place of what `id` holds.
    pub fn write(self, id: &mut String) {
        let bits = u128::from(self.run) << 96 | u128::from(self.seq) << 56 | u128::from(self.due);
        let mut digits = [0; LEN];
        id.clear();
        if let Ok(digits) = base16ct::lower::encode_str(&bits.to_be_bytes(), &mut digits) {
            id.push_str(digits);
        }
    }

    /// Reads an id; nothing when it is no stamp.
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
    fn what_is_written_is_read_and_other_ids_are_none() {
        let stamp = Stamp {
            run: u32::MAX,
            seq: (1 << 40) - 1,
            due: 77,
        };
        let mut id = "before".to_owned();
        stamp.write(&mut id);
        assert_eq!(id, "ffffffffffffffffff0000000000004d");
        assert_eq!(Stamp::read(id.as_bytes()), Some(stamp));
        for other in ["", "1", "zfffffffffffffffff0000000000004d"] {
            assert_eq!(Stamp::read(other.as_bytes()), None);
        }
    }
}
