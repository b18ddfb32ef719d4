//! Explains failed calls of an HTTP API: which URL was called, what went wrong, and which flag sets another address.
//!
//! Serves [`Call`], whose methods end in these failures.

use std::error::Error;
use std::io;

use hyper::StatusCode;
use serde_json::Value;

use super::Call;
use crate::cli::advice;
use crate::cli::endpoint::authority;
use crate::cli::environment;
use crate::cli::failure::Failure;
use crate::cli::peer::{self, Peer};

/// The base of a call is not a valid address. The text says how to write one.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub(super) struct BadBase(pub(super) String);

/// The API that a call is for. It decides which flag and which variable set the address.
#[derive(Clone, Copy)]
enum ApiKind {
    User,
    Group,
    Admin,
}

impl ApiKind {
    /// Returns the API that a path belongs to.
    fn of(path: &str) -> ApiKind {
        if path.starts_with("/x/user/") {
            ApiKind::User
        } else if path.starts_with("/x/group/") {
            ApiKind::Group
        } else {
            ApiKind::Admin
        }
    }

    /// Returns the kind of server that should answer.
    fn peer(self) -> Peer {
        match self {
            ApiKind::User => Peer::UserApi,
            ApiKind::Group => Peer::GroupApi,
            ApiKind::Admin => Peer::AdminApi,
        }
    }

    /// Returns the name of the variable or the flag that has set the address `addr`.
    fn source(self, addr: &str) -> &'static str {
        let (variable, flag) = match self {
            ApiKind::User => (environment::USER_API, "--user-api"),
            ApiKind::Group => (environment::GROUP_API, "--group-api"),
            ApiKind::Admin => (environment::ADMIN, "--admin"),
        };
        environment::source(variable, flag, addr)
    }

    /// Returns the flags that set the address of the API, for the end of an error.
    fn flags(self) -> &'static str {
        match self {
            ApiKind::User => "--user-api URL, --addr-file FILE or --config FILE",
            ApiKind::Group => "--group-api URL, --addr-file FILE or --config FILE",
            ApiKind::Admin => "--admin URL, --addr-file FILE or --config FILE",
        }
    }
}

impl Call<'_> {
    /// Returns the URL of the call. The query is left out, because it may hold secrets.
    pub(super) fn display_url(&self) -> String {
        let path = self.path.split('?').next().unwrap_or_default();
        format!("{}{path}", self.base)
    }

    /// Returns the failure for an answer with an error status.
    ///
    /// A request that was wrong in itself is a usage error, and one that can't be served now is a run-time failure.
    /// An answer without the form of the admin API's errors comes from another kind of server.
    pub(super) async fn refused(&self, status: StatusCode, answer: &[u8]) -> Failure {
        let answer: Value = serde_json::from_slice(answer).unwrap_or_default();
        let Some(why) = answer.get("error").and_then(Value::as_str) else {
            return self.wrong_server().await;
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

    /// Returns the failure for an answer that the called API would not give. It says what kind of server answers at
    /// the address.
    pub async fn wrong_server(&self) -> Failure {
        let api = ApiKind::of(self.path);
        let found = match authority(self.base) {
            Ok(addr) => peer::identify(&addr).await,
            Err(_) => Peer::Unknown,
        };
        let (wanted, flags) = (api.peer(), api.flags());
        let why = if found == wanted {
            format!("the answer is not what this imd knows of {wanted}: is it another version?")
        } else {
            format!("this is {found}; say where {wanted} is, with {flags}")
        };
        Failure::Failed(format!("{}: {why}", self.display_url()))
    }

    /// Returns the failure for a call that exceeded its time limit.
    pub(super) fn timed_out(&self) -> Failure {
        let time = humantime::format_duration(self.timeout);
        let api = ApiKind::of(self.path);
        let (wanted, flags) = (api.peer(), api.flags());
        let display_url = self.display_url();
        Failure::Failed(format!(
            "{display_url}: no answer within {time}. The stack hangs, or something else listens there: then say where {wanted} \
             is, with {flags}"
        ))
    }

    /// Returns the failure for a call without a complete answer.
    pub(super) async fn failed(&self, error: &(dyn Error + Send + Sync + 'static)) -> Failure {
        let api = ApiKind::of(self.path);
        if let Some(BadBase(why)) = error.downcast_ref() {
            let source = api.source(self.base);
            return Failure::Usage(format!("{source} {}: {why}", self.base));
        }
        let http = error.downcast_ref::<hyper::Error>();
        if http.is_some_and(hyper::Error::is_parse) {
            return self.wrong_server().await;
        }
        let why = match error.downcast_ref::<io::Error>() {
            Some(error) => advice::unreachable(error, api.flags()),
            None if http.is_some_and(hyper::Error::is_incomplete_message) => {
                "the connection was closed before the answer".to_owned()
            }
            None => error.to_string(),
        };
        Failure::Failed(format!("{}: {why}", self.display_url()))
    }
}
