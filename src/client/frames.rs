//! The frames of a client's connection, over TCP or over a WebSocket, with TLS or without.
//!
//! Serves [`Client`](super::Client), which sends and receives messages and need not know how they travel.

use bytes::{Bytes, BytesMut};
use futures_util::{SinkExt, StreamExt};
use tokio_tungstenite::tungstenite::protocol::WebSocketConfig;
use tokio_tungstenite::tungstenite::{Error as WebSocketError, Message};
use tokio_tungstenite::{WebSocketStream, client_async_with_config};
use tokio_util::codec::Framed;

use super::ClientError;
use super::address::Endpoint;
use crate::codec::{FrameCodec, FrameTooLong, MAX_FRAME};
use crate::proto::Payload;
use crate::tls::ClientStream;

/// How much a WebSocket reads at once, in bytes.
const READ: usize = 16 * 1024;

/// The frames of one connection.
#[derive(Debug)]
pub(super) enum Frames {
    /// Each with a length before it.
    LengthPrefix(Framed<ClientStream, FrameCodec>),
    /// Each as a binary message.
    WebSocket(Box<WebSocketStream<ClientStream>>),
}

impl Frames {
    /// Takes over a connection to this address, and upgrades it if the address is the URL of a WebSocket.
    ///
    /// # Errors
    ///
    /// [`ClientError::WebSocket`] when the server refuses the upgrade.
    pub async fn over(stream: ClientStream, endpoint: &Endpoint) -> Result<Frames, ClientError> {
        let Some(url) = endpoint.websocket() else {
            return Ok(Frames::LengthPrefix(Framed::new(stream, FrameCodec)));
        };
        let config = WebSocketConfig::default()
            .read_buffer_size(READ)
            .max_message_size(Some(MAX_FRAME))
            .max_frame_size(Some(MAX_FRAME));
        let (socket, _) = client_async_with_config(url, stream, Some(config)).await?;
        Ok(Frames::WebSocket(Box::new(socket)))
    }

    /// Sends a message.
    ///
    /// # Errors
    ///
    /// [`ClientError::TooLong`], after which nothing was sent, and the errors of the connection.
    pub async fn send(&mut self, message: &impl Payload) -> Result<(), ClientError> {
        match self {
            Frames::LengthPrefix(frames) => Ok(frames.send(message).await?),
            Frames::WebSocket(socket) => {
                let mut bytes = BytesMut::new();
                message.encode_payload(&mut bytes);
                let (len, max) = (bytes.len(), MAX_FRAME);
                if len > max {
                    return Err(FrameTooLong { len, max }.into());
                }
                Ok(socket.send(Message::Binary(bytes.freeze())).await?)
            }
        }
    }

    /// Waits for the next message. Cancel safe.
    ///
    /// # Errors
    ///
    /// [`ClientError::Closed`] when the server has closed the connection, and the errors of the connection.
    pub async fn next(&mut self) -> Result<Bytes, ClientError> {
        match self {
            Frames::LengthPrefix(frames) => {
                Ok(frames.next().await.ok_or(ClientError::Closed)??)
            }
            Frames::WebSocket(socket) => loop {
                match socket.next().await.ok_or(ClientError::Closed)?? {
                    Message::Binary(message) => return Ok(message),
                    Message::Close(_) => return Err(ClientError::Closed),
                    // Pings are answered by the library. Servers of the contract send no text.
                    _ => {}
                }
            },
        }
    }
}

impl From<WebSocketError> for ClientError {
    fn from(error: WebSocketError) -> Self {
        match error {
            WebSocketError::Io(error) => error.into(),
            WebSocketError::ConnectionClosed | WebSocketError::AlreadyClosed => ClientError::Closed,
            WebSocketError::Http(response) => {
                let body = response.body().as_deref().unwrap_or_default();
                let text = String::from_utf8_lossy(body);
                let (status, text) = (response.status(), text.trim());
                ClientError::WebSocket(format!("the server refuses the upgrade: {status}: {text}"))
            }
            error => ClientError::WebSocket(error.to_string()),
        }
    }
}
