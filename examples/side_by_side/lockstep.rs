//! One sender and one receiver who wait for each other, so that nothing merges by chance: what they cause is always the
//! same.

use bytes::BytesMut;
use imd::proto::Cmd;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::Fault;
use crate::load::log_in;
use crate::messages::p2p_template;
use crate::server::Server;
use crate::wire::{self, Flat, Template};

/// Two users and what they have done.
pub struct Pair {
    sender: TcpStream,
    receiver: TcpStream,
    template: Template,
    sent: usize,
}

impl Pair {
    pub async fn log_in(server: &Server) -> Result<Pair, Fault> {
        Ok(Pair {
            sender: log_in(&server.access, 1).await?,
            receiver: log_in(&server.access, 2).await?,
            template: p2p_template(1, 2),
            sent: 0,
        })
    }

    /// Sends so many messages in one write, and lets the receiver read them: so many times, one after the other.
    pub async fn exchange(&mut self, messages: usize, times: usize) -> Result<(), Fault> {
        let mut out = BytesMut::new();
        for _ in 0..times {
            out.clear();
            let read = self.sent as i64;
            for _ in 0..messages {
                self.template.put(self.sent, &mut out);
                self.sent += 1;
            }
            self.sender.write_all(&out).await?;
            for _ in 0..messages {
                let answer = frame(&mut self.sender).await?;
                let answer = Flat::read(&answer);
                if !answer.is(Cmd::SendP2PMsg) || answer.number(3) != 0 {
                    return Err("a message was refused".into());
                }
            }
            let sent = self.sent as i64;
            while notified(&frame(&mut self.receiver).await?)? < sent {}
            out.clear();
            wire::put_sync(2, read, &mut out);
            self.receiver.write_all(&out).await?;
            let page = frame(&mut self.receiver).await?;
            let page = Flat::read(&page);
            if !page.is(Cmd::SyncMsg) || page.number(5) != sent {
                return Err("a page is not what was sent".into());
            }
        }
        Ok(())
    }
}

/// How far a notify goes.
fn notified(message: &[u8]) -> Result<i64, Fault> {
    let notify = Flat::read(message);
    if !notify.is(Cmd::Notify) {
        return Err("not a notify".into());
    }
    Ok(notify.number(6))
}

async fn frame(stream: &mut TcpStream) -> Result<Vec<u8>, Fault> {
    let mut message = vec![0; stream.read_u16().await?.into()];
    stream.read_exact(&mut message).await?;
    Ok(message)
}
