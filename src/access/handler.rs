//! Runs the commands of an access server: frame, command, service, reply.
//!
//! Serves the sessions of an access server, which hand over the requests of each read as one batch. The replies are in the
//! order of the requests. When the writes of a read are stored together, and when not: see "One read, one commit" in
//! docs/architecture.md.

use std::pin::pin;
use std::sync::Arc;

use tracing::Instrument;

use super::wire::{self, PageReply, PendingReplies, ReadyReply, ReplyForm, StoredReply};
use crate::command::{Command, Decoded, Listener};
use crate::directory::SessionHandle;
use crate::id::Uid;
use crate::proto::{Cmd, Code, Reply, ReqLogin, ReqSyncMsg};
use crate::service::{Caller, PendingNotifies, Refusal, Services};
use crate::session::{CloseReason, FirstNotifies, Handler, RequestBatch};

/// The limit of replies that wait for one commit. A read that brings more requests has several commits.
const MAX_PENDING_REPLIES: usize = 256;

/// Replies to the requests of the sessions of an access server.
#[derive(Debug)]
pub struct AccessHandler {
    services: Arc<Services>,
    /// Holds back the notifies that follow the logins.
    first_notifies: Arc<FirstNotifies>,
    form: ReplyForm,
}

/// A batch of requests whose handling has begun, with the replies that are not complete yet.
struct RequestsInProgress<'b, 'a> {
    requests: &'b mut RequestBatch<'a>,
    /// The replies that wait for a commit, or for an earlier reply that does.
    replies: PendingReplies,
    /// The notifies for what was stored, which the connection sends behind the replies.
    notifies: &'b mut Option<PendingNotifies>,
}

impl RequestsInProgress<'_, '_> {
    /// Returns what the services see of the session.
    fn session_handle(&self) -> Arc<dyn SessionHandle> {
        Arc::clone(self.requests.session()) as Arc<dyn SessionHandle>
    }

    /// Adds the refusal of a command, if `result` is an error. A command that was not refused is replied to after the commit.
    fn push_if_refused(&mut self, command: &Command<'_>, result: Result<(), impl Into<Refusal>>) {
        if let Err(error) = result {
            self.replies
                .push(wire::refusal(wire::success_reply(command), error.into()));
        }
    }
}

impl AccessHandler {
    /// Creates a handler that runs commands on these services. `first_notifies` belongs to the manager of its sessions.
    pub fn new(services: Arc<Services>, first_notifies: Arc<FirstNotifies>) -> Self {
        let form = ReplyForm::new(services.quirks());
        AccessHandler {
            services,
            first_notifies,
            form,
        }
    }

    /// Carries out one request. Its reply is added at once, or by the next [`commit_and_reply`](Self::commit_and_reply).
    async fn respond(&self, work: &mut RequestsInProgress<'_, '_>, request: &[u8]) {
        match Command::decode(request, Listener::Access) {
            Err(bad) => {
                tracing::debug!(error = %bad, "bad frame");
                work.replies.push(wire::bad_frame(&bad));
            }
            Ok(Decoded {
                command,
                needs_login,
            }) => match work.requests.session().uid() {
                None if needs_login => {
                    Box::pin(self.execute_without_login(work, command)).await;
                }
                uid => self.execute(work, command, uid.unwrap_or_default()).await,
            },
        }
        if work.replies.len() >= MAX_PENDING_REPLIES {
            self.commit_and_reply(work).await;
        }
    }

    /// Runs a command on behalf of `caller_uid`: the user who is logged in, or whom the quirk `login_not_required` lets a
    /// command claim to come from. A login is the only command without such a user; it does not read `caller_uid`.
    async fn execute(
        &self,
        work: &mut RequestsInProgress<'_, '_>,
        command: Command<'_>,
        caller_uid: Uid,
    ) {
        let services = &self.services;
        let writes = &mut work.replies.writes;
        match &command {
            Command::P2p(sending) => {
                let request = wire::send_request(sending);
                let sent = services.send_p2p(writes, caller_uid, &request).await;
                work.push_if_refused(&command, sent);
            }
            Command::Group(sending) => {
                let sent = services.send_group(writes, caller_uid, &wire::send_request(sending));
                work.push_if_refused(&command, sent);
            }
            Command::Accept(sending) => {
                let accepted = services.accept(writes, caller_uid, &wire::send_request(sending));
                work.push_if_refused(&command, accepted);
            }
            Command::Ping(_) => {
                let renewed = services.ping(
                    &work.session_handle(),
                    caller_uid,
                    wire::claimed_user(&command),
                );
                work.replies.push(reply_to(&command, renewed));
            }
            Command::Sync(request) => self.sync(work, &command, request, caller_uid).await,
            // Boxed, so that the future of every other request does not reserve the memory for a login.
            Command::Login(request) => Box::pin(self.log_in(work, &command, request)).await,
            Command::Logout(_) => self.log_out(work, &command, caller_uid).await,
            // Never decoded here: the table of commands allows it at the gateway only.
            Command::SelectAccess(_) => {}
        }
    }

    /// Replies with a page of the inbox of `caller_uid`.
    ///
    /// Without a login, the session is never notified of messages that the page left out, since its next page may be that
    /// of another user.
    async fn sync(
        &self,
        work: &mut RequestsInProgress<'_, '_>,
        command: &Command<'_>,
        request: &ReqSyncMsg,
        caller_uid: Uid,
    ) {
        let request = wire::sync_request(request);
        let is_logged_in = work.requests.session().uid().is_some();
        let writes = &mut work.replies.writes;
        let mark_is_in_batch =
            is_logged_in && self.services.add_read_mark(writes, caller_uid, &request);
        // Committed first, so that the page contains the messages that were sent before the sync.
        self.commit_and_reply(work).await;
        let session: &dyn SessionHandle = &**work.requests.session();
        let caller = Caller {
            uid: caller_uid,
            session: Some(session),
        };
        match self.services.sync(caller, &request, mark_is_in_batch).await {
            Ok(page) => {
                let reply = PageReply(&page);
                match is_logged_in {
                    true => work.requests.reply_page(&reply, page.current, page.total),
                    false => work.requests.reply(&reply),
                }
            }
            Err(error) => work
                .requests
                .reply(&wire::refusal(wire::success_reply(command), error.into())),
        }
    }

    async fn log_in(
        &self,
        work: &mut RequestsInProgress<'_, '_>,
        command: &Command<'_>,
        request: &ReqLogin,
    ) {
        self.commit_and_reply(work).await;
        let session = work.session_handle();
        let claimed = wire::claimed_user(command);
        let login = self.services.login(&session, claimed, &request.token).await;
        let inbox = login.as_ref().ok().map(|outcome| outcome.inbox);
        work.requests
            .reply(&self.form.apply(reply_to(command, login)));
        // The notify is written behind the reply, which clients expect as the first frame.
        if let Some(inbox) = inbox.filter(|inbox| inbox.total > inbox.read) {
            self.first_notifies.notify(work.requests.session(), &inbox);
        }
    }

    async fn log_out(
        &self,
        work: &mut RequestsInProgress<'_, '_>,
        command: &Command<'_>,
        caller_uid: Uid,
    ) {
        self.commit_and_reply(work).await;
        let done = self
            .services
            .logout(caller_uid, wire::claimed_user(command));
        let is_done = done.is_ok();
        work.requests.reply(&reply_to(command, done));
        if is_done {
            work.requests.session().close(CloseReason::Logout);
        }
    }

    /// Runs a command that needs a login before there is one: refuses it, or, with the quirk `login_not_required`, serves
    /// it for the user whom it claims to come from. The session is not bound to that user and is never notified.
    async fn execute_without_login(
        &self,
        work: &mut RequestsInProgress<'_, '_>,
        command: Command<'_>,
    ) {
        let claimed = wire::claimed_user(&command);
        match self.services.identify(command.cmd(), claimed).await {
            Ok(uid) => self.execute(work, command, uid).await,
            Err(error) => work.push_if_refused(&command, Err(error)),
        }
    }

    /// Hands the pending replies to the connection, after a commit of the writes that they wait for, if there are any.
    async fn commit_and_reply(&self, work: &mut RequestsInProgress<'_, '_>) {
        if work.replies.is_empty() {
            return;
        }
        let (writes, ready) = std::mem::take(&mut work.replies).into_parts();
        let requests = &mut *work.requests;
        let session: &dyn SessionHandle = &**requests.session();
        // Pinned here and passed by reference: it is large, and a move into another future would copy it.
        let committing = pin!(self.services.commit_batch(Some(session), writes));
        let outcome = requests.await_beside_delay(committing).await;
        let mut ready = ready.into_iter().peekable();
        for (index, (write, result)) in outcome.results().enumerate() {
            while let Some(earlier) = ready.next_if(|ready| ready.writes_before <= index) {
                requests.reply(&self.form.apply(earlier.reply));
            }
            match result {
                Ok(()) if self.form.is_plain() => requests.reply(&StoredReply(write)),
                Ok(()) => requests.reply(&self.form.apply(wire::stored_reply(write))),
                Err(error) => {
                    let refusal = wire::write_refusal(write, error.into());
                    requests.reply(&self.form.apply(refusal));
                }
            }
        }
        for ReadyReply { reply, .. } in ready {
            requests.reply(&self.form.apply(reply));
        }
        match (&mut *work.notifies, outcome.notifies) {
            (Some(earlier), Some(later)) => earlier.append(later),
            (Some(_), None) => {}
            (none, later) => *none = later,
        }
    }

    /// Does what [`respond`](Self::respond) does, in a span for the log.
    async fn respond_traced(&self, work: &mut RequestsInProgress<'_, '_>, request: &[u8]) {
        let session = work.requests.session();
        let span = tracing::debug_span!(
            "request",
            session = %session.id(),
            uid = session.uid().map(i64::from),
            cmd = Cmd::of(request).map(Cmd::name),
        );
        self.respond(work, request).instrument(span).await;
    }

    /// Does what [`commit_and_reply`](Self::commit_and_reply) does, in a span for the log.
    async fn commit_and_reply_traced(&self, work: &mut RequestsInProgress<'_, '_>) {
        let session = work.requests.session();
        let uid = session.uid().map(i64::from);
        let span = tracing::debug_span!("replies", session = %session.id(), uid);
        self.commit_and_reply(work).instrument(span).await;
    }
}

/// Returns the reply to a command whose replies have no contents: code 0, or the code of the refusal.
fn reply_to<T>(command: &Command<'_>, result: Result<T, impl Into<Refusal>>) -> Reply {
    match result {
        Ok(_) => wire::success_reply(command),
        Err(error) => wire::refusal(wire::success_reply(command), error.into()),
    }
}

impl Handler for AccessHandler {
    type Notifies = Option<PendingNotifies>;

    /// Replies to the requests of a batch. Every message is stored before it is acknowledged, and the notifies are left to
    /// the connection.
    async fn handle(
        &self,
        requests: &mut RequestBatch<'_>,
        notifies: &mut Option<PendingNotifies>,
    ) {
        // A span takes time even if nothing logs it.
        let is_traced = tracing::enabled!(tracing::Level::DEBUG);
        let mut work = RequestsInProgress {
            requests,
            replies: PendingReplies::default(),
            notifies,
        };
        while let Some(request) = work.requests.next_request() {
            match is_traced {
                false => self.respond(&mut work, request).await,
                true => Box::pin(self.respond_traced(&mut work, request)).await,
            }
        }
        match is_traced {
            false => self.commit_and_reply(&mut work).await,
            true => Box::pin(self.commit_and_reply_traced(&mut work)).await,
        }
    }

    fn refuse(&self, request: &[u8], code: Code) -> Reply {
        match Command::decode(request, Listener::Access) {
            Ok(Decoded { command, .. }) => {
                let refusal = Refusal::injected(code);
                self.services.count_refusal(command.cmd(), &refusal);
                let reply = wire::refusal(wire::success_reply(&command), refusal);
                self.form.apply(reply)
            }
            Err(bad) => wire::bad_frame(&bad),
        }
    }
}
