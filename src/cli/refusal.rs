//! What to do about a refusal.

use std::io::ErrorKind;

use imd::client::ClientError;
use imd::proto::Code;

/// What a person can do about each code. The others speak for themselves.
const ADVICE: [(Code, &str); 11] = [
    (
        Code::ServerError,
        "The server could not do it: its log says why. Try again later.",
    ),
    (
        Code::NoAccessServer,
        "The gateway knows no access server: start one, or wait until its heartbeat is seen.",
    ),
    (
        Code::NoToken,
        "Give a --token that is not empty, and a uid above 0.",
    ),
    (
        Code::CalcTokenFailed,
        "The token is wrong or has run out. Give --token TOKEN, or --config FILE with the server's salt.",
    ),
    (
        Code::NotLoggedIn,
        "The server has forgotten the login: start again.",
    ),
    (
        Code::LoggedInElsewhere,
        "Only one session of a user is served: end the other one first.",
    ),
    (Code::TooManyRequests, "Wait a little, then try again."),
    (
        Code::UserExists,
        "The uid is taken: choose another --uid, or use this one as it is.",
    ),
    (
        Code::NoSuchUser,
        "Only registered users take part here: imd register --uid UID.",
    ),
    (
        Code::NoSuchGroup,
        "Check the group's id; imd group create makes a new one.",
    ),
    (
        Code::NotAMember,
        "Only members write to a group. Join it first: imd group join --uid UID --gid GID.",
    ),
];

/// A refusal with what to do about it.
pub fn advise(code: u32, text: &str) -> String {
    let advice = ADVICE.iter().find(|(known, _)| known.number() == code);
    match advice {
        Some((_, advice)) => format!("{text} ({code}). {advice}"),
        None => format!("{text} ({code})"),
    }
}

/// What went wrong with a request, and what to do about it.
pub fn explain(error: &ClientError) -> String {
    match error {
        ClientError::Refused { code, text } => advise(*code, text),
        ClientError::Io(io) if io.kind() == ErrorKind::ConnectionRefused => {
            format!(
                "{error}. Nothing listens there: start imd, or give its address with --gateway or --addr-file."
            )
        }
        _ => error.to_string(),
    }
}
