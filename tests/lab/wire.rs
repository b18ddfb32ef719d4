//! How connections end, and that they do not.

use bytes::Bytes;
use futures_util::{FutureExt, StreamExt};
use imd::Imd;
use imd::codec::CodecError;
use tokio::io::AsyncReadExt;

use crate::support::{Wire, post, soon};

impl Wire {
    /// The connection is reset; nothing came before.
    pub async fn reset(&mut self) {
        let end = soon(self.frames.next()).await;
        let Some(Err(CodecError::Io(error))) = end else {
            panic!("instead of a reset: {end:?}");
        };
        assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset);
    }

    /// What comes before the end, as it comes.
    pub async fn rest(&mut self) -> Vec<u8> {
        let mut rest = self.frames.read_buffer().to_vec();
        let mut buffer = [0; 1024];
        while let Ok(n @ 1..) = soon(self.frames.get_mut().read(&mut buffer)).await {
            rest.extend_from_slice(&buffer[..n]);
        }
        rest
    }

    /// Nothing is there to be read, and nothing was closed: the HTTP API has had its turn meanwhile.
    pub async fn hears_nothing(&mut self, imd: &Imd) {
        assert_eq!(post(imd.user_api_addr(), "/", "").await.0, 404);
        let frame = futures_util::poll!(self.frames.next());
        assert!(frame.is_pending(), "instead of nothing: {frame:?}");
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
