//! The replies to the requests of a batch, as bytes on their way to the client.
//!
//! Serves the request batch, which fills a [`ReplyBuffer`] with replies, and the connection, which writes it.

use std::time::Instant;

use bytes::BytesMut;

use crate::codec::Framing;
use crate::proto::{Cmd, Code, Payload, Reply};

/// The replies to the requests of one read, behind what is left unwritten of earlier ones, in the order in which they are
/// written to the client.
#[derive(Debug)]
pub(super) struct ReplyBuffer {
    pub bytes: BytesMut,
    /// How many bytes at the start are left from an earlier write, which has counted and recorded their frames.
    pub already_counted: usize,
    /// When the requests were read that the new frames reply to; none if they reply to no request. The time that a reply takes
    /// is measured from here.
    pub read_at: Option<Instant>,
}

impl ReplyBuffer {
    /// Creates a buffer for replies behind `unwritten`: the bytes of earlier writes, mostly none, which were counted before
    /// and which the socket did not take.
    pub fn behind(unwritten: BytesMut, read_at: Option<Instant>) -> Self {
        ReplyBuffer {
            already_counted: unwritten.len(),
            bytes: unwritten,
            read_at,
        }
    }

    /// Takes the bytes out. Further replies to the same requests can be added.
    pub fn take(&mut self) -> Self {
        ReplyBuffer {
            bytes: std::mem::take(&mut self.bytes),
            already_counted: std::mem::take(&mut self.already_counted),
            read_at: self.read_at,
        }
    }

    /// Returns the frames that have not been counted and recorded yet.
    pub fn uncounted(&self) -> &[u8] {
        self.bytes.get(self.already_counted..).unwrap_or_default()
    }
}

/// Appends a message as a frame. Returns whether the message itself was appended: one that is too long for a frame is a
/// mistake of this server, and a reply to the same command with the code 90001 is appended in its place.
pub(super) fn append(framing: Framing, message: &impl Payload, out: &mut BytesMut) -> bool {
    let Err(error) = framing.encode(message, out) else {
        return true;
    };
    tracing::error!(%error, "a reply fits no frame: it is refused instead");
    let (code, text) = (Code::ServerError, Code::ServerError.because(&error));
    let refusal = refusal_of(message).map(|reply| reply.with_code(code, text));
    let is_refused = refusal.is_some_and(|reply| framing.encode(&reply, out).is_ok());
    if !is_refused {
        let sorry = Reply::server(code, code.text());
        if let Err(error) = framing.encode(&sorry, out) {
            tracing::error!(%error, "nor was the error in its place");
        }
    }
    false
}

/// Returns the refusal of the command that a message replies to.
fn refusal_of(message: &impl Payload) -> Option<Reply> {
    let mut encoded = BytesMut::new();
    message.encode_payload(&mut encoded);
    let reply = Reply::decode(Cmd::of(&encoded)?, &encoded)?;
    Some(reply.into_refusal(Code::ServerError))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::codec::{self, MAX_FRAME};
    use crate::proto::{OffsetMsg, ReqSyncMsg, ResSelectAccessServerForClient, ResSyncMsg};
    use prost::Message;

    const FRAMING: Framing = Framing::LengthPrefix;

    #[test]
    fn a_reply_that_fits_no_frame_is_refused_as_the_command_that_it_answers() {
        let long = || "x".repeat(MAX_FRAME);
        let request = ReqSyncMsg {
            current_id: 5,
            ..Default::default()
        };
        for reply in [
            Reply::login(),
            Reply::ping(),
            Reply::login().as_schema(),
            Reply::select_access(String::new()),
            Reply::p2p(1, 2, "an id"),
            Reply::group(3, "an id"),
            Reply::ack(),
            Reply::sync(&request),
            Reply::logout(),
            Reply::server(Code::Ok, "any"),
        ] {
            let mut bytes = BytesMut::new();
            assert!(!append(
                FRAMING,
                &reply.clone().with_code(Code::Ok, long()),
                &mut bytes
            ));
            let [(message, taken)] = codec::frames(&bytes).collect::<Vec<_>>()[..] else {
                panic!("not one frame for {:?}", reply.cmd());
            };
            assert_eq!(taken, bytes.len());
            let refusal = Reply::decode(reply.cmd(), message).unwrap();
            let (code, text) = refusal.code_and_text();
            assert_eq!(code, 90001, "{:?}", reply.cmd());
            assert!(text.starts_with("server error: "), "{text}");
            // The refusal has the same ids as the reply.
            assert_eq!(
                refusal.with_code(Code::Ok, "ok"),
                reply.with_code(Code::Ok, "ok")
            );
        }
    }

    #[test]
    fn an_address_and_a_page_that_fit_no_frame_are_refused_without_them() {
        let mut bytes = BytesMut::new();
        append(
            FRAMING,
            &Reply::select_access("x".repeat(70_000)),
            &mut bytes,
        );
        let reply = ResSelectAccessServerForClient::decode(&bytes[2..]).unwrap();
        assert_eq!(
            (reply.cmd, reply.err_code, &*reply.addr),
            (10001, 90001, "")
        );
        let entry = |version| OffsetMsg {
            msg: "x".repeat(32_768),
            increment_id: version,
            ..Default::default()
        };
        let page = ResSyncMsg {
            cmd: 20006,
            current_id: 9,
            total_id: 9,
            msgs: (6..=9).map(entry).collect(),
            ..Default::default()
        };
        let mut bytes = BytesMut::new();
        append(FRAMING, &page, &mut bytes);
        let page = ResSyncMsg::decode(&bytes[2..]).unwrap();
        assert_eq!(
            (page.cmd, page.err_code, page.current_id),
            (20006, 90001, 5)
        );
        assert!(page.msgs.is_empty());
    }
}
