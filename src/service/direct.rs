use std::borrow::Cow;

use super::login::LoginError;
use super::{Answer, Batch, Refusal, Services};
use crate::command::Sending;
use crate::id::{GroupId, MsgId, Uid};
use crate::proto::Code;

/// Whom a message is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum To {
    /// One user.
    User(Uid),
    /// The members of a group.
    Group(GroupId),
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
        from: Uid,
        to: To,
        msg_id: MsgId<'_>,
        text: &str,
    ) -> Result<String, Refusal> {
        if !from.is_positive() {
            let why = format_args!("uid {from} is not positive");
            return Err(Refusal::because(Code::RequestErr, why));
        }
        if !self.is_admitted(from).await? {
            return Err(LoginError::NoSuchUser.into());
        }
        let mut batch = Batch::default();
        match to {
            To::User(uid) => {
                let sending = sending(from, uid, msg_id, text);
                self.send_p2p(&mut batch, from, &sending).await;
            }
            To::Group(group) => {
                let sending = sending(from, group, msg_id, text);
                self.send_group(&mut batch, from, &sending);
            }
        }
        let settled = self.store_batch((Some(from), None), batch).await;
        match settled.answers.into_iter().next() {
            Some(Answer::WhenStored(entrusted)) => Ok(entrusted.message.msg_id().to_string()),
            Some(Answer::Now(reply)) => {
                let (code, text) = reply.verdict();
                let code = Code::from_number(code).unwrap_or(Code::ServerError);
                Err(Refusal::saying(code, text))
            }
            None => Err(Refusal::plain(Code::ServerError)),
        }
    }
}

/// The request that a client would send.
fn sending<'a, T>(source: Uid, target: T, msg_id: MsgId<'a>, text: &'a str) -> Sending<'a, T> {
    Sending {
        source,
        target,
        msg_id: Cow::Borrowed(msg_id.as_str()),
        text: Cow::Borrowed(text),
    }
}
