//! Sends messages on behalf of users who need not be logged in.
//!
//! Serves the admin API. Such a message takes the same way as that of a client: it is checked, faults of the store apply to
//! it, it is stored in a batch of its own, and its receivers are notified.

use super::{SendError, SendRequest, Services, Target, WriteBatch};
use crate::id::{MsgId, Uid};
use crate::store::StoreError;

/// Why a message on behalf of a user was not sent.
#[derive(Debug, thiserror::Error)]
pub enum DirectSendError {
    /// UIDs are positive.
    #[error("uid {0} is not positive")]
    BadSender(Uid),
    /// Only registered users send, and the sender is not registered.
    #[error("no such user")]
    NoSuchSender,
    /// The message was refused as that of a logged-in client would be.
    #[error(transparent)]
    Send(#[from] SendError),
}

impl From<StoreError> for DirectSendError {
    fn from(failed: StoreError) -> Self {
        DirectSendError::Send(failed.into())
    }
}

impl Services {
    /// Sends a message as user `from`, as if a client who is logged in as that user had sent it.
    ///
    /// Returns the id of the message: that of the request, or a new one if it has none.
    ///
    /// # Errors
    ///
    /// [`DirectSendError`]. Nothing was stored then, unless the store has failed: in that case it is not known.
    pub async fn send_as(
        &self,
        from: Uid,
        to: Target,
        msg_id: MsgId<'_>,
        text: &str,
    ) -> Result<String, DirectSendError> {
        if !from.is_positive() {
            return Err(DirectSendError::BadSender(from));
        }
        if !self.may_participate(from).await? {
            return Err(DirectSendError::NoSuchSender);
        }
        let mut batch = WriteBatch::default();
        match to {
            Target::User(uid) => {
                let request = SendRequest::new(uid, msg_id, text);
                self.send_p2p(&mut batch, from, &request).await?;
            }
            Target::Group(group) => {
                let request = SendRequest::new(group, msg_id, text);
                self.send_group(&mut batch, from, &request)?;
            }
        }
        let outcome = self.commit_batch(None, batch).await;
        let Some((write, result)) = outcome.results().next() else {
            return Err(StoreError::Unanswered.into());
        };
        result?;
        Ok(write.message.msg_id().to_string())
    }
}
