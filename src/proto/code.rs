//! The error codes of the wire contract: their numbers and their standard texts.
//!
//! Serves the services and handlers, which answer with them, the HTTP APIs, which use the same codes, and the clients.

use std::fmt;

/// An error code of the wire contract, by its number (the table *Error codes* of the contract).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u32)]
pub enum Code {
    /// The request was done. A message that is answered with this code is stored.
    Ok = 0,
    /// The request is wrong by itself: its command is not known, an id is not positive, or something is over a limit.
    RequestErr = 10001,
    /// The request is correct and the server has failed to do it, or a frame can't be decoded.
    ServerError = 90001,
    /// The receiver never got the message that it accepts.
    NoDataFound = 91001,
    /// No access server is in the gateway's list.
    NoAccessServer = 92001,
    /// The token is empty, or the UID is not positive.
    NoToken = 93001,
    /// The token is that of another user, or has expired.
    CalcTokenFailed = 93002,
    /// The command needs a login, and nobody is logged in on the connection.
    NotLoggedIn = 93003,
    /// The user has logged in on another session.
    LoggedInElsewhere = 93004,
    /// The request names another user than the one who is logged in.
    UidMismatch = 93005,
    /// Reserved by the contract for rate limits.
    TooManyRequests = 93006,
    /// The uid is registered already.
    UserExists = 94001,
    /// The user is not registered, and has to be.
    NoSuchUser = 94002,
    /// The password is not that of the user.
    WrongPassword = 94003,
    /// No group has this id.
    NoSuchGroup = 95001,
    /// Only members may send to a group.
    NotAMember = 95002,
}

impl Code {
    /// Every code, in the order of their numbers.
    pub const ALL: [Code; 16] = [
        Code::Ok,
        Code::RequestErr,
        Code::ServerError,
        Code::NoDataFound,
        Code::NoAccessServer,
        Code::NoToken,
        Code::CalcTokenFailed,
        Code::NotLoggedIn,
        Code::LoggedInElsewhere,
        Code::UidMismatch,
        Code::TooManyRequests,
        Code::UserExists,
        Code::NoSuchUser,
        Code::WrongPassword,
        Code::NoSuchGroup,
        Code::NotAMember,
    ];

    /// Returns the code of that number, if the contract has one.
    pub fn from_number(number: u32) -> Option<Code> {
        Code::ALL.into_iter().find(|code| code.number() == number)
    }

    /// Returns the number for the field `errCode`.
    pub const fn number(self) -> u32 {
        self as u32
    }

    /// Returns the standard text for `errStr`.
    pub const fn text(self) -> &'static str {
        match self {
            Code::Ok => "ok",
            Code::RequestErr => "request err",
            Code::ServerError => "server error",
            Code::NoDataFound => "no data found",
            Code::NoAccessServer => "no accessServer",
            Code::NoToken => "no token",
            Code::CalcTokenFailed => "calc token failed",
            Code::NotLoggedIn => "not logged in",
            Code::LoggedInElsewhere => "logged in elsewhere",
            Code::UidMismatch => "uid does not match the login",
            Code::TooManyRequests => "too many requests",
            Code::UserExists => "user is already exist",
            Code::NoSuchUser => "no such user",
            Code::WrongPassword => "wrong password",
            Code::NoSuchGroup => "no such group",
            Code::NotAMember => "not a member of the group",
        }
    }

    /// Returns the standard text, followed by what was wrong.
    pub fn because(self, why: impl fmt::Display) -> String {
        format!("{self}: {why}")
    }
}

impl fmt::Display for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.text())
    }
}
