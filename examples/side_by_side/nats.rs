//! Users of NATS: of its core, which stores and acknowledges nothing, and of JetStream with a stream on file.
//!
//! Serves [`messages`](crate::messages). With JetStream, a stream stores the messages of all users, and a publisher names a
//! subject for the acknowledgement that its message is stored. The receivers have subscribed to their subjects and get the
//! messages past the stream: the way of NATS that costs the server least. What `imd` does in addition is that a receiver reads
//! from the store, where the server keeps a read mark. Consumers that read from the stream cost JetStream more.

use std::fmt::Write as _;
use std::net::SocketAddr;

use bytes::BytesMut;
use imd::load::{Connection, FrameScanner};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::Fault;
use crate::kind::Kind;
use crate::load::connect_late;
use crate::messages::{Peer, Seen, Users};
use crate::wire::{self, TEXT, digits};

/// The number of a connection's subscription to its messages, and of the one to acknowledgements.
const MESSAGES: &[u8] = b"1";
const ACKNOWLEDGEMENTS: &[u8] = b"2";

/// The stream of all messages. What is not said has its default.
const STREAM: &str = r#"{"name":"all","subjects":["user.*"],"storage":"file","retention":"limits","discard":"old",
    "max_consumers":-1,"max_msgs":-1,"max_bytes":-1,"num_replicas":1}"#;

/// The framing of NATS: lines. The line of a message is followed by its text.
pub struct Lines;

impl FrameScanner for Lines {
    fn whole(bytes: &[u8]) -> usize {
        let mut end = 0;
        while let Some((_, _, taken)) = one(&bytes[end..]) {
            end += taken;
        }
        end
    }
}

impl Lines {
    /// Returns all whole lines, each with its text.
    fn all(mut bytes: &[u8]) -> impl Iterator<Item = (&[u8], &[u8])> {
        std::iter::from_fn(move || {
            let (line, text, taken) = one(bytes)?;
            bytes = &bytes[taken..];
            Some((line, text))
        })
    }
}

/// Returns the first line, the text if it is a message, and the length of both; nothing if they are not complete.
fn one(bytes: &[u8]) -> Option<(&[u8], &[u8], usize)> {
    let end = bytes.iter().position(|&byte| byte == b'\n')? + 1;
    let line = bytes[..end].trim_ascii_end();
    if !line.starts_with(b"MSG ") {
        return Some((line, &[], end));
    }
    let len = line.rsplit(|&byte| byte == b' ').next()?;
    let len: usize = str::from_utf8(len).ok()?.parse().ok()?;
    let text = bytes.get(end..end + len)?;
    let taken = end + len + 2;
    (bytes.len() >= taken).then_some((line, text, taken))
}

/// Returns the number of the subscription that a message came by.
fn subscription(line: &[u8]) -> Option<&[u8]> {
    line.split(|&byte| byte == b' ').nth(2)
}

struct NatsPeer {
    user: usize,
    is_stored: bool,
}

impl Peer for NatsPeer {
    type Scanner = Lines;

    fn send(&mut self, to: usize, number: usize, out: &mut BytesMut) {
        out.extend_from_slice(b"PUB user.");
        out.extend_from_slice(&digits::<4>(to));
        if self.is_stored {
            out.extend_from_slice(b" stored.");
            out.extend_from_slice(&digits::<4>(self.user));
        }
        out.extend_from_slice(b" 32\r\n");
        out.extend_from_slice(&wire::text(number));
        out.extend_from_slice(b"\r\n");
    }

    fn take(&mut self, said: &[u8], seen: &mut Seen<'_>, out: &mut BytesMut) -> Result<(), Fault> {
        for (line, text) in Lines::all(said) {
            if line.starts_with(b"MSG ") {
                match subscription(line) {
                    Some(MESSAGES) => seen.delivered(text)?,
                    Some(ACKNOWLEDGEMENTS) if is_done(text) => seen.acknowledged()?,
                    _ => return Err(String::from_utf8_lossy(text).into()),
                }
            } else if line.starts_with(b"PING") {
                out.extend_from_slice(b"PONG\r\n");
            } else if line.starts_with(b"-ERR") {
                return Err(String::from_utf8_lossy(line).into());
            }
        }
        Ok(())
    }
}

/// Returns whether an answer of JetStream reports no error.
fn is_done(answer: &[u8]) -> bool {
    answer.starts_with(b"{") && !answer.windows(8).any(|part| part == b"\"error\":")
}

/// Connects a user, and adds the user to the others. The first one makes the stream, if there is one.
pub async fn join(
    users: &mut Users,
    user: usize,
    addr: SocketAddr,
    kind: Kind,
) -> Result<(), Fault> {
    assert_eq!(TEXT, 32, "the length stands in the line of a message");
    let is_stored = kind == Kind::JetStream;
    let mut stream = connect_late(addr).await?;
    let mut hello = format!(
        "CONNECT {{\"verbose\":false}}\r\nSUB user.{user:04} 1\r\nSUB stored.{user:04} 2\r\n"
    );
    if is_stored && user == 0 {
        let len = STREAM.len();
        write!(
            hello,
            "PUB $JS.API.STREAM.CREATE.all stored.0000 {len}\r\n{STREAM}\r\n"
        )?;
    }
    hello += "PING\r\n";
    stream.write_all(hello.as_bytes()).await?;
    // The server answers the ping at once, and the request for a stream when it is made.
    let mut said = Vec::new();
    let is_ready = |said: &[u8]| {
        let lines: Vec<_> = Lines::all(said).collect();
        let has = |start: &[u8]| lines.iter().any(|(line, _)| line.starts_with(start));
        has(b"PONG") && (!is_stored || user > 0 || has(b"MSG "))
    };
    while !is_ready(&said) {
        if stream.read_buf(&mut said).await? == 0 {
            return Err("the broker has closed a connection".into());
        }
    }
    if let Some((_, answer)) =
        Lines::all(&said).find(|(_, text)| !text.is_empty() && !is_done(text))
    {
        return Err(String::from_utf8_lossy(answer).into());
    }
    users.add(user, Connection::new(stream), NatsPeer { user, is_stored });
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_and_lines_are_told_apart_however_they_are_cut() {
        let said = b"PING\r\nMSG user.0001 1 $JS.ACK.x 3\r\na\nb\r\nMSG stored.0001 2 2\r\n{}\r\n";
        let found =
            Lines::all(said).map(|(line, text)| (subscription(line).unwrap_or_default(), text));
        let found: Vec<_> = found.collect();
        assert_eq!(
            found,
            [(&b""[..], &b""[..]), (b"1", b"a\nb"), (b"2", b"{}")]
        );
        let ends = [6, said.len() - 25, said.len()];
        for cut in 0..said.len() {
            let whole = ends.into_iter().rfind(|end| *end <= cut);
            assert_eq!(Lines::whole(&said[..cut]), whole.unwrap_or(0), "{cut}");
        }
    }

    #[test]
    fn an_error_is_no_acknowledgement() {
        assert!(is_done(br#"{"stream":"all","seq":1}"#));
        assert!(!is_done(
            br#"{"error":{"code":503},"stream":"all","seq":0}"#
        ));
        assert!(!is_done(b"no responders"));
    }
}
