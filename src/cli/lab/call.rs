//! The admin API of the stack that the flags of a command name.

use std::time::Duration;

use hyper::Method;
use hyper::body::Bytes;
use imd::daemon::dialable;
use serde_json::Value;

use super::args::AdminArgs;
use crate::cli::api::{Call, Events};
use crate::cli::failure::Failure;
use crate::cli::{addr_file, environment, settings};

/// The admin API of a stack.
pub struct Admin {
    /// Its URL.
    base: String,
    /// The token of its config, where it needs one.
    token: Option<String>,
}

impl Admin {
    /// Finds it by the flags of a command and by the environment: see [`AdminArgs`].
    ///
    /// # Errors
    ///
    /// When a file can't be read, or says that the stack has no admin API.
    pub fn find(args: &AdminArgs) -> Result<Admin, Failure> {
        let config = settings::load(args.config.as_deref())?;
        let from_env = environment::read(environment::ADMIN);
        let base = match (&args.admin, &args.addr_file, from_env) {
            (Some(url), ..) => url.clone(),
            (None, Some(file), _) => addr_file::read(file)?.admin.ok_or_else(|| {
                Failure::Usage(format!("{}: that daemon has no admin API", file.display()))
            })?,
            (None, None, Some(url)) if args.config.is_none() => url,
            _ => format!("http://{}", dialable(config.admin.listen)),
        };
        Ok(Admin {
            base,
            token: config.admin.token.map(|token| token.expose().to_owned()),
        })
    }

    /// Gets a path.
    ///
    /// # Errors
    ///
    /// When the API can't be reached, or refuses.
    pub async fn get(&self, path: &str) -> Result<Value, Failure> {
        self.call(Method::GET, path, None).await
    }

    /// Gets a path whose answer the API may hold back for some time.
    ///
    /// # Errors
    ///
    /// When the API can't be reached, or refuses.
    pub async fn get_within(&self, time: Duration, path: &str) -> Result<Value, Failure> {
        let call = self.to(Method::GET, path).with_extra_time(time);
        call.json(None).await
    }

    /// Posts JSON to a path.
    ///
    /// # Errors
    ///
    /// When the API can't be reached, or refuses.
    pub async fn post(&self, path: &str, body: &Value) -> Result<Value, Failure> {
        self.call(Method::POST, path, Some(body)).await
    }

    /// Makes a call with any method.
    ///
    /// # Errors
    ///
    /// When the API can't be reached, or refuses.
    pub async fn call(
        &self,
        method: Method,
        path: &str,
        body: Option<&Value>,
    ) -> Result<Value, Failure> {
        self.to(method, path).json(body).await
    }

    /// Makes a call that sends or gets a snapshot, and has as long as that may take.
    ///
    /// # Errors
    ///
    /// When the API can't be reached, or refuses.
    pub async fn snapshot(
        &self,
        method: Method,
        path: &str,
        body: Bytes,
    ) -> Result<Bytes, Failure> {
        self.to(method, path).snapshot(body).await
    }

    /// Gets the server-sent events of a path.
    ///
    /// # Errors
    ///
    /// When the API can't be reached, or refuses.
    pub async fn events(&self, path: &str) -> Result<Events, Failure> {
        self.to(Method::GET, path).events().await
    }

    /// Returns the failure for an answer that is not the API's.
    pub async fn wrong_server(&self, path: &str) -> Failure {
        self.to(Method::GET, path).wrong_server().await
    }

    fn to<'a>(&'a self, method: Method, path: &'a str) -> Call<'a> {
        Call::new(&self.base, method, path).token(self.token.as_deref())
    }
}

/// Encodes a name as one segment of a path.
pub fn segment(name: &str) -> String {
    let encoded: String = form_urlencoded::byte_serialize(name.as_bytes()).collect();
    encoded.replace('+', "%20")
}
