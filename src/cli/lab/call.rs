//! Calls the admin API of the stack that the flags of a command name.
//!
//! Serves the commands of this module and `imd record`.

use std::time::Duration;

use hyper::Method;
use hyper::body::Bytes;
use serde_json::Value;

use super::args::AdminArgs;
use crate::cli::api::{Call, Events};
use crate::cli::failure::Failure;
use crate::cli::{addr_file, environment, settings};

/// A client of the admin API of a stack.
pub struct Admin {
    /// The URL of the admin API, without a path.
    base: String,
    /// The bearer token from the config, where the API requires one.
    token: Option<String>,
}

impl Admin {
    /// Finds the admin API by the flags of a command and by the environment; see [`AdminArgs`].
    ///
    /// # Errors
    ///
    /// [`Failure::Usage`] or [`Failure::Config`] when a file can't be read, or when it says that the stack has no
    /// admin API.
    pub fn find(args: &AdminArgs) -> Result<Admin, Failure> {
        let config = settings::load(args.config.as_deref())?;
        let from_env = environment::read(environment::ADMIN);
        let base = match (&args.admin, &args.addr_file, from_env) {
            (Some(url), ..) => url.clone(),
            (None, Some(file), _) => addr_file::read(file)?.admin.ok_or_else(|| {
                Failure::Usage(format!("{}: that daemon has no admin API", file.display()))
            })?,
            (None, None, Some(url)) if args.config.is_none() => url,
            _ => settings::api_url(&config, config.admin.listen),
        };
        Ok(Admin {
            base,
            token: config.admin.token.map(|token| token.expose().to_owned()),
        })
    }

    /// Sends a GET request, and returns the JSON of the answer.
    ///
    /// # Errors
    ///
    /// The errors of [`Admin::call`].
    pub async fn get(&self, path: &str) -> Result<Value, Failure> {
        self.call(Method::GET, path, None).await
    }

    /// Sends a GET request that the API may hold back for `time`, and returns the JSON of the answer.
    ///
    /// # Errors
    ///
    /// The errors of [`Admin::call`].
    pub async fn get_within(&self, time: Duration, path: &str) -> Result<Value, Failure> {
        let call = self.to(Method::GET, path).with_extra_time(time);
        call.json(None).await
    }

    /// Posts JSON to a path, and returns the JSON of the answer.
    ///
    /// # Errors
    ///
    /// The errors of [`Admin::call`].
    pub async fn post(&self, path: &str, body: &Value) -> Result<Value, Failure> {
        self.call(Method::POST, path, Some(body)).await
    }

    /// Sends a request with any method, and returns the JSON of the answer.
    ///
    /// # Errors
    ///
    /// [`Failure::Usage`] when the API refuses the request as wrong, and [`Failure::Failed`] when it can't be
    /// reached, does not answer in time, or can't do it now.
    pub async fn call(
        &self,
        method: Method,
        path: &str,
        body: Option<&Value>,
    ) -> Result<Value, Failure> {
        self.to(method, path).json(body).await
    }

    /// Sends a request that uploads or downloads a snapshot, with a time limit that is long enough for it.
    ///
    /// # Errors
    ///
    /// The errors of [`Admin::call`].
    pub async fn snapshot(
        &self,
        method: Method,
        path: &str,
        body: Bytes,
    ) -> Result<Bytes, Failure> {
        self.to(method, path).snapshot(body).await
    }

    /// Subscribes to the server-sent events of a path.
    ///
    /// # Errors
    ///
    /// The errors of [`Admin::call`].
    pub async fn events(&self, path: &str) -> Result<Events, Failure> {
        self.to(Method::GET, path).events().await
    }

    /// Returns the URL of a path, for a browser.
    pub fn url(&self, path: &str) -> String {
        let base = self.base.trim_end_matches('/');
        let scheme = if base.contains("://") { "" } else { "http://" };
        format!("{scheme}{base}{path}")
    }

    /// Returns the failure for an answer that the admin API would not give.
    pub async fn wrong_server(&self, path: &str) -> Failure {
        self.to(Method::GET, path).wrong_server().await
    }

    /// Builds a call with the token of this API.
    fn to<'a>(&'a self, method: Method, path: &'a str) -> Call<'a> {
        Call::new(&self.base, method, path).token(self.token.as_deref())
    }
}

/// Percent-encodes a name as one segment of a path.
pub fn segment(name: &str) -> String {
    let encoded: String = form_urlencoded::byte_serialize(name.as_bytes()).collect();
    encoded.replace('+', "%20")
}
