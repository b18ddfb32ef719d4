//! Server-sent events, as the admin API streams its journal: each is one line of data, and the line of its kind before it.

use std::io;

use futures_util::stream::MapErr;
use futures_util::{StreamExt, TryStreamExt};
use http_body_util::{BodyDataStream, BodyExt};
use hyper::body::{Bytes, Incoming};
use tokio_util::codec::{FramedRead, LinesCodec, LinesCodecError};
use tokio_util::io::StreamReader;

use crate::cli::failure::Failure;

/// The longest line that is read, in bytes. The longest of `imd` tells of a page with as many empty entries as fit a frame.
const MAX_LINE: usize = 16 << 20;

type Body = MapErr<BodyDataStream<Incoming>, fn(hyper::Error) -> io::Error>;

/// A stream of server-sent events.
pub struct Events {
    /// The URL that was asked, for errors.
    source: String,
    lines: FramedRead<StreamReader<Body, Bytes>, LinesCodec>,
    /// Whether the line before said that the next data is a gap.
    is_gap: bool,
}

/// What a stream brings.
pub enum StreamItem {
    /// An event, as JSON.
    Event(String),
    /// A place where events are missing, as JSON that says how many.
    Gap(String),
}

impl Events {
    /// Reads events from the body of an answer.
    pub(super) fn new(source: String, body: Incoming) -> Events {
        let body = body.into_data_stream();
        let body = body.map_err(io::Error::other::<hyper::Error> as fn(_) -> _);
        let codec = LinesCodec::new_with_max_length(MAX_LINE);
        Events {
            source,
            lines: FramedRead::new(StreamReader::new(body), codec),
            is_gap: false,
        }
    }

    /// Returns the next item; `None` when the server has ended the stream. Nothing is lost when the wait is cancelled.
    ///
    /// # Errors
    ///
    /// When the connection breaks, or a line is too long.
    pub async fn next(&mut self) -> Result<Option<StreamItem>, Failure> {
        while let Some(line) = self.lines.next().await {
            let line = line.map_err(|error| self.failed(error))?;
            if let Some(kind) = line.strip_prefix("event:") {
                self.is_gap = kind.trim() == "gap";
            } else if let Some(data) = line.strip_prefix("data:") {
                let data = data.trim().to_owned();
                return Ok(Some(match std::mem::take(&mut self.is_gap) {
                    true => StreamItem::Gap(data),
                    false => StreamItem::Event(data),
                }));
            }
        }
        Ok(None)
    }

    fn failed(&self, error: LinesCodecError) -> Failure {
        let why = match error {
            LinesCodecError::MaxLineLengthExceeded => "an event is too long".to_owned(),
            LinesCodecError::Io(error) => error.to_string(),
        };
        Failure::Failed(format!("{}: {why}", self.source))
    }
}
