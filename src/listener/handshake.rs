//! What happens between the accept of a connection and its session: the upgrade to a WebSocket.
//!
//! Serves the listeners of sessions. A handshake runs in the task of its connection, never in the accept loop, and holds the
//! connection's permit. It has `session.half_frame` to be done, by the stack's clock, and ends with its server. A failed one
//! is counted, and logged at the level debug, since anybody can cause it.

use std::fmt;
use std::net::SocketAddr;
use std::pin::pin;

use crate::session::{ListenerContext, Pause};
use crate::transport::{Transport, UpgradeError, upgrade};

/// What a client has to do after it has connected, before it can send frames.
#[derive(Debug, Clone, Default)]
pub struct Handshake {
    /// Whether the connection is upgraded to a WebSocket.
    pub websocket: bool,
}

/// Why a handshake has failed.
#[derive(Debug, thiserror::Error)]
enum HandshakeError {
    #[error("the handshake took longer than session.half_frame")]
    TooSlow,
    #[error(transparent)]
    Upgrade(#[from] UpgradeError),
}

impl HandshakeError {
    /// Returns the reason as a label of metrics.
    fn label(&self) -> &'static str {
        match self {
            HandshakeError::TooSlow => "too_slow",
            HandshakeError::Upgrade(error) => error.label(),
        }
    }
}

impl Handshake {
    /// Returns the handshake of a WebSocket.
    pub fn websocket() -> Self {
        Handshake { websocket: true }
    }

    /// Returns whether a client sends frames at once.
    pub fn is_none(&self) -> bool {
        !self.websocket
    }

    /// Performs the handshake. Returns `None` if it has failed, or if the server ends first.
    pub async fn perform<H>(
        &self,
        transport: Transport,
        peer: SocketAddr,
        context: &ListenerContext<H>,
    ) -> Option<Transport> {
        let manager = &context.manager;
        let mut deadline = manager.clock().ticks(manager.deadlines().half_frame);
        let steps = unless_paused(manager.pause_state(), self.steps(transport));
        let done = tokio::select! {
            biased;
            () = manager.tasks().shutdown_begun() => return None,
            done = steps => done,
            _ = deadline.tick() => Err(HandshakeError::TooSlow),
        };
        done.inspect_err(|error| {
            context.connection_counts.handshake_failed(error.label());
            note_failure(peer, error);
        })
        .ok()
    }

    async fn steps(&self, transport: Transport) -> Result<Transport, HandshakeError> {
        let socket = upgrade(transport).await?;
        Ok(Transport::WebSocket(Box::new(socket)))
    }
}

fn note_failure(peer: SocketAddr, error: &dyn fmt::Display) {
    tracing::debug!(%peer, %error, "a connection ended before its session");
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
