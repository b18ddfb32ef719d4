//! Users of Redis Streams: XADD appends a message to the stream of its receiver, and XREAD BLOCK waits for the next ones.
//!
//! Serves [`messages`](crate::messages). A connection that waits in XREAD takes no other commands, so each user has two. The
//! receiver remembers how far it has read; Redis does not.

use std::io::Write as _;
use std::net::SocketAddr;

use bytes::{BufMut, BytesMut};
use imd::load::{Connection, FrameScanner};

use crate::Fault;
use crate::load::connect_late;
use crate::messages::{Peer, Seen, Users};
use crate::wire::{self, digits};

/// The framing of Redis: values that begin with a letter for their type.
pub struct Values;

impl FrameScanner for Values {
    fn whole(bytes: &[u8]) -> usize {
        let mut end = 0;
        while let Some((_, taken)) = Value::read(&bytes[end..]) {
            end += taken;
        }
        end
    }
}

/// A value of Redis's protocol.
#[derive(Debug, PartialEq, Eq)]
enum Value<'a> {
    /// A text; also a status or a number, as it is written.
    Text(&'a [u8]),
    Array(Vec<Value<'a>>),
    Null,
    Error(&'a [u8]),
}

impl<'a> Value<'a> {
    /// Returns the first value and its length; nothing if it is not complete.
    fn read(bytes: &'a [u8]) -> Option<(Value<'a>, usize)> {
        let line = bytes.iter().position(|&byte| byte == b'\n')?;
        let (head, mut taken) = (bytes[..line].trim_ascii_end(), line + 1);
        let (&kind, head) = head.split_first()?;
        let len = || str::from_utf8(head).ok()?.parse::<i64>().ok();
        let value = match kind {
            b'$' | b'*' if len()? < 0 => Value::Null,
            b'$' => {
                let text = bytes.get(taken..taken + len()? as usize)?;
                taken += text.len() + 2;
                (bytes.len() >= taken).then_some(Value::Text(text))?
            }
            b'*' => {
                let mut values = Vec::new();
                for _ in 0..len()? {
                    let (value, len) = Value::read(&bytes[taken..])?;
                    values.push(value);
                    taken += len;
                }
                Value::Array(values)
            }
            b'-' => Value::Error(head),
            _ => Value::Text(head),
        };
        Some((value, taken))
    }

    fn array(&self) -> Result<&[Value<'a>], Fault> {
        match self {
            Value::Array(values) => Ok(values),
            other => Err(format!("no array: {other:?}").into()),
        }
    }

    fn text(&self) -> Result<&'a [u8], Fault> {
        match self {
            Value::Text(text) => Ok(text),
            other => Err(format!("no text: {other:?}").into()),
        }
    }
}

/// The id and the text of a message.
type Entry<'a> = (&'a [u8], &'a [u8]);

/// Returns the ids and the texts of the messages in an answer to XREAD of one stream: a list of streams, each a name and a
/// list of messages, each an id and a list of names and values.
fn messages<'a>(answer: &Value<'a>) -> Result<Vec<Entry<'a>>, Fault> {
    let mut found = Vec::new();
    for stream in answer.array()? {
        let [_, entries] = stream.array()? else {
            return Err("not a stream with its messages".into());
        };
        for entry in entries.array()? {
            match entry.array()? {
                [id, fields] => match fields.array()? {
                    [_, text] => found.push((id.text()?, text.text()?)),
                    _ => return Err("not one field".into()),
                },
                _ => return Err("not a message with its id".into()),
            }
        }
    }
    Ok(found)
}

/// The connection on which a user sends.
struct Writer;

impl Peer for Writer {
    type Scanner = Values;

    fn send(&mut self, to: usize, number: usize, out: &mut BytesMut) {
        out.extend_from_slice(b"*5\r\n$4\r\nXADD\r\n$9\r\nuser:");
        out.extend_from_slice(&digits::<4>(to));
        out.extend_from_slice(b"\r\n$1\r\n*\r\n$1\r\nm\r\n$32\r\n");
        out.extend_from_slice(&wire::text(number));
        out.extend_from_slice(b"\r\n");
    }

    fn take(
        &mut self,
        mut said: &[u8],
        seen: &mut Seen<'_>,
        _: &mut BytesMut,
    ) -> Result<(), Fault> {
        while let Some((id, taken)) = Value::read(said) {
            said = &said[taken..];
            id.text()?;
            seen.acknowledged()?;
        }
        Ok(())
    }
}

/// The connection on which a user receives.
struct Reader {
    user: usize,
    /// The id of the last message, in Redis's own numbers.
    last: Vec<u8>,
    is_waiting: bool,
}

impl Peer for Reader {
    type Scanner = Values;
    const SENDS: bool = false;

    fn send(&mut self, _: usize, _: usize, _: &mut BytesMut) {}

    fn take(
        &mut self,
        mut said: &[u8],
        seen: &mut Seen<'_>,
        out: &mut BytesMut,
    ) -> Result<(), Fault> {
        while let Some((answer, taken)) = Value::read(said) {
            said = &said[taken..];
            for (id, text) in messages(&answer)? {
                seen.delivered(text)?;
                self.last = id.to_vec();
            }
            self.is_waiting = false;
        }
        if !std::mem::replace(&mut self.is_waiting, true) {
            out.extend_from_slice(
                b"*6\r\n$5\r\nXREAD\r\n$5\r\nBLOCK\r\n$1\r\n0\r\n$7\r\nSTREAMS\r\n$9\r\nuser:",
            );
            out.extend_from_slice(&digits::<4>(self.user));
            write!(out.writer(), "\r\n${}\r\n", self.last.len())?;
            out.extend_from_slice(&self.last);
            out.extend_from_slice(b"\r\n");
        }
        Ok(())
    }
}

/// Connects a user twice, and adds the user to the others.
pub async fn join(users: &mut Users, user: usize, addr: SocketAddr) -> Result<(), Fault> {
    let reader = Reader {
        user,
        last: b"0".to_vec(),
        is_waiting: false,
    };
    users.add(user, Connection::new(connect_late(addr).await?), reader);
    users.add(user, Connection::new(connect_late(addr).await?), Writer);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    const PAGE: &[u8] = b"*1\r\n*2\r\n$9\r\nuser:0001\r\n*2\r\n\
        *2\r\n$3\r\n1-0\r\n*2\r\n$1\r\nm\r\n$2\r\n\r\n\r\n\
        *2\r\n$3\r\n2-0\r\n*2\r\n$1\r\nm\r\n$1\r\nb\r\n";

    #[test]
    fn a_page_is_read_when_it_is_complete() {
        let (page, taken) = Value::read(PAGE).unwrap();
        assert_eq!(taken, PAGE.len());
        let found = messages(&page).unwrap();
        assert_eq!(found, [(&b"1-0"[..], &b"\r\n"[..]), (b"2-0", b"b")]);
        for cut in 0..PAGE.len() {
            assert_eq!(Values::whole(&PAGE[..cut]), 0, "{cut}");
        }
        let two = [PAGE, b"+OK\r\n", b"$-1"].concat();
        assert_eq!(Values::whole(&two), PAGE.len() + 5);
    }

    #[test]
    fn an_error_is_neither_an_id_nor_a_page() {
        let (error, _) = Value::read(b"-MISCONF no disk\r\n").unwrap();
        assert_eq!(error, Value::Error(b"MISCONF no disk"));
        assert!(error.text().is_err() && messages(&error).is_err());
        assert_eq!(Value::read(b"*-1\r\n"), Some((Value::Null, 5)));
    }
}
