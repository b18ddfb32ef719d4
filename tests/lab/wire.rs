//! What a client sees of a failing server.

use std::io::ErrorKind;

use bytes::Bytes;
use futures_util::{FutureExt, StreamExt};
use imd::codec::CodecError;

use crate::support::{Wire, soon};

impl Wire {
    /// The server resets the connection: no last word, no FIN.
    pub async fn was_reset(&mut self) {
        let end = soon(self.frames.next()).await;
        match end.expect("instead of a reset: a FIN") {
            Err(CodecError::Io(error)) if error.kind() == ErrorKind::ConnectionReset => {}
            other => panic!("instead of a reset: {other:?}"),
        }
    }

    /// Nothing has come, and the connection is not closed.
    pub fn is_silent(&mut self) -> bool {
        self.frames.next().now_or_never().is_none()
    }

    /// A frame that is there already.
    pub fn frame_at_once(&mut self) -> Option<Bytes> {
        let frame = self.frames.next().now_or_never()?;
        Some(frame.expect("the connection was closed").unwrap())
    }
}
