use std::fmt;

/// An error code of the wire contract (its table *Error codes*).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u32)]
pub enum Code {
    /// Done. For a message: stored.
    Ok = 0,
    /// The request is at fault.
    RequestErr = 10001,
    /// The server is at fault.
    ServerError = 90001,
    /// There is no such message.
    NoDataFound = 91001,
    /// The gateway's list is empty.
    NoAccessServer = 92001,
    /// The token is empty, or the UID is not positive.
    NoToken = 93001,
    /// The token is wrong or has expired.
    CalcTokenFailed = 93002,
    /// The command needs a login.
    NotLoggedIn = 93003,
    /// The user has logged in on another session.
    LoggedInElsewhere = 93004,
    /// The frame names another user than the login.
    UidMismatch = 93005,
    /// Reserved by the contract for rate limits.
    TooManyRequests = 93006,
    /// The user id is taken.
    UserExists = 94001,
    /// The user is not registered.
    NoSuchUser = 94002,
    /// The password does not fit.
    WrongPassword = 94003,
    /// There is no such group.
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

    /// The code of that number, if the contract knows one.
    pub fn from_number(number: u32) -> Option<Code> {
        Code::ALL.into_iter().find(|code| code.number() == number)
    }

    /// The number on the wire.
    pub const fn number(self) -> u32 {
        self as u32
    }

    /// The standard text.
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
}

impl Code {
    /// The standard text, and after it what was wrong.
    pub fn because(self, why: impl fmt::Display) -> String {
        format!("{self}: {why}")
    }
}

impl fmt::Display for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.text())
    }
}
