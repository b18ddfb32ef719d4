//! The behaviours of the original stack that a config can switch on, as far as they concern the services.
//!
//! Serves `batch` and `message`, which come here only while a switch of `[quirks]` is on. The quirks of the replies belong
//! to the access server. docs/quirks.md says what a client sees of each.

use std::sync::Arc;

use super::announced::Announced;
use super::{PendingWrite, Services, Target};
use crate::id::{Uid, Version};
use crate::store::{InboxState, Kind, Page, PageLimit, StoreError};

impl Services {
    /// Returns whether the quirk `notify_before_store` is on.
    pub(super) fn notifies_before_store(&self) -> bool {
        self.quirks.notify_before_store
    }

    /// Notifies the receivers of messages that are about to be stored, and waits for the gap if one of them has a session.
    ///
    /// The versions are a guess, as in the original stack: they are wrong if a message is a duplicate, or if another message
    /// is stored first.
    pub(super) async fn announce(&self, writes: &[PendingWrite]) -> Announced {
        let expected = self.expected_inboxes(writes).await;
        // The timer begins before anyone is notified, since a client may move a manual clock as soon as it is notified.
        let gap = self.quirks.notify_gap;
        let mut gap = (!gap.is_zero()).then(|| self.clock.ticks(gap));
        let mut inboxes = Vec::new();
        for inbox in expected {
            if self.directory.look_up(inbox.uid).await.is_some() {
                self.directory.notify(&[inbox]);
                inboxes.push(inbox);
            }
        }
        if inboxes.is_empty() {
            gap = None;
        }
        if let Some(gap) = &mut gap {
            tokio::select! {
                _ = gap.tick() => {}
                () = self.delays.cancelled() => {}
            }
        }
        Announced { inboxes, gap }
    }

    /// Returns how far the inboxes of the receivers will go if each message to one user is stored as the next one.
    async fn expected_inboxes(&self, writes: &[PendingWrite]) -> Vec<InboxState> {
        let mut inboxes: Vec<InboxState> = Vec::new();
        for write in writes {
            let Target::User(uid) = write.target else {
                continue;
            };
            if write.message.kind != Kind::P2p {
                continue;
            }
            if let Some(inbox) = inboxes.iter_mut().find(|inbox| inbox.uid == uid) {
                inbox.total += 1;
            } else if let Ok(InboxState { read, total, .. }) = self.messages.inbox_state(uid).await
            {
                let total = total + 1;
                inboxes.push(InboxState { uid, read, total });
            }
        }
        inboxes
    }

    /// Returns whether one of the quirks `sync_inclusive` and `sync_drops_group_id` is on.
    pub(super) fn has_page_quirks(&self) -> bool {
        self.quirks.sync_inclusive || self.quirks.sync_drops_group_id
    }

    /// Returns a page as the original stack would, by the quirks that are on.
    ///
    /// # Errors
    ///
    /// [`StoreError`], when the store can't read the inbox.
    pub(super) async fn page_with_quirks(
        &self,
        uid: Uid,
        after: Version,
        limit: PageLimit,
    ) -> Result<Page, StoreError> {
        let mut page = if self.quirks.sync_inclusive && after > Version::START {
            self.inclusive_page(uid, after, limit).await?
        } else {
            self.messages.read_page(uid, after, limit).await?
        };
        if self.quirks.sync_drops_group_id {
            for entry in &mut page.entries {
                Arc::make_mut(&mut entry.message).clear_group();
            }
        }
        Ok(page)
    }

    /// Returns the page that begins with version `after` itself.
    ///
    /// If there is nothing newer, or no room for it in that page, the page begins after `after` instead. Otherwise a client
    /// that reads until it gets an empty page would never stop.
    async fn inclusive_page(
        &self,
        uid: Uid,
        after: Version,
        limit: PageLimit,
    ) -> Result<Page, StoreError> {
        // This read moves the read mark to `after`, as the request asks. The read from `after - 1` below can't move it back.
        let next = self.messages.read_page(
            uid,
            after,
            PageLimit {
                entries: 1,
                ..limit
            },
        );
        if next.await?.entries.is_empty() {
            return self.messages.read_page(uid, after, limit).await;
        }
        let page = self.messages.read_page(uid, after - 1, limit).await?;
        let begins = page.entries.first().map(|entry| entry.version);
        if begins == Some(after) && page.current > after {
            return Ok(page);
        }
        self.messages.read_page(uid, after, limit).await
    }
}
