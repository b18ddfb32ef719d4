use std::time::Duration;

use hyper::Method;
use hyper::body::Bytes;
use imd::daemon::dialable;
use serde_json::Value;

use super::args::AdminArgs;
use crate::cli::failure::Failure;
use crate::cli::{addr_file, api, environment, settings};

/// A stack's admin API.
pub struct Admin {
    base: String,
    token: Option<String>,
}

impl Admin {
    /// Finds it.
    ///
    /// # Errors
    ///
    /// When a file can't be read, or says that there is none.
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

    /// Asks for something.
    ///
    /// # Errors
    ///
    /// What the API says.
    pub async fn get(&self, path: &str) -> Result<Value, Failure> {
        self.call(Method::GET, path, None).await
    }

    /// Asks for something that the API may take so long for.
    ///
    /// # Errors
    ///
    /// What the API says.
    pub async fn get_within(&self, time: Duration, path: &str) -> Result<Value, Failure> {
        api::json_within(
            time,
            &self.base,
            Method::GET,
            path,
            self.token.as_deref(),
            None,
        )
        .await
    }

    /// Has something done.
    ///
    /// # Errors
    ///
    /// What the API says.
    pub async fn post(&self, path: &str, body: &Value) -> Result<Value, Failure> {
        self.call(Method::POST, path, Some(body)).await
    }

    /// Any call.
    ///
    /// # Errors
    ///
    /// What the API says.
    pub async fn call(
        &self,
        method: Method,
        path: &str,
        body: Option<&Value>,
    ) -> Result<Value, Failure> {
        api::json(&self.base, method, path, self.token.as_deref(), body).await
    }

    /// A call with a snapshot: it has as long as that may take.
    ///
    /// # Errors
    ///
    /// What the API says.
    pub async fn exchange(
        &self,
        method: Method,
        path: &str,
        body: Bytes,
    ) -> Result<Bytes, Failure> {
        api::exchange(&self.base, method, path, self.token.as_deref(), body).await
    }

    /// What to say of an answer that is not the API's.
    pub async fn somebody_else(&self, path: &str) -> Failure {
        api::somebody_else(&self.base, path).await
    }

    /// Server-sent events from a path.
    ///
    /// # Errors
    ///
    /// What the API says.
    pub async fn events(&self, path: &str) -> Result<api::Events, Failure> {
        api::events(&self.base, path, self.token.as_deref()).await
    }
}

/// A name as a part of a path.
pub fn segment(name: &str) -> String {
    let encoded: String = form_urlencoded::byte_serialize(name.as_bytes()).collect();
    encoded.replace('+', "%20")
}
