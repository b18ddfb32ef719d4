//! `http.cors_origins`: the origins whose pages may use the HTTP API of the stack.
//!
//! Serves the HTTP API and the listeners of WebSockets, which compare the text of an origin with that of the header `Origin`.
//! So an origin has to be written exactly as browsers write it, and any other form of it is an error that says how they do.

use super::error::{Invalid, ensure};
use super::{Host, Http};

/// The entry of `http.cors_origins` that stands for every origin, and for pages that have none of their own.
pub const ANY_ORIGIN: &str = "*";

/// The origins that `http.cors_origins` lists.
#[derive(Debug, Clone, Default)]
pub struct Origins(Vec<String>);

impl Origins {
    /// Creates the list of a config that was validated.
    pub fn new(listed: &[String]) -> Self {
        Origins(listed.to_vec())
    }

    /// Returns the entry that lets pages of an origin in: the origin itself, or [`ANY_ORIGIN`]. None if none does.
    pub fn entry_for(&self, origin: &str) -> Option<&str> {
        let mut listed = self.0.iter().map(String::as_str);
        listed.find(|listed| *listed == origin || *listed == ANY_ORIGIN)
    }

    /// Returns whether the list is empty.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Returns the entry that would let pages of an origin in. Pages without an origin of their own can't be listed by
    /// themselves: all of them have the origin `null`.
    pub fn missing_entry(origin: &str) -> &str {
        match origin {
            "null" => ANY_ORIGIN,
            origin => origin,
        }
    }
}

impl Http {
    /// Checks that each entry of `cors_origins` is an origin as browsers write it, or that the only one is `*`.
    ///
    /// # Errors
    ///
    /// The first thing that is wrong: its key, and a message that says what to write instead.
    pub(super) fn check_cors_origins(&self) -> Result<(), Invalid> {
        let origins = &self.cors_origins;
        if origins.iter().any(|origin| origin == ANY_ORIGIN) {
            return ensure(origins.len() == 1, "http.cors_origins", || {
                "\"*\" lets every origin in: leave the others out".to_owned()
            });
        }
        for (index, origin) in origins.iter().enumerate() {
            let wrong = check(origin).err();
            ensure(
                wrong.is_none(),
                &format!("http.cors_origins.{index}"),
                || {
                    let why = wrong.unwrap_or_default();
                    format!("{origin:?} is no origin such as \"http://localhost:5173\": {why}")
                },
            )?;
        }
        Ok(())
    }
}

/// Checks that a text is an origin as browsers write it.
///
/// # Errors
///
/// A message for the user that says what to write instead.
fn check(text: &str) -> Result<(), String> {
    let written = as_browsers_write(text)?;
    match text == written {
        true => Ok(()),
        false => Err(format!("browsers write it as {written:?}")),
    }
}

/// Returns an origin as browsers write it: scheme and host in lower case, no port if it is that of the scheme, and nothing
/// behind it.
///
/// # Errors
///
/// A message for the user, when the text has no scheme or no host.
fn as_browsers_write(text: &str) -> Result<String, String> {
    if text == "null" || text.starts_with("file:") {
        return Err(
            "a page that was opened as a file has none: serve it over HTTP, or write \"*\" alone"
                .into(),
        );
    }
    let Some((scheme, rest)) = text.split_once("://") else {
        return Err(match Host::parse(text) {
            Ok(_) => format!("its scheme is missing: write \"http://{text}\""),
            Err(_) => "write scheme, host and port".to_owned(),
        });
    };
    let scheme = scheme.to_ascii_lowercase();
    let is_scheme = scheme.starts_with(|c: char| c.is_ascii_lowercase())
        && scheme
            .chars()
            .all(|c| c.is_ascii_alphanumeric() || "+-.".contains(c));
    if !is_scheme {
        return Err("the scheme is that of the page, such as http or https".to_owned());
    }
    let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
    let host = Host::parse(authority).map_err(|bad| bad.why().to_owned())?;
    let is_default = |port: &u16| matches!((&*scheme, port), ("http", 80) | ("https", 443));
    let name = host.as_written().to_ascii_lowercase();
    Ok(match host.port().filter(|port| !is_default(port)) {
        Some(port) => format!("{scheme}://{name}:{port}"),
        None => format!("{scheme}://{name}"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_origin_is_written_as_browsers_write_it() {
        for good in [
            "http://localhost:5173",
            "https://im.example",
            "http://127.0.0.1:3000",
            "http://[::1]:3000",
            "capacitor://localhost",
            "chrome-extension://abcdefghijklmnop",
        ] {
            assert_eq!(check(good), Ok(()), "{good}");
        }
        for (text, written) in [
            ("http://localhost:5173/", "http://localhost:5173"),
            ("HTTP://LocalHost:5173", "http://localhost:5173"),
            ("http://im.example:80", "http://im.example"),
            ("https://im.example:443/app?x#y", "https://im.example"),
            ("https://im.example:80", "https://im.example:80"),
            ("http://[0::1]", "http://[::1]"),
        ] {
            let checked = check(text).map_err(|why| why.to_string());
            let expected = match text == written {
                true => Ok(()),
                false => Err(format!("browsers write it as {written:?}")),
            };
            assert_eq!(checked, expected, "{text}");
        }
    }

    #[test]
    fn a_text_that_is_no_origin_is_reported_with_what_to_write() {
        for (text, why) in [
            ("localhost:5173", "write \"http://localhost:5173\""),
            ("", "write scheme, host and port"),
            ("null", "was opened as a file"),
            ("file:///chat.html", "was opened as a file"),
            ("://h", "the scheme is that of the page"),
            ("http://", "it is empty"),
            ("http://*.example", "no wildcards"),
            ("http://localhost:x", "a port is a number"),
            ("http://a b", "a blank"),
        ] {
            let error = check(text).unwrap_err();
            assert!(error.contains(why), "{text}: {error}");
        }
    }
}
