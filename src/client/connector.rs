//! Opens the connections of clients, with TLS or without.
//!
//! Serves [`Client`](super::Client), and the commands of `imd` that are clients. A [`Connector`] holds what a client trusts.

use std::collections::VecDeque;
use std::net::SocketAddr;
#[cfg(feature = "tls")]
use std::sync::Arc;
use std::time::Duration;

use prost::Message as _;
use tokio::net::TcpStream;

use super::address::{Address, Endpoint};
use super::frames::Frames;
use super::page::Seen;
use super::{Client, ClientError, check, error_of};
use crate::proto::{Base, Cmd, ReqAccessServer, ResSelectAccessServerForClient};
use crate::tls::{ClientStream, MaybeTls};
#[cfg(feature = "tls")]
use crate::tls::{Trust, TrustError};

/// How long a connect and an answer may take, unless [`Client::set_timeout`] changes it.
const TIMEOUT: Duration = Duration::from_secs(10);

/// Connects clients. By default, servers with TLS need a certificate whose issuer the system trusts, or the local CA of this
/// user.
#[derive(Debug, Clone, Default)]
pub struct Connector {
    /// None for the default, which is read from the system at each connect.
    #[cfg(feature = "tls")]
    trust: Option<Arc<Trust>>,
}

impl Connector {
    /// Creates a connector that also trusts the issuers in `pem`.
    ///
    /// ```
    /// # #[tokio::main]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// use imd::client::Connector;
    ///
    /// let folder = tempfile::tempdir()?; // in place of the user's own CA
    /// let mut config = imd::Config::ephemeral();
    /// config.tls.local_ca = true;
    /// config.tls.ca_dir = Some(folder.path().into());
    /// let imd = imd::Imd::start(config).await?;
    ///
    /// let connector = Connector::trusting(&std::fs::read(imd.ca_certificate().ok_or("no CA")?)?)?;
    /// let mut alice = connector.connect(format!("tls://{}", imd.gateway_addr())).await?;
    /// alice.login(1, &imd.token(1)).await?;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// [`TrustError`], when there is no certificate in it.
    #[cfg(feature = "tls")]
    pub fn trusting(pem: &[u8]) -> Result<Connector, TrustError> {
        Ok(Connector {
            trust: Some(Arc::new(Trust::with_pem(pem)?)),
        })
    }

    /// Asks a gateway for the address of an access server: `host:port`, or a URL if the gateway's address is one too.
    ///
    /// # Errors
    ///
    /// [`ClientError::Refused`] with code 92001 if no access server is available; other errors if the gateway can't be reached
    /// or does not answer in 10 s.
    pub async fn ask_gateway(&self, gateway: impl Address) -> Result<String, ClientError> {
        let endpoint = gateway.endpoint();
        let (mut frames, _) = self.open_frames(&endpoint).await?;
        let answered = tokio::time::timeout(TIMEOUT, ask(&mut frames)).await;
        let reply = answered.map_err(|_| ClientError::Timeout)??;
        Ok(match endpoint.websocket() {
            Some(_) if !reply.ws_addr.is_empty() => reply.ws_addr,
            _ => endpoint.beside(reply.addr),
        })
    }

    /// Asks a gateway for an access server, and connects to it.
    ///
    /// # Errors
    ///
    /// Those of [`ask_gateway`](Self::ask_gateway) and [`connect_to`](Self::connect_to).
    pub async fn connect(&self, gateway: impl Address) -> Result<Client, ClientError> {
        self.connect_to(self.ask_gateway(gateway).await?).await
    }

    /// Connects to an access server.
    ///
    /// # Errors
    ///
    /// [`ClientError::Io`], [`ClientError::Tls`] or [`ClientError::Timeout`] if it can't be reached in 10 s.
    pub async fn connect_to(&self, access: impl Address) -> Result<Client, ClientError> {
        let (frames, peer) = self.open_frames(&access.endpoint()).await?;
        Ok(Client {
            frames,
            peer,
            uid: None,
            timeout: TIMEOUT,
            events: VecDeque::new(),
            seen: Seen::default(),
        })
    }

    async fn open_frames(&self, endpoint: &Endpoint) -> Result<(Frames, SocketAddr), ClientError> {
        let opened = async {
            let (stream, peer) = self.open(endpoint).await?;
            Ok((Frames::over(stream, endpoint).await?, peer))
        };
        let opened = tokio::time::timeout(TIMEOUT, opened).await;
        opened.map_err(|_| ClientError::Timeout)?
    }

    /// Opens a connection to a server of any kind, and returns it with the server's address. There is no deadline: the caller
    /// sets one.
    ///
    /// # Errors
    ///
    /// [`ClientError::Io`], also for a text that is no address, and [`ClientError::Tls`].
    pub async fn open(
        &self,
        endpoint: &Endpoint,
    ) -> Result<(ClientStream, SocketAddr), ClientError> {
        let stream = endpoint.connect().await?;
        let peer = stream.peer_addr()?;
        let stream = match endpoint.is_tls() {
            false => MaybeTls::Plain(stream),
            true => self.shake_hands(stream, endpoint).await?,
        };
        Ok((stream, peer))
    }

    #[cfg(feature = "tls")]
    async fn shake_hands(
        &self,
        stream: TcpStream,
        endpoint: &Endpoint,
    ) -> Result<ClientStream, ClientError> {
        let trust = match &self.trust {
            Some(trust) => Arc::clone(trust),
            None => {
                let trust = tokio::task::spawn_blocking(Trust::of_system).await;
                let trust = trust.map_err(std::io::Error::from)?;
                Arc::new(trust.map_err(std::io::Error::other)?)
            }
        };
        let stream = trust.connect(stream, &endpoint.host()).await;
        stream.map_err(ClientError::Tls)
    }

    #[cfg(not(feature = "tls"))]
    async fn shake_hands(&self, _: TcpStream, _: &Endpoint) -> Result<ClientStream, ClientError> {
        let why = "this build of imd was made without the cargo feature \"tls\"";
        Err(ClientError::Tls(std::io::Error::other(why)))
    }
}

/// Asks the gateway at the other end of a connection for the address of an access server.
async fn ask(frames: &mut Frames) -> Result<ResSelectAccessServerForClient, ClientError> {
    let request = ReqAccessServer {
        cmd: Cmd::ReqAccessServer.number(),
        ..Default::default()
    };
    frames.send(&request).await?;
    let frame = frames.next().await?;
    if Base::decode(frame.clone())?.cmd != Cmd::ReqAccessServer.number() {
        return Err(error_of(&frame)?);
    }
    let reply = ResSelectAccessServerForClient::decode(frame)?;
    check(reply.err_code, reply.err_str.clone())?;
    Ok(reply)
}
