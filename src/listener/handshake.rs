//! What happens between the accept of a connection and its session: the TLS handshake, and the upgrade to a WebSocket.
//!
//! Serves the listeners of sessions. A handshake runs in the task of its connection, never in the accept loop, and holds the
//! connection's permit. It has `session.half_frame` to be done, by the stack's clock, and ends with its server. A failed one
//! is counted, and logged at the level debug, since anybody can cause it.

use std::io;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::BytesMut;
use tokio::net::TcpStream;

use super::Pages;
use crate::clock::running;
use crate::codec::Framing;
use crate::proto::{Code, Reply};
use crate::session::{ListenerContext, Pause, SessionManager};
use crate::tls::{self, Acceptor};
use crate::transport::{FailedUpgrade, Transport, UpgradeError, upgrade};

/// How long a client whose handshake has failed may take to read why, in real time.
const LINGER: Duration = Duration::from_secs(1);

/// What a client has to do after it has connected, before it can send frames.
#[derive(Debug, Clone)]
pub struct Handshake {
    acceptor: Acceptor,
    /// The pages that may open a WebSocket, if the connection is upgraded to one.
    websocket: Option<Arc<Pages>>,
}

/// Why a handshake has failed.
#[derive(Debug, thiserror::Error)]
enum HandshakeError {
    #[error("the handshake took longer than session.half_frame")]
    TooSlow,
    #[error(transparent)]
    Tls(#[from] tls::HandshakeError),
    #[error(transparent)]
    Upgrade(UpgradeError),
}

/// A handshake that has failed, and what its client is still told.
struct Failed {
    error: HandshakeError,
    /// The connection and the last bytes for it. None if nothing reaches the client any more.
    last: Option<(Transport, BytesMut)>,
}

impl HandshakeError {
    /// Returns the reason as a label of metrics.
    fn label(&self) -> &'static str {
        match self {
            HandshakeError::TooSlow => "too_slow",
            HandshakeError::Tls(error) => error.failure.label(),
            HandshakeError::Upgrade(error) => error.label(),
        }
    }
}

impl Handshake {
    /// Returns the handshake of a client that sends frames with a length before them.
    pub fn frames(acceptor: Acceptor) -> Self {
        Handshake {
            acceptor,
            websocket: None,
        }
    }

    /// Returns the handshake of a WebSocket, which these pages may open.
    pub fn websocket(acceptor: Acceptor, pages: Arc<Pages>) -> Self {
        Handshake {
            acceptor,
            websocket: Some(pages),
        }
    }

    /// Returns whether a client sends frames at once.
    pub fn is_none(&self) -> bool {
        self.websocket.is_none() && !self.acceptor.is_tls()
    }

    /// Performs the handshake. Returns `None` if it has failed, or if the server ends first.
    pub async fn perform<H>(
        &self,
        stream: TcpStream,
        peer: SocketAddr,
        context: &ListenerContext<H>,
    ) -> Option<Transport> {
        let manager = &context.manager;
        let steps = unless_paused(manager.pause_state(), self.steps(stream, context.framing));
        let done = tokio::select! {
            biased;
            () = manager.tasks().shutdown_begun() => return None,
            done = steps => done,
            () = deadline_missed(manager) => Err(Failed { error: HandshakeError::TooSlow, last: None }),
        };
        let Failed { error, last } = match done {
            Ok(transport) => return Some(transport),
            Err(failed) => failed,
        };
        context.connection_counts.handshake_failed(error.label());
        tracing::debug!(%peer, %error, "a connection ended before its session");
        if let Some((transport, last)) = last {
            tokio::select! {
                () = manager.tasks().shutdown_begun() => {}
                _ = running::timeout(LINGER, say_last(transport, &last)) => {}
            }
        }
        None
    }

    async fn steps(&self, stream: TcpStream, framing: Framing) -> Result<Transport, Failed> {
        let accepted = self.acceptor.accept(stream).await;
        let transport = Transport::from(accepted.map_err(|error| Failed::tls(error, framing))?);
        let Some(pages) = &self.websocket else {
            return Ok(transport);
        };
        let upgraded = upgrade(transport, |headers| pages.check(headers)).await;
        Ok(Transport::WebSocket(Box::new(
            upgraded.map_err(Failed::upgrade)?,
        )))
    }
}

impl Failed {
    fn tls(mut error: tls::HandshakeError, framing: Framing) -> Self {
        let answer = match error.failure {
            tls::HandshakeFailure::Plain => needs_tls(framing),
            _ => BytesMut::new(),
        };
        let stream = error.stream.take();
        Failed {
            last: stream.map(|stream| (stream.into(), answer)),
            error: error.into(),
        }
    }

    fn upgrade(FailedUpgrade { error, transport }: FailedUpgrade) -> Self {
        Failed {
            last: Some((transport, error.answer())),
            error: HandshakeError::Upgrade(error),
        }
    }
}

/// Waits until a handshake that begins now has taken too long. During a pause of the server the time does not count.
async fn deadline_missed(manager: &SessionManager) {
    let pause = manager.pause_state();
    loop {
        let mut deadline = manager.clock().ticks(manager.deadlines().half_frame);
        tokio::select! {
            biased;
            () = pause.paused() => {}
            _ = deadline.tick() => return,
        }
        // Dropped before the wait: an advance of a manual clock waits for the owner of each timer.
        drop(deadline);
        pause.resumed().await;
    }
}

/// Returns what a client without TLS is told where it needs TLS, in the form that its port usually takes.
fn needs_tls(framing: Framing) -> BytesMut {
    if framing == Framing::WebSocket {
        return tls::NEEDS_HTTPS.into();
    }
    let code = Code::RequestErr;
    let reply = Reply::server(code, code.because("this port speaks TLS: connect with TLS"));
    let mut answer = BytesMut::new();
    // A reply this short always fits a frame.
    let _ = framing.encode(&reply, &mut answer);
    answer
}

/// Writes the last bytes of a connection, and waits until the client has closed its side. Closing over unread input would
/// reset the connection, and the client would read neither these bytes nor the alert of TLS before them.
///
/// # Errors
///
/// When the connection has broken.
async fn say_last(mut transport: Transport, last: &[u8]) -> io::Result<()> {
    transport.write_all(last).await?;
    transport.close_writing().await?;
    transport.drain().await
}

/// Awaits `work`, which makes no progress while the server is paused.
async fn unless_paused<T>(pause: &Pause, work: impl Future<Output = T>) -> T {
    let mut work = pin!(work);
    loop {
        tokio::select! {
            biased;
            () = pause.paused() => pause.resumed().await,
            done = &mut work => return done,
        }
    }
}
