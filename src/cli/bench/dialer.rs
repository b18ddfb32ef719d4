use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;

use imd::proto::{Cmd, ReqAccessServer};
use tokio::net::TcpSocket;

use super::driver::Record;
use super::feed::Feed;
use super::fields::verdict;
use super::floor::Floor;
use super::line::{Broken, Line};

/// Connects to the gateway, asks, closes; and again.
pub struct Dialer {
    pub gateway: SocketAddr,
    /// Counts the connections, from a number of its own on.
    pub dialled: u16,
    pub feed: Arc<Feed>,
    pub floor: Floor,
}

impl Dialer {
    /// Runs to the end.
    pub async fn run(mut self) -> Record {
        if let Err(broken) = self.work().await {
            let mut desk = self.floor.desk.lock();
            desk.tally.lost.get_or_insert_with(|| broken.to_string());
        }
        Record::default()
    }

    async fn work(&mut self) -> Result<(), Broken> {
        while let Some(due) = self.next().await {
            let socket = self.socket()?;
            let asked = tokio::select! {
                biased;
                asked = dial(socket, self.gateway) => asked,
                () = self.feed.ended() => return Ok(()),
            };
            let verdict = asked?;
            let now = self.floor.now();
            let tally = &mut self.floor.desk.lock().tally;
            tally.acknowledgement.record(now.saturating_sub(due));
            tally.counts.answered += 1;
            tally.counts.last_answer = now;
            if let Some(refusal) = verdict {
                tally.counts.refused += 1;
                tally.refusal.get_or_insert(refusal);
            }
        }
        Ok(())
    }

    /// Waits for when the next request is due.
    async fn next(&self) -> Option<u64> {
        {
            let mut desk = self.floor.desk.lock();
            let now = self.floor.now();
            if self.floor.allows(0, now) {
                desk.tally.counts.send(now);
                return Some(now);
            }
        }
        let due = self.feed.next().await?;
        let now = self.floor.now();
        let tally = &mut self.floor.desk.lock().tally;
        tally.counts.send(now);
        tally.lateness.record(now.saturating_sub(due));
        Some(due)
    }

    /// A port that a connection was closed on is taken for a minute. On the loopback interface, each time another
    /// source address is taken, so that ports neither run out nor are long to be searched for.
    fn socket(&mut self) -> io::Result<TcpSocket> {
        let socket = match self.gateway {
            SocketAddr::V4(_) => TcpSocket::new_v4()?,
            SocketAddr::V6(_) => TcpSocket::new_v6()?,
        };
        self.dialled = self.dialled.wrapping_add(1);
        let [high, low] = self.dialled.to_be_bytes();
        // Elsewhere the interface has one address only.
        if cfg!(target_os = "linux") && self.gateway.ip() == Ipv4Addr::LOCALHOST {
            let source = [127, 1, high % 4, low];
            socket.bind(SocketAddr::from((source, 0)))?;
        }
        Ok(socket)
    }
}

/// The refusal, if it is one.
async fn dial(socket: TcpSocket, gateway: SocketAddr) -> Result<Option<String>, Broken> {
    let mut line = Line::open_from(socket, gateway).await?;
    let request = ReqAccessServer {
        cmd: Cmd::ReqAccessServer.number(),
        ..Default::default()
    };
    let answer = line.ask(Cmd::ReqAccessServer, &request).await?;
    let verdict = verdict(&answer, 3);
    Ok((verdict.0 != 0).then(|| Broken::told(verdict).to_string()))
}
