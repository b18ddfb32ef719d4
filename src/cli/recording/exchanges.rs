//! Matches replies with the requests that they answer, on the recorded side and on that of the replay.
//!
//! Serves `connection`, which adds frames, and `replay`, which takes the completed exchanges to compare them.

use std::collections::VecDeque;

use bytes::Bytes;
use imd::proto::{Cmd, ReqSendGroupMsg, ReqSendP2pMsg, ResSendGroupMsg, ResSendP2pMsg};
use prost::Message;

/// Memory for the open exchanges of a connection, in bytes. It is limited because a server may send more than was
/// requested.
pub const MAX_OPEN_BYTES: usize = 64 << 20;

/// The reply of one side to a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Side {
    /// No reply so far.
    Open,
    /// No reply: a later request was answered first, or the time limit is over.
    Silent,
    /// This frame is the reply.
    Frame(Bytes),
}

/// A request with its recorded reply and that of the replay, or a frame that the server sent without a request on one
/// or both sides.
#[derive(Debug, PartialEq, Eq)]
pub struct Exchange {
    /// The line of the request or, without one, of the recorded frame. It is 0 for a frame that only the replay has.
    pub line: usize,
    /// The recorded request, if there is one.
    pub request: Option<Bytes>,
    /// The reply in the record.
    pub recorded: Side,
    /// The reply in this replay.
    pub got: Side,
}

/// The open exchanges of a connection, oldest first.
///
/// A server replies in the order of the requests. A reply therefore belongs to the oldest unanswered request that it
/// fits: one of the same command and, where both have one, the same msgID. Older unanswered requests have no reply.
/// On either side, all settled requests come before all unsettled ones.
#[derive(Debug, Default)]
pub struct Exchanges {
    requested: VecDeque<Exchange>,
    /// Number of requests, from the oldest on, whose recorded side is settled.
    recorded: usize,
    /// Number of requests, from the oldest on, whose side of the replay is settled.
    received: usize,
    /// Frames of either side that answer no request.
    unsolicited: Vec<Exchange>,
    /// Size of all open exchanges, in bytes.
    size: usize,
    /// Set once the size has exceeded [`MAX_OPEN_BYTES`].
    is_overfull: bool,
}

impl Exchanges {
    /// Adds a request that was sent.
    pub fn requested(&mut self, line: usize, request: Bytes) {
        let exchange = Exchange {
            line,
            request: Some(request),
            recorded: Side::Open,
            got: Side::Open,
        };
        self.hold(exchange.size());
        self.requested.push_back(exchange);
    }

    /// Adds a frame of the record.
    pub fn recorded(&mut self, line: usize, frame: Bytes) {
        self.hold(frame.len());
        if let Some(index) = find_request(&self.requested, self.recorded, &frame) {
            for earlier in self.requested.range_mut(self.recorded..index) {
                earlier.recorded = Side::Silent;
            }
            if let Some(exchange) = self.requested.get_mut(index) {
                exchange.recorded = Side::Frame(frame);
            }
            self.recorded = index + 1;
            return;
        }
        let mut unsolicited = self.unsolicited.iter_mut();
        let same = unsolicited.find(|it| it.recorded == Side::Open && it.got.is_like(&frame));
        match same {
            Some(exchange) => exchange.recorded = Side::Frame(frame),
            None => self.add_unsolicited(line, Side::Frame(frame), Side::Open),
        }
    }

    /// Adds a frame that arrived in the replay.
    pub fn received(&mut self, frame: Bytes) {
        self.hold(frame.len());
        if let Some(index) = find_request(&self.requested, self.received, &frame) {
            self.settle_received(index);
            if let Some(exchange) = self.requested.get_mut(index) {
                exchange.got = Side::Frame(frame);
            }
            self.received = index + 1;
            return;
        }
        let mut unsolicited = self.unsolicited.iter_mut();
        let same = unsolicited.find(|it| it.got == Side::Open && it.recorded.is_like(&frame));
        match same {
            Some(exchange) => exchange.got = Side::Frame(frame),
            None => self.add_unsolicited(0, Side::Open, Side::Frame(frame)),
        }
    }

    /// Returns whether the record has a frame whose counterpart has not arrived.
    pub fn is_reply_missing(&self) -> bool {
        // The record has a reply to the last request that it has settled, so a smaller count means a missing reply.
        self.received < self.recorded || self.unsolicited.iter().any(Exchange::is_missing)
    }

    /// Marks every frame that is missing in the replay as not sent.
    pub fn give_up(&mut self) {
        self.settle_received(self.recorded);
        for exchange in self.unsolicited.iter_mut().filter(|it| it.is_missing()) {
            exchange.got = Side::Silent;
        }
    }

    /// Returns whether the memory limit was exceeded. Comparisons are meaningless from then on.
    pub fn is_overfull(&self) -> bool {
        self.is_overfull
    }

    /// Removes and returns the completed exchanges.
    pub fn take_completed(&mut self) -> Vec<Exchange> {
        let settled = self.recorded.min(self.received);
        let mut over: Vec<Exchange> = self.requested.drain(..settled).collect();
        self.recorded -= settled;
        self.received -= settled;
        let is_over = |it: &Exchange| it.recorded != Side::Open && it.got != Side::Open;
        if self.unsolicited.iter().any(is_over) {
            let unsolicited = std::mem::take(&mut self.unsolicited).into_iter();
            let (ended, open): (Vec<_>, Vec<_>) = unsolicited.partition(is_over);
            over.extend(ended);
            self.unsolicited = open;
        }
        self.size -= over.iter().map(Exchange::size).sum::<usize>();
        over
    }

    /// Removes and returns the frames that the server sent without a request and that the record does not have, at
    /// the end of the session. Requests that were unanswered when the recording ended are dropped.
    pub fn unsolicited(&mut self) -> Vec<Exchange> {
        let mut unsolicited = std::mem::take(self).unsolicited;
        for exchange in &mut unsolicited {
            if exchange.recorded == Side::Open {
                exchange.recorded = Side::Silent;
            }
        }
        unsolicited
    }

    /// Marks unsettled requests before `index` as not answered in the replay.
    fn settle_received(&mut self, index: usize) {
        if self.received < index {
            for earlier in self.requested.range_mut(self.received..index) {
                earlier.got = Side::Silent;
            }
            self.received = index;
        }
    }

    /// Adds to the size, and checks the limit.
    fn hold(&mut self, bytes: usize) {
        self.size += bytes;
        self.is_overfull |= self.size > MAX_OPEN_BYTES;
    }

    /// Adds an exchange without a request.
    fn add_unsolicited(&mut self, line: usize, recorded: Side, got: Side) {
        let exchange = Exchange {
            line,
            request: None,
            recorded,
            got,
        };
        // The caller has counted the frame already.
        self.hold(size_of::<Exchange>());
        self.unsolicited.push(exchange);
    }
}

/// Returns the oldest request, from `from` on, that a frame can be the reply to.
fn find_request(requested: &VecDeque<Exchange>, from: usize, frame: &Bytes) -> Option<usize> {
    let mut open = requested.range(from..);
    Some(from + open.position(|it| it.fits(frame))?)
}

impl Side {
    /// Returns whether this side is a frame of the same command.
    fn is_like(&self, frame: &Bytes) -> bool {
        matches!(self, Side::Frame(other) if Cmd::of(other) == Cmd::of(frame))
    }

    /// Returns the size of the frame, in bytes.
    fn size(&self) -> usize {
        match self {
            Side::Frame(frame) => frame.len(),
            Side::Open | Side::Silent => 0,
        }
    }
}

impl Exchange {
    /// Returns whether the record has a reply, and the replay has not yet.
    fn is_missing(&self) -> bool {
        matches!(self.recorded, Side::Frame(_)) && self.got == Side::Open
    }

    /// Returns whether a frame can be the reply to the request.
    fn fits(&self, frame: &Bytes) -> bool {
        let cmd = Cmd::of(frame);
        let Some(request) = &self.request else {
            return false;
        };
        if cmd == Some(Cmd::ErrServer) {
            return true;
        }
        let Some(cmd) = cmd.filter(|cmd| Cmd::of(request) == Some(*cmd)) else {
            return false;
        };
        match (request_id(cmd, request), reply_id(cmd, frame)) {
            (Some(requested), Some(answered)) => requested == answered,
            _ => true,
        }
    }

    /// Returns the memory that the exchange takes, in bytes.
    fn size(&self) -> usize {
        let request = self.request.as_ref().map_or(0, Bytes::len);
        size_of::<Exchange>() + request + self.recorded.size() + self.got.size()
    }
}

/// Returns the msgID of a request to send a message, if it has one.
fn request_id(cmd: Cmd, request: &Bytes) -> Option<String> {
    let id = match cmd {
        Cmd::SendP2PMsg => ReqSendP2pMsg::decode(request.clone()).ok()?.msg_id,
        Cmd::SendGroupMsg => ReqSendGroupMsg::decode(request.clone()).ok()?.msg_id,
        _ => return None,
    };
    Some(id).filter(|id| !id.is_empty())
}

/// Returns the msgID in the reply to such a request, if it has one.
pub fn reply_id(cmd: Cmd, reply: &Bytes) -> Option<String> {
    let id = match cmd {
        Cmd::SendP2PMsg => ResSendP2pMsg::decode(reply.clone()).ok()?.msg_id,
        Cmd::SendGroupMsg => ResSendGroupMsg::decode(reply.clone()).ok()?.msg_id,
        _ => return None,
    };
    Some(id).filter(|id| !id.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;
    use imd::proto::Error;

    fn send(id: &str) -> Bytes {
        let request = ReqSendP2pMsg {
            cmd: Cmd::SendP2PMsg.number(),
            msg_id: id.into(),
            ..Default::default()
        };
        request.encode_to_vec().into()
    }

    fn sent(id: &str) -> Bytes {
        let reply = ResSendP2pMsg {
            cmd: Cmd::SendP2PMsg.number(),
            msg_id: id.into(),
            ..Default::default()
        };
        reply.encode_to_vec().into()
    }

    fn error(cmd: Cmd) -> Bytes {
        let reply = Error {
            cmd: cmd.number(),
            ..Default::default()
        };
        reply.encode_to_vec().into()
    }

    /// Returns the lines of the completed exchanges, and whether each side has a reply.
    fn over(exchanges: &mut Exchanges) -> Vec<(usize, bool, bool)> {
        let over = exchanges.take_completed().into_iter();
        over.map(|it| (it.line, it.recorded != Side::Silent, it.got != Side::Silent))
            .collect()
    }

    fn requested(ids: &[&str]) -> Exchanges {
        let mut exchanges = Exchanges::default();
        for (line, id) in ids.iter().enumerate() {
            exchanges.requested(line, send(id));
        }
        exchanges
    }

    #[test]
    fn a_reply_answers_the_oldest_request_that_it_fits() {
        let mut exchanges = requested(&["a", "b"]);
        exchanges.received(sent("a"));
        assert!(over(&mut exchanges).is_empty() && !exchanges.is_reply_missing());
        exchanges.recorded(8, sent("a"));
        assert_eq!(over(&mut exchanges), [(0, true, true)]);
        exchanges.recorded(9, sent("b"));
        assert!(exchanges.is_reply_missing());
        exchanges.received(sent("b"));
        assert_eq!(over(&mut exchanges), [(1, true, true)]);
        assert!(exchanges.unsolicited().is_empty());
    }

    #[test]
    fn a_reply_without_an_id_fits_too() {
        let mut exchanges = requested(&["a", "b"]);
        exchanges.recorded(8, sent("a"));
        exchanges.received(sent(""));
        assert_eq!(over(&mut exchanges), [(0, true, true)]);
    }

    #[test]
    fn a_lost_reply_is_detected_by_the_next_one() {
        let mut exchanges = requested(&["a", "b"]);
        exchanges.received(sent("b"));
        exchanges.recorded(8, sent("a"));
        assert_eq!(over(&mut exchanges), [(0, true, false)]);
        exchanges.recorded(9, sent("b"));
        assert_eq!(over(&mut exchanges), [(1, true, true)]);
    }

    #[test]
    fn a_reply_missing_in_the_record_is_detected_by_a_later_one() {
        let mut exchanges = requested(&["a", "b"]);
        exchanges.received(sent("a"));
        exchanges.received(sent("b"));
        exchanges.recorded(8, sent("b"));
        assert_eq!(over(&mut exchanges), [(0, false, true), (1, true, true)]);
    }

    #[test]
    fn a_reply_that_does_not_arrive_is_given_up() {
        let mut exchanges = requested(&["a"]);
        exchanges.recorded(8, sent("a"));
        exchanges.give_up();
        assert_eq!(over(&mut exchanges), [(0, true, false)]);
        // A reply that arrives later matches no request.
        exchanges.received(sent("a"));
        assert_eq!(exchanges.unsolicited().len(), 1);
    }

    #[test]
    fn an_error_answers_any_request_and_stands_alone_without_one() {
        let mut exchanges = requested(&["a"]);
        exchanges.recorded(8, sent("a"));
        exchanges.received(error(Cmd::ErrServer));
        assert_eq!(over(&mut exchanges), [(0, true, true)]);
        exchanges.recorded(9, error(Cmd::ErrServer));
        exchanges.received(error(Cmd::ErrServer));
        assert_eq!(over(&mut exchanges), [(9, true, true)]);
        exchanges.received(error(Cmd::ErrServer));
        exchanges.recorded(10, error(Cmd::ErrServer));
        assert_eq!(over(&mut exchanges).len(), 1);
    }

    #[test]
    fn duplicate_and_unsolicited_frames_are_returned_at_the_end() {
        let mut exchanges = requested(&["a"]);
        exchanges.recorded(8, sent("a"));
        exchanges.received(sent("a"));
        exchanges.received(sent("a"));
        assert_eq!(over(&mut exchanges).len(), 1);
        exchanges.requested(2, send("b"));
        exchanges.recorded(9, sent("b"));
        exchanges.received(sent("b"));
        assert_eq!(over(&mut exchanges), [(2, true, true)]);
        exchanges.requested(3, send("c"));
        let unsolicited = exchanges.unsolicited();
        assert_eq!(unsolicited.len(), 1, "what is on its way is not among it");
        assert_eq!(unsolicited[0].got, Side::Frame(sent("a")));
        assert_eq!(unsolicited[0].recorded, Side::Silent);
    }

    #[test]
    fn a_given_up_reply_does_not_hold_back_later_ones() {
        let mut exchanges = requested(&["a", "b", "c"]);
        exchanges.recorded(8, sent("a"));
        exchanges.recorded(9, sent("c"));
        exchanges.give_up();
        let expected = [(0, true, false), (1, false, false), (2, true, false)];
        assert_eq!(over(&mut exchanges), expected);
        exchanges.received(sent("c"));
        assert!(!exchanges.is_reply_missing());
        assert_eq!(exchanges.unsolicited().len(), 1);
    }

    #[test]
    fn many_open_exchanges_are_all_kept() {
        let mut exchanges = Exchanges::default();
        let many = 5_000;
        for line in 0..many {
            exchanges.requested(line, send(&line.to_string()));
        }
        for line in 0..many {
            exchanges.recorded(many + line, sent(&line.to_string()));
            assert!(exchanges.is_reply_missing());
        }
        for line in 0..many {
            exchanges.received(sent(&line.to_string()));
            assert_eq!(over(&mut exchanges), [(line, true, true)]);
        }
        assert_eq!(exchanges.size, 0);
    }

    #[test]
    fn exceeding_the_memory_limit_is_detected() {
        let message = ResSendP2pMsg {
            cmd: Cmd::SendP2PMsg.number(),
            err_str: "x".repeat(MAX_OPEN_BYTES / 4),
            ..Default::default()
        };
        let long = Bytes::from(message.encode_to_vec());
        let mut exchanges = Exchanges::default();
        for line in 0..10 {
            exchanges.received(long.clone());
            exchanges.recorded(line, sent(""));
            exchanges.take_completed();
        }
        assert_eq!((exchanges.size, exchanges.is_overfull()), (0, false));
        for _ in 0..4 {
            assert!(!exchanges.is_overfull());
            exchanges.received(long.clone());
        }
        exchanges.recorded(10, sent(""));
        exchanges.take_completed();
        assert!(exchanges.size < MAX_OPEN_BYTES && exchanges.is_overfull());
    }
}
