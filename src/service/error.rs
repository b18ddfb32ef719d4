//! The errors of the operations as the wire contract names them: a code, and a text for the client.
//!
//! Serves the fronts, which turn each error into a [`Refusal`], and `audit`, which counts them. Each operation has an error
//! type of its own, beside the operation. The codes of all errors are assigned here, in one place.

use std::fmt;

use super::account::{AuthError, RegisterError, WriteError};
use super::direct::DirectSendError;
use super::group::GroupError;
use super::login::{IdentityError, LoginError, UidMismatch};
use super::request::{SendError, SyncError};
use crate::proto::Code;
use crate::store::{Rejected, StoreError};

/// An error of an operation, with the code that the contract has for it.
pub trait ServiceError: fmt::Display {
    /// Returns how the contract names this error, and how much of it the client is told.
    fn verdict(&self) -> Verdict<'_>;

    /// Returns the error code of the contract.
    fn code(&self) -> Code {
        self.verdict().code()
    }
}

/// How the contract names an error.
#[derive(Debug, Clone, Copy)]
pub enum Verdict<'a> {
    /// The client is told the standard text of the code.
    Plain(Code),
    /// The client is told the standard text of the code and, behind it, the error's own text.
    Explained(Code),
    /// An injected fault asks for this code. Only the report of the stack says that it was a fault: the client is told the
    /// standard text of the code.
    Injected(Code),
    /// The store has failed. The reason concerns the operator and goes to the log; the client is told "server error".
    StoreFailed(&'a StoreError),
}

impl Verdict<'_> {
    fn code(self) -> Code {
        match self {
            Verdict::Plain(code) | Verdict::Explained(code) | Verdict::Injected(code) => code,
            Verdict::StoreFailed(_) => Code::ServerError,
        }
    }
}

/// What a client is told in place of a result.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// The error code of the contract.
    pub code: Code,
    /// The standard text of the code, with what was wrong behind it where that helps.
    pub text: String,
    /// Whether an injected fault is the cause. Only the report of the stack says so, the client is not told.
    pub is_injected: bool,
}

impl Refusal {
    /// Creates a refusal with the standard text of the code.
    pub fn plain(code: Code) -> Self {
        Refusal {
            code,
            text: code.text().into(),
            is_injected: false,
        }
    }

    /// Creates a refusal with the standard text of the code, as an injected fault asks for it.
    pub fn injected(code: Code) -> Self {
        Refusal {
            is_injected: true,
            ..Refusal::plain(code)
        }
    }

    /// Creates a refusal that says what was wrong behind the standard text of the code.
    pub fn because(code: Code, why: impl fmt::Display) -> Self {
        Refusal {
            text: code.because(why),
            ..Refusal::plain(code)
        }
    }

    /// Returns what a client is told of an error, without logging anything.
    pub(super) fn of(error: &impl ServiceError) -> Self {
        match error.verdict() {
            Verdict::Plain(code) => Refusal::plain(code),
            Verdict::Explained(code) => Refusal::because(code, error),
            Verdict::Injected(code) => Refusal::injected(code),
            Verdict::StoreFailed(_) => Refusal::plain(Code::ServerError),
        }
    }
}

/// Turns an error into the answer to a client. A failure of the store is logged here: the client learns only that the server
/// is at fault.
impl<E: ServiceError> From<E> for Refusal {
    fn from(error: E) -> Self {
        if let Verdict::StoreFailed(failed) = error.verdict() {
            failed.log();
        }
        Refusal::of(&error)
    }
}

impl ServiceError for StoreError {
    fn verdict(&self) -> Verdict<'_> {
        match self {
            StoreError::Injected(code) => Verdict::Injected(*code),
            failed => Verdict::StoreFailed(failed),
        }
    }
}

impl ServiceError for Rejected {
    fn verdict(&self) -> Verdict<'_> {
        match self {
            Rejected::UserExists => Verdict::Plain(Code::UserExists),
            Rejected::NoSuchGroup => Verdict::Plain(Code::NoSuchGroup),
            Rejected::NotAMember => Verdict::Plain(Code::NotAMember),
            Rejected::NoSuchMessage => Verdict::Plain(Code::NoDataFound),
            Rejected::GroupFull => Verdict::Explained(Code::RequestErr),
            Rejected::GroupExists | Rejected::Full | Rejected::DiskFull | Rejected::Unreadable => {
                Verdict::Explained(Code::ServerError)
            }
        }
    }
}

impl ServiceError for UidMismatch {
    fn verdict(&self) -> Verdict<'_> {
        Verdict::Plain(Code::UidMismatch)
    }
}

impl ServiceError for LoginError {
    fn verdict(&self) -> Verdict<'_> {
        match self {
            LoginError::NoToken => Verdict::Plain(Code::NoToken),
            LoginError::BadUid(_) => Verdict::Explained(Code::NoToken),
            LoginError::WrongToken => Verdict::Plain(Code::CalcTokenFailed),
            LoginError::OtherUser => Verdict::Plain(Code::UidMismatch),
            LoginError::Elsewhere => Verdict::Plain(Code::LoggedInElsewhere),
            LoginError::NoSuchUser => Verdict::Plain(Code::NoSuchUser),
            LoginError::Closed => Verdict::Explained(Code::ServerError),
            LoginError::Store(failed) => failed.verdict(),
        }
    }
}

impl ServiceError for IdentityError {
    fn verdict(&self) -> Verdict<'_> {
        match self {
            IdentityError::NotLoggedIn => Verdict::Plain(Code::NotLoggedIn),
            IdentityError::NoSuchUser => Verdict::Plain(Code::NoSuchUser),
            IdentityError::Store(failed) => failed.verdict(),
        }
    }
}

impl ServiceError for SendError {
    fn verdict(&self) -> Verdict<'_> {
        match self {
            SendError::UidMismatch(error) => error.verdict(),
            SendError::BadTarget { .. }
            | SendError::TooLong { .. }
            | SendError::IdTooLong { .. } => Verdict::Explained(Code::RequestErr),
            SendError::NoSuchUser(_) => Verdict::Explained(Code::NoSuchUser),
            SendError::Rejected(rejected) => rejected.verdict(),
            SendError::Injected(code) => Verdict::Injected(*code),
            // Logged when it happened, once for all messages of the batch.
            SendError::NotCommitted(_) => Verdict::Plain(Code::ServerError),
            SendError::Store(failed) => failed.verdict(),
        }
    }
}

impl ServiceError for DirectSendError {
    fn verdict(&self) -> Verdict<'_> {
        match self {
            DirectSendError::BadSender(_) => Verdict::Explained(Code::RequestErr),
            DirectSendError::NoSuchSender => Verdict::Plain(Code::NoSuchUser),
            DirectSendError::Send(error) => error.verdict(),
        }
    }
}

impl ServiceError for SyncError {
    fn verdict(&self) -> Verdict<'_> {
        match self {
            SyncError::UidMismatch(error) => error.verdict(),
            SyncError::Injected(code) => Verdict::Injected(*code),
            SyncError::Store(failed) => failed.verdict(),
        }
    }
}

impl ServiceError for WriteError {
    fn verdict(&self) -> Verdict<'_> {
        match self {
            WriteError::Injected(code) => Verdict::Injected(*code),
            WriteError::Store(failed) => failed.verdict(),
        }
    }
}

impl ServiceError for RegisterError {
    fn verdict(&self) -> Verdict<'_> {
        match self {
            RegisterError::BadUid(_) | RegisterError::TooLong(_) => {
                Verdict::Explained(Code::RequestErr)
            }
            RegisterError::Hashing(_) => Verdict::Plain(Code::ServerError),
            RegisterError::Rejected(rejected) => rejected.verdict(),
            RegisterError::Write(error) => error.verdict(),
            RegisterError::Store(failed) => failed.verdict(),
        }
    }
}

impl ServiceError for AuthError {
    fn verdict(&self) -> Verdict<'_> {
        match self {
            AuthError::BadUid(_) => Verdict::Explained(Code::RequestErr),
            AuthError::NoSuchUser => Verdict::Plain(Code::NoSuchUser),
            AuthError::WrongPassword => Verdict::Plain(Code::WrongPassword),
            AuthError::Hashing(_) => Verdict::Plain(Code::ServerError),
            AuthError::Store(failed) => failed.verdict(),
        }
    }
}

impl ServiceError for GroupError {
    fn verdict(&self) -> Verdict<'_> {
        match self {
            GroupError::BadUid(_) | GroupError::BadGid(_) | GroupError::TooLong(_) => {
                Verdict::Explained(Code::RequestErr)
            }
            GroupError::NoSuchUser(_) => Verdict::Explained(Code::NoSuchUser),
            GroupError::Rejected(rejected) => rejected.verdict(),
            GroupError::Write(error) => error.verdict(),
            GroupError::Store(failed) => failed.verdict(),
        }
    }
}
