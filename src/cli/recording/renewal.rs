use std::borrow::Borrow;
use std::collections::VecDeque;

use bytes::Bytes;
use imd::proto::{Cmd, ReqAcceptP2pMsgAck, ReqSyncMsg, ResSyncMsg};
use prost::Message;

use super::exchanges::answered_id;

/// So many ids and versions are remembered.
const MOST: usize = 4096;

/// What a client has learned from the server, and would say otherwise this time.
#[derive(Default)]
pub struct Renewal {
    /// Ids that the server gave.
    ids: Recent<String, String>,
    /// How far a user had read.
    versions: Recent<(i64, i64), i64>,
}

impl Renewal {
    /// Learns from a reply of the record and the same one of this time. `uid` is the session's.
    pub fn learn(&mut self, uid: i64, recorded: &Bytes, got: &Bytes) {
        match Cmd::of(recorded) {
            Some(cmd @ (Cmd::SendP2PMsg | Cmd::SendGroupMsg)) => {
                let ids = (answered_id(cmd, recorded), answered_id(cmd, got));
                if let (Some(old), Some(new)) = ids {
                    self.learn_id(old, new);
                }
            }
            Some(Cmd::SyncMsg) => {
                let pages = (
                    ResSyncMsg::decode(recorded.clone()),
                    ResSyncMsg::decode(got.clone()),
                );
                let (Ok(old), Ok(new)) = pages else {
                    return;
                };
                // From 0 a client asks for everything, whatever it has seen.
                if old.current_id != 0 {
                    let version = (old.current_id != new.current_id).then_some(new.current_id);
                    self.versions.put((uid, old.current_id), version);
                }
                for (old, new) in old.msgs.into_iter().zip(new.msgs) {
                    // Another message has an id of its own.
                    if old.msg == new.msg && old.source_uid == new.source_uid {
                        self.learn_id(old.msg_id, new.msg_id);
                    }
                }
            }
            _ => {}
        }
    }

    fn learn_id(&mut self, old: String, new: String) {
        if !old.is_empty() {
            let new = Some(new).filter(|new| *new != old);
            self.ids.put(old, new);
        }
    }

    /// A request as the client would make it this time; as it was, where that is the same.
    pub fn renew(&self, uid: i64, request: &Bytes) -> Bytes {
        self.renewed(uid, request)
            .unwrap_or_else(|| request.clone())
    }

    fn renewed(&self, uid: i64, request: &Bytes) -> Option<Bytes> {
        match Cmd::of(request)? {
            Cmd::AcceptP2PMsgAck => {
                let mut request = ReqAcceptP2pMsgAck::decode(request.clone()).ok()?;
                self.ids
                    .get(&request.msg_id)?
                    .clone_into(&mut request.msg_id);
                Some(request.encode_to_vec().into())
            }
            Cmd::SyncMsg => {
                let mut request = ReqSyncMsg::decode(request.clone()).ok()?;
                request.current_id = *self.versions.get(&(uid, request.current_id))?;
                Some(request.encode_to_vec().into())
            }
            _ => None,
        }
    }
}

/// What was said, and what is said now, where these differ; the newest of them.
struct Recent<K, V>(VecDeque<(K, V)>);

impl<K, V> Default for Recent<K, V> {
    fn default() -> Self {
        Recent(VecDeque::new())
    }
}

impl<K: PartialEq, V> Recent<K, V> {
    /// `None` is for what is said as it was.
    fn put(&mut self, key: K, value: Option<V>) {
        self.0.retain(|(known, _)| *known != key);
        let Some(value) = value else {
            return;
        };
        if self.0.len() == MOST {
            self.0.pop_front();
        }
        self.0.push_back((key, value));
    }

    fn get<Q: PartialEq + ?Sized>(&self, key: &Q) -> Option<&V>
    where
        K: Borrow<Q>,
    {
        let found = self.0.iter().find(|(known, _)| known.borrow() == key);
        found.map(|(_, value)| value)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use imd::proto::{OffsetMsg, ResSendP2pMsg};

    fn page(current: i64, ids: &[&str]) -> Bytes {
        let entry = |(n, id): (usize, &&str)| OffsetMsg {
            source_uid: 1,
            msg_id: (*id).into(),
            msg: format!("text {n}"),
            ..Default::default()
        };
        let page = ResSyncMsg {
            cmd: Cmd::SyncMsg.number(),
            current_id: current,
            msgs: ids.iter().enumerate().map(entry).collect(),
            ..Default::default()
        };
        page.encode_to_vec().into()
    }

    fn sync(current_id: i64) -> Bytes {
        let request = ReqSyncMsg {
            cmd: Cmd::SyncMsg.number(),
            uid: 7,
            current_id,
            ..Default::default()
        };
        request.encode_to_vec().into()
    }

    fn accept(id: &str) -> Bytes {
        let request = ReqAcceptP2pMsgAck {
            cmd: Cmd::AcceptP2PMsgAck.number(),
            source_uid: 1,
            target_uid: 7,
            msg_id: id.into(),
            ..Default::default()
        };
        request.encode_to_vec().into()
    }

    #[test]
    fn a_client_goes_on_from_the_page_that_it_got() {
        let mut renewal = Renewal::default();
        renewal.learn(7, &page(102, &["a", "x"]), &page(2, &["a", "y"]));
        assert_eq!(renewal.renew(7, &sync(102)), sync(2));
        assert_eq!(renewal.renew(8, &sync(102)), sync(102), "another user");
        assert_eq!(renewal.renew(7, &accept("x")), accept("y"));
        assert_eq!(renewal.renew(7, &accept("a")), accept("a"));
        renewal.learn(7, &page(102, &[]), &page(102, &[]));
        assert_eq!(renewal.renew(7, &sync(102)), sync(102));
        renewal.learn(7, &page(0, &[]), &page(3, &[]));
        assert_eq!(renewal.renew(7, &sync(0)), sync(0));
    }

    #[test]
    fn ids_that_the_server_gave_are_new_ones() {
        let sent = |id: &str| {
            let reply = ResSendP2pMsg {
                cmd: Cmd::SendP2PMsg.number(),
                msg_id: id.into(),
                ..Default::default()
            };
            Bytes::from(reply.encode_to_vec())
        };
        let mut renewal = Renewal::default();
        renewal.learn(1, &sent("123"), &sent("456"));
        assert_eq!(renewal.renew(7, &accept("123")), accept("456"));
        for n in 0..MOST {
            renewal.learn(1, &sent(&format!("old {n}")), &sent("new"));
        }
        assert_eq!(
            renewal.renew(7, &accept("123")),
            accept("123"),
            "too long ago"
        );
    }
}
