use std::borrow::Cow;

use super::login::LoginError;
use super::{Answer, Batch, Refusal, Services};
use crate::command::Sending;
use crate::proto::Code;

/// Whom a message is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum To {
    /// One user.
    User(i64),
    /// The members of a group.
    Group(i64),
}

impl Services {
    /// Sends a message as a user who need not be logged in, on the way of any other: it is checked, meets the faults of
    /// the store, is stored, and its receivers are notified. Answers its id, a new one where `msg_id` is empty.
    ///
    /// # Errors
    ///
    /// What a client would be refused with.
    pub async fn send_as(
        &self,
        from: i64,
        to: To,
        msg_id: &str,
        text: &str,
    ) -> Result<String, Refusal> {
        if from <= 0 {
            let why = format_args!("uid {from} is not positive");
            return Err(Refusal::because(Code::RequestErr, why));
        }
        if !self.is_admitted(from).await? {
            return Err(LoginError::NoSuchUser.into());
        }
        let (To::User(target) | To::Group(target)) = to;
        let sending = Sending {
            source: from,
            target,
            msg_id: Cow::Borrowed(msg_id),
            text: Cow::Borrowed(text),
        };
        let mut batch = Batch::default();
        match to {
            To::User(_) => self.send_p2p(&mut batch, from, &sending).await,
            To::Group(_) => self.send_group(&mut batch, from, &sending),
        }
        let settled = self.store_batch((Some(from), None), batch).await;
        match settled.answers.into_iter().next() {
            Some(Answer::WhenStored(entrusted)) => Ok(entrusted.message.msg_id().to_owned()),
            Some(Answer::Now(reply)) => {
                let (code, text) = reply.verdict();
                let code = Code::from_number(code).unwrap_or(Code::ServerError);
                Err(Refusal::saying(code, text))
            }
            None => Err(Refusal::plain(Code::ServerError)),
        }
    }
}
