//! Users of an MQTT 3.1.1 broker with QoS 1: sender and receiver both get or give an acknowledgement.
//!
//! Serves [`messages`](crate::messages). The broker keeps a message until its receiver has acknowledged it, in memory.

use std::net::SocketAddr;

use bytes::{BufMut, BytesMut};
use imd::load::{Connection, FrameScanner};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::Fault;
use crate::load::connect_late;
use crate::messages::{Peer, Seen, Users};
use crate::wire::{self, TEXT, digits};

const PUBLISH: u8 = 0x30;
const PUBACK: u8 = 0x40;
const QOS_1: u8 = 0x02;

/// The framing of MQTT: packets of a byte, a length, and that many bytes.
pub struct Packets;

impl FrameScanner for Packets {
    fn whole(bytes: &[u8]) -> usize {
        let mut end = 0;
        while let Some((_, body)) = one(&bytes[end..]) {
            end += 2 + body.len();
        }
        end
    }
}

/// Returns the type and the body of the first packet; `None` if it is not complete. All packets here are shorter than
/// 128 bytes, so their length is one byte.
fn one(bytes: &[u8]) -> Option<(u8, &[u8])> {
    let (&[kind, len], rest) = bytes.split_first_chunk()?;
    Some((kind, rest.get(..len.into())?))
}

/// Appends a packet with a body of several parts.
fn packet(kind: u8, parts: &[&[u8]], out: &mut BytesMut) {
    out.put_u8(kind);
    out.put_u8(parts.iter().map(|part| part.len()).sum::<usize>() as u8);
    parts.iter().for_each(|part| out.put_slice(part));
}

/// Returns the number of a packet and the text of the message in it, from its end: the topic in front of both has any length.
fn message(body: &[u8]) -> Result<([u8; 2], &[u8]), Fault> {
    let (rest, text) = body
        .split_at_checked(body.len().saturating_sub(TEXT))
        .unwrap_or_default();
    let number = rest.last_chunk().ok_or("a packet without a number")?;
    Ok((*number, text))
}

struct MqttPeer {
    /// The number of the last packet.
    last: u16,
}

impl Peer for MqttPeer {
    type Scanner = Packets;

    fn send(&mut self, to: usize, number: usize, out: &mut BytesMut) {
        // Packets are numbered from 1.
        self.last = self.last.checked_add(1).unwrap_or(1);
        let topic = digits::<4>(to);
        let packet_number = self.last.to_be_bytes();
        let parts = [
            b"\0\x09user/",
            &topic[..],
            &packet_number,
            &wire::text(number),
        ];
        packet(PUBLISH | QOS_1, &parts, out);
    }

    fn take(
        &mut self,
        mut packets: &[u8],
        seen: &mut Seen<'_>,
        out: &mut BytesMut,
    ) -> Result<(), Fault> {
        while let Some((kind, body)) = one(packets) {
            packets = &packets[2 + body.len()..];
            match kind & 0xf0 {
                PUBLISH => {
                    let (number, text) = message(body)?;
                    seen.delivered(text)?;
                    packet(PUBACK, &[&number], out);
                }
                // Acknowledgements come in the order of the messages.
                PUBACK => seen.acknowledged()?,
                _ => return Err("an unexpected packet".into()),
            }
        }
        Ok(())
    }
}

/// Connects a user, and adds the user to the others.
pub async fn join(users: &mut Users, user: usize, addr: SocketAddr) -> Result<(), Fault> {
    let mut stream = connect_late(addr).await?;
    let name = digits::<4>(user);
    let mut hello = BytesMut::new();
    // Protocol level 4, a clean session, no keepalive; then one topic with QoS 1.
    packet(0x10, &[b"\0\x04MQTT\x04\x02\0\0\0\x04", &name], &mut hello);
    packet(0x82, &[b"\0\x01\0\x09user/", &name, b"\x01"], &mut hello);
    stream.write_all(&hello).await?;
    let mut answers = [0; 9];
    stream.read_exact(&mut answers).await?;
    if (answers[3], answers[8]) != (0, 1) {
        return Err("the broker has refused a subscription".into());
    }
    users.add(user, Connection::new(stream), MqttPeer { last: 0 });
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_published_message_is_read_with_its_number() {
        let mut out = BytesMut::new();
        MqttPeer { last: u16::MAX }.send(7, 12, &mut out);
        let (kind, body) = one(&out).unwrap();
        assert_eq!((kind, body.len() + 2), (0x32, out.len()));
        assert!(body.starts_with(b"\0\x09user/0007"));
        let (number, text) = message(body).unwrap();
        assert_eq!((number, wire::number(text).unwrap()), ([0, 1], 12));
        for cut in 0..out.len() {
            assert_eq!(Packets::whole(&out[..cut]), 0);
        }
        assert!(message(b"short").is_err());
    }
}
