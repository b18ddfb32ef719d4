//! One sender and one receiver who wait for each other.
//!
//! Serves [`budget`](crate::budget), which counts what a message costs: no notifies merge by chance, so a server always does
//! the same work.

use bytes::BytesMut;
use imd::load::{Connection, FieldTable, request};
use imd::proto::Cmd;

use crate::Fault;
use crate::imd_peer::put_message;
use crate::load::log_in;
use crate::server::Server;
use crate::wire;

/// Two users, and how many messages they have exchanged.
pub struct Pair {
    sender: Connection,
    receiver: Connection,
    sent: usize,
}

impl Pair {
    /// Logs both users in.
    pub async fn log_in(server: &Server) -> Result<Pair, Fault> {
        Ok(Pair {
            sender: log_in(&server.access, 1).await?,
            receiver: log_in(&server.access, 2).await?,
            sent: 0,
        })
    }

    /// Sends this number of messages in one write and lets the receiver read them, this number of times.
    pub async fn exchange(&mut self, messages: usize, times: usize) -> Result<(), Fault> {
        let mut out = BytesMut::new();
        for _ in 0..times {
            out.clear();
            let read = self.sent as i64;
            for _ in 0..messages {
                put_message(1, Some(2), None, wire::text(self.sent), &mut out);
                self.sent += 1;
            }
            self.sender.send(&out).await?;
            for _ in 0..messages {
                let answer = self.sender.next().await?;
                let answer = FieldTable::read(&answer);
                if answer.cmd() != Some(Cmd::SendP2PMsg) || answer.number(3) != 0 {
                    return Err("a message was refused".into());
                }
            }
            let sent = self.sent as i64;
            while notified(&self.receiver.next().await?)? < sent {}
            let sync = wire::frame(&request::sync(2, read));
            let page = self.receiver.ask(&sync).await?;
            let page = FieldTable::read(&page);
            if page.cmd() != Some(Cmd::SyncMsg) || page.number(5) != sent {
                return Err("a page is not what was sent".into());
            }
        }
        Ok(())
    }
}

/// Returns the newest version that a notify announces.
fn notified(message: &[u8]) -> Result<i64, Fault> {
    let notify = FieldTable::read(message);
    if notify.cmd() != Some(Cmd::Notify) {
        return Err("not a notify".into());
    }
    Ok(notify.number(6))
}
