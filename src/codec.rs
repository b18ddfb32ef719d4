//! Framing: how frames are delimited in the byte stream of a connection.
//!
//! Serves the sessions and the clients. On TCP a frame is a big-endian u16 length, then one protobuf message of that
//! many bytes (the contract's *Framing*). The functions of this module and [`FrameCodec`] speak that form, for clients.
//! A server's connection asks the [`Framing`] of its listener. Only this module and its part `websocket` read or write
//! a header: others know [`MAX_FRAME`], and how many bytes a frame took.

mod other_protocol;
pub(crate) mod websocket;

pub use other_protocol::OtherProtocol;

use bytes::{Buf, BufMut, Bytes, BytesMut};
use tokio_util::codec::{Decoder, Encoder};

use crate::proto::Payload;

/// The longest message that a frame can hold, in bytes.
pub const MAX_FRAME: usize = u16::MAX as usize;

/// The bytes of the length in front of each message.
const HEADER: usize = 2;

/// How a listener tells messages apart in the bytes of its connections.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Framing {
    /// A big-endian u16 length before each message.
    #[default]
    LengthPrefix,
    /// One unmasked binary WebSocket frame for each message.
    WebSocket,
    /// A mark and a little-endian u32 length before each message, for tests of the modules that use a framing: they
    /// must not depend on the size of a header, nor on what is in it.
    #[cfg(test)]
    Marked,
}

impl Framing {
    /// Looks for a whole frame at the start of a buffer, whose message may have `max` bytes.
    ///
    /// # Errors
    ///
    /// When the message is longer than `max`, as soon as that is known.
    #[inline]
    pub fn split(self, buffer: &[u8], max: usize) -> Result<Split<'_>, FrameTooLong> {
        match self {
            Framing::LengthPrefix => split(buffer, max),
            Framing::WebSocket => websocket::split(buffer, max),
            #[cfg(test)]
            Framing::Marked => tests::split_marked(buffer, max),
        }
    }

    /// Appends a message as one frame.
    ///
    /// # Errors
    ///
    /// When the message has more than [`MAX_FRAME`] bytes; then nothing was appended.
    #[inline]
    pub fn encode(self, message: &impl Payload, dst: &mut BytesMut) -> Result<(), FrameTooLong> {
        match self {
            Framing::LengthPrefix => encode(message, dst),
            Framing::WebSocket => websocket::encode(message, dst),
            #[cfg(test)]
            Framing::Marked => tests::encode_marked(message, dst),
        }
    }

    /// Returns the messages of the whole frames at the start of a buffer, each with how many bytes its frame takes.
    #[inline]
    pub fn frames(self, mut buffer: &[u8]) -> impl Iterator<Item = (&[u8], usize)> {
        std::iter::from_fn(move || match self.split(buffer, MAX_FRAME) {
            Ok(Split::Frame { message, taken }) => {
                buffer = buffer.get(taken..).unwrap_or_default();
                Some((message, taken))
            }
            _ => None,
        })
    }
}

/// A message that is encoded already, so that it can be written several times without another encoding.
#[derive(Debug)]
pub struct Encoded<B>(pub B);

impl Encoded<BytesMut> {
    /// Encodes a message.
    pub fn new(message: &impl Payload) -> Self {
        let mut encoded = BytesMut::new();
        message.encode_payload(&mut encoded);
        Encoded(encoded)
    }
}

impl<B: AsRef<[u8]>> Payload for Encoded<B> {
    fn encode_payload(&self, dst: &mut BytesMut) {
        dst.extend_from_slice(self.0.as_ref());
    }
}

/// A frame is longer than it may be.
#[derive(Debug, thiserror::Error)]
#[error("a frame has {len} bytes, at most {max}")]
pub struct FrameTooLong {
    /// The length of the frame's message, in bytes.
    pub len: usize,
    /// The limit that the length exceeds, in bytes.
    pub max: usize,
}

/// The beginning of a buffer of received bytes.
#[derive(Debug, PartialEq, Eq)]
pub enum Split<'a> {
    /// A whole frame. `taken` bytes of the buffer belong to it.
    Frame {
        /// The message, without the length.
        message: &'a [u8],
        /// How much of the buffer the frame took.
        taken: usize,
    },
    /// A part of a frame. The whole frame takes this many bytes.
    Needs(usize),
}

/// Looks for a whole frame at the start of a buffer.
///
/// # Errors
///
/// When the length says more than `max`, as soon as the length is there.
pub fn split(buffer: &[u8], max: usize) -> Result<Split<'_>, FrameTooLong> {
    let Some((header, rest)) = buffer.split_first_chunk::<HEADER>() else {
        return Ok(Split::Needs(HEADER));
    };
    let len = usize::from(u16::from_be_bytes(*header));
    if len > max {
        return Err(FrameTooLong { len, max });
    }
    Ok(match rest.get(..len) {
        Some(message) => Split::Frame {
            message,
            taken: HEADER + len,
        },
        None => Split::Needs(HEADER + len),
    })
}

/// Returns the messages of the whole frames at the start of a buffer, each with how many bytes its frame takes.
pub fn frames(buffer: &[u8]) -> impl Iterator<Item = (&[u8], usize)> {
    Framing::LengthPrefix.frames(buffer)
}

/// Appends a message as one frame.
///
/// # Errors
///
/// When the message has more than [`MAX_FRAME`] bytes; then nothing was appended.
pub fn encode(message: &impl Payload, dst: &mut BytesMut) -> Result<(), FrameTooLong> {
    let start = dst.len();
    // The length is filled in afterwards: computing it first would take as long as encoding.
    dst.put_u16(0);
    message.encode_payload(dst);
    let len = dst.len() - start - HEADER;
    let Ok(header) = u16::try_from(len) else {
        dst.truncate(start);
        return Err(FrameTooLong {
            len,
            max: MAX_FRAME,
        });
    };
    if let Some(place) = dst.get_mut(start..start + HEADER) {
        place.copy_from_slice(&header.to_be_bytes());
    }
    Ok(())
}

/// Splits and joins frames for tokio-util's `Framed`, which the clients use.
#[derive(Debug, Clone, Copy, Default)]
pub struct FrameCodec;

/// Why a stream of frames broke.
#[derive(Debug, thiserror::Error)]
pub enum CodecError {
    /// The connection failed.
    #[error(transparent)]
    Io(#[from] std::io::Error),
    /// A frame is too long to be sent.
    #[error(transparent)]
    TooLong(#[from] FrameTooLong),
    /// The connection ended within a frame.
    #[error("the connection ended within a frame")]
    Cut,
    /// An HTTP server answers.
    #[error("an HTTP server answers there")]
    Http,
}

/// How an answer of an HTTP server begins. As a frame it would have 18,516 bytes, of which the first one begins no
/// field.
const HTTP: &[u8] = b"HTTP/";

impl Decoder for FrameCodec {
    type Item = Bytes;
    type Error = CodecError;

    fn decode_eof(&mut self, src: &mut BytesMut) -> Result<Option<Bytes>, CodecError> {
        match self.decode(src)? {
            None if !src.is_empty() => Err(CodecError::Cut),
            frame => Ok(frame),
        }
    }

    fn decode(&mut self, src: &mut BytesMut) -> Result<Option<Bytes>, CodecError> {
        if src.starts_with(HTTP) {
            return Err(CodecError::Http);
        }
        match split(src, MAX_FRAME)? {
            Split::Frame { message, .. } => {
                let len = message.len();
                src.advance(HEADER);
                Ok(Some(src.split_to(len).freeze()))
            }
            Split::Needs(total) => {
                src.reserve(total - src.len());
                Ok(None)
            }
        }
    }
}

impl<M: Payload> Encoder<&M> for FrameCodec {
    type Error = CodecError;

    fn encode(&mut self, message: &M, dst: &mut BytesMut) -> Result<(), CodecError> {
        Ok(encode(message, dst)?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proto::Error;

    const MARK: u8 = 0x82;
    const MARKED_HEADER: usize = 5;

    pub(super) fn split_marked(buffer: &[u8], max: usize) -> Result<Split<'_>, FrameTooLong> {
        let Some((header, rest)) = buffer.split_first_chunk::<MARKED_HEADER>() else {
            return Ok(Split::Needs(MARKED_HEADER));
        };
        let [MARK, len @ ..] = *header else {
            panic!("no mark before a message: {header:?}");
        };
        let len = u32::from_le_bytes(len) as usize;
        if len > max {
            return Err(FrameTooLong { len, max });
        }
        let taken = MARKED_HEADER + len;
        let message = rest.get(..len);
        Ok(message.map_or(Split::Needs(taken), |message| Split::Frame {
            message,
            taken,
        }))
    }

    pub(super) fn encode_marked(
        message: &impl Payload,
        dst: &mut BytesMut,
    ) -> Result<(), FrameTooLong> {
        let Encoded(message) = Encoded::new(message);
        let (len, max) = (message.len(), MAX_FRAME);
        if len > max {
            return Err(FrameTooLong { len, max });
        }
        dst.put_u8(MARK);
        dst.put_u32_le(len as u32);
        dst.extend_from_slice(&message);
        Ok(())
    }

    fn message_of(len: usize) -> Error {
        // cmd takes 4 bytes, the text's own header 1 + 3
        Error {
            cmd: 90001,
            err_code: 0,
            err_str: "x".repeat(len - 8),
        }
    }

    #[test]
    fn the_longest_frame_passes_and_one_byte_more_is_refused_whole() {
        let mut out = BytesMut::new();
        encode(&message_of(MAX_FRAME), &mut out).unwrap();
        assert_eq!(out.len(), HEADER + MAX_FRAME);
        assert!(
            matches!(split(&out, MAX_FRAME), Ok(Split::Frame { taken, .. }) if taken == out.len())
        );
        assert!(encode(&message_of(MAX_FRAME + 1), &mut out).is_err());
        assert_eq!(
            out.len(),
            HEADER + MAX_FRAME,
            "nothing of the refused frame is left behind"
        );
    }

    #[test]
    fn what_is_no_stream_of_frames_is_named() {
        let decode = |bytes: &[u8]| FrameCodec.decode_eof(&mut BytesMut::from(bytes));
        assert!(matches!(decode(b""), Ok(None)));
        assert!(matches!(decode(&[0, 1, 8]), Ok(Some(_))));
        assert!(matches!(decode(&[0, 2, 8]), Err(CodecError::Cut)));
        assert!(matches!(
            decode(b"HTTP/1.1 400 Bad Request\r\n\r\n"),
            Err(CodecError::Http)
        ));
        let mut begun = BytesMut::from(&b"HTTP/1"[..]);
        assert!(matches!(
            FrameCodec.decode(&mut begun),
            Err(CodecError::Http)
        ));
    }

    #[test]
    fn a_frame_over_the_limit_is_known_from_its_length() {
        assert!(split(&[0x10, 0x01], 4096).is_err());
        assert_eq!(split(&[0x10, 0x00], 4096).unwrap(), Split::Needs(4098));
        assert_eq!(split(&[0x10], 4096).unwrap(), Split::Needs(2));
    }
}
