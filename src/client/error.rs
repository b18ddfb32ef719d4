//! The errors of [`Client`](super::Client), for every way in which a request can fail.
//!
//! Serves the callers of the client: tests, and the commands of `imd`, which explain the errors to the user. After
//! [`ClientError::Refused`] the request was not carried out, and after [`ClientError::TooLong`] it was not sent; after any
//! other error it is unknown what the server has done.

use crate::codec::CodecError;

/// Why a request of a client failed.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// The server refused the request. The connection stays usable, unless the server closes it.
    #[error("{text} ({code})")]
    Refused {
        /// The error code of the contract.
        code: u32,
        /// The server's text for people.
        text: String,
    },
    /// The server has closed the connection.
    #[error("the server has closed the connection")]
    Closed,
    /// The connect or the reply took longer than the timeout.
    #[error("no answer in time")]
    Timeout,
    /// The connection failed.
    #[error(transparent)]
    Io(#[from] std::io::Error),
    /// The TLS handshake failed: the server's certificate is not trusted, or it speaks no TLS.
    #[error("no connection by TLS: {0}")]
    Tls(std::io::Error),
    /// The request is too long for a frame, and was not sent.
    #[error(transparent)]
    TooLong(#[from] crate::codec::FrameTooLong),
    /// The connection ended in the middle of a frame.
    #[error("the connection ended within a frame")]
    Cut,
    /// The address belongs to an HTTP server, such as the user API. Gateway and access servers have other ports.
    #[error("an HTTP server answers there, which speaks another protocol")]
    Http,
    /// The server takes no WebSocket here, or broke a rule of that protocol.
    #[error("{0}")]
    WebSocket(String),
    /// The server sent a frame that is no message of the contract.
    #[error("the server's frame can't be decoded: {0}")]
    Undecodable(#[from] prost::DecodeError),
}

impl ClientError {
    /// Returns the error code of the contract if the server refused the request.
    pub fn code(&self) -> Option<u32> {
        match self {
            ClientError::Refused { code, .. } => Some(*code),
            _ => None,
        }
    }
}

impl From<CodecError> for ClientError {
    fn from(error: CodecError) -> Self {
        match error {
            CodecError::Io(error) => error.into(),
            CodecError::TooLong(error) => error.into(),
            CodecError::Cut => ClientError::Cut,
            CodecError::Http => ClientError::Http,
        }
    }
}
