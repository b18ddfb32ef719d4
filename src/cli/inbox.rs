//! Reads the inbox of a user page by page, and shows each message once that the server also pushes.
//!
//! Serves `imd sync` and `imd chat`, which differ only in how they show a message.

use std::collections::VecDeque;
use std::time::Duration;

use imd::Client;
use imd::client::{ClientError, Message, MessageKind};

use super::failure::Failure;

/// How often a connection sends a ping. Presence lasts 15 s by default, so that two lost pings are tolerated.
pub const PING_EVERY: Duration = Duration::from_secs(5);

/// How many messages are remembered that were shown in one of the two ways in which they come.
const REMEMBERED: usize = 1_024;

/// Tells which messages were shown, of those that come twice: pushed, and in a page.
///
/// Neither way is certain to come first, and a message may come in one way only. Messages that come again in the same way
/// are shown again.
#[derive(Debug, Default)]
pub struct ShownMessages {
    pushed: VecDeque<MessageKey>,
    paged: VecDeque<MessageKey>,
}

/// What a message has both in a page and when it is pushed: its source and its id.
type MessageKey = (i64, String);

impl ShownMessages {
    /// Returns whether a pushed message is to be shown: not if a page has brought it already.
    pub fn is_new_push(&mut self, message: &Message) -> bool {
        first_of_two(message, &mut self.pushed, &mut self.paged)
    }

    /// Returns whether a message of a page is to be shown: not if it was pushed already.
    pub fn is_new_in_page(&mut self, message: &Message) -> bool {
        first_of_two(message, &mut self.paged, &mut self.pushed)
    }
}

/// Returns whether a message comes in this way before it comes in the other one, and remembers it if so. Only messages to one
/// user are pushed.
fn first_of_two(
    message: &Message,
    this_way: &mut VecDeque<MessageKey>,
    other_way: &mut VecDeque<MessageKey>,
) -> bool {
    if message.kind != MessageKind::P2p || message.msg_id.is_empty() {
        return true;
    }
    let is_same = |(source, id): &MessageKey| *source == message.source && *id == message.msg_id;
    if let Some(index) = other_way.iter().position(is_same) {
        other_way.remove(index);
        return false;
    }
    if this_way.len() >= REMEMBERED {
        this_way.pop_front();
    }
    this_way.push_back((message.source, message.msg_id.clone()));
    true
}

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

#[cfg(test)]
mod tests {
    use super::*;

    fn message(msg_id: &str) -> Message {
        Message {
            version: 0,
            source: 7,
            group: 0,
            kind: MessageKind::P2p,
            msg_id: msg_id.into(),
            text: "hello".into(),
            sent_at: 0,
        }
    }

    #[test]
    fn a_message_that_comes_in_both_ways_is_new_once() {
        let mut shown = ShownMessages::default();
        assert!(shown.is_new_push(&message("a")));
        assert!(!shown.is_new_in_page(&message("a")));
        assert!(shown.is_new_in_page(&message("b")));
        assert!(!shown.is_new_push(&message("b")));
        // Neither has to come in the other way.
        assert!(shown.is_new_in_page(&message("c")) && shown.is_new_in_page(&message("c")));
        assert!(shown.is_new_push(&message("")) && shown.is_new_in_page(&message("")));
    }

    #[test]
    fn a_bounded_number_is_remembered() {
        let mut shown = ShownMessages::default();
        for n in 0..=REMEMBERED {
            assert!(shown.is_new_in_page(&message(&n.to_string())));
        }
        assert_eq!(shown.paged.len(), REMEMBERED);
        assert!(!shown.is_new_push(&message(&REMEMBERED.to_string())));
        assert!(shown.is_new_push(&message("0")), "it was forgotten");
    }
}
