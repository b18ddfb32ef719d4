//! Where the services behave as the original does: one place for each switch of `[quirks]`. What a client sees of it is
//! in docs/quirks.md.

use std::sync::Arc;

use super::login::LoginError;
use super::{Answer, Refusal, Services, Suspended};
use crate::clock::{Ticks, beside};
use crate::command::Command;
use crate::id::{Uid, Version};
use crate::proto::{Code, Reply};
use crate::store::{Kind, Level, Page, PageLimit, StoreFailed};

/// What was notified before it was stored.
pub(super) struct Announced {
    levels: Vec<Level>,
    /// Kept until the store has answered: that is the work of its tick, and who moves the clock by hand waits for it.
    gap: Option<Box<dyn Ticks>>,
}

impl Announced {
    /// Does what waits for the clock itself: whoever moves it can't wait for that.
    pub(super) async fn beside<T>(&mut self, work: impl Future<Output = T>) -> T {
        match &mut self.gap {
            Some(gap) => beside(gap.as_mut(), work).await,
            None => work.await,
        }
    }

    /// Takes out what need not be notified any more.
    pub(super) fn take_from(self, grown: &mut Vec<Level>) {
        grown.retain(|level| {
            let told = |told: &Level| told.uid == level.uid && told.total >= level.total;
            !self.levels.iter().any(told)
        });
    }
}

impl Services {
    /// Quirk `notify_before_store`.
    pub(super) fn announces(&self) -> bool {
        self.quirks.notify_before_store
    }

    /// Notifies the receivers of what is about to be stored, and waits for the gap if one of them is there. A message
    /// that was there already, or that another overtakes, makes the level a wrong guess; the original's is one too.
    pub(super) async fn announce(&self, answers: &[Answer]) -> Announced {
        let mut levels: Vec<Level> = Vec::new();
        for entrusted in answers.iter().filter_map(Answer::entrusted) {
            let uid = Uid(entrusted.target);
            if entrusted.message.kind != Kind::P2p {
                continue;
            }
            if let Some(level) = levels.iter_mut().find(|level| level.uid == uid) {
                level.total += 1;
            } else if let Ok(Level { read, total, .. }) = self.store.level(uid).await {
                let total = total + 1;
                levels.push(Level { uid, read, total });
            }
        }
        // Begun before anyone is told: who is told may move the clock at once.
        let gap = self.quirks.notify_gap;
        let mut gap = (!gap.is_zero()).then(|| self.clock.ticks(gap));
        levels.retain(|level| self.presence.tell(level));
        if levels.is_empty() {
            gap = None;
        }
        if let Some(gap) = &mut gap {
            tokio::select! {
                _ = gap.tick() => {}
                () = self.delays.cancelled() => {}
            }
        }
        Announced { levels, gap }
    }

    /// Cancels the delays of all requests, now and from now on, for a shutdown: what waits in a gap is stored at once.
    pub fn end_delays(&self) {
        self.delays.end();
    }

    /// Cancels the delays of all requests, now and until the guard is dropped.
    pub fn suspend_delays(&self) -> Suspended<'_> {
        self.delays.suspend()
    }

    /// Quirks `sync_inclusive` and `sync_drops_group_id`.
    pub(super) fn has_odd_pages(&self) -> bool {
        self.quirks.sync_inclusive || self.quirks.sync_drops_group_id
    }

    /// A page as the original has it.
    pub(super) async fn odd_page(
        &self,
        uid: Uid,
        after: Version,
        limit: PageLimit,
    ) -> Result<Page, StoreFailed> {
        let mut page = if self.quirks.sync_inclusive && after > Version::START {
            self.inclusive_page(uid, after, limit).await?
        } else {
            self.store.sync(uid, after, limit).await?
        };
        if self.quirks.sync_drops_group_id {
            for entry in &mut page.entries {
                Arc::make_mut(&mut entry.message).clear_group();
            }
        }
        Ok(page)
    }

    /// The page that begins with version `after`, where there is something newer and the page has room for it: else who
    /// reads on until nothing is left would never end.
    async fn inclusive_page(
        &self,
        uid: Uid,
        after: Version,
        limit: PageLimit,
    ) -> Result<Page, StoreFailed> {
        // This one moves the read mark, as far as the request says.
        let next = self.store.sync(
            uid,
            after,
            PageLimit {
                entries: 1,
                ..limit
            },
        );
        if next.await?.entries.is_empty() {
            return self.store.sync(uid, after, limit).await;
        }
        let page = self.store.sync(uid, after - 1, limit).await?;
        let begins = page.entries.first().map(|entry| entry.version);
        if begins == Some(after) && page.current > after {
            return Ok(page);
        }
        self.store.sync(uid, after, limit).await
    }

    /// Quirks `no_msg_id_in_replies` and `replies_as_schema`.
    pub(super) fn has_odd_replies(&self) -> bool {
        self.quirks.no_msg_id_in_replies || self.quirks.replies_as_schema
    }

    /// The same answers as the quirks have them.
    pub(super) fn reword(&self, answers: &mut Vec<Answer>) {
        let reworded = answers
            .drain(..)
            .map(|answer| self.reworded(answer.into_reply()));
        *answers = reworded.map(Answer::now).collect();
    }

    /// The same for one.
    pub fn reworded(&self, mut reply: Reply) -> Reply {
        if self.quirks.no_msg_id_in_replies {
            reply = reply.without_ids();
        }
        if self.quirks.replies_as_schema {
            reply = reply.as_schema();
        }
        reply
    }

    /// Quirk `login_not_required`: for whom a command is that comes before the login. Who could not log in is not served.
    ///
    /// # Errors
    ///
    /// The refusal, when it names nobody, or one who may not take part.
    pub async fn named(&self, command: &Command<'_>) -> Result<Uid, Refusal> {
        let uid = match command {
            Command::Ping(request) => Uid(request.uid),
            Command::Sync(request) => Uid(request.uid),
            Command::Logout(request) => Uid(request.uid),
            Command::P2p(sending) | Command::Ack(sending) => sending.source,
            Command::Group(sending) => sending.source,
            Command::SelectAccess(_) | Command::Login(_) => Uid::default(),
        };
        if !uid.is_positive() {
            return Err(Refusal::plain(Code::NotLoggedIn));
        }
        if !self.is_admitted(uid).await? {
            return Err(LoginError::NoSuchUser.into());
        }
        Ok(uid)
    }
}
