//! The loop of an access server: frame, command, service, reply.

use std::sync::Arc;

use crate::command::{Command, Place};
use crate::proto::Code;
use crate::service::{Answer, Batch, Refusal, Services, Synced};
use crate::session::{CloseReason, Handler, Session};

/// A batch is stored when it holds so many answers, also when the read brought more.
const MAX_BATCH: usize = 256;

/// Answers the frames of one session.
#[derive(Debug)]
pub struct AccessHandler {
    services: Arc<Services>,
    batch: Batch,
}

impl AccessHandler {
    /// A handler for a new session.
    pub fn new(services: Arc<Services>) -> Self {
        AccessHandler {
            services,
            batch: Batch::default(),
        }
    }

    async fn execute(&mut self, session: &Arc<Session>, command: Command, uid: i64) {
        match command {
            Command::Ping(request) => {
                self.batch
                    .push(Answer::Now(self.services.ping(session, uid, &request)));
            }
            Command::P2p(request) => self.batch.push(self.services.send_p2p(uid, request).await),
            Command::Group(request) => self.batch.push(self.services.send_group(uid, request)),
            Command::Ack(request) => self.batch.push(self.services.accept(uid, request)),
            Command::Sync(request) => {
                // A sync sees the sends before it.
                self.finish(session).await;
                match self.services.sync(uid, &request).await {
                    Synced::Page { reply, end, total } => session.page(&reply, end, total),
                    Synced::Refused(reply) => session.reply(&reply),
                }
            }
            Command::Login(request) => {
                self.finish(session).await;
                session.reply(&self.services.login(session, request).await);
            }
            Command::Logout(request) => {
                self.finish(session).await;
                match self.services.logout(uid, &request) {
                    Ok(reply) => {
                        session.reply(&reply);
                        session.close(CloseReason::Logout);
                    }
                    Err(refusal) => session.reply(&refusal),
                }
            }
            // The table has it at the gateway only.
            Command::SelectAccess(_) => {}
        }
    }
}

impl Handler for AccessHandler {
    async fn frame(&mut self, session: &Arc<Session>, frame: &[u8]) {
        match Command::decode(frame, Place::Access) {
            Err(bad) => {
                tracing::debug!(session = %session.id(), uid = session.uid(), error = %bad, "bad frame");
                self.batch.push(Answer::Now(bad.reply()));
            }
            Ok((command, needs_login)) => match session.uid() {
                None if needs_login => {
                    let refusal = Refusal::plain(Code::NotLoggedIn);
                    let reply = self.services.refuse(command.reply(), refusal);
                    self.batch.push(Answer::Now(reply));
                }
                uid => {
                    self.execute(session, command, uid.unwrap_or_default())
                        .await
                }
            },
        }
        if self.batch.len() >= MAX_BATCH {
            self.finish(session).await;
        }
    }

    async fn finish(&mut self, session: &Arc<Session>) {
        if self.batch.is_empty() {
            return;
        }
        let settled = self.services.settle(std::mem::take(&mut self.batch)).await;
        for reply in &settled.replies {
            session.reply(reply);
        }
        self.services.presence().notify(&settled.grown);
    }
}
