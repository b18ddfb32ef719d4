//! Translates between frames with a length before them, which tests write and read, and WebSocket frames (RFC 6455).
//!
//! Serves [`super::connection`]. Both directions work on bytes that are cut anywhere, and pass on every byte as soon as it
//! is there: half a frame stays half a frame. What a server may not send fails the test.

use bytes::{Buf, BufMut, BytesMut};

/// The request that makes a connection a WebSocket.
pub const UPGRADE: &[u8] =
    b"GET / HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
      Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";

const BINARY: u8 = 0x82;
const CLOSE: u8 = 0x88;
const MASKED: u8 = 0x80;

/// The key of every mask. A server can't tell it from a random one.
const MASK: [u8; 4] = [0x37, 0xfa, 0x21, 0x3d];

/// Returns the bytes before a message of this length in the direction of a client.
pub fn header_len(message: usize) -> usize {
    if message <= 125 { 2 } else { 4 }
}

/// Turns the frames of a test into those of a WebSocket client.
#[derive(Debug, Default)]
pub enum ClientFrames {
    /// Between two frames.
    #[default]
    Start,
    /// Behind the first byte of the length.
    Length(u8),
    /// In a message of which this many bytes are missing.
    Message { missing: usize, place: usize },
}

impl ClientFrames {
    /// Translates the next bytes of the test.
    pub fn translate(&mut self, from: &[u8], into: &mut BytesMut) {
        for &byte in from {
            *self = match *self {
                ClientFrames::Start => {
                    into.put_u8(BINARY);
                    ClientFrames::Length(byte)
                }
                ClientFrames::Length(high) => {
                    let length = u16::from_be_bytes([high, byte]);
                    match u8::try_from(length) {
                        Ok(short @ ..=125) => into.put_u8(MASKED | short),
                        _ => {
                            into.put_u8(MASKED | 126);
                            into.put_u16(length);
                        }
                    }
                    into.put_slice(&MASK);
                    ClientFrames::message(length.into(), 0)
                }
                ClientFrames::Message { missing, place } => {
                    into.put_u8(byte ^ MASK[place % MASK.len()]);
                    ClientFrames::message(missing - 1, place + 1)
                }
            };
        }
    }

    fn message(missing: usize, place: usize) -> Self {
        match missing {
            0 => ClientFrames::Start,
            missing => ClientFrames::Message { missing, place },
        }
    }

    /// Closes the WebSocket. In the middle of a frame there is no way to say so.
    pub fn close(&self, into: &mut BytesMut) {
        if let ClientFrames::Start = self {
            into.put_slice(&[CLOSE, MASKED]);
            into.put_slice(&MASK);
        }
    }
}

/// Turns what a server sends to a WebSocket client into frames for the test.
#[derive(Debug, Default)]
pub struct ServerFrames {
    state: ServerState,
    /// What has arrived of a head: of the answer to the upgrade, or of a frame. And a close frame.
    head: BytesMut,
}

#[derive(Debug, Default, PartialEq)]
enum ServerState {
    #[default]
    Upgrade,
    Head,
    /// In a message of which this many bytes are missing.
    Message(usize),
    Closed,
}

impl ServerFrames {
    /// Returns whether the upgrade has been answered.
    pub fn is_open(&self) -> bool {
        self.state != ServerState::Upgrade
    }

    /// Returns the code of the close frame, if one has arrived. It is 1005 for one without a code.
    pub fn close_code(&self) -> Option<u16> {
        let is_closed = self.state == ServerState::Closed;
        is_closed.then(|| match self.head.get(..2) {
            Some(code) => u16::from_be_bytes([code[0], code[1]]),
            None => 1005,
        })
    }

    /// Translates the next bytes of the server.
    pub fn translate(&mut self, mut from: &[u8], into: &mut BytesMut) {
        while !from.is_empty() {
            match self.state {
                ServerState::Upgrade => {
                    self.head.put_u8(from.get_u8());
                    if self.head.ends_with(b"\r\n\r\n") {
                        let head = String::from_utf8_lossy(&self.head);
                        assert!(head.starts_with("HTTP/1.1 101 "), "{head}");
                        self.begin(ServerState::Head);
                    }
                }
                ServerState::Head => {
                    self.head.put_u8(from.get_u8());
                    self.take_head(into);
                }
                ServerState::Message(missing) => {
                    let (now, later) = from.split_at(missing.min(from.len()));
                    into.put_slice(now);
                    from = later;
                    self.state = match missing - now.len() {
                        0 => ServerState::Head,
                        missing => ServerState::Message(missing),
                    };
                }
                ServerState::Closed => panic!("behind the close frame: {from:02x?}"),
            }
        }
    }

    fn begin(&mut self, state: ServerState) {
        self.head.clear();
        self.state = state;
    }

    /// Looks whether the head of a frame is complete.
    fn take_head(&mut self, into: &mut BytesMut) {
        let length: u16 = match self.head[..] {
            [BINARY] | [CLOSE] | [BINARY, 126] | [BINARY, 126, _] => return,
            [BINARY, short @ ..=125] => short.into(),
            [BINARY, 126, high, low] => u16::from_be_bytes([high, low]),
            [CLOSE, short @ ..=125, ref text @ ..] => {
                if text.len() == usize::from(short) {
                    self.head.advance(2);
                    self.state = ServerState::Closed;
                }
                return;
            }
            _ => panic!("a server may not send {:02x?}", self.head),
        };
        let is_shortest = self.head.len() == header_len(length.into());
        assert!(is_shortest, "a length of {length} in {:02x?}", self.head);
        into.put_u16(length);
        self.begin(match length {
            0 => ServerState::Head,
            length => ServerState::Message(length.into()),
        });
    }
}
