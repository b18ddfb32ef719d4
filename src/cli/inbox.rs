//! Reads the inbox of a user page by page.
//!
//! Serves `imd sync` and `imd chat`, which differ only in how they show a message.

use std::time::Duration;

use imd::Client;
use imd::client::{ClientError, Message};

use super::failure::Failure;

/// How often a connection sends a ping. Presence lasts 15 s by default, so that two lost pings are tolerated.
pub const PING_EVERY: Duration = Duration::from_secs(5);

/// The reason why reading an inbox stopped.
pub enum ReadError {
    /// The request failed: the server refused it or the connection broke.
    Client(ClientError),
    /// The message could not be shown.
    Show(Failure),
}

/// Shows every message after version `after`, which advances with each page. Returns the number of messages shown.
///
/// Reading ends with an empty page. The request for that page also tells the server that the last version shown was
/// read.
///
/// # Errors
///
/// [`ReadError::Client`] when a request fails, and [`ReadError::Show`] when `show` does. `after` is then the version
/// of the last complete page, so a retry repeats messages but skips none.
pub async fn read_on(
    client: &mut Client,
    after: &mut i64,
    mut show: impl AsyncFnMut(&Message) -> Result<(), Failure>,
) -> Result<usize, ReadError> {
    let mut shown = 0;
    loop {
        let page = client.sync(*after, 0).await.map_err(ReadError::Client)?;
        for message in &page.messages {
            show(message).await.map_err(ReadError::Show)?;
        }
        shown += page.messages.len();
        // A page of the original server may have no new messages although more pages follow.
        let is_end = page.messages.is_empty() && page.current <= *after;
        *after = page.current;
        if is_end {
            return Ok(shown);
        }
    }
}
