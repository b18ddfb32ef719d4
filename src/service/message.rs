use std::sync::Arc;

use bytes::BytesMut;

use super::{Answer, Entrusted, Refusal, Services};
use crate::codec::MAX_FRAME;
use crate::proto::fields::Fields;
use crate::proto::{
    Cmd, Payload, Reply, ReqAcceptP2pMsgAck, ReqSendGroupMsg, ReqSendP2pMsg, ReqSyncMsg,
};
use crate::store::{Kind, Message, Page, PageLimit, StoreFailed};

/// What a `ResSyncMsg` takes beside its entries, in bytes, at the most: cmd 4, errStr 4, currentID and totalID 11 each.
const PAGE_HEADER: usize = 30;

/// Why a message, an ack or a sync was refused.
#[derive(Debug, thiserror::Error)]
pub enum MessageError {
    /// The frame names another user than the login.
    #[error("uid does not match the login")]
    OtherUser,
    /// Targets and groups are positive.
    #[error("{field} {id} is not positive")]
    BadTarget {
        /// The field of the request.
        field: &'static str,
        /// What stood there.
        id: i64,
    },
    /// The text is too long.
    #[error("msg has {len} bytes, at most {max}")]
    TooLong {
        /// Its length in bytes.
        len: usize,
        /// The limit in bytes.
        max: usize,
    },
    /// The msgID is too long.
    #[error("msgID has {len} bytes, at most {max}")]
    IdTooLong {
        /// Its length in bytes.
        len: usize,
        /// The limit in bytes.
        max: usize,
    },
    /// Only registered users receive, and this one is none.
    #[error("{0} is not registered")]
    NoSuchUser(i64),
    /// The store has failed.
    #[error(transparent)]
    Store(#[from] StoreFailed),
}

/// A page of the inbox of `uid`; as an answer, a `ResSyncMsg`.
#[derive(Debug)]
pub struct Synced {
    uid: i64,
    page: Page,
}

impl Synced {
    /// The version of its last message; without one, how far the reader is.
    pub fn end(&self) -> i64 {
        self.page.current
    }

    /// The newest version of the inbox.
    pub fn total(&self) -> i64 {
        self.page.total
    }
}

impl Payload for Synced {
    fn encode_payload(&self, dst: &mut BytesMut) {
        let mut fields = Fields::done(Cmd::SyncMsg, dst);
        fields.number(5, self.page.current);
        for entry in &self.page.entries {
            entry.write(self.uid, &mut fields);
        }
        fields.number(7, self.page.total);
    }
}

impl Services {
    /// 20003: a message from `uid` to one user.
    pub async fn send_p2p(&self, uid: i64, request: &mut ReqSendP2pMsg) -> Answer {
        if let Err(error) = self.check_p2p(uid, request).await {
            return Answer::now(self.refuse(Reply::p2p(request), error.into()));
        }
        let text = std::mem::take(&mut request.msg);
        Answer::WhenStored(Entrusted::P2p {
            target: request.target_uid,
            message: self.message(Kind::P2p, uid, 0, &mut request.msg_id, text),
        })
    }

    async fn check_p2p(&self, uid: i64, request: &ReqSendP2pMsg) -> Result<(), MessageError> {
        let target = request.target_uid;
        check_uid(uid, request.source_uid)?;
        self.check_sizes(("targetUID", target), &request.msg_id, request.msg.len())?;
        if !self.is_admitted(target).await? {
            return Err(MessageError::NoSuchUser(target));
        }
        Ok(())
    }

    /// 20005: a message from `uid` to every member of a group.
    pub fn send_group(&self, uid: i64, request: &mut ReqSendGroupMsg) -> Answer {
        let group = request.group_id;
        let checked = check_uid(uid, request.source_uid).and_then(|()| {
            self.check_sizes(("groupID", group), &request.msg_id, request.msg.len())
        });
        if let Err(error) = checked {
            return Answer::now(self.refuse(Reply::group(request), error.into()));
        }
        let text = std::mem::take(&mut request.msg);
        let message = self.message(Kind::Group, uid, group, &mut request.msg_id, text);
        Answer::WhenStored(Entrusted::Group { message })
    }

    /// 20004: `uid` accepts a message that it got.
    pub fn accept(&self, uid: i64, request: &mut ReqAcceptP2pMsgAck) -> Answer {
        let target = request.source_uid;
        let checked = check_uid(uid, request.target_uid)
            .and_then(|()| self.check_sizes(("sourceUID", target), &request.msg_id, 0));
        if let Err(error) = checked {
            return Answer::now(Refusal::from(error).into_reply(Reply::ack(request)));
        }
        let message = self.message(Kind::Ack, uid, 0, &mut request.msg_id, String::new());
        Answer::WhenStored(Entrusted::Ack { target, message })
    }

    /// 20006: what is newer than `currentID` in the inbox of `uid`.
    ///
    /// # Errors
    ///
    /// The refusal.
    pub async fn sync(&self, uid: i64, request: &ReqSyncMsg) -> Result<Synced, Reply> {
        let page = self.page(uid, request).await;
        page.map(|page| Synced { uid, page })
            .map_err(|error| Refusal::from(error).into_reply(Reply::sync(request)))
    }

    async fn page(&self, uid: i64, request: &ReqSyncMsg) -> Result<Page, MessageError> {
        check_uid(uid, request.uid)?;
        let entries = usize::try_from(request.limit).unwrap_or(usize::MAX);
        let limit = PageLimit {
            entries,
            bytes: MAX_FRAME - PAGE_HEADER,
        };
        Ok(self.store.sync(uid, request.current_id, limit).await?)
    }

    fn check_sizes(
        &self,
        (field, id): (&'static str, i64),
        msg_id: &str,
        len: usize,
    ) -> Result<(), MessageError> {
        if id <= 0 {
            return Err(MessageError::BadTarget { field, id });
        }
        let max = self.limits.msg_id;
        if msg_id.len() > max {
            return Err(MessageError::IdTooLong {
                len: msg_id.len(),
                max,
            });
        }
        // The config allows no limits under which a message could not stand alone in a page.
        let max = self.limits.message;
        if len > max {
            return Err(MessageError::TooLong { len, max });
        }
        Ok(())
    }

    /// The message that is stored; without an id, it gets one.
    fn message(
        &self,
        kind: Kind,
        source: i64,
        group: i64,
        msg_id: &mut String,
        text: String,
    ) -> Arc<Message> {
        let mut msg_id = std::mem::take(msg_id);
        if msg_id.is_empty() {
            msg_id = self.ids.next_id().to_string();
        }
        Arc::new(Message {
            kind,
            source,
            group,
            msg_id,
            text,
            sent_at: self.clock.unix_ms(),
        })
    }
}

/// A UID in a frame must be the session's own, or absent.
pub(super) fn check_uid(uid: i64, claimed: i64) -> Result<(), MessageError> {
    if claimed == 0 || claimed == uid {
        Ok(())
    } else {
        Err(MessageError::OtherUser)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proto::{OffsetMsg, ResSyncMsg};
    use crate::store::Entry;
    use proptest::prelude::*;
    use prost::Message as _;

    /// The same page as a message of its own.
    fn message(uid: i64, page: &Page) -> ResSyncMsg {
        let entry = |entry: &Entry| OffsetMsg {
            source_uid: entry.message.source,
            target_uid: uid,
            group_id: entry.message.group,
            msg_type: entry.message.kind.msg_type().into(),
            msg_id: entry.message.msg_id.clone(),
            msg: entry.message.text.clone(),
            increment_id: entry.version,
            send_time: entry.message.sent_at,
        };
        ResSyncMsg {
            cmd: Cmd::SyncMsg.number(),
            err_str: "ok".into(),
            current_id: page.current,
            total_id: page.total,
            msgs: page.entries.iter().map(entry).collect(),
            ..Default::default()
        }
    }

    prop_compose! {
        fn entry()(
            source in any::<i64>(), group in any::<i64>(), version in any::<i64>(), sent_at in any::<i64>(),
            msg_id in ".{0,40}", text in ".{0,400}",
        ) -> Entry {
            let message = Message { kind: Kind::Group, source, group, msg_id, text, sent_at };
            Entry { version, message: Arc::new(message) }
        }
    }

    proptest! {
        #[test]
        fn a_page_is_written_byte_for_byte_as_the_contract_has_it(
            uid in any::<i64>(), current in any::<i64>(), total in any::<i64>(),
            entries in prop::collection::vec(entry(), 0..4),
        ) {
            let page = Page { entries, current, total };
            let expected = message(uid, &page).encode_to_vec();
            // A page is cut by `wire_len`: were it too small, a page could outgrow its frame.
            let len: usize = page.entries.iter().map(|entry| entry.wire_len(uid)).sum();
            let empty = Page { entries: Vec::new(), current, total };
            prop_assert_eq!(len, expected.len() - message(uid, &empty).encoded_len());
            let mut written = BytesMut::new();
            Synced { uid, page }.encode_payload(&mut written);
            prop_assert_eq!(&written[..], &expected[..]);
        }
    }
}
