//! Explains errors of the wire protocol to the user, with advice on what to do.
//!
//! Serves every command that is a client of the stack.

use std::io::ErrorKind;

use imd::client::ClientError;
use imd::proto::Code;

use super::{advice, peer};

/// Returns the text of a failed request, with advice if it was a refusal.
pub fn explain(error: &ClientError) -> String {
    match error {
        ClientError::Refused { code, text } => advice::advise(*code, text),
        _ => error.to_string(),
    }
}

/// Returns why the gateway gave out no address, and what to do about it. `flags` names the flags that set another
/// address.
pub async fn at_gateway(addr: &str, flags: &str, error: &ClientError) -> String {
    let elsewhere = format!("say where the gateway is, with {flags}");
    match error {
        ClientError::Io(error) => advice::unreachable(error, flags),
        ClientError::Http => {
            let found = peer::identify(addr).await;
            format!("this is {found}, which speaks HTTP; {elsewhere}")
        }
        // A command that the gateway does not know is one that an access server knows, and the other way round.
        ClientError::Refused { code, text } if is_unknown_command(*code, text) => {
            format!("this is an access server; {elsewhere}")
        }
        ClientError::Cut | ClientError::Undecodable(_) => {
            format!("{error}. Is this the gateway of an imd? If not, {elsewhere}.")
        }
        ClientError::Timeout => {
            format!(
                "{error}. The gateway hangs, or something else listens there: then {elsewhere}."
            )
        }
        _ => explain(error),
    }
}

/// Returns why an access server that the gateway gave out could not be used, and what to do about it.
pub async fn at_access(addr: &str, error: &ClientError) -> String {
    let lease = "it is listed until its lease has run out, so try again later; imd access ls says which servers run";
    match error {
        ClientError::Io(io) if io.kind() == ErrorKind::ConnectionRefused => {
            format!("{error}. The gateway hands it out, but it is dead: {lease}.")
        }
        ClientError::Io(_) => format!(
            "{error}. The gateway hands it out, but it can't be reached from here: see advertise of [[access]] in the config."
        ),
        ClientError::Timeout => {
            format!("{error}. The gateway hands it out, but it is paused or hangs: {lease}.")
        }
        ClientError::Http => {
            let found = peer::identify(addr).await;
            format!(
                "{error}. The gateway hands it out, but this is {found}: see advertise of [[access]] in the config."
            )
        }
        _ => explain(error),
    }
}

/// Returns whether a refusal says that the server does not know the command.
fn is_unknown_command(code: u32, text: &str) -> bool {
    code == Code::RequestErr.number() && text.contains("unknown command")
}
