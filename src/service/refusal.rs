use super::account::{AuthError, RegisterError, WriteError};
use super::group::GroupError;
use super::login::LoginError;
use super::message::MessageError;
use crate::proto::{Code, Reply};
use crate::store::{Rejected, StoreFailed};

/// What a client is told instead of 0: a code, and the standard text with what was wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// The code.
    pub code: Code,
    /// The text.
    pub text: String,
    /// Whether a fault did it. The client is not told, the ledger is.
    pub by_fault: bool,
}

impl Refusal {
    /// The standard text alone.
    pub fn plain(code: Code) -> Self {
        Refusal::saying(code, code.text())
    }

    /// The same as a fault has it.
    pub fn by_fault(code: Code) -> Self {
        Refusal {
            by_fault: true,
            ..Refusal::plain(code)
        }
    }

    /// The standard text and what was wrong.
    pub fn because(code: Code, why: impl std::fmt::Display) -> Self {
        Refusal::saying(code, code.because(why))
    }

    /// Another text.
    pub(super) fn saying(code: Code, text: impl Into<String>) -> Self {
        Refusal {
            code,
            text: text.into(),
            by_fault: false,
        }
    }

    /// The reply that says it, with the ids of `reply`.
    pub fn into_reply(self, reply: Reply) -> Reply {
        reply.with(self.code, self.text)
    }
}

impl From<LoginError> for Refusal {
    fn from(error: LoginError) -> Self {
        match error {
            LoginError::NoToken => Refusal::plain(Code::NoToken),
            LoginError::BadUid(_) => Refusal::because(Code::NoToken, error),
            LoginError::WrongToken => Refusal::plain(Code::CalcTokenFailed),
            LoginError::OtherUser => Refusal::plain(Code::UidMismatch),
            LoginError::Elsewhere => Refusal::plain(Code::LoggedInElsewhere),
            LoginError::Closed => Refusal::because(Code::ServerError, error),
            LoginError::NoSuchUser => Refusal::plain(Code::NoSuchUser),
            LoginError::Store(failed) => failed.into(),
        }
    }
}

impl From<MessageError> for Refusal {
    fn from(error: MessageError) -> Self {
        match error {
            MessageError::OtherUser => Refusal::plain(Code::UidMismatch),
            MessageError::NoSuchUser(_) => Refusal::because(Code::NoSuchUser, error),
            MessageError::Store(failed) => failed.into(),
            MessageError::BadTarget { .. }
            | MessageError::TooLong { .. }
            | MessageError::IdTooLong { .. } => Refusal::because(Code::RequestErr, error),
        }
    }
}

impl From<RegisterError> for Refusal {
    fn from(error: RegisterError) -> Self {
        match error {
            RegisterError::BadUid(_) | RegisterError::TooLong(_) => {
                Refusal::because(Code::RequestErr, error)
            }
            RegisterError::Hashing(_) => Refusal::plain(Code::ServerError),
            RegisterError::Rejected(rejected) => rejected.into(),
            RegisterError::Write(failed) => failed.into(),
            RegisterError::Store(failed) => failed.into(),
        }
    }
}

impl From<AuthError> for Refusal {
    fn from(error: AuthError) -> Self {
        match error {
            AuthError::BadUid(_) => Refusal::because(Code::RequestErr, error),
            AuthError::NoSuchUser => Refusal::plain(Code::NoSuchUser),
            AuthError::WrongPassword => Refusal::plain(Code::WrongPassword),
            AuthError::Hashing(_) => Refusal::plain(Code::ServerError),
            AuthError::Store(failed) => failed.into(),
        }
    }
}

impl From<GroupError> for Refusal {
    fn from(error: GroupError) -> Self {
        match error {
            GroupError::BadUid(_) | GroupError::BadGid(_) | GroupError::TooLong(_) => {
                Refusal::because(Code::RequestErr, error)
            }
            GroupError::NoSuchUser(_) => Refusal::because(Code::NoSuchUser, error),
            GroupError::Rejected(rejected) => rejected.into(),
            GroupError::Write(failed) => failed.into(),
            GroupError::Store(failed) => failed.into(),
        }
    }
}

impl From<Rejected> for Refusal {
    fn from(rejected: Rejected) -> Self {
        match rejected {
            Rejected::UserExists => Refusal::plain(Code::UserExists),
            Rejected::NoSuchGroup => Refusal::plain(Code::NoSuchGroup),
            Rejected::NotAMember => Refusal::plain(Code::NotAMember),
            Rejected::GroupFull => Refusal::because(Code::RequestErr, rejected),
            Rejected::NoSuchMessage => Refusal::plain(Code::NoDataFound),
            Rejected::GroupExists | Rejected::Full | Rejected::DiskFull | Rejected::Unreadable => {
                Refusal::because(Code::ServerError, rejected)
            }
        }
    }
}

impl From<WriteError> for Refusal {
    fn from(error: WriteError) -> Self {
        match error {
            WriteError::Fault(code) => Refusal::by_fault(code),
            WriteError::Store(failed) => failed.into(),
        }
    }
}

impl From<StoreFailed> for Refusal {
    fn from(failed: StoreFailed) -> Self {
        tracing::error!(error = %failed, "the store has failed");
        Refusal::plain(Code::ServerError)
    }
}
