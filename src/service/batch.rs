use std::sync::atomic::Ordering;

use super::{Refusal, Services};
use crate::proto::{Code, Reply};
use crate::store::{Committed, Level, Write};

/// What a service says to a request.
#[derive(Debug)]
pub enum Answer {
    /// This, now.
    Now(Reply),
    /// This, once the write is stored; its refusal otherwise.
    WhenStored(Reply, Write),
}

/// The answers to the requests of one read, in their order, and all that has to be stored for them.
#[derive(Debug, Default)]
pub struct Batch {
    replies: Vec<Open>,
    writes: Vec<Write>,
}

#[derive(Debug)]
enum Open {
    Ready(Reply),
    Waiting(Reply),
}

/// A batch when everything of it is stored or refused.
#[derive(Debug)]
pub struct Settled {
    /// The replies, in the order of the requests.
    pub replies: Vec<Reply>,
    /// The inboxes that have grown: their users are to be notified after the replies were queued.
    pub grown: Vec<Level>,
}

impl Batch {
    /// Adds the next answer.
    pub fn push(&mut self, answer: Answer) {
        match answer {
            Answer::Now(reply) => self.replies.push(Open::Ready(reply)),
            Answer::WhenStored(reply, write) => {
                self.replies.push(Open::Waiting(reply));
                self.writes.push(write);
            }
        }
    }

    /// How many answers it holds.
    pub fn len(&self) -> usize {
        self.replies.len()
    }

    /// Whether it holds none.
    pub fn is_empty(&self) -> bool {
        self.replies.is_empty()
    }
}

impl Services {
    /// Stores what a batch has to store, as one commit, and says how to answer.
    pub async fn settle(&self, batch: Batch) -> Settled {
        if batch.writes.is_empty() {
            let replies = batch
                .replies
                .into_iter()
                .map(|(Open::Ready(reply) | Open::Waiting(reply))| reply);
            return Settled {
                replies: replies.collect(),
                grown: Vec::new(),
            };
        }
        let committed = self.store.commit(batch.writes).await;
        let (mut results, grown, failed) = match committed {
            Ok(Committed { results, grown }) => (results.into_iter(), grown, None),
            Err(failed) => (
                Vec::new().into_iter(),
                Vec::new(),
                Some(Refusal::from(failed)),
            ),
        };
        let replies = batch.replies.into_iter().map(|open| match open {
            Open::Ready(reply) => reply,
            Open::Waiting(reply) => match (results.next(), &failed) {
                (Some(Ok(())), _) => reply,
                (Some(Err(rejected)), _) => self.refuse(reply, rejected.into()),
                (None, Some(failed)) => self.refuse(reply, failed.clone()),
                (None, None) => self.refuse(reply, Refusal::plain(Code::ServerError)),
            },
        });
        Settled {
            replies: replies.collect(),
            grown,
        }
    }

    /// Answers with a refusal, and counts it if a message was refused.
    pub fn refuse(&self, reply: Reply, refusal: Refusal) -> Reply {
        if matches!(reply, Reply::P2p(_) | Reply::Group(_)) {
            self.refused.fetch_add(1, Ordering::Relaxed);
        }
        refusal.into_reply(reply)
    }
}
