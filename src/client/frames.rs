//! The frames of a client's connection, over TCP or over a WebSocket.
//!
//! Serves [`Client`](super::Client), which sends and receives messages and need not know how they travel.

use std::net::SocketAddr;

use bytes::{Bytes, BytesMut};
use futures_util::{SinkExt, StreamExt};
use tokio::net::TcpStream;
use tokio_tungstenite::tungstenite::protocol::WebSocketConfig;
use tokio_tungstenite::tungstenite::{Error as WebSocketError, Message};
use tokio_tungstenite::{WebSocketStream, client_async_with_config};
use tokio_util::codec::Framed;

use super::ClientError;
use super::address::Endpoint;
use crate::codec::{FrameCodec, FrameTooLong, MAX_FRAME};
use crate::proto::Payload;

/// How much a WebSocket reads at once, in bytes.
const READ: usize = 16 * 1024;

/// The frames of one connection.
#[derive(Debug)]
pub(super) enum Frames {
    /// Each with a length before it.
    LengthPrefix(Framed<TcpStream, FrameCodec>),
    /// Each as a binary message.
    WebSocket(Box<WebSocketStream<TcpStream>>),
}

impl Frames {
    /// Opens a connection, and returns the peer's address with its frames.
    ///
    /// # Errors
    ///
    /// [`ClientError::Io`], and [`ClientError::WebSocket`] when the server refuses the upgrade.
    pub async fn open(endpoint: &Endpoint) -> Result<(Frames, SocketAddr), ClientError> {
        let stream = endpoint.connect().await?;
        let peer = stream.peer_addr()?;
        let Some(url) = endpoint.websocket() else {
            return Ok((Frames::LengthPrefix(Framed::new(stream, FrameCodec)), peer));
        };
        let config = WebSocketConfig::default()
            .read_buffer_size(READ)
            .max_message_size(Some(MAX_FRAME))
            .max_frame_size(Some(MAX_FRAME));
        let (socket, _) = client_async_with_config(url, stream, Some(config)).await?;
        Ok((Frames::WebSocket(Box::new(socket)), peer))
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
