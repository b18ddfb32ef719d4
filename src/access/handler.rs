//! The loop of an access server: frame, command, service, reply.

use std::sync::Arc;

use tracing::Instrument;

use crate::command::{Command, Place};
use crate::id::Uid;
use crate::proto::{Cmd, Code, Reply};
use crate::service::{Answer, Batch, OwedNotifies, Refusal, Services};
use crate::session::{CloseReason, Handler, Turn};

/// A batch is stored when it holds so many answers, also when the read brought more.
const MAX_BATCH: usize = 256;

/// Answers the frames that come to an access server.
#[derive(Debug)]
pub struct AccessHandler {
    services: Arc<Services>,
}

/// What is still to be done in a turn.
#[derive(Debug, Default)]
pub struct Open {
    batch: Batch,
    /// What the receivers of what is stored are told, after the answers or with the end of the turn.
    notifies: Option<OwedNotifies>,
}

impl AccessHandler {
    /// A handler with these services.
    pub fn new(services: Arc<Services>) -> Self {
        AccessHandler { services }
    }

    async fn execute(&self, turn: &mut Turn<Open>, command: Command<'_>, uid: Uid) {
        let services = &self.services;
        match command {
            Command::Ping(request) => {
                let reply = services.ping(turn.session(), uid, &request);
                turn.open.batch.push(Answer::now(reply));
            }
            Command::P2p(sending) => {
                services.send_p2p(&mut turn.open.batch, uid, &sending).await;
            }
            Command::Group(sending) => {
                services.send_group(&mut turn.open.batch, uid, &sending);
            }
            Command::Ack(sending) => services.accept(&mut turn.open.batch, uid, &sending),
            Command::Sync(request) => {
                let is_marked = services.mark_read(&mut turn.open.batch, uid, &request);
                // A sync sees the sends before it.
                self.settle(turn).await;
                match services
                    .sync(turn.session(), uid, &request, is_marked)
                    .await
                {
                    Ok(page) => turn.page(&page, page.end(), page.total()),
                    Err(refusal) => turn.reply(&refusal),
                }
            }
            Command::Login(request) => {
                self.settle(turn).await;
                // In a box: the turns that come after it should not carry the room for it.
                let reply = Box::pin(services.login(turn.session(), request)).await;
                turn.reply(&reply);
            }
            Command::Logout(request) => {
                self.settle(turn).await;
                match services.logout(uid, &request) {
                    Ok(reply) => {
                        turn.reply(&reply);
                        turn.session().close(CloseReason::Logout);
                    }
                    Err(refusal) => turn.reply(&refusal),
                }
            }
            // The table has it at the gateway only.
            Command::SelectAccess(_) => {}
        }
    }

    /// Quirk `login_not_required`: serves a command for the user whom it names. The session remains nobody's: it is
    /// never notified, also not of what a page left behind, since its next page may be another user's.
    async fn execute_for_named(&self, turn: &mut Turn<Open>, command: Command<'_>) {
        let services = &self.services;
        let uid = match services.named(&command).await {
            Ok(uid) => uid,
            Err(refusal) => return self.refuse(turn, &command, refusal),
        };
        match command {
            Command::Sync(request) => {
                self.settle(turn).await;
                match services.sync(turn.session(), uid, &request, false).await {
                    Ok(page) => turn.reply(&page),
                    Err(refusal) => turn.reply(&refusal),
                }
            }
            other => self.execute(turn, other, uid).await,
        }
    }

    async fn take(&self, turn: &mut Turn<Open>, frame: &[u8]) {
        let session = turn.session();
        match Command::decode(frame, Place::Access) {
            Err(bad) => {
                tracing::debug!(error = %bad, "bad frame");
                turn.open.batch.push(Answer::now(bad.reply()));
            }
            Ok((command, needs_login)) => match session.uid() {
                None if needs_login && self.services.quirks().login_not_required => {
                    Box::pin(self.execute_for_named(turn, command)).await;
                }
                None if needs_login => {
                    self.refuse(turn, &command, Refusal::plain(Code::NotLoggedIn));
                }
                uid => {
                    self.execute(turn, command, uid.unwrap_or_default()).await;
                }
            },
        }
        if turn.open.batch.len() >= MAX_BATCH {
            self.settle(turn).await;
        }
    }

    /// Stores what is open, and answers it.
    async fn settle(&self, turn: &mut Turn<Open>) {
        if turn.open.batch.is_empty() {
            return;
        }
        let batch = std::mem::take(&mut turn.open.batch);
        let settled = self.services.settle(turn.session(), batch).await;
        for answer in &settled.answers {
            turn.reply(answer);
        }
        match (&mut turn.open.notifies, settled.notifies) {
            (Some(earlier), Some(later)) => earlier.append(later),
            (Some(_), None) => {}
            (none, later) => *none = later,
        }
    }

    fn refuse(&self, turn: &mut Turn<Open>, command: &Command<'_>, refusal: Refusal) {
        let reply = self.services.refuse(command.reply(), refusal);
        turn.open.batch.push(Answer::now(reply));
    }
}

impl Handler for AccessHandler {
    type Open = Open;

    async fn frame(&self, turn: &mut Turn<Open>, frame: &[u8]) {
        // As at the gateway.
        if !tracing::enabled!(tracing::Level::DEBUG) {
            return self.take(turn, frame).await;
        }
        let session = turn.session();
        let span = tracing::debug_span!(
            "request",
            session = %session.id(),
            uid = session.uid().map(i64::from),
            cmd = Cmd::of(frame).map(Cmd::name),
        );
        Box::pin(self.take(turn, frame)).instrument(span).await;
    }

    async fn finish(&self, turn: &mut Turn<Open>) {
        if !tracing::enabled!(tracing::Level::DEBUG) {
            return self.settle(turn).await;
        }
        let session = turn.session();
        let uid = session.uid().map(i64::from);
        let span = tracing::debug_span!("answers", session = %session.id(), uid);
        Box::pin(self.settle(turn)).instrument(span).await;
    }

    fn refuse(&self, reply: Reply, code: Code) -> Reply {
        let services = &self.services;
        services.reworded(services.refuse(reply, Refusal::by_fault(code)))
    }

    /// Stored, acknowledged, notified: in this order.
    fn answered(&self, open: Open) {
        drop(open.notifies);
    }
}
