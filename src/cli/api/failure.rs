//! What people are told when a call fails: which API at which address, why, and which flag would lead elsewhere.

use std::error::Error;
use std::io::{self, ErrorKind};

use hyper::StatusCode;
use serde_json::Value;

use super::Call;
use crate::cli::endpoint::authority;
use crate::cli::environment;
use crate::cli::failure::Failure;
use crate::cli::peer::{self, Peer};

/// The base of a call is no address. The text says how one is written.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub(super) struct BadBase(pub(super) String);

/// The API that a call is for, by which its address is set on the command line.
#[derive(Clone, Copy)]
enum Role {
    User,
    Group,
    Admin,
}

impl Role {
    /// Returns the API that a path belongs to.
    fn of(path: &str) -> Role {
        if path.starts_with("/x/user/") {
            Role::User
        } else if path.starts_with("/x/group/") {
            Role::Group
        } else {
            Role::Admin
        }
    }

    fn peer(self) -> Peer {
        match self {
            Role::User => Peer::UserApi,
            Role::Group => Peer::GroupApi,
            Role::Admin => Peer::AdminApi,
        }
    }

    /// Returns the name of the variable or the flag that has set its address to this.
    fn source(self, addr: &str) -> &'static str {
        let (variable, flag) = match self {
            Role::User => (environment::USER_API, "--user-api"),
            Role::Group => (environment::GROUP_API, "--group-api"),
            Role::Admin => (environment::ADMIN, "--admin"),
        };
        environment::source(variable, flag, addr)
    }

    /// Returns the flags that set its address, for the end of an error.
    fn flags(self) -> &'static str {
        match self {
            Role::User => "--user-api URL, --addr-file FILE or --config FILE",
            Role::Group => "--group-api URL, --addr-file FILE or --config FILE",
            Role::Admin => "--admin URL, --addr-file FILE or --config FILE",
        }
    }
}

impl Call<'_> {
    /// Returns the URL that is called. Its query is left out, because it may hold what nobody else should read.
    pub(super) fn place(&self) -> String {
        let path = self.path.split('?').next().unwrap_or_default();
        format!("{}{path}", self.base)
    }

    /// Returns the failure for an answer with an error status.
    ///
    /// It is a wrong use of the command if the request was wrong, and a plain failure if the request can't be done now. An
    /// answer that is not in the form of the admin API's errors comes from something else.
    pub(super) async fn refused(&self, status: StatusCode, answer: &[u8]) -> Failure {
        let answer: Value = serde_json::from_slice(answer).unwrap_or_default();
        let Some(why) = answer.get("error").and_then(Value::as_str) else {
            return self.somebody_else().await;
        };
        let is_temporary = matches!(
            status,
            StatusCode::CONFLICT | StatusCode::REQUEST_TIMEOUT | StatusCode::TOO_MANY_REQUESTS
        );
        if status.is_client_error() && !is_temporary {
            Failure::Usage(why.to_owned())
        } else {
            Failure::Failed(why.to_owned())
        }
    }

    /// Returns the failure for an answer that is not of the API that was called: it says who answers there.
    pub async fn somebody_else(&self) -> Failure {
        let role = Role::of(self.path);
        let found = match authority(self.base) {
            Ok(addr) => peer::look(&addr).await,
            Err(_) => Peer::Unknown,
        };
        let (wanted, flags) = (role.peer(), role.flags());
        let why = if found == wanted {
            format!("the answer is not what this imd knows of {wanted}: is it another version?")
        } else {
            format!("this is {found}; say where {wanted} is, with {flags}")
        };
        Failure::Failed(format!("{}: {why}", self.place()))
    }

    /// Returns the failure for a call that took too long.
    pub(super) fn timed_out(&self) -> Failure {
        let time = humantime::format_duration(self.timeout);
        let role = Role::of(self.path);
        let (wanted, flags) = (role.peer(), role.flags());
        let place = self.place();
        Failure::Failed(format!(
            "{place}: no answer within {time}. The stack hangs, or something else listens there: then say where {wanted} \
             is, with {flags}"
        ))
    }

    /// Returns the failure for a call without a whole answer.
    pub(super) async fn failed(&self, error: &(dyn Error + Send + Sync + 'static)) -> Failure {
        let role = Role::of(self.path);
        if let Some(BadBase(why)) = error.downcast_ref() {
            let source = role.source(self.base);
            return Failure::Usage(format!("{source} {}: {why}", self.base));
        }
        let http = error.downcast_ref::<hyper::Error>();
        if http.is_some_and(hyper::Error::is_parse) {
            return self.somebody_else().await;
        }
        let why = match error.downcast_ref::<io::Error>() {
            Some(error) => unreachable(error, role.flags()),
            None if http.is_some_and(hyper::Error::is_incomplete_message) => {
                "the connection was closed before the answer".to_owned()
            }
            None => error.to_string(),
        };
        Failure::Failed(format!("{}: {why}", self.place()))
    }
}

/// Returns why an address could not be reached, and what to do about it; `flags` set another address.
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
        // The error of a name that is not found has no kind of its own.
        _ if error.to_string().contains("lookup") => {
            format!("{error}. Is the name of the host right? It is set with {flags}.")
        }
        _ => error.to_string(),
    }
}
