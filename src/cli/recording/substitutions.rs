//! Adapts recorded requests to the replies of this replay: ids and versions that the server gave out are replaced by
//! their new values.
//!
//! Serves the player in `replay`. Only differences are remembered: a request without a known one is sent as recorded.

use std::borrow::Borrow;
use std::collections::VecDeque;

use bytes::Bytes;
use imd::proto::{Cmd, ReqAcceptP2pMsgAck, ReqSyncMsg, ResSyncMsg};
use prost::Message;

use super::exchanges::reply_id;

/// Number of replaced ids, and of versions, that are remembered. The oldest are forgotten first.
const MAX_ENTRIES: usize = 4096;

/// The ids and versions of recorded requests that are replaced in this replay.
#[derive(Default)]
pub struct Substitutions {
    /// New message ids by the recorded ones.
    ids: Replacements<String, String>,
    /// New versions by the user and the recorded version that was read.
    versions: Replacements<(i64, i64), i64>,
}

impl Substitutions {
    /// Learns from a recorded reply and its counterpart in this replay. `uid` is the user of the session.
    pub fn learn(&mut self, uid: i64, recorded: &Bytes, got: &Bytes) {
        match Cmd::of(recorded) {
            Some(cmd @ (Cmd::SendP2PMsg | Cmd::SendGroupMsg)) => {
                let ids = (reply_id(cmd, recorded), reply_id(cmd, got));
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
                // Version 0 asks for the whole inbox in every replay, so it is never replaced.
                if old.current_id != 0 {
                    let version = (old.current_id != new.current_id).then_some(new.current_id);
                    self.versions.put((uid, old.current_id), version);
                }
                for (old, new) in old.msgs.into_iter().zip(new.msgs) {
                    // Only the same message on both sides has ids that correspond.
                    if old.msg == new.msg && old.source_uid == new.source_uid {
                        self.learn_id(old.msg_id, new.msg_id);
                    }
                }
            }
            _ => {}
        }
    }

    /// Remembers the new form of a message id.
    fn learn_id(&mut self, old: String, new: String) {
        if !old.is_empty() {
            let new = Some(new).filter(|new| *new != old);
            self.ids.put(old, new);
        }
    }

    /// Returns a request in the form in which the client would send it in this replay.
    pub fn apply(&self, uid: i64, request: &Bytes) -> Bytes {
        self.substituted(uid, request)
            .unwrap_or_else(|| request.clone())
    }

    /// Returns the changed request, or `None` if nothing in it is to be replaced.
    fn substituted(&self, uid: i64, request: &Bytes) -> Option<Bytes> {
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

/// The newest replacements: recorded values, and their new values where these differ.
struct Replacements<K, V>(VecDeque<(K, V)>);

impl<K, V> Default for Replacements<K, V> {
    fn default() -> Self {
        Replacements(VecDeque::new())
    }
}

impl<K: PartialEq, V> Replacements<K, V> {
    /// Adds a replacement, or removes it when the value is `None`, which stands for an unchanged value.
    fn put(&mut self, key: K, value: Option<V>) {
        self.0.retain(|(known, _)| *known != key);
        let Some(value) = value else {
            return;
        };
        if self.0.len() == MAX_ENTRIES {
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
    fn a_sync_continues_after_the_page_of_this_replay() {
        let mut substitutions = Substitutions::default();
        substitutions.learn(7, &page(102, &["a", "x"]), &page(2, &["a", "y"]));
        assert_eq!(substitutions.apply(7, &sync(102)), sync(2));
        assert_eq!(
            substitutions.apply(8, &sync(102)),
            sync(102),
            "another user"
        );
        assert_eq!(substitutions.apply(7, &accept("x")), accept("y"));
        assert_eq!(substitutions.apply(7, &accept("a")), accept("a"));
        substitutions.learn(7, &page(102, &[]), &page(102, &[]));
        assert_eq!(substitutions.apply(7, &sync(102)), sync(102));
        substitutions.learn(7, &page(0, &[]), &page(3, &[]));
        assert_eq!(substitutions.apply(7, &sync(0)), sync(0));
    }

    #[test]
    fn ids_that_the_server_gave_out_are_replaced() {
        let sent = |id: &str| {
            let reply = ResSendP2pMsg {
                cmd: Cmd::SendP2PMsg.number(),
                msg_id: id.into(),
                ..Default::default()
            };
            Bytes::from(reply.encode_to_vec())
        };
        let mut substitutions = Substitutions::default();
        substitutions.learn(1, &sent("123"), &sent("456"));
        assert_eq!(substitutions.apply(7, &accept("123")), accept("456"));
        for n in 0..MAX_ENTRIES {
            substitutions.learn(1, &sent(&format!("old {n}")), &sent("new"));
        }
        assert_eq!(
            substitutions.apply(7, &accept("123")),
            accept("123"),
            "too long ago"
        );
    }
}
