//! The operations on messages: sending to a user or a group, accepting a message, and reading a page of an inbox.
//!
//! Serves the access servers and `direct`. Sending and accepting only add to a [`WriteBatch`]: nothing is stored before the
//! front commits the batch, and checks that need the store's state, such as membership, are left to that commit.

use std::sync::Arc;

use super::login::check_claimed;
use super::{
    Caller, IssuedId, PendingWrite, SendError, SendRequest, Services, SyncError, SyncRequest,
    Target, WriteBatch,
};
use crate::id::{GroupId, MsgId, Uid};
use crate::lab::{Action, Site};
use crate::proto::Cmd;
use crate::store::{EncodedPage, Kind, Message, PageLimit};

impl Services {
    /// 20003: checks a message from `uid` to one user, and adds it to the batch.
    ///
    /// # Errors
    ///
    /// [`SendError`]; nothing is added to the batch then.
    pub async fn send_p2p(
        &self,
        batch: &mut WriteBatch,
        uid: Uid,
        request: &SendRequest<'_, Uid>,
    ) -> Result<(), SendError> {
        let checked = self.check_p2p(uid, request).await;
        checked.map_err(|error| self.counted(Cmd::SendP2PMsg, error))?;
        self.enqueue(batch, Kind::P2p, uid, request);
        Ok(())
    }

    async fn check_p2p(&self, uid: Uid, request: &SendRequest<'_, Uid>) -> Result<(), SendError> {
        self.check(uid, "targetUID", request)?;
        if !self.may_participate(request.target).await? {
            return Err(SendError::NoSuchUser(request.target));
        }
        Ok(())
    }

    /// 20005: checks a message from `uid` to all members of a group, and adds it to the batch. Whether the group exists and
    /// `uid` is a member is up to the commit.
    ///
    /// # Errors
    ///
    /// [`SendError`]; nothing is added to the batch then.
    pub fn send_group(
        &self,
        batch: &mut WriteBatch,
        uid: Uid,
        request: &SendRequest<'_, GroupId>,
    ) -> Result<(), SendError> {
        let checked = self.check(uid, "groupID", request);
        checked.map_err(|error| self.counted(Cmd::SendGroupMsg, error))?;
        self.enqueue(batch, Kind::Group, uid, request);
        Ok(())
    }

    /// 20004: checks that `uid` may accept a message, and adds the acceptance to the batch. Whether `uid` got such a message
    /// is up to the commit.
    ///
    /// # Errors
    ///
    /// [`SendError`]; nothing is added to the batch then.
    pub fn accept(
        &self,
        batch: &mut WriteBatch,
        uid: Uid,
        request: &SendRequest<'_, Uid>,
    ) -> Result<(), SendError> {
        let checked = self.check(uid, "sourceUID", request);
        checked.map_err(|error| self.counted(Cmd::AcceptP2PMsgAck, error))?;
        self.enqueue(batch, Kind::Ack, uid, request);
        Ok(())
    }

    /// Adds to the batch the read mark of the sync that follows it, so that one commit stores both. Returns whether the mark
    /// is in the batch: also true for a sync after version 0, which has no mark to store.
    ///
    /// Nothing is added if the batch is empty and needs no commit, or if the sync may still be refused: a refused sync must
    /// not move the mark.
    pub fn add_read_mark(&self, batch: &mut WriteBatch, uid: Uid, request: &SyncRequest) -> bool {
        let can_add = !batch.is_empty()
            && check_claimed(uid, request.claimed).is_ok()
            && !self.lab.has_rule_at([Site::StoreRead]);
        if can_add {
            batch.set_read_mark(uid, request);
        }
        can_add
    }

    /// 20006: returns the messages after a version in the inbox of the caller, and moves the read mark there.
    ///
    /// `mark_is_in_batch` is what [`add_read_mark`](Self::add_read_mark) returned for the batch that was committed before. If
    /// true, the commit may already have stored the read mark. So an error fault no longer refuses this page: a refused sync
    /// must not have moved the mark. The page moves the mark again, without effect.
    ///
    /// # Errors
    ///
    /// [`SyncError`]; this call has not moved the read mark then, but with `mark_is_in_batch` the commit before it may have.
    pub async fn sync(
        &self,
        caller: Caller<'_>,
        request: &SyncRequest,
        mark_is_in_batch: bool,
    ) -> Result<EncodedPage, SyncError> {
        let page = self.try_sync(caller, request, mark_is_in_batch).await;
        let page = page.map_err(|error| self.counted(Cmd::SyncMsg, error))?;
        self.metrics.page();
        Ok(page)
    }

    async fn try_sync(
        &self,
        caller: Caller<'_>,
        request: &SyncRequest,
        mark_is_in_batch: bool,
    ) -> Result<EncodedPage, SyncError> {
        // Checked first, so that a refused request uses up no fault.
        check_claimed(caller.uid, request.claimed)?;
        let uid = caller.uid;
        let injected = self
            .read_hit_after_delay(caller, request, mark_is_in_batch)
            .await;
        match injected {
            Some(Action::Error(code)) => Err(SyncError::Injected(code)),
            Some(action) => Box::pin(self.untrue_page(uid, request, Some(action))).await,
            None if self.has_page_quirks() => Box::pin(self.untrue_page(uid, request, None)).await,
            None => {
                let SyncRequest { after, limit, .. } = *request;
                let page = self.messages.read_encoded_page(uid, after, limit).await;
                Ok(page?)
            }
        }
    }

    /// Returns a page that may differ from what is stored, by an injected action or a quirk, and counts how it differs.
    async fn untrue_page(
        &self,
        uid: Uid,
        request: &SyncRequest,
        injected: Option<Action>,
    ) -> Result<EncodedPage, SyncError> {
        let SyncRequest { after, limit, .. } = *request;
        let mut page = match self.has_page_quirks() {
            true => self.page_with_quirks(uid, after, limit).await?,
            false => self.messages.read_page(uid, after, limit).await?,
        };
        match injected {
            // The page of an older moment: as if none of these messages had arrived yet.
            Some(Action::Stale) => {
                page.current = page.began_after();
                page.total = page.current;
                page.entries.clear();
            }
            Some(Action::Gap) if !page.entries.is_empty() => {
                page.entries.remove(0);
                self.audit.count_lost(1);
            }
            _ => {}
        }
        self.audit.count_page(request.after, &page);
        Ok(EncodedPage::new(uid, &page))
    }

    /// Returns the action of the rule that hits the read of a page, if one does, after the delay of that rule. Only a page
    /// with entries can be stale or have a gap. In an empty page such a fault would change nothing, so it does not count as a
    /// hit.
    async fn read_hit_after_delay(
        &self,
        caller: Caller<'_>,
        request: &SyncRequest,
        mark_is_in_batch: bool,
    ) -> Option<Action> {
        // Checked before the store is asked for the entries: only a rule needs to know of them.
        if !self.lab.has_rule_at([Site::StoreRead]) {
            return None;
        }
        let limit = PageLimit {
            entries: 1,
            ..request.limit
        };
        let peeked = self.messages.peek(caller.uid, request.after, limit).await;
        let has_entries = peeked.is_ok_and(|page| !page.entries.is_empty());
        let applies = |action: &Action| match action {
            Action::Stale | Action::Gap => has_entries,
            Action::Error(_) => !mark_is_in_batch,
            _ => true,
        };
        self.hit_after_delay(Site::StoreRead, caller, applies).await
    }

    /// Checks what can be checked without the store: the claimed user, the target, and the lengths. `field` is the name of
    /// the target in the wire contract.
    fn check<T: Copy + Into<i64>>(
        &self,
        uid: Uid,
        field: &'static str,
        request: &SendRequest<'_, T>,
    ) -> Result<(), SendError> {
        check_claimed(uid, request.claimed)?;
        let id = request.target.into();
        if id <= 0 {
            return Err(SendError::BadTarget { field, id });
        }
        let (len, max) = (request.msg_id.as_str().len(), self.limits.msg_id);
        if len > max {
            return Err(SendError::IdTooLong { len, max });
        }
        // The config allows no limits under which a message could not stand alone in a page.
        let (len, max) = (request.text.len(), self.limits.message);
        if len > max {
            return Err(SendError::TooLong { len, max });
        }
        Ok(())
    }

    /// Adds to the batch the message of a request that was checked. A message without an id gets a new one.
    fn enqueue<T: Copy + Into<Target>>(
        &self,
        batch: &mut WriteBatch,
        kind: Kind,
        source: Uid,
        request: &SendRequest<'_, T>,
    ) {
        let target = request.target.into();
        let sent_at = batch.sent_at(&*self.clock);
        let mut digits = itoa::Buffer::new();
        let has_generated_id = request.msg_id.as_str().is_empty();
        let msg_id = if has_generated_id {
            let IssuedId { id, .. } = self.issue_id(source, sent_at);
            batch.set_last_issued_ms(self.ids.last_issued_ms());
            MsgId(digits.format(id))
        } else {
            request.msg_id
        };
        let group = match target {
            Target::Group(group) => Some(group),
            Target::User(_) => None,
        };
        let message = Message::new(kind, source, group, msg_id, request.text, sent_at);
        batch.push(PendingWrite {
            target,
            message: Arc::new(message),
            has_generated_id,
        });
    }
}
