use std::collections::VecDeque;

use bytes::Bytes;
use imd::proto::{Cmd, ReqSendGroupMsg, ReqSendP2pMsg, ResSendGroupMsg, ResSendP2pMsg};
use prost::Message;

/// What one connection has open may take so much room, in bytes: a server may say more than is asked.
pub const MOST: usize = 64 << 20;

/// What one side has for a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Side {
    /// Nothing yet.
    Open,
    /// No reply: one to a later request came, or none in time.
    Silent,
    /// This frame.
    Frame(Bytes),
}

/// A request, and what answers it in the record and this time; or what the server said on its own, in one or both.
#[derive(Debug, PartialEq, Eq)]
pub struct Exchange {
    /// The line of the request, or of what the record has without one.
    pub line: usize,
    /// The recorded request.
    pub request: Option<Bytes>,
    /// The recorded reply.
    pub recorded: Side,
    /// This time's.
    pub got: Side,
}

/// The exchanges of one connection that are not over, oldest first.
///
/// Replies leave in the order of their requests, so a reply belongs to the oldest request without one that it fits: of
/// the same command and, where both name one, the same msgID. Those before it have got none. So on either side the
/// requests that are settled stand before those that are not.
#[derive(Debug, Default)]
pub struct Exchanges {
    asked: VecDeque<Exchange>,
    /// For so many of them the record has said all that it has.
    recorded: usize,
    /// For so many of them all has come that comes.
    came: usize,
    /// What either side has without a request.
    unasked: Vec<Exchange>,
    /// What all of it takes, in bytes.
    size: usize,
    /// Whether that was ever too much.
    are_too_many: bool,
}

impl Exchanges {
    /// A request was sent.
    pub fn asked(&mut self, line: usize, request: Bytes) {
        let exchange = Exchange {
            line,
            request: Some(request),
            recorded: Side::Open,
            got: Side::Open,
        };
        self.hold(exchange.size());
        self.asked.push_back(exchange);
    }

    /// The record has this frame.
    pub fn recorded(&mut self, line: usize, frame: Bytes) {
        self.hold(frame.len());
        if let Some(place) = place(&self.asked, self.recorded, &frame) {
            for earlier in self.asked.range_mut(self.recorded..place) {
                earlier.recorded = Side::Silent;
            }
            if let Some(exchange) = self.asked.get_mut(place) {
                exchange.recorded = Side::Frame(frame);
            }
            self.recorded = place + 1;
            return;
        }
        let mut unasked = self.unasked.iter_mut();
        let same = unasked.find(|it| it.recorded == Side::Open && it.got.is_like(&frame));
        match same {
            Some(exchange) => exchange.recorded = Side::Frame(frame),
            None => self.add_unasked(line, Side::Frame(frame), Side::Open),
        }
    }

    /// This frame came.
    pub fn came(&mut self, frame: Bytes) {
        self.hold(frame.len());
        if let Some(place) = place(&self.asked, self.came, &frame) {
            self.settle_came(place);
            if let Some(exchange) = self.asked.get_mut(place) {
                exchange.got = Side::Frame(frame);
            }
            self.came = place + 1;
            return;
        }
        let mut unasked = self.unasked.iter_mut();
        let same = unasked.find(|it| it.got == Side::Open && it.recorded.is_like(&frame));
        match same {
            Some(exchange) => exchange.got = Side::Frame(frame),
            None => self.add_unasked(0, Side::Open, Side::Frame(frame)),
        }
    }

    /// Whether the record has something that has not come.
    pub fn lack(&self) -> bool {
        // The last request that the record has settled is one that it has a reply to.
        self.came < self.recorded || self.unasked.iter().any(Exchange::lacks)
    }

    /// What has not come does not come.
    pub fn give_up(&mut self) {
        self.settle_came(self.recorded);
        for exchange in self.unasked.iter_mut().filter(|it| it.lacks()) {
            exchange.got = Side::Silent;
        }
    }

    /// Whether more was open than can be held: what is compared from then on says nothing.
    pub fn are_too_many(&self) -> bool {
        self.are_too_many
    }

    /// Those that are over.
    pub fn over(&mut self) -> Vec<Exchange> {
        let settled = self.recorded.min(self.came);
        let mut over: Vec<Exchange> = self.asked.drain(..settled).collect();
        self.recorded -= settled;
        self.came -= settled;
        let is_over = |it: &Exchange| it.recorded != Side::Open && it.got != Side::Open;
        if self.unasked.iter().any(is_over) {
            let unasked = std::mem::take(&mut self.unasked).into_iter();
            let (ended, open): (Vec<_>, Vec<_>) = unasked.partition(is_over);
            over.extend(ended);
            self.unasked = open;
        }
        self.size -= over.iter().map(Exchange::size).sum::<usize>();
        over
    }

    /// What the server said on its own and the record does not have, at the end. Requests that were still on their way
    /// when the recording ended are not among it.
    pub fn unasked(&mut self) -> Vec<Exchange> {
        let mut unasked = std::mem::take(self).unasked;
        for exchange in &mut unasked {
            if exchange.recorded == Side::Open {
                exchange.recorded = Side::Silent;
            }
        }
        unasked
    }

    /// What has not come to the first so many requests does not come.
    fn settle_came(&mut self, place: usize) {
        if self.came < place {
            for earlier in self.asked.range_mut(self.came..place) {
                earlier.got = Side::Silent;
            }
            self.came = place;
        }
    }

    fn hold(&mut self, bytes: usize) {
        self.size += bytes;
        self.are_too_many |= self.size > MOST;
    }

    fn add_unasked(&mut self, line: usize, recorded: Side, got: Side) {
        let exchange = Exchange {
            line,
            request: None,
            recorded,
            got,
        };
        // The frame is counted already.
        self.hold(size_of::<Exchange>());
        self.unasked.push(exchange);
    }
}

/// The oldest request from the one at `from` on to which a frame can be the reply.
fn place(asked: &VecDeque<Exchange>, from: usize, frame: &Bytes) -> Option<usize> {
    let mut open = asked.range(from..);
    Some(from + open.position(|it| it.fits(frame))?)
}

impl Side {
    /// Whether it is a frame of the same kind.
    fn is_like(&self, frame: &Bytes) -> bool {
        matches!(self, Side::Frame(other) if Cmd::of(other) == Cmd::of(frame))
    }

    fn size(&self) -> usize {
        match self {
            Side::Frame(frame) => frame.len(),
            Side::Open | Side::Silent => 0,
        }
    }
}

impl Exchange {
    fn lacks(&self) -> bool {
        matches!(self.recorded, Side::Frame(_)) && self.got == Side::Open
    }

    /// Whether a frame can be the reply to its request.
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
        match (asked_id(cmd, request), answered_id(cmd, frame)) {
            (Some(asked), Some(answered)) => asked == answered,
            _ => true,
        }
    }

    /// What it takes, in bytes.
    fn size(&self) -> usize {
        let request = self.request.as_ref().map_or(0, Bytes::len);
        size_of::<Exchange>() + request + self.recorded.size() + self.got.size()
    }
}

/// The msgID of a message that is sent, if it has one.
fn asked_id(cmd: Cmd, request: &Bytes) -> Option<String> {
    let id = match cmd {
        Cmd::SendP2PMsg => ReqSendP2pMsg::decode(request.clone()).ok()?.msg_id,
        Cmd::SendGroupMsg => ReqSendGroupMsg::decode(request.clone()).ok()?.msg_id,
        _ => return None,
    };
    Some(id).filter(|id| !id.is_empty())
}

/// The msgID in its reply, if it has one.
pub fn answered_id(cmd: Cmd, reply: &Bytes) -> Option<String> {
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

    /// The lines of those that are over, and whether each side has a reply.
    fn over(exchanges: &mut Exchanges) -> Vec<(usize, bool, bool)> {
        let over = exchanges.over().into_iter();
        over.map(|it| (it.line, it.recorded != Side::Silent, it.got != Side::Silent))
            .collect()
    }

    fn asked(ids: &[&str]) -> Exchanges {
        let mut exchanges = Exchanges::default();
        for (line, id) in ids.iter().enumerate() {
            exchanges.asked(line, send(id));
        }
        exchanges
    }

    #[test]
    fn a_reply_answers_the_oldest_request_that_it_fits() {
        let mut exchanges = asked(&["a", "b"]);
        exchanges.came(sent("a"));
        assert!(over(&mut exchanges).is_empty() && !exchanges.lack());
        exchanges.recorded(8, sent("a"));
        assert_eq!(over(&mut exchanges), [(0, true, true)]);
        exchanges.recorded(9, sent("b"));
        assert!(exchanges.lack());
        exchanges.came(sent("b"));
        assert_eq!(over(&mut exchanges), [(1, true, true)]);
        assert!(exchanges.unasked().is_empty());
    }

    #[test]
    fn a_reply_without_an_id_fits_too() {
        let mut exchanges = asked(&["a", "b"]);
        exchanges.recorded(8, sent("a"));
        exchanges.came(sent(""));
        assert_eq!(over(&mut exchanges), [(0, true, true)]);
    }

    #[test]
    fn a_lost_reply_is_known_by_the_next_one() {
        let mut exchanges = asked(&["a", "b"]);
        exchanges.came(sent("b"));
        exchanges.recorded(8, sent("a"));
        assert_eq!(over(&mut exchanges), [(0, true, false)]);
        exchanges.recorded(9, sent("b"));
        assert_eq!(over(&mut exchanges), [(1, true, true)]);
    }

    #[test]
    fn a_reply_that_the_record_lacks_is_told_once_a_later_one_is_there() {
        let mut exchanges = asked(&["a", "b"]);
        exchanges.came(sent("a"));
        exchanges.came(sent("b"));
        exchanges.recorded(8, sent("b"));
        assert_eq!(over(&mut exchanges), [(0, false, true), (1, true, true)]);
    }

    #[test]
    fn a_reply_that_does_not_come_is_given_up() {
        let mut exchanges = asked(&["a"]);
        exchanges.recorded(8, sent("a"));
        exchanges.give_up();
        assert_eq!(over(&mut exchanges), [(0, true, false)]);
        // When it comes after all, nothing asks for it.
        exchanges.came(sent("a"));
        assert_eq!(exchanges.unasked().len(), 1);
    }

    #[test]
    fn an_error_answers_any_request_and_stands_alone_without_one() {
        let mut exchanges = asked(&["a"]);
        exchanges.recorded(8, sent("a"));
        exchanges.came(error(Cmd::ErrServer));
        assert_eq!(over(&mut exchanges), [(0, true, true)]);
        exchanges.recorded(9, error(Cmd::ErrServer));
        exchanges.came(error(Cmd::ErrServer));
        assert_eq!(over(&mut exchanges), [(9, true, true)]);
        exchanges.came(error(Cmd::ErrServer));
        exchanges.recorded(10, error(Cmd::ErrServer));
        assert_eq!(over(&mut exchanges).len(), 1);
    }

    #[test]
    fn what_comes_twice_and_what_comes_unasked_is_told_at_the_end() {
        let mut exchanges = asked(&["a"]);
        exchanges.recorded(8, sent("a"));
        exchanges.came(sent("a"));
        exchanges.came(sent("a"));
        assert_eq!(over(&mut exchanges).len(), 1);
        exchanges.asked(2, send("b"));
        exchanges.recorded(9, sent("b"));
        exchanges.came(sent("b"));
        assert_eq!(over(&mut exchanges), [(2, true, true)]);
        exchanges.asked(3, send("c"));
        let unasked = exchanges.unasked();
        assert_eq!(unasked.len(), 1, "what is on its way is not among it");
        assert_eq!(unasked[0].got, Side::Frame(sent("a")));
        assert_eq!(unasked[0].recorded, Side::Silent);
    }

    #[test]
    fn what_is_given_up_keeps_back_nothing_behind_it() {
        let mut exchanges = asked(&["a", "b", "c"]);
        exchanges.recorded(8, sent("a"));
        exchanges.recorded(9, sent("c"));
        exchanges.give_up();
        let told = [(0, true, false), (1, false, false), (2, true, false)];
        assert_eq!(over(&mut exchanges), told);
        exchanges.came(sent("c"));
        assert!(!exchanges.lack());
        assert_eq!(exchanges.unasked().len(), 1);
    }

    #[test]
    fn nothing_is_forgotten_however_many_are_open() {
        let mut exchanges = Exchanges::default();
        let many = 5_000;
        for line in 0..many {
            exchanges.asked(line, send(&line.to_string()));
        }
        for line in 0..many {
            exchanges.recorded(many + line, sent(&line.to_string()));
            assert!(exchanges.lack());
        }
        for line in 0..many {
            exchanges.came(sent(&line.to_string()));
            assert_eq!(over(&mut exchanges), [(line, true, true)]);
        }
        assert_eq!(exchanges.size, 0);
    }

    #[test]
    fn more_than_can_be_held_is_known() {
        let message = ResSendP2pMsg {
            cmd: Cmd::SendP2PMsg.number(),
            err_str: "x".repeat(MOST / 4),
            ..Default::default()
        };
        let long = Bytes::from(message.encode_to_vec());
        let mut exchanges = Exchanges::default();
        for line in 0..10 {
            exchanges.came(long.clone());
            exchanges.recorded(line, sent(""));
            exchanges.over();
        }
        assert_eq!((exchanges.size, exchanges.are_too_many()), (0, false));
        for _ in 0..4 {
            assert!(!exchanges.are_too_many());
            exchanges.came(long.clone());
        }
        exchanges.recorded(10, sent(""));
        exchanges.over();
        assert!(exchanges.size < MOST && exchanges.are_too_many());
    }
}
