use std::sync::Arc;

use bytes::BytesMut;

use super::commit::Stored;
use super::{OwedNotifies, Refusal, Services};
use crate::clock::Clock;
use crate::id::{Uid, Version};
use crate::lab::{Action, Site};
use crate::proto::fields::Fields;
use crate::proto::{Cmd, Code, Payload, Reply};
use crate::session::Session;
use crate::store::{Kind, Message, Write};

/// What a service says to a request.
#[derive(Debug)]
pub enum Answer {
    /// This, now. In a box: most answers are the other one, which is small.
    Now(Box<Reply>),
    /// 0, once it is stored; its refusal otherwise.
    WhenStored(Entrusted),
}

impl Answer {
    /// This reply, now.
    pub fn now(reply: Reply) -> Self {
        Answer::Now(Box::new(reply))
    }

    fn write(&self) -> Option<Write> {
        self.entrusted().map(Entrusted::write)
    }

    /// What is to be stored first.
    pub(super) fn entrusted(&self) -> Option<&Entrusted> {
        match self {
            Answer::Now(_) => None,
            Answer::WhenStored(entrusted) => Some(entrusted),
        }
    }

    /// The answer as a message of its own.
    pub(super) fn into_reply(self) -> Reply {
        match self {
            Answer::Now(reply) => *reply,
            Answer::WhenStored(entrusted) => entrusted.reply(),
        }
    }
}

/// What a request has brought to be stored. As an answer it is 0, with the request's ids.
#[derive(Debug)]
pub struct Entrusted {
    /// Whose inbox or which group it is for.
    pub target: i64,
    /// The message, of any kind.
    pub message: Arc<Message>,
    /// Whether the request has brought no id, so that the server gave the message one. Only a message that is stored has
    /// it: a refusal names the ids of the request.
    pub has_made_id: bool,
}

/// The answers to the requests of one read, in their order, and all that has to be stored for them.
#[derive(Debug, Default)]
pub struct Batch {
    answers: Vec<Answer>,
    /// A read mark that the next request is about to set.
    read: Option<Write>,
    /// How far ids have come, where one was given to a message of this batch.
    ids: Option<Write>,
    /// When its first message was taken in; the others were there too.
    sent_at: Option<i64>,
}

/// A batch when everything of it is stored or refused.
#[derive(Debug)]
pub struct Settled {
    /// The answers, in the order of the requests.
    pub answers: Vec<Answer>,
    /// What the receivers are told. It is dropped, and so sent, after the answers were queued.
    pub notifies: Option<OwedNotifies>,
}

impl Batch {
    /// Adds the next answer.
    pub fn push(&mut self, answer: Answer) {
        self.answers.push(answer);
    }

    /// Stores a read mark together with what has to be stored anyway: the sync that follows need not.
    pub(super) fn mark_read(&mut self, uid: Uid, after: Version) {
        self.read = (after > Version::START).then_some(Write::Read { uid, after });
    }

    /// Stores how far ids have come together with the messages that they are given to.
    pub(super) fn ids_reached(&mut self, reached: i64) {
        self.ids = Some(Write::Ids { reached });
    }

    /// When its messages are sent: Unix time in milliseconds.
    pub(super) fn sent_at(&mut self, clock: &dyn Clock) -> i64 {
        *self.sent_at.get_or_insert_with(|| clock.unix_ms())
    }

    /// How many answers it holds.
    pub fn len(&self) -> usize {
        self.answers.len()
    }

    /// Whether it holds none.
    pub fn is_empty(&self) -> bool {
        self.answers.is_empty()
    }
}

impl Entrusted {
    fn write(&self) -> Write {
        let target = self.target;
        let message = Arc::clone(&self.message);
        match message.kind {
            Kind::P2p => Write::P2p {
                target: Uid(target),
                message,
            },
            Kind::Group => Write::Group { message },
            Kind::Ack => Write::Ack {
                target: Uid(target),
                message,
            },
        }
    }

    /// The same answer as a message of its own.
    fn reply(&self) -> Reply {
        self.reply_with(self.message.msg_id().as_str())
    }

    /// The answer for the code of a refusal to be put into.
    fn unstored(&self) -> Reply {
        self.reply_with(match self.has_made_id {
            true => "",
            false => self.message.msg_id().as_str(),
        })
    }

    fn reply_with(&self, msg_id: &str) -> Reply {
        let message = &self.message;
        match message.kind {
            Kind::P2p => Reply::p2p(message.source.0, self.target, msg_id),
            Kind::Group => Reply::group(self.target, msg_id),
            Kind::Ack => Reply::ack(),
        }
    }
}

impl Payload for Entrusted {
    fn encode_payload(&self, dst: &mut BytesMut) {
        let message = &self.message;
        match message.kind {
            Kind::P2p => {
                let mut fields = Fields::done(Cmd::SendP2PMsg, dst);
                fields.number(5, message.source.0);
                fields.number(6, self.target);
                fields.text(7, message.msg_id().as_str());
            }
            Kind::Group => {
                let mut fields = Fields::done(Cmd::SendGroupMsg, dst);
                fields.number(5, self.target);
                fields.text(6, message.msg_id().as_str());
            }
            Kind::Ack => drop(Fields::done(Cmd::AcceptP2PMsgAck, dst)),
        }
    }
}

impl Payload for Answer {
    fn encode_payload(&self, dst: &mut BytesMut) {
        match self {
            Answer::Now(reply) => reply.encode_payload(dst),
            Answer::WhenStored(entrusted) => entrusted.encode_payload(dst),
        }
    }
}

impl Services {
    /// Stores what a batch has to store, as one commit, and says how to answer.
    pub async fn settle(&self, session: &Session, batch: Batch) -> Settled {
        let from = (session.uid(), Some(session));
        let mut settled = self.store_batch(from, batch).await;
        if self.has_odd_replies() {
            self.reword(&mut settled.answers);
        }
        settled
    }

    /// Stores what a batch of this user has to store, on this session if it came on one.
    pub(super) async fn store_batch(
        &self,
        (uid, session): (Option<Uid>, Option<&Session>),
        batch: Batch,
    ) -> Settled {
        let Batch {
            mut answers,
            read,
            ids,
            ..
        } = batch;
        let mut writes = Vec::with_capacity(answers.len() + 2);
        writes.extend(answers.iter().filter_map(Answer::write));
        if writes.is_empty() {
            return Settled {
                answers,
                notifies: None,
            };
        }
        let mut announced = if self.announces() {
            Some(Box::pin(self.announce(&answers)).await)
        } else {
            None
        };
        let entrusted = writes.len();
        // Last, so that the results are those of the answers.
        writes.extend(read);
        writes.extend(ids);
        // Quirk `login_not_required`: the session is nobody's, and what it brought is somebody's.
        let source = |answer: &Answer| Some(answer.entrusted()?.message.source);
        let uid = uid.or_else(|| answers.iter().find_map(source));
        let met = self.meet(Site::StoreWrite, (uid, session), |_| true);
        let met = match &mut announced {
            Some(announced) => Box::pin(announced.beside(met)).await,
            None => met.await,
        };
        let committed = match met {
            Some(Action::Error(code)) => Err(Refusal::by_fault(code)),
            // They are told that it is stored, and it is not.
            Some(Action::Drop) => {
                let entrusted = |answer: &&Answer| matches!(answer, Answer::WhenStored(_));
                self.audit
                    .lost(answers.iter().filter(entrusted).count() as u64);
                Ok(Stored {
                    results: vec![Ok(()); writes.len()],
                    notifies: None,
                })
            }
            _ => {
                let commit = self.committer.commit(writes, entrusted, announced);
                commit.await.map_err(Refusal::from)
            }
        };
        let (mut results, notifies, failed) = match committed {
            Ok(Stored { results, notifies }) => (results.into_iter(), notifies, None),
            Err(failed) => (Vec::new().into_iter(), None, Some(failed)),
        };
        for answer in &mut answers {
            let Answer::WhenStored(entrusted) = answer else {
                continue;
            };
            let refusal = match (results.next(), &failed) {
                (Some(Ok(())), _) => continue,
                (Some(Err(rejected)), _) => rejected.into(),
                (None, Some(failed)) => failed.clone(),
                (None, None) => Refusal::plain(Code::ServerError),
            };
            *answer = Answer::now(self.refuse(entrusted.unstored(), refusal));
        }
        Settled { answers, notifies }
    }

    /// Answers with a refusal, and counts it.
    pub fn refuse(&self, reply: Reply, refusal: impl Into<Refusal>) -> Reply {
        let refusal = refusal.into();
        self.audit.refused(&reply, &refusal);
        if reply.cmd() == Cmd::Login {
            self.metrics.login_refused(refusal.code);
        }
        tracing::debug!(code = refusal.code.number(), why = refusal.text, "refused");
        refusal.into_reply(reply)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::id::{GroupId, MsgId};

    #[test]
    fn what_was_stored_is_answered_byte_for_byte_as_the_contract_has_it() {
        let all = [Kind::P2p, Kind::Group, Kind::Ack].map(|kind| Entrusted {
            target: 50,
            message: Arc::new(Message::new(
                kind,
                Uid(1),
                Some(GroupId(50)),
                MsgId("an id"),
                "a text",
                7,
            )),
            has_made_id: false,
        });
        for entrusted in all {
            let (mut short, mut long) = (BytesMut::new(), BytesMut::new());
            entrusted.encode_payload(&mut short);
            entrusted.reply().encode_payload(&mut long);
            assert_eq!(short, long);
        }
    }
}
