//! WebSocket frames as this server writes them: one unmasked binary frame for each message (RFC 6455, 5.2).
//!
//! Serves [`Framing`](super::Framing). What clients send is masked, may come in fragments, and has control frames in
//! between: the [transport](crate::transport) turns that into frames of this form, so that a connection reads and writes
//! only these.

use bytes::{BufMut, BytesMut};

use super::{FrameTooLong, MAX_FRAME, Split};
use crate::proto::Payload;

/// The first byte of a whole binary message: FIN, and the opcode of binary frames.
const BINARY: u8 = 0x82;

/// The longest message whose length stands in the second byte.
const SHORT: usize = 125;

/// The second byte of a frame whose length follows as a big-endian u16.
const LEN_16: u8 = 126;

/// The second byte of a frame whose length follows as a big-endian u64.
const LEN_64: u8 = 127;

/// The bytes before a message whose length takes a u16.
const LONG_HEADER: usize = 4;

/// Looks for a whole frame at the start of a buffer.
///
/// # Errors
///
/// When the length says more than `max`, as soon as the length is there.
pub(super) fn split(buffer: &[u8], max: usize) -> Result<Split<'_>, FrameTooLong> {
    let (header, len) = match *buffer {
        [_, LEN_16, high, low, ..] => (LONG_HEADER, usize::from(u16::from_be_bytes([high, low]))),
        [_, LEN_16, ..] => return Ok(Split::Needs(LONG_HEADER)),
        [_, LEN_64, ref rest @ ..] => match rest.first_chunk() {
            // A length that no message may have is only compared with the limit.
            Some(len) => (
                10,
                usize::try_from(u64::from_be_bytes(*len)).unwrap_or(usize::MAX),
            ),
            None => return Ok(Split::Needs(10)),
        },
        [_, len, ..] => (2, usize::from(len)),
        _ => return Ok(Split::Needs(2)),
    };
    if len > max {
        return Err(FrameTooLong { len, max });
    }
    let taken = header + len;
    Ok(match buffer.get(header..taken) {
        Some(message) => Split::Frame { message, taken },
        None => Split::Needs(taken),
    })
}

/// Appends a message as one frame.
///
/// # Errors
///
/// When the message has more than [`MAX_FRAME`] bytes; then nothing was appended.
pub(super) fn encode(message: &impl Payload, dst: &mut BytesMut) -> Result<(), FrameTooLong> {
    let start = dst.len();
    // The length is filled in afterwards, as with the other framing. The room for the long form is set aside, because moving a
    // short message into the room of the short form costs less than moving a long one out of it.
    dst.put_slice(&[BINARY, LEN_16, 0, 0]);
    message.encode_payload(dst);
    let body = start + LONG_HEADER;
    let len = dst.len() - body;
    let Ok(long) = u16::try_from(len) else {
        dst.truncate(start);
        let max = MAX_FRAME;
        return Err(FrameTooLong { len, max });
    };
    match u8::try_from(len) {
        Ok(short) if len <= SHORT => {
            dst.copy_within(body.., start + 2);
            dst.truncate(start + 2 + len);
            fill(dst, start + 1, &[short]);
        }
        _ => fill(dst, start + 2, &long.to_be_bytes()),
    }
    Ok(())
}

/// Appends the header of a message that is longer than every limit, so that [`split`] refuses it with its length.
pub(crate) fn put_header_of_too_long(len: u64, dst: &mut BytesMut) {
    dst.put_slice(&[BINARY, LEN_64]);
    dst.put_u64(len);
}

fn fill(dst: &mut BytesMut, at: usize, bytes: &[u8]) {
    if let Some(place) = dst.get_mut(at..at + bytes.len()) {
        place.copy_from_slice(bytes);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::codec::Encoded;

    #[test]
    fn each_length_has_its_shortest_form_and_is_split_again() {
        for (len, header) in [(0, 2), (1, 2), (125, 2), (126, 4), (65_535, 4)] {
            let message = vec![7; len];
            let mut bytes = BytesMut::from(&b"earlier"[..]);
            encode(&Encoded(&message), &mut bytes).unwrap();
            let frame = bytes.split_off(7);
            assert_eq!(&bytes[..], b"earlier");
            assert_eq!((frame[0], frame.len()), (BINARY, header + len));
            for cut in 0..frame.len() {
                let Ok(Split::Needs(needs)) = split(&frame[..cut], MAX_FRAME) else {
                    panic!("{cut} of {len}");
                };
                assert!(
                    needs > cut && needs <= frame.len(),
                    "{needs} at {cut} of {len}"
                );
            }
            let whole = split(&frame, MAX_FRAME).unwrap();
            let (message, taken) = (&message[..], frame.len());
            assert_eq!(whole, Split::Frame { message, taken });
        }
    }

    #[test]
    fn a_message_that_fits_no_frame_leaves_nothing_behind() {
        let mut bytes = BytesMut::new();
        assert!(encode(&Encoded(vec![0; MAX_FRAME + 1]), &mut bytes).is_err());
        assert!(bytes.is_empty());
    }

    #[test]
    fn a_length_over_the_limit_is_refused_by_its_header() {
        let mut bytes = BytesMut::new();
        put_header_of_too_long(1 << 40, &mut bytes);
        let error = split(&bytes, 4096).unwrap_err();
        assert_eq!((error.len, error.max), (1 << 40, 4096));
        assert!(split(&[BINARY, LEN_16, 0x10, 0x01], 4096).is_err());
    }
}
