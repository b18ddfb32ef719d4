//! Drives the users of `imd bench connect`, who open a connection for each request.
//!
//! Serves `worker`, which runs one task per user. A user has one connection at a time.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;

use imd::load::{Connection, FieldTable, Mailbox, Status, request};
use imd::proto::Cmd;
use tokio::net::TcpSocket;

use super::connection::{ConnectionError, ask};
use super::run::WorkerState;
use super::tally::Received;
use super::user::DeliveryRecord;

/// A user who connects to the gateway, requests an access server, and closes the connection, again and again.
pub struct Dialer {
    /// Address of the gateway, resolved once.
    pub gateway: SocketAddr,
    /// Counts the connections. Each user starts at another number, so that the source addresses differ.
    pub connection_number: u16,
    /// The requests that the schedule assigns to this user, and the end of the run.
    pub mailbox: Arc<Mailbox>,
    /// The state shared by the users of this thread.
    pub worker: WorkerState,
}

impl Dialer {
    /// Makes requests until the run ends or a request fails. The returned record is empty.
    pub async fn run(mut self) -> DeliveryRecord {
        if let Err(error) = self.dial_all().await {
            self.worker.tally.lock().lose(&error);
        }
        DeliveryRecord::default()
    }

    /// Makes requests until the run ends.
    async fn dial_all(&mut self) -> Result<(), ConnectionError> {
        while let Some(due) = self.next().await {
            let socket = self.socket()?;
            let answer = tokio::select! {
                biased;
                answer = dial(socket, self.gateway) => answer?,
                () = self.mailbox.ended() => return Ok(()),
            };
            let now = self.worker.now();
            let mut tally = self.worker.tally.lock();
            let received = match FieldTable::read(&answer).status(3) {
                Status { code: 0, .. } => Received::Answer,
                refusal => tally.refuse(refusal),
            };
            tally.answer(Some(due), received, now);
        }
        Ok(())
    }

    /// Waits until the next request is due, counts it, and returns when it was due. Returns `None` at the end of the
    /// run.
    async fn next(&self) -> Option<u64> {
        let now = self.worker.now();
        let due = match self.worker.allows(0, now) {
            true => now,
            false => self.mailbox.next().await?,
        };
        self.worker.tally.lock().send(due, self.worker.now());
        Some(due)
    }

    /// Creates a socket to connect from. The port of a closed connection can't be reused for a minute. On the
    /// loopback interface, each connection therefore has another source address: ports do not run out, and the system
    /// finds a free one quickly.
    fn socket(&mut self) -> io::Result<TcpSocket> {
        let socket = match self.gateway {
            SocketAddr::V4(_) => TcpSocket::new_v4()?,
            SocketAddr::V6(_) => TcpSocket::new_v6()?,
        };
        self.connection_number = self.connection_number.wrapping_add(1);
        let [high, low] = self.connection_number.to_be_bytes();
        // On other systems, the loopback interface has only one address.
        if cfg!(target_os = "linux") && self.gateway.ip() == Ipv4Addr::LOCALHOST {
            let source = [127, 1, high % 4, low];
            socket.bind(SocketAddr::from((source, 0)))?;
        }
        Ok(socket)
    }
}

/// Connects to the gateway, and returns its answer to a request for an access server.
async fn dial(socket: TcpSocket, gateway: SocketAddr) -> Result<Vec<u8>, ConnectionError> {
    let mut connection = Connection::open(socket.connect(gateway)).await?;
    let cmd = Cmd::ReqAccessServer;
    ask(&mut connection, cmd, &request::access_server()).await
}
