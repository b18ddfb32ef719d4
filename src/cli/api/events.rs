//! Reads server-sent events, in the form in which the admin API streams its journal: one line of data for each event,
//! and before it a line with the kind of the event.
//!
//! Serves `imd tail` and `imd record`.

use std::io;

use futures_util::stream::MapErr;
use futures_util::{StreamExt, TryStreamExt};
use http_body_util::{BodyDataStream, BodyExt};
use hyper::body::{Bytes, Incoming};
use tokio_util::codec::{FramedRead, LinesCodec, LinesCodecError};
use tokio_util::io::StreamReader;

use crate::cli::failure::Failure;

/// The longest line that is accepted, in bytes. The longest line of `imd` describes a page with as many empty entries
/// as fit a frame.
const MAX_LINE: usize = 16 << 20;

/// The body of an answer, with the errors that a reader expects.
type Body = MapErr<BodyDataStream<Incoming>, fn(hyper::Error) -> io::Error>;

/// A stream of server-sent events.
pub struct Events {
    /// The URL of the stream, for errors.
    source: String,
    /// The lines of the body. A partly read line is kept here when a wait is cancelled.
    lines: FramedRead<StreamReader<Body, Bytes>, LinesCodec>,
    /// Whether the last line of a kind announced a gap, so that the next data describes one.
    is_gap: bool,
}

/// An item of a stream.
pub enum StreamItem {
    /// An event of the journal, as JSON.
    Event(String),
    /// A gap in the stream, as JSON that says how many events are missing.
    Gap(String),
}

impl Events {
    /// Creates a stream from the body of an answer. `source` is its URL.
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

    /// Returns the next item, or `None` when the server has ended the stream. Cancel safe: a cancelled wait loses
    /// nothing.
    ///
    /// # Errors
    ///
    /// [`Failure::Failed`] when the connection breaks or a line is too long. The stream can't be used any further.
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

    /// Returns the failure for a stream that can't be read.
    fn failed(&self, error: LinesCodecError) -> Failure {
        let why = match error {
            LinesCodecError::MaxLineLengthExceeded => "an event is too long".to_owned(),
            LinesCodecError::Io(error) => error.to_string(),
        };
        Failure::Failed(format!("{}: {why}", self.source))
    }
}
