use crate::codec::CodecError;

/// Why a request of a client failed.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// The server says no. The connection stays usable, unless the server closes it.
    #[error("{text} ({code})")]
    Refused {
        /// The contract's code.
        code: u32,
        /// What the server says.
        text: String,
    },
    /// The server has closed the connection.
    #[error("the server has closed the connection")]
    Closed,
    /// No answer in time.
    #[error("no answer in time")]
    Timeout,
    /// The connection failed.
    #[error(transparent)]
    Io(#[from] std::io::Error),
    /// A frame is too long to be sent.
    #[error(transparent)]
    TooLong(#[from] crate::codec::FrameTooLong),
    /// The connection ended within a frame.
    #[error("the connection ended within a frame")]
    Cut,
    /// An HTTP server answers at that address: the gateway and the access servers have others.
    #[error("an HTTP server answers there, which speaks another protocol")]
    Http,
    /// The server sent what the contract does not know.
    #[error("the server's frame can't be decoded: {0}")]
    Undecodable(#[from] prost::DecodeError),
}

impl ClientError {
    /// The contract's code, when the server has said no.
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
