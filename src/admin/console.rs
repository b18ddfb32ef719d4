//! The files of the console, a page for people that shows what happens in the stack, and controls it.
//!
//! Serves the router of the admin API, and browsers through it. The files are part of the program. The page asks only this
//! API, and loads nothing from other sites.

use std::sync::Arc;

use axum::Router;
use axum::extract::Path;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use xxhash_rust::xxh3::xxh3_64;

use super::Deps;
use super::answer::Problem;

/// The content security policy: nothing is loaded from other sites, nothing is inline, and no frame shows the page.
const POLICY: &str =
    "default-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

const HTML: &str = "text/html; charset=utf-8";
const CSS: &str = "text/css; charset=utf-8";
const SCRIPT: &str = "text/javascript; charset=utf-8";
const IMAGE: &str = "image/svg+xml";

/// A file of the page.
struct Asset {
    name: &'static str,
    kind: &'static str,
    bytes: &'static [u8],
}

macro_rules! asset {
    ($kind:ident $name:literal) => {
        Asset {
            name: $name,
            kind: $kind,
            bytes: include_bytes!(concat!("console/", $name)),
        }
    };
}

/// The file under `/`.
const INDEX: Asset = asset!(HTML "index.html");

/// The files under `/console/`.
const ASSETS: &[Asset] = &[
    asset!(IMAGE "icon.svg"),
    asset!(CSS "base.css"),
    asset!(CSS "pages.css"),
    asset!(SCRIPT "theme.js"),
    asset!(SCRIPT "main.js"),
    asset!(SCRIPT "tools.js"),
    asset!(SCRIPT "dom.js"),
    asset!(SCRIPT "words.js"),
    asset!(SCRIPT "api.js"),
    asset!(SCRIPT "notice.js"),
    asset!(SCRIPT "ring.js"),
    asset!(SCRIPT "journal.js"),
    asset!(SCRIPT "list.js"),
    asset!(SCRIPT "metrics.js"),
    asset!(SCRIPT "chart.js"),
    asset!(SCRIPT "drawing.js"),
    asset!(SCRIPT "frame.js"),
    asset!(SCRIPT "record.js"),
    asset!(SCRIPT "stack.js"),
    asset!(SCRIPT "wire.js"),
    asset!(SCRIPT "users.js"),
    asset!(SCRIPT "inbox.js"),
    asset!(SCRIPT "faults.js"),
    asset!(SCRIPT "quirks.js"),
    asset!(SCRIPT "help.js"),
    asset!(SCRIPT "snippets.js"),
];

impl Asset {
    /// Returns the file, or 304 if the browser has this version of it.
    fn answer(&self, headers: &HeaderMap) -> Response {
        let tag = format!("\"{:016x}\"", xxh3_64(self.bytes));
        let known = headers.get(header::IF_NONE_MATCH);
        let is_known = known.is_some_and(|known| known.as_bytes() == tag.as_bytes());
        let about = [
            (header::CONTENT_SECURITY_POLICY, POLICY),
            (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
            (header::REFERRER_POLICY, "no-referrer"),
            // The browser keeps the file and revalidates it each time: another version of imd may use this port next.
            (header::CACHE_CONTROL, "no-cache"),
            (header::ETAG, tag.as_str()),
            (header::CONTENT_TYPE, self.kind),
        ];
        if is_known {
            return (StatusCode::NOT_MODIFIED, about).into_response();
        }
        (about, self.bytes).into_response()
    }
}

async fn index(headers: HeaderMap) -> Response {
    INDEX.answer(&headers)
}

async fn asset(Path(name): Path<String>, headers: HeaderMap) -> Result<Response, Problem> {
    let found = ASSETS.iter().find(|asset| asset.name == name);
    let found = found.ok_or_else(|| Problem::missing(format!("the console has no {name:?}")))?;
    Ok(found.answer(&headers))
}

/// Returns the router of `/` and of the files that it loads.
pub fn router() -> Router<Arc<Deps>> {
    Router::new()
        .route("/", get(index))
        .route("/console/{name}", get(asset))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    /// Returns each text between `before`, where that is the beginning of a word, and the next quote.
    fn quoted<'a>(text: &'a str, before: &'a str) -> impl Iterator<Item = &'a str> {
        let found = text.match_indices(before);
        let found = found.filter(|(at, _)| !text[..*at].ends_with(|c: char| c.is_alphanumeric()));
        found.filter_map(|(at, _)| text[at + before.len()..].split('"').next())
    }

    fn text(asset: &Asset) -> &str {
        std::str::from_utf8(asset.bytes).unwrap()
    }

    #[test]
    fn every_file_is_served_and_every_file_that_is_named_is_there() {
        let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/src/admin/console");
        let files = std::fs::read_dir(folder).unwrap();
        let files: BTreeSet<String> = files
            .map(|file| file.unwrap().file_name().into_string().unwrap())
            .collect();
        let served: BTreeSet<String> = ASSETS
            .iter()
            .chain([&INDEX])
            .map(|asset| asset.name.to_owned())
            .collect();
        assert_eq!(files, served);
        let mut named = 0;
        for asset in ASSETS.iter().chain([&INDEX]) {
            let text = text(asset);
            for name in quoted(text, "from \"./").chain(quoted(text, "\"./console/")) {
                assert!(served.contains(name), "{} names {name}", asset.name);
                named += 1;
            }
        }
        assert!(named > 20, "{named}");
    }

    #[test]
    fn every_address_is_told_from_where_the_page_is() {
        for asset in ASSETS.iter().chain([&INDEX]) {
            let text = text(asset);
            for absolute in [
                "href=\"/",
                "src=\"/",
                "href: \"/",
                "src: \"/",
                "fetch(\"",
                "fetch(`",
                "fetch(path",
                "url(/",
            ] {
                assert!(!text.contains(absolute), "{} has {absolute}", asset.name);
            }
        }
        let fetched = ASSETS
            .iter()
            .map(|asset| text(asset).matches("fetch(").count());
        // All requests pass one function, which knows the address of the page.
        assert_eq!(fetched.sum::<usize>(), 1);
    }

    #[test]
    fn nothing_is_inline_fetched_from_elsewhere_or_put_in_as_markup() {
        for asset in ASSETS.iter().chain([&INDEX]) {
            let text = text(asset);
            for banned in [
                "innerHTML",
                "outerHTML",
                "insertAdjacentHTML",
                "document.write",
                "eval(",
                " style=\"",
                "<script>",
                "<style>",
                "@import",
            ] {
                assert!(!text.contains(banned), "{} has {banned}", asset.name);
            }
        }
    }

    #[test]
    fn every_text_that_is_shown_is_in_the_table_of_words() {
        let words = ASSETS.iter().find(|asset| asset.name == "words.js");
        let words = text(words.unwrap());
        let known: BTreeSet<&str> = words
            .lines()
            .filter_map(|line| line.trim_start().strip_prefix('"')?.split_once("\": ["))
            .map(|(key, _)| key)
            .collect();
        assert!(known.len() > 100, "{}", known.len());
        let mut asked = 0;
        for asset in ASSETS.iter().filter(|asset| asset.name != "words.js") {
            for key in quoted(text(asset), "t(\"") {
                assert!(known.contains(key), "{} asks for {key:?}", asset.name);
                asked += 1;
            }
        }
        assert!(asked > 100, "{asked}");
    }
}
