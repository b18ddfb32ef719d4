//! Runs the commands of an access server: frame, command, service, reply.

use std::sync::Arc;

use tracing::Instrument;

use super::wire::{self, Acknowledgement, PageReply, PendingAnswers, ReplyForm};
use crate::command::{Command, Listener};
use crate::directory::SessionHandle;
use crate::id::Uid;
use crate::proto::{Cmd, Code, Reply, ReqLogin};
use crate::service::{Caller, PendingNotifies, Refusal, Services};
use crate::session::{CloseReason, Handler, RequestBatch, Session};

/// The most answers that wait to be stored together. A read that brings more requests is stored in several batches.
const MAX_BATCH: usize = 256;

/// Answers the frames that come to an access server.
#[derive(Debug)]
pub struct AccessHandler {
    services: Arc<Services>,
    form: ReplyForm,
}

/// What is still to be done for the requests of one read.
#[derive(Debug, Default)]
pub struct PendingWrites {
    answers: PendingAnswers,
    /// The notifies for what was stored. They are sent behind the answers, or when the turn ends.
    notifies: Option<PendingNotifies>,
}

impl AccessHandler {
    /// Creates a handler that runs commands on these services.
    pub fn new(services: Arc<Services>) -> Self {
        let form = ReplyForm::new(services.quirks());
        AccessHandler { services, form }
    }

    async fn execute(
        &self,
        batch: &mut RequestBatch<PendingWrites>,
        command: Command<'_>,
        uid: Uid,
    ) {
        let services = &self.services;
        let answers = &mut batch.pending.answers;
        match &command {
            Command::P2p(sending) => {
                let request = wire::send_request(sending);
                let sent = services.send_p2p(&mut answers.batch, uid, &request).await;
                push_refusal(answers, &command, sent);
            }
            Command::Group(sending) => {
                let request = wire::send_request(sending);
                let sent = services.send_group(&mut answers.batch, uid, &request);
                push_refusal(answers, &command, sent);
            }
            Command::Ack(sending) => {
                let request = wire::send_request(sending);
                let accepted = services.accept(&mut answers.batch, uid, &request);
                push_refusal(answers, &command, accepted);
            }
            Command::Ping(_) => {
                let session = handle(batch.session());
                let renewed = services.ping(&session, uid, wire::named_user(&command));
                batch.pending.answers.push(reply_to(&command, renewed));
            }
            Command::Sync(request) => {
                let request = wire::sync_request(request);
                let is_marked = services.mark_read(&mut answers.batch, uid, &request);
                // A sync sees the sends before it.
                self.settle(batch).await;
                let caller = Caller::on(&**batch.session());
                match services.sync(caller, uid, &request, is_marked).await {
                    Ok(page) => {
                        let reply = PageReply { uid, page: &page };
                        batch.reply_page(&reply, page.current, page.total);
                    }
                    Err(error) => batch.reply(&wire::refused(command.reply(), error.into())),
                }
            }
            Command::Login(request) => {
                self.settle(batch).await;
                // In a box: the turns that come after it should not carry the room for it.
                Box::pin(self.log_in(batch, &command, request)).await;
            }
            Command::Logout(_) => {
                self.settle(batch).await;
                let done = services.logout(uid, wire::named_user(&command));
                let is_done = done.is_ok();
                batch.reply(&reply_to(&command, done));
                if is_done {
                    batch.session().close(CloseReason::Logout);
                }
            }
            // The table has it at the gateway only.
            Command::SelectAccess(_) => {}
        }
    }

    async fn log_in(
        &self,
        batch: &mut RequestBatch<PendingWrites>,
        command: &Command<'_>,
        request: &ReqLogin,
    ) {
        let session = handle(batch.session());
        let login = self
            .services
            .login(&session, wire::named_user(command), &request.token);
        let login = login.await;
        let inbox = login.as_ref().ok().map(|outcome| outcome.inbox);
        batch.reply(&self.form.apply(reply_to(command, login)));
        // The notify is written behind the reply, which clients expect as the first frame.
        if let Some(inbox) = inbox.filter(|inbox| inbox.total > inbox.read) {
            session.notify(&inbox);
        }
    }

    /// Runs a command that needs a login before there is one: refuses it, or, with the quirk `login_not_required`, serves
    /// it for the user whom it names.
    ///
    /// The session remains nobody's: it is never notified, also not of what a page left behind, since its next page may
    /// be another user's.
    async fn execute_without_login(
        &self,
        batch: &mut RequestBatch<PendingWrites>,
        command: Command<'_>,
    ) {
        let services = &self.services;
        let named = wire::named_user(&command);
        let uid = match services.identify(command.cmd(), named).await {
            Ok(uid) => uid,
            Err(error) => {
                let refused = wire::refused(command.reply(), error.into());
                return batch.pending.answers.push(refused);
            }
        };
        match &command {
            Command::Sync(request) => {
                self.settle(batch).await;
                let request = wire::sync_request(request);
                let caller = Caller::on(&**batch.session());
                match services.sync(caller, uid, &request, false).await {
                    Ok(page) => batch.reply(&PageReply { uid, page: &page }),
                    Err(error) => batch.reply(&wire::refused(command.reply(), error.into())),
                }
            }
            _ => self.execute(batch, command, uid).await,
        }
    }

    async fn take(&self, batch: &mut RequestBatch<PendingWrites>, frame: &[u8]) {
        match Command::decode(frame, Listener::Access) {
            Err(bad) => {
                tracing::debug!(error = %bad, "bad frame");
                batch.pending.answers.push(bad.reply());
            }
            Ok((command, needs_login)) => match batch.session().uid() {
                None if needs_login => {
                    Box::pin(self.execute_without_login(batch, command)).await;
                }
                uid => {
                    self.execute(batch, command, uid.unwrap_or_default()).await;
                }
            },
        }
        if batch.pending.answers.len() >= MAX_BATCH {
            self.settle(batch).await;
        }
    }

    /// Stores what the pending answers wait for, and answers.
    async fn settle(&self, batch: &mut RequestBatch<PendingWrites>) {
        if batch.pending.answers.is_empty() {
            return;
        }
        let (writes, ready) = std::mem::take(&mut batch.pending.answers).into_parts();
        let caller = Caller::on(&**batch.session());
        let outcome = self.services.commit_batch(caller, writes).await;
        let mut ready = ready.into_iter().peekable();
        for (index, (write, result)) in outcome.results().enumerate() {
            while let Some((_, reply)) = ready.next_if(|(writes, _)| *writes <= index) {
                batch.reply(&self.form.apply(reply));
            }
            match result {
                Ok(()) if self.form.is_plain() => batch.reply(&Acknowledgement(write)),
                Ok(()) => batch.reply(&self.form.apply(wire::acknowledgement(write))),
                Err(error) => {
                    let refused = wire::refused_write(write, error.into());
                    batch.reply(&self.form.apply(refused));
                }
            }
        }
        for (_, reply) in ready {
            batch.reply(&self.form.apply(reply));
        }
        match (&mut batch.pending.notifies, outcome.notifies) {
            (Some(earlier), Some(later)) => earlier.append(later),
            (Some(_), None) => {}
            (none, later) => *none = later,
        }
    }
}

/// Returns what the services see of a session.
fn handle(session: &Arc<Session>) -> Arc<dyn SessionHandle> {
    Arc::clone(session) as Arc<dyn SessionHandle>
}

/// Returns the reply to a command that answers 0 or a code, and nothing else.
fn reply_to<T>(command: &Command<'_>, result: Result<T, impl Into<Refusal>>) -> Reply {
    match result {
        Ok(_) => command.reply(),
        Err(error) => wire::refused(command.reply(), error.into()),
    }
}

/// Adds the refusal of a command whose answer waits for the batch otherwise.
fn push_refusal(
    answers: &mut PendingAnswers,
    command: &Command<'_>,
    result: Result<(), impl Into<Refusal>>,
) {
    if let Err(error) = result {
        answers.push(wire::refused(command.reply(), error.into()));
    }
}

impl Handler for AccessHandler {
    type Pending = PendingWrites;

    async fn frame(&self, batch: &mut RequestBatch<PendingWrites>, frame: &[u8]) {
        // As at the gateway.
        if !tracing::enabled!(tracing::Level::DEBUG) {
            return self.take(batch, frame).await;
        }
        let session = batch.session();
        let span = tracing::debug_span!(
            "request",
            session = %session.id(),
            uid = session.uid().map(i64::from),
            cmd = Cmd::of(frame).map(Cmd::name),
        );
        Box::pin(self.take(batch, frame)).instrument(span).await;
    }

    async fn finish(&self, batch: &mut RequestBatch<PendingWrites>) {
        if !tracing::enabled!(tracing::Level::DEBUG) {
            return self.settle(batch).await;
        }
        let session = batch.session();
        let uid = session.uid().map(i64::from);
        let span = tracing::debug_span!("answers", session = %session.id(), uid);
        Box::pin(self.settle(batch)).instrument(span).await;
    }

    fn refuse(&self, reply: Reply, code: Code) -> Reply {
        let refusal = Refusal::injected(code);
        self.services.count_refusal(reply.cmd(), &refusal);
        self.form.apply(wire::refused(reply, refusal))
    }

    /// Stored, acknowledged, notified: in this order.
    fn answered(&self, pending: PendingWrites) {
        drop(pending.notifies);
    }
}
