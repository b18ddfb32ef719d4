//! A connection that a client has upgraded to a WebSocket (RFC 6455).
//!
//! Serves [`Transport`]. What is read through this module are frames in the form of
//! [`Framing::WebSocket`](crate::codec::Framing::WebSocket): whole, unmasked, one for each binary message, whatever
//! fragments and control frames the client sent. What is written is passed on as it is, since the connection above encodes
//! frames of the same form; so a fault that cuts or slices a frame does that to the bytes on the wire.
//!
//! The state machine of the protocol is that of `tungstenite`. It exists only while it is needed: for the bytes of one read,
//! or as long as a message is incomplete. An idle connection holds none of it.
//!
//! | file | content |
//! |---|---|
//! | `upgrade` | the HTTP request that makes a connection a WebSocket |

#[cfg(test)]
mod tests;
mod upgrade;

pub use upgrade::{FailedUpgrade, UpgradeError, upgrade};

use std::io::{self, Cursor, Read, Write};
use std::task::{Context, Poll, ready};

use bytes::{Buf, BufMut, BytesMut};
use tokio_tungstenite::tungstenite::protocol::frame::coding::{CloseCode, Data, OpCode};
use tokio_tungstenite::tungstenite::protocol::frame::{CloseFrame, Frame, FrameHeader};
use tokio_tungstenite::tungstenite::protocol::{Role, WebSocketConfig, WebSocketContext};
use tokio_tungstenite::tungstenite::{Error, Message};

use super::Transport;
use crate::codec::{Encoded, Framing, MAX_FRAME, websocket};

/// The longest payload of a control frame, in bytes (RFC 6455, 5.5).
const MAX_CONTROL: u64 = 125;

/// How many bytes the state machine takes at once. It reserves that much when it is created.
const STEP: usize = 16 * 1024;

/// How a WebSocket ended, as far as its client has caused it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// The client has closed it.
    Closed,
    /// The client has broken a rule of the protocol.
    Violated,
}

/// A WebSocket over another transport. Its methods do what the methods of [`Transport`] with these names do.
#[derive(Debug)]
pub struct WebSocket {
    inner: Transport,
    /// What was read and is no whole frame yet.
    raw: BytesMut,
    /// The state of a message that is incomplete: some of its fragments have arrived.
    incomplete: Option<Box<Incomplete>>,
    /// The longest message that the client may send, in bytes.
    max_message: usize,
    /// Answers to pings, to be written at the next frame boundary.
    control: BytesMut,
    /// Set when nothing more is read.
    end: Option<Box<Ended>>,
}

/// A message of which some fragments have arrived.
#[derive(Debug)]
struct Incomplete {
    context: WebSocketContext,
    /// The bytes of the fragments so far.
    len: u64,
}

/// What is known at the end of a WebSocket.
#[derive(Debug)]
struct Ended {
    how: End,
    /// The close frame that answers what the client has done.
    close_frame: Vec<u8>,
}

/// The whole frames at the start of what was read.
struct WholeFrames {
    /// How many bytes they are.
    taken: usize,
    /// The bytes of the message that is incomplete after them. None if none is.
    incomplete: Option<u64>,
    /// What is wrong with the frame after them, if something is.
    wrong: Option<Wrong>,
}

/// Why a client's bytes are not read any further.
enum Wrong {
    /// A message of this many bytes is longer than it may be.
    TooLong(u64),
    /// A rule of the protocol is broken. The close frame says which.
    Violation(CloseCode, String),
}

impl WebSocket {
    /// Takes over a connection whose upgrade is done, after which `raw` was read already.
    pub fn new(inner: Transport, raw: BytesMut) -> Self {
        WebSocket {
            inner,
            // An empty buffer is given back: a client that sends nothing must not hold one.
            raw: if raw.is_empty() { BytesMut::new() } else { raw },
            incomplete: None,
            max_message: MAX_FRAME,
            control: BytesMut::new(),
            end: None,
        }
    }

    pub(super) fn inner(&self) -> &Transport {
        &self.inner
    }

    pub(super) fn inner_mut(&mut self) -> &mut Transport {
        &mut self.inner
    }

    /// Sets the longest message that the client may send from now on, in bytes. A longer one is read as a frame without its
    /// contents, which the framing refuses.
    pub fn set_max_message(&mut self, max: usize) {
        self.max_message = max;
    }

    pub(super) fn poll_read_ready(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        // The bytes behind the upgrade have not been looked at yet.
        if self.end.is_some() || self.whole_frames().has_something() {
            return Poll::Ready(Ok(()));
        }
        self.inner.poll_read_ready(cx)
    }

    pub(super) fn poll_read(
        &mut self,
        cx: &mut Context<'_>,
        into: &mut BytesMut,
        limit: usize,
    ) -> Poll<io::Result<usize>> {
        loop {
            let before = into.len();
            if self.end.is_none() {
                self.decode(into);
            }
            let decoded = into.len() - before;
            if decoded > 0 || self.end.is_some() {
                return Poll::Ready(Ok(decoded));
            }
            if self.has_control_frames() {
                // Written before anything more is read, so that a client which only sends pings can't make them pile up.
                cx.waker().wake_by_ref();
                return Poll::Pending;
            }
            self.raw.reserve(limit);
            let read = self.inner.poll_read(cx, &mut self.raw, limit);
            if read.is_pending() && self.raw.is_empty() {
                // An idle connection holds no buffer.
                self.raw = BytesMut::new();
            }
            if ready!(read)? == 0 {
                return Poll::Ready(Ok(0));
            }
        }
    }

    /// Returns whether a part of a message has arrived whose rest has not.
    pub fn holds_partial_message(&self) -> bool {
        self.end.is_none() && (!self.raw.is_empty() || self.incomplete.is_some())
    }

    /// Returns how the client has ended the WebSocket, if it has.
    pub fn end(&self) -> Option<End> {
        self.end.as_ref().map(|ended| ended.how)
    }

    /// Returns whether answers to pings wait to be written.
    pub fn has_control_frames(&self) -> bool {
        !self.control.is_empty()
    }

    /// Appends the answers to pings, which are written between two frames.
    pub fn take_control_frames(&mut self, into: &mut BytesMut) {
        if !self.control.is_empty() {
            into.extend_from_slice(&self.control);
            self.control = BytesMut::new();
        }
    }

    /// Appends the close frame that ends the WebSocket: the answer to what the client has done, or else one with this code
    /// and text.
    pub fn put_close_frame(&self, code: u16, text: &'static str, into: &mut BytesMut) {
        match &self.end {
            Some(ended) => into.extend_from_slice(&ended.close_frame),
            None => into.extend_from_slice(&close_frame(code.into(), text.to_owned())),
        }
    }

    /// Looks how far whole frames reach in what was read. A frame that may not be there ends them at once, whether it is
    /// whole or not.
    fn whole_frames(&self) -> WholeFrames {
        let mut whole = WholeFrames {
            taken: 0,
            incomplete: self.incomplete.as_ref().map(|message| message.len),
            wrong: None,
        };
        while let Some(rest) = self.raw.get(whole.taken..) {
            let mut cursor = Cursor::new(rest);
            let (header, len) = match FrameHeader::parse(&mut cursor) {
                Ok(Some(found)) => found,
                Ok(None) => break,
                Err(error) => {
                    let (code, text) = violation(&error);
                    whole.wrong = Some(Wrong::Violation(code, text));
                    break;
                }
            };
            whole.wrong = self.wrong(&header, len, whole.incomplete);
            let taken = cursor.position().saturating_add(len);
            let is_whole = taken <= rest.len() as u64;
            if whole.wrong.is_some() || !is_whole {
                break;
            }
            if let OpCode::Data(_) = header.opcode {
                let so_far = whole.incomplete.unwrap_or_default();
                whole.incomplete = (!header.is_final).then_some(so_far + len);
            }
            // A whole frame is no longer than what was read.
            whole.taken += usize::try_from(taken).unwrap_or_default();
        }
        whole
    }

    /// Returns what is wrong with a frame, as far as its header tells and the state machine would find out only at its end.
    fn wrong(&self, header: &FrameHeader, len: u64, incomplete: Option<u64>) -> Option<Wrong> {
        let protocol = |text: &str| Some(Wrong::Violation(CloseCode::Protocol, text.to_owned()));
        if header.mask.is_none() {
            return protocol("a client masks its frames");
        }
        if header.rsv1 || header.rsv2 || header.rsv3 {
            return protocol(
                "a reserved bit is set: no extension, such as compression, was agreed on",
            );
        }
        match header.opcode {
            OpCode::Control(_) if len > MAX_CONTROL => protocol(&format!(
                "a control frame has {len} bytes, at most {MAX_CONTROL}"
            )),
            OpCode::Data(Data::Continue) if incomplete.is_none() => {
                protocol("a fragment continues no message")
            }
            OpCode::Data(Data::Text | Data::Binary) if incomplete.is_some() => {
                protocol("a message begins within another one")
            }
            OpCode::Data(Data::Text) => {
                let text = "imd takes binary messages, each with one protobuf message".into();
                Some(Wrong::Violation(CloseCode::Unsupported, text))
            }
            OpCode::Data(_) => {
                let message = incomplete.unwrap_or_default().saturating_add(len);
                let max = self.max_message as u64;
                (message > max).then_some(Wrong::TooLong(message))
            }
            OpCode::Control(_) => None,
        }
    }

    /// Moves the messages of the whole frames to `into`, and notes what else the frames say.
    fn decode(&mut self, into: &mut BytesMut) {
        let WholeFrames {
            taken,
            incomplete,
            wrong,
        } = self.whole_frames();
        if taken > 0 {
            self.decode_whole(taken, incomplete, into);
        }
        match wrong {
            // A message before this frame has ended the WebSocket already.
            _ if self.end.is_some() => {}
            None => {}
            Some(Wrong::TooLong(len)) => {
                websocket::put_header_of_too_long(len, into);
                let max = self.max_message;
                let text = format!("a message has {len} bytes, at most {max}");
                self.refuse(CloseCode::Size, text);
            }
            Some(Wrong::Violation(code, text)) => self.refuse(code, text),
        }
    }

    /// Has the state machine take `taken` bytes, which are whole frames. After them, a message of `incomplete` bytes is
    /// incomplete, if one is.
    fn decode_whole(&mut self, taken: usize, incomplete: Option<u64>, into: &mut BytesMut) {
        let mut context = match self.incomplete.take() {
            Some(message) => message.context,
            None => WebSocketContext::new(Role::Server, Some(config())),
        };
        let mut frames = Frames {
            input: self.raw.get(..taken).unwrap_or_default(),
            answers: &mut self.control,
        };
        let end = loop {
            match context.read(&mut frames) {
                Ok(Message::Binary(message)) => put_message(&message, into),
                // Pings are answered by the state machine, and pongs need no answer.
                Ok(Message::Close(_)) => break Some(closed(&mut context)),
                Ok(_) => {}
                Err(Error::Io(_)) => break None,
                Err(error) => {
                    let (code, text) = violation(&error);
                    break Some(violated(code, text));
                }
            }
        };
        self.raw.advance(taken);
        if self.raw.is_empty() {
            self.raw = BytesMut::new();
        }
        self.end = end.map(Box::new);
        if let (Some(len), None) = (incomplete, &self.end) {
            self.incomplete = Some(Box::new(Incomplete { context, len }));
        }
    }

    /// Notes that nothing more is read, since the client has broken a rule.
    fn refuse(&mut self, code: CloseCode, text: String) {
        self.end = Some(Box::new(violated(code, text)));
        self.raw = BytesMut::new();
        self.incomplete = None;
    }
}

impl WholeFrames {
    fn has_something(&self) -> bool {
        self.taken > 0 || self.wrong.is_some()
    }
}

/// Returns the settings of the state machine. The lengths are checked before it sees a frame.
fn config() -> WebSocketConfig {
    WebSocketConfig::default()
        .read_buffer_size(STEP)
        .write_buffer_size(0)
        .max_message_size(None)
        .max_frame_size(None)
}

/// Appends a message in the form of the framing. The messages are not longer than a frame may be.
fn put_message(message: &[u8], into: &mut BytesMut) {
    if let Err(error) = Framing::WebSocket.encode(&Encoded(message), into) {
        tracing::error!(%error, "a message of a WebSocket was dropped");
    }
}

/// Returns the end of a WebSocket that the client has closed. The answer is the close frame of the state machine.
fn closed(context: &mut WebSocketContext) -> Ended {
    let mut answer = BytesMut::new();
    let mut frames = Frames {
        input: &[],
        answers: &mut answer,
    };
    // This reports that the WebSocket is closed, as it has to be.
    let _ = context.flush(&mut frames);
    Ended {
        how: End::Closed,
        close_frame: answer.to_vec(),
    }
}

/// Returns the end of a WebSocket whose client has broken a rule.
fn violated(code: CloseCode, text: String) -> Ended {
    Ended {
        how: End::Violated,
        close_frame: close_frame(code, text),
    }
}

/// Returns what the client is told of an error of the state machine.
fn violation(error: &Error) -> (CloseCode, String) {
    let code = match error {
        Error::Utf8(_) => CloseCode::Invalid,
        Error::Capacity(_) => CloseCode::Size,
        _ => CloseCode::Protocol,
    };
    (code, error.to_string())
}

/// Returns a close frame. Its text is cut to what a control frame holds.
fn close_frame(code: CloseCode, mut text: String) -> Vec<u8> {
    let room = usize::try_from(MAX_CONTROL).unwrap_or_default() - 2;
    text.truncate(text.floor_char_boundary(room));
    let reason = text.into();
    let mut bytes = Vec::new();
    if let Err(error) = Frame::close(Some(CloseFrame { code, reason })).format(&mut bytes) {
        tracing::error!(%error, "a close frame was not written");
    }
    bytes
}

/// The connection that the state machine sees: it reads whole frames, and writes its answers into a buffer.
struct Frames<'a> {
    input: &'a [u8],
    answers: &'a mut BytesMut,
}

impl Read for Frames<'_> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        if self.input.is_empty() {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        self.input.read(into)
    }
}

impl Write for Frames<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.answers.put_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
