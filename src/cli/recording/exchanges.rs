use std::collections::VecDeque;

use bytes::Bytes;
use imd::proto::{Cmd, ReqSendGroupMsg, ReqSendP2pMsg, ResSendGroupMsg, ResSendP2pMsg};
use prost::Message;

/// So many requests of one connection are waited for; of more, the oldest are forgotten.
const MOST: usize = 1024;

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
/// the same command and, where both name one, the same msgID. Those before it have got none.
#[derive(Debug, Default)]
pub struct Exchanges {
    open: VecDeque<Exchange>,
}

impl Exchanges {
    /// A request was sent.
    pub fn asked(&mut self, line: usize, request: Bytes) {
        self.add(Exchange {
            line,
            request: Some(request),
            recorded: Side::Open,
            got: Side::Open,
        });
    }

    /// The record has this frame.
    pub fn recorded(&mut self, line: usize, frame: Bytes) {
        let Some(at) = self.place(|it| it.recorded == Side::Open && it.fits(&it.got, &frame))
        else {
            return self.add(Exchange {
                line,
                request: None,
                recorded: Side::Frame(frame),
                got: Side::Open,
            });
        };
        for earlier in self.open.iter_mut().take(at) {
            if earlier.request.is_some() && earlier.recorded == Side::Open {
                earlier.recorded = Side::Silent;
            }
        }
        if let Some(exchange) = self.open.get_mut(at) {
            exchange.recorded = Side::Frame(frame);
        }
    }

    /// This frame came.
    pub fn came(&mut self, frame: Bytes) {
        let Some(at) = self.place(|it| it.got == Side::Open && it.fits(&it.recorded, &frame))
        else {
            return self.add(Exchange {
                line: 0,
                request: None,
                recorded: Side::Open,
                got: Side::Frame(frame),
            });
        };
        for earlier in self.open.iter_mut().take(at) {
            if earlier.request.is_some() && earlier.got == Side::Open {
                earlier.got = Side::Silent;
            }
        }
        if let Some(exchange) = self.open.get_mut(at) {
            exchange.got = Side::Frame(frame);
        }
    }

    /// Whether the record has something that has not come.
    pub fn lack(&self) -> bool {
        self.open.iter().any(Exchange::lacks)
    }

    /// What has not come does not come.
    pub fn give_up(&mut self) {
        for exchange in self.open.iter_mut().filter(|exchange| exchange.lacks()) {
            exchange.got = Side::Silent;
        }
    }

    /// Those that are over.
    pub fn over(&mut self) -> Vec<Exchange> {
        let mut over = Vec::new();
        for exchange in std::mem::take(&mut self.open) {
            if exchange.recorded == Side::Open || exchange.got == Side::Open {
                self.open.push_back(exchange);
            } else {
                over.push(exchange);
            }
        }
        over
    }

    /// What the server said on its own and the record does not have, at the end. Requests that were still on their way
    /// when the recording ended are not among it.
    pub fn unasked(&mut self) -> Vec<Exchange> {
        let mut open = std::mem::take(&mut self.open);
        open.retain(|exchange| exchange.request.is_none());
        for exchange in &mut open {
            if exchange.recorded == Side::Open {
                exchange.recorded = Side::Silent;
            }
        }
        open.into()
    }

    /// The oldest that is meant; one with a request before any without.
    fn place(&self, is_meant: impl Fn(&Exchange) -> bool) -> Option<usize> {
        let mut open = self.open.iter();
        open.position(|it| it.request.is_some() && is_meant(it))
            .or_else(|| self.open.iter().position(is_meant))
    }

    fn add(&mut self, exchange: Exchange) {
        if self.open.len() == MOST {
            self.open.pop_front();
        }
        self.open.push_back(exchange);
    }
}

impl Exchange {
    fn lacks(&self) -> bool {
        matches!(self.recorded, Side::Frame(_)) && self.got == Side::Open
    }

    /// Whether a frame can be its reply; without a request, what the `other` side has is of the same kind.
    fn fits(&self, other: &Side, frame: &Bytes) -> bool {
        let cmd = Cmd::of(frame);
        match (&self.request, other) {
            (Some(_), _) if cmd == Some(Cmd::ErrServer) => true,
            (Some(request), _) => {
                cmd == Cmd::of(request)
                    && match (cmd.and_then(|cmd| asked_id(cmd, request)), cmd) {
                        (Some(asked), Some(cmd)) => {
                            answered_id(cmd, frame).is_none_or(|answered| answered == asked)
                        }
                        _ => true,
                    }
            }
            (None, Side::Frame(other)) => cmd == Cmd::of(other),
            (None, _) => false,
        }
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
    fn no_more_than_so_many_are_held() {
        let mut exchanges = Exchanges::default();
        for line in 0..2 * MOST {
            exchanges.asked(line, send(""));
        }
        exchanges.came(sent(""));
        exchanges.recorded(0, sent(""));
        assert_eq!(over(&mut exchanges), [(MOST, true, true)]);
    }
}
