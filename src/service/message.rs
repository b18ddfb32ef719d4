use std::sync::Arc;

use super::{Answer, Refusal, Services};
use crate::codec::MAX_FRAME;
use crate::proto::{
    OffsetMsg, Reply, ReqAcceptP2pMsgAck, ReqSendGroupMsg, ReqSendP2pMsg, ReqSyncMsg,
};
use crate::store::{Entry, Kind, Message, Page, PageLimit, StoreFailed, Write};

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

/// The answer to a sync.
#[derive(Debug)]
pub enum Synced {
    /// A page that ends at version `end` of an inbox that goes to `total`.
    Page {
        /// The page.
        reply: Reply,
        /// The version of its last message; without one, how far the reader is.
        end: i64,
        /// The newest version.
        total: i64,
    },
    /// A refusal.
    Refused(Reply),
}

impl Services {
    /// 20003: a message from `uid` to one user.
    pub async fn send_p2p(&self, uid: i64, mut request: ReqSendP2pMsg) -> Answer {
        let text = std::mem::take(&mut request.msg);
        let target = request.target_uid;
        let checked = self
            .check_p2p(uid, &request, target, text.len())
            .await
            .map(|()| {
                fill_in(&mut request.source_uid, uid);
                self.fill_in_id(&mut request.msg_id);
                self.message(Kind::P2p, uid, 0, request.msg_id.clone(), text)
            });
        let reply = Reply::p2p(&request);
        match checked {
            Ok(message) => Answer::WhenStored(reply, Write::P2p { target, message }),
            Err(error) => Answer::Now(self.refuse(reply, error.into())),
        }
    }

    async fn check_p2p(
        &self,
        uid: i64,
        request: &ReqSendP2pMsg,
        target: i64,
        len: usize,
    ) -> Result<(), MessageError> {
        check_uid(uid, request.source_uid)?;
        self.check_sizes(("targetUID", target), &request.msg_id, len)?;
        if !self.is_admitted(target).await? {
            return Err(MessageError::NoSuchUser(target));
        }
        Ok(())
    }

    /// 20005: a message from `uid` to every member of a group.
    pub fn send_group(&self, uid: i64, mut request: ReqSendGroupMsg) -> Answer {
        let text = std::mem::take(&mut request.msg);
        let group = request.group_id;
        let checked = check_uid(uid, request.source_uid)
            .and_then(|()| self.check_sizes(("groupID", group), &request.msg_id, text.len()))
            .map(|()| {
                self.fill_in_id(&mut request.msg_id);
                self.message(Kind::Group, uid, group, request.msg_id.clone(), text)
            });
        let reply = Reply::group(&request);
        match checked {
            Ok(message) => Answer::WhenStored(reply, Write::Group { message }),
            Err(error) => Answer::Now(self.refuse(reply, error.into())),
        }
    }

    /// 20004: `uid` accepts a message that it got.
    pub fn accept(&self, uid: i64, request: ReqAcceptP2pMsgAck) -> Answer {
        let reply = Reply::ack(&request);
        let target = request.source_uid;
        let checked = check_uid(uid, request.target_uid)
            .and_then(|()| self.check_sizes(("sourceUID", target), &request.msg_id, 0));
        match checked {
            Ok(()) => {
                let message = self.message(Kind::Ack, uid, 0, request.msg_id, String::new());
                Answer::WhenStored(reply, Write::Ack { target, message })
            }
            Err(error) => Answer::Now(Refusal::from(error).into_reply(reply)),
        }
    }

    /// 20006: what is newer than `currentID` in the inbox of `uid`.
    pub async fn sync(&self, uid: i64, request: &ReqSyncMsg) -> Synced {
        let reply = Reply::sync(request);
        match self.page(uid, request).await {
            Ok(page) => {
                let (end, total) = (page.current, page.total);
                Synced::Page {
                    reply: fill(reply, uid, page),
                    end,
                    total,
                }
            }
            Err(error) => Synced::Refused(Refusal::from(error).into_reply(reply)),
        }
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

    fn fill_in_id(&self, msg_id: &mut String) {
        if msg_id.is_empty() {
            *msg_id = self.ids.next_id().to_string();
        }
    }

    fn message(
        &self,
        kind: Kind,
        source: i64,
        group: i64,
        msg_id: String,
        text: String,
    ) -> Arc<Message> {
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

fn fill_in(claimed: &mut i64, uid: i64) {
    if *claimed == 0 {
        *claimed = uid;
    }
}

/// The page as the message of the contract.
fn fill(reply: Reply, uid: i64, page: Page) -> Reply {
    let Reply::Sync(mut message) = reply else {
        return reply;
    };
    message.current_id = page.current;
    message.total_id = page.total;
    message.msgs = page
        .entries
        .iter()
        .map(|entry| offset_msg(uid, entry))
        .collect();
    Reply::Sync(message)
}

fn offset_msg(uid: i64, entry: &Entry) -> OffsetMsg {
    let message = &entry.message;
    OffsetMsg {
        source_uid: message.source,
        target_uid: uid,
        group_id: message.group,
        msg_type: message.kind.msg_type().into(),
        msg_id: message.msg_id.clone(),
        msg: message.text.clone(),
        increment_id: entry.version,
        send_time: message.sent_at,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use prost::Message as _;

    proptest! {
        /// A page is cut by `wire_len`: were it too small, a page could outgrow its frame.
        #[test]
        fn an_entry_takes_the_bytes_that_it_says(
            uid in any::<i64>(), source in any::<i64>(), group in any::<i64>(), version in any::<i64>(),
            sent_at in any::<i64>(), msg_id in ".{0,40}", text in ".{0,400}",
        ) {
            let message = Message { kind: Kind::Group, source, group, msg_id, text, sent_at };
            let entry = Entry { version, message: Arc::new(message) };
            let empty = crate::proto::ResSyncMsg::default();
            let one = crate::proto::ResSyncMsg { msgs: vec![offset_msg(uid, &entry)], ..Default::default() };
            prop_assert_eq!(entry.wire_len(uid), one.encoded_len() - empty.encoded_len());
        }
    }
}
