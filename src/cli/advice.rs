//! What the user can do about an error: advice for each code of the wire contract, and for an address that can't be reached.
//!
//! Serves the commands that are clients of a stack, most of them by way of [`api`](super::api) and
//! [`refusal`](super::refusal).

use std::io::{self, ErrorKind};

use imd::proto::Code;

/// Advice for each error code. The texts of the other codes need none.
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

/// Returns the text of a refusal, its code, and advice if there is any.
pub fn advise(code: u32, text: &str) -> String {
    let advice = ADVICE.iter().find(|(known, _)| known.number() == code);
    match advice {
        Some((_, advice)) => format!("{text} ({code}). {advice}"),
        None => format!("{text} ({code})"),
    }
}

/// Returns why an address could not be reached, and what to do about it. `flags` names the flags that set another
/// address.
pub fn unreachable(error: &io::Error, flags: &str) -> String {
    match error.kind() {
        ErrorKind::ConnectionRefused => {
            format!("{error}. Nothing listens there: start imd, or say where it is with {flags}.")
        }
        ErrorKind::TimedOut
        | ErrorKind::HostUnreachable
        | ErrorKind::NetworkUnreachable
        | ErrorKind::NetworkDown => {
            format!("{error}. Is the address right, and the network up? It is set with {flags}.")
        }
        // A host name that can't be resolved has no error kind of its own.
        _ if error.to_string().contains("lookup") => {
            format!("{error}. Is the name of the host right? It is set with {flags}.")
        }
        _ => error.to_string(),
    }
}
