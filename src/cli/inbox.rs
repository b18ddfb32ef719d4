//! Reading a user's inbox to its end.

use std::time::Duration;

use imd::Client;
use imd::client::{ClientError, Message};

use super::failure::Failure;

/// How often a connection says that it lives: presence lasts 15 s by default.
pub const PING_EVERY: Duration = Duration::from_secs(5);

/// Why reading stopped.
pub enum ReadError {
    /// The server, or the way to it.
    Client(ClientError),
    /// Showing it failed.
    Show(Failure),
}

/// Shows every message after version `after`, which moves on with each page. Returns how many there were.
///
/// It ends with an empty page: by asking for that, the last version shown is told to the server as read.
///
/// # Errors
///
/// When a request or `show` fails.
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
        // The original's pages may hold nothing new and yet go on.
        let is_end = page.messages.is_empty() && page.current <= *after;
        *after = page.current;
        if is_end {
            return Ok(shown);
        }
    }
}
