//! What the load sends, and what it looks at in an answer: no more than it takes to check it.

use bytes::{BufMut, BytesMut};
use imd::codec;
use imd::config::PUBLIC_SALT;
use imd::proto::{Cmd, Payload, ReqLogin, ReqPing, ReqSyncMsg};
use md5::{Digest, Md5};

use crate::Fault;

/// A field's value, as it stands in a frame.
pub enum Value<'a> {
    Number(u64),
    Bytes(&'a [u8]),
}

/// The fields of a message, in the order of their appearance. Ends early where it is no protobuf.
pub struct Fields<'a>(pub &'a [u8]);

impl<'a> Fields<'a> {
    fn varint(&mut self) -> Option<u64> {
        let mut value = 0;
        for (n, &byte) in self.0.iter().enumerate().take(10) {
            value |= u64::from(byte & 0x7f) << (7 * n);
            if byte < 0x80 {
                self.0 = &self.0[n + 1..];
                return Some(value);
            }
        }
        None
    }
}

impl<'a> Iterator for Fields<'a> {
    type Item = (u64, Value<'a>);

    fn next(&mut self) -> Option<Self::Item> {
        let key = self.varint()?;
        let value = match key & 7 {
            0 => Value::Number(self.varint()?),
            2 => {
                let len = usize::try_from(self.varint()?).ok()?;
                let (bytes, rest) = self.0.split_at_checked(len)?;
                self.0 = rest;
                Value::Bytes(bytes)
            }
            _ => return None,
        };
        Some((key >> 3, value))
    }
}

/// The numbers and the texts of a message by their fields; of repeated ones the last.
#[derive(Default)]
pub struct Flat<'a> {
    numbers: [u64; 9],
    texts: [&'a [u8]; 9],
}

impl<'a> Flat<'a> {
    pub fn read(message: &'a [u8]) -> Self {
        let mut flat = Flat::default();
        for (field, value) in Fields(message) {
            let field = usize::try_from(field).unwrap_or_default();
            match value {
                Value::Number(n) if field < 9 => flat.numbers[field] = n,
                Value::Bytes(bytes) if field < 9 => flat.texts[field] = bytes,
                _ => {}
            }
        }
        flat
    }

    pub fn number(&self, field: usize) -> i64 {
        self.numbers[field].cast_signed()
    }

    pub fn text(&self, field: usize) -> &'a [u8] {
        self.texts[field]
    }

    pub fn is(&self, cmd: Cmd) -> bool {
        self.numbers[1] == u64::from(cmd.number())
    }
}

/// Digits of a message's id: so many that every id is equally long.
pub const ID_DIGITS: usize = 10;

/// A message's id from its digits.
pub fn id(digits: &[u8]) -> Result<usize, Fault> {
    if digits.len() != ID_DIGITS {
        return Err("a message without its id".into());
    }
    Ok(std::str::from_utf8(digits)?.parse()?)
}

/// A frame with room for a message's id.
pub struct Template {
    frame: BytesMut,
    id_at: usize,
}

impl Template {
    /// `message` holds the id of that many zeros once.
    pub fn new(message: &impl Payload) -> Self {
        Template::of(&frame(message))
    }

    /// The same of bytes.
    pub fn of(frame: &[u8]) -> Self {
        let zeros = [b'0'; ID_DIGITS];
        let id_at = frame.windows(ID_DIGITS).position(|w| w == zeros);
        Template {
            id_at: id_at.unwrap_or_default(),
            frame: BytesMut::from(frame),
        }
    }

    pub fn put(&self, mut id: usize, out: &mut BytesMut) {
        let at = out.len() + self.id_at;
        out.put_slice(&self.frame);
        for digit in out[at..at + ID_DIGITS].iter_mut().rev() {
            *digit = b'0' + u8::try_from(id % 10).unwrap_or_default();
            id /= 10;
        }
    }
}

pub fn frame(message: &impl Payload) -> BytesMut {
    let mut frame = BytesMut::new();
    put(message, &mut frame);
    frame
}

pub fn put(message: &impl Payload, out: &mut BytesMut) {
    codec::encode(message, out).expect("the load sends short messages only");
}

pub fn login(uid: i64) -> BytesMut {
    let token = Md5::digest(format!("{uid}{PUBLIC_SALT}"));
    frame(&ReqLogin {
        cmd: Cmd::Login.number(),
        uid,
        token: base16ct::lower::encode_string(&token),
        ..Default::default()
    })
}

pub fn put_ping(uid: i64, out: &mut BytesMut) {
    let ping = ReqPing {
        cmd: Cmd::Ping.number(),
        uid,
        ..Default::default()
    };
    put(&ping, out);
}

pub fn put_sync(uid: i64, current_id: i64, out: &mut BytesMut) {
    let sync = ReqSyncMsg {
        cmd: Cmd::SyncMsg.number(),
        uid,
        current_id,
        ..Default::default()
    };
    put(&sync, out);
}
