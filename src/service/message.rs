use std::borrow::Cow;
use std::sync::Arc;

use bytes::BytesMut;

use super::{Answer, Batch, Entrusted, Refusal, Services};
use crate::codec::MAX_FRAME;
use crate::command::Sending;
use crate::id::{GroupId, MsgId, Uid, Version};
use crate::lab::{Action, Site};
use crate::proto::fields::Fields;
use crate::proto::{Cmd, Payload, Reply, ReqSyncMsg};
use crate::session::Session;
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
    NoSuchUser(Uid),
    /// The store has failed.
    #[error(transparent)]
    Store(#[from] StoreFailed),
}

/// A page of the inbox of `uid`; as an answer, a `ResSyncMsg`.
#[derive(Debug)]
pub struct Synced {
    uid: Uid,
    page: Page,
}

impl Synced {
    /// The version of its last message; without one, how far the reader is.
    pub fn end(&self) -> Version {
        self.page.current
    }

    /// The newest version of the inbox.
    pub fn total(&self) -> Version {
        self.page.total
    }
}

impl Payload for Synced {
    fn encode_payload(&self, dst: &mut BytesMut) {
        let mut fields = Fields::done(Cmd::SyncMsg, dst);
        fields.number(5, self.page.current.0);
        for entry in &self.page.entries {
            entry.write(self.uid, &mut fields);
        }
        fields.number(7, self.page.total.0);
    }
}

impl Services {
    /// 20003: a message from `uid` to one user.
    pub async fn send_p2p(&self, batch: &mut Batch, uid: Uid, sending: &Sending<'_, Uid>) {
        let Sending { source, target, .. } = *sending;
        if let Err(error) = self.check_p2p(uid, sending).await {
            let reply = Reply::p2p(source.0, target.0, &sending.msg_id);
            return batch.push(Answer::now(self.refuse(reply, error)));
        }
        self.entrust(batch, Kind::P2p, (uid, None), sending);
    }

    async fn check_p2p(&self, uid: Uid, sending: &Sending<'_, Uid>) -> Result<(), MessageError> {
        self.check(uid, "targetUID", sending)?;
        if !self.is_admitted(sending.target).await? {
            return Err(MessageError::NoSuchUser(sending.target));
        }
        Ok(())
    }

    /// 20005: a message from `uid` to every member of a group.
    pub fn send_group(&self, batch: &mut Batch, uid: Uid, sending: &Sending<'_, GroupId>) {
        let group = sending.target;
        if let Err(error) = self.check(uid, "groupID", sending) {
            let reply = Reply::group(group.0, &sending.msg_id);
            return batch.push(Answer::now(self.refuse(reply, error)));
        }
        self.entrust(batch, Kind::Group, (uid, Some(group)), sending);
    }

    /// 20004: `uid` accepts a message that it got.
    pub fn accept(&self, batch: &mut Batch, uid: Uid, sending: &Sending<'_, Uid>) {
        if let Err(error) = self.check(uid, "sourceUID", sending) {
            return batch.push(Answer::now(self.refuse(Reply::ack(), error)));
        }
        self.entrust(batch, Kind::Ack, (uid, None), sending);
    }

    /// Stores the read mark of a sync that is about to be done together with the messages before it, and returns whether it
    /// does so. It does not where the sync may still be refused, since a refused sync moves no mark.
    pub fn mark_read(&self, batch: &mut Batch, uid: Uid, request: &ReqSyncMsg) -> bool {
        let can_mark = !batch.is_empty()
            && check_uid(uid, request.uid).is_ok()
            && !self.lab.watches([Site::StoreRead]);
        if can_mark {
            batch.mark_read(uid, Version(request.current_id));
        }
        can_mark
    }

    /// 20006: what is newer than `currentID` in the inbox of `uid`, for whom `session` asks. Where its read `is_marked`
    /// already, no fault refuses it: a rule that was put in force since then begins with the next one.
    ///
    /// # Errors
    ///
    /// The refusal.
    pub async fn sync(
        &self,
        session: &Session,
        uid: Uid,
        request: &ReqSyncMsg,
        is_marked: bool,
    ) -> Result<Synced, Reply> {
        // Such a request asks for nothing that is read.
        if let Err(error) = check_uid(uid, request.uid) {
            return Err(self.refuse(Reply::sync(request), error));
        }
        let met = self.meet_read(session, uid, Version(request.current_id), is_marked);
        let met = met.await;
        let page = match met {
            Some(Action::Error(code)) => Err(Refusal::by_fault(code)),
            _ => self.page(uid, request).await.map_err(Refusal::from),
        };
        let mut page = page.map_err(|refusal| self.refuse(Reply::sync(request), refusal))?;
        match met {
            // As it was before anything of this came.
            Some(Action::Stale) => {
                let before = page.entries.first().map(|first| first.version - 1);
                page.current = before.unwrap_or(page.current);
                page.total = page.current;
                page.entries.clear();
            }
            Some(Action::Gap) if !page.entries.is_empty() => {
                page.entries.remove(0);
                self.audit.lost(1);
            }
            _ => {}
        }
        self.metrics.page();
        self.audit.page(Version(request.current_id), &page);
        Ok(Synced { uid, page })
    }

    /// What a fault does to a page. Only one with entries can be stale or have a gap: who asks for nothing new is told no
    /// lie, and that is no hit.
    async fn meet_read(
        &self,
        session: &Session,
        uid: Uid,
        after: Version,
        is_marked: bool,
    ) -> Option<Action> {
        if !self.lab.watches([Site::StoreRead]) {
            return None;
        }
        let limit = PageLimit {
            entries: 1,
            bytes: MAX_FRAME - PAGE_HEADER,
        };
        let peeked = self.store.peek(uid, after, limit).await;
        let has_entries = peeked.is_ok_and(|page| !page.entries.is_empty());
        let can = |action: &Action| match action {
            Action::Stale | Action::Gap => has_entries,
            Action::Error(_) => !is_marked,
            _ => true,
        };
        let of = (Some(uid), Some(session));
        self.meet(Site::StoreRead, of, can).await
    }

    async fn page(&self, uid: Uid, request: &ReqSyncMsg) -> Result<Page, StoreFailed> {
        let entries = usize::try_from(request.limit).unwrap_or(usize::MAX);
        let limit = PageLimit {
            entries,
            bytes: MAX_FRAME - PAGE_HEADER,
        };
        let after = Version(request.current_id);
        Ok(if self.has_odd_pages() {
            Box::pin(self.odd_page(uid, after, limit)).await?
        } else {
            self.store.sync(uid, after, limit).await?
        })
    }

    /// Whether `uid` may send this; `field` is what the request calls its target.
    fn check<T: Copy + Into<i64>>(
        &self,
        uid: Uid,
        field: &'static str,
        sending: &Sending<'_, T>,
    ) -> Result<(), MessageError> {
        check_uid(uid, sending.source.0)?;
        let id = sending.target.into();
        if id <= 0 {
            return Err(MessageError::BadTarget { field, id });
        }
        let (len, max) = (sending.msg_id.len(), self.limits.msg_id);
        if len > max {
            return Err(MessageError::IdTooLong { len, max });
        }
        // The config allows no limits under which a message could not stand alone in a page.
        let (len, max) = (sending.text.len(), self.limits.message);
        if len > max {
            return Err(MessageError::TooLong { len, max });
        }
        Ok(())
    }

    /// Has it stored with the others of the batch; a message without an id gets one.
    fn entrust<T: Copy + Into<i64>>(
        &self,
        batch: &mut Batch,
        kind: Kind,
        (source, group): (Uid, Option<GroupId>),
        sending: &Sending<'_, T>,
    ) {
        let mut msg_id = Cow::Borrowed(&*sending.msg_id);
        let has_made_id = msg_id.is_empty();
        if has_made_id {
            msg_id = self.next_id(source).to_string().into();
            batch.ids_reached(self.ids.reached());
        }
        let sent_at = batch.sent_at(&*self.clock);
        let message = Message::new(kind, source, group, MsgId(&msg_id), &sending.text, sent_at);
        batch.push(Answer::WhenStored(Entrusted {
            target: sending.target.into(),
            message: Arc::new(message),
            has_made_id,
        }));
    }
}

/// A UID in a frame must be the session's own, or absent.
pub(super) fn check_uid(uid: Uid, claimed: i64) -> Result<(), MessageError> {
    if claimed == 0 || uid == claimed {
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
    fn message(uid: Uid, page: &Page) -> ResSyncMsg {
        let entry = |entry: &Entry| OffsetMsg {
            source_uid: entry.message.source.0,
            target_uid: uid.0,
            group_id: GroupId::or_zero(entry.message.group()),
            msg_type: entry.message.kind.msg_type().into(),
            msg_id: entry.message.msg_id().to_string(),
            msg: entry.message.text().into(),
            increment_id: entry.version.0,
            send_time: entry.message.sent_at,
        };
        ResSyncMsg {
            cmd: Cmd::SyncMsg.number(),
            err_str: "ok".into(),
            current_id: page.current.0,
            total_id: page.total.0,
            msgs: page.entries.iter().map(entry).collect(),
            ..Default::default()
        }
    }

    prop_compose! {
        fn entry()(
            source in any::<i64>(), group in any::<i64>(), version in any::<i64>(), sent_at in any::<i64>(),
            msg_id in ".{0,40}", text in ".{0,400}",
        ) -> Entry {
            let message = Message::new(Kind::Group, Uid(source), GroupId::nonzero(group), MsgId(&msg_id), &text, sent_at);
            Entry { version: Version(version), message: Arc::new(message) }
        }
    }

    proptest! {
        #[test]
        fn a_page_is_written_byte_for_byte_as_the_contract_has_it(
            uid in any::<i64>(), current in any::<i64>(), total in any::<i64>(),
            entries in prop::collection::vec(entry(), 0..4),
        ) {
            let page = Page { entries, current: Version(current), total: Version(total) };
            let expected = message(Uid(uid), &page).encode_to_vec();
            // A page is cut by `wire_len`: were it too small, a page could outgrow its frame.
            let len: usize = page.entries.iter().map(|entry| entry.wire_len(Uid(uid))).sum();
            let empty = Page { entries: Vec::new(), current: Version(current), total: Version(total) };
            prop_assert_eq!(len, expected.len() - message(Uid(uid), &empty).encoded_len());
            let mut written = BytesMut::new();
            Synced { uid: Uid(uid), page }.encode_payload(&mut written);
            prop_assert_eq!(&written[..], &expected[..]);
        }
    }
}
