//! The messages of a ring of users over MQTT 3.1.1 with QoS 1: sender and receiver both get or give an acknowledgement.

use std::collections::HashMap;
use std::sync::Arc;
use std::task::Context;

use bytes::{BufMut, BytesMut};
use imd::load::{Client, Connection, Framing, Template};
use parking_lot::Mutex;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::Fault;
use crate::load::{Crowd, Sample, connect_late};
use crate::messages::{Run, TEXT, measure};
use crate::server::Server;
use crate::wire::{self, ID_DIGITS, NO_ID};

const PUBLISH: u8 = 0x30;
const PUBACK: u8 = 0x40;
const QOS_1: u8 = 0x02;

/// The framing of MQTT: packets of a byte, a length, and that many bytes.
pub struct Packets;

impl Framing for Packets {
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

fn packet(kind: u8, body: &[u8]) -> Vec<u8> {
    let mut packet = vec![kind, body.len() as u8];
    packet.extend_from_slice(body);
    packet
}

fn text(text: &str) -> Vec<u8> {
    let mut bytes = (text.len() as u16).to_be_bytes().to_vec();
    bytes.extend_from_slice(text.as_bytes());
    bytes
}

struct User {
    run: Arc<Mutex<Run>>,
    /// The packet of a message. The number of the packet stands in front of the text.
    publish: Template,
    outstanding: usize,
    /// The messages that are not acknowledged yet, by the numbers of their packets.
    open: HashMap<u16, usize>,
    last: u16,
    has_begun: bool,
}

impl User {
    fn publish(&mut self, run: &mut Run, out: &mut BytesMut) {
        let id = run.send(&self.publish, out);
        // Packets are numbered from 1.
        self.last = self.last.checked_add(1).unwrap_or(1);
        self.open.insert(self.last, id);
        let at = out.len() - TEXT - 2;
        out[at..at + 2].copy_from_slice(&self.last.to_be_bytes());
    }
}

impl Client for User {
    type Framing = Packets;
    type Error = Fault;

    fn turn(
        &mut self,
        _: &Context<'_>,
        mut packets: &[u8],
        out: &mut BytesMut,
    ) -> Result<(), Fault> {
        let shared = Arc::clone(&self.run);
        let mut run = shared.lock();
        if !std::mem::replace(&mut self.has_begun, true) {
            for _ in 0..self.outstanding {
                self.publish(&mut run, out);
            }
        }
        while let Some((kind, body)) = one(packets) {
            packets = &packets[2 + body.len()..];
            match kind & 0xf0 {
                PUBLISH => {
                    let text = body.len() - TEXT;
                    run.arrive(&body[text..text + ID_DIGITS])?;
                    out.put_slice(&[PUBACK, 2]);
                    out.put_slice(&body[text - 2..text]);
                }
                PUBACK => {
                    let number = u16::from_be_bytes([body[0], body[1]]);
                    let id = self.open.remove(&number).ok_or("an unknown packet")?;
                    run.answer_to(id)?;
                    if !run.is_over() {
                        self.publish(&mut run, out);
                    }
                }
                _ => return Err("an unexpected packet".into()),
            }
        }
        Ok(())
    }
}

/// Lets users send messages in a ring, each to the next one. The figure is deliveries per second.
pub async fn p2p(
    server: &Server,
    users: i64,
    outstanding: usize,
    secs: f64,
) -> Result<Sample, Fault> {
    let run = Run::new(1);
    let mut subscribed = Vec::new();
    for uid in 1..=users {
        subscribed.push((uid, subscribe(server, uid).await?));
    }
    let mut crowd = Crowd::default();
    for (uid, stream) in subscribed {
        let mut body = text(&format!("user/{}", uid % users + 1));
        body.extend_from_slice(&[0, 0]);
        body.extend_from_slice(NO_ID.as_bytes());
        body.extend_from_slice(&[b'x'; TEXT - ID_DIGITS]);
        let user = User {
            run: Arc::clone(&run),
            publish: wire::template(&packet(PUBLISH | QOS_1, &body)),
            outstanding,
            open: HashMap::new(),
            last: 0,
            has_begun: false,
        };
        crowd.add(Connection::new(stream), user);
    }
    measure(server, &mut crowd, &run, secs).await
}

async fn subscribe(server: &Server, uid: i64) -> Result<TcpStream, Fault> {
    let mut stream = connect_late(server.gateway).await?;
    // Protocol level 4, a clean session, no keepalive.
    let mut hello = text("MQTT");
    hello.extend_from_slice(&[4, 2, 0, 0]);
    hello.extend_from_slice(&text(&format!("client-{uid}")));
    stream.write_all(&packet(0x10, &hello)).await?;
    let mut accepted = [0; 4];
    stream.read_exact(&mut accepted).await?;
    let mut topic = vec![0, 1];
    topic.extend_from_slice(&text(&format!("user/{uid}")));
    topic.push(1);
    stream.write_all(&packet(0x82, &topic)).await?;
    let mut granted = [0; 5];
    stream.read_exact(&mut granted).await?;
    if accepted[3] != 0 || granted[4] != 1 {
        return Err("the broker has refused a subscription".into());
    }
    Ok(stream)
}
