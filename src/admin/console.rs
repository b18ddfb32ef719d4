//! The files of two pages for people: the console, which shows what happens in the stack and controls it, and the demo, a
//! chat of two users in a browser.
//!
//! Serves the router of the admin API, and browsers through it. The files are part of the program. The pages load nothing
//! from other sites. The console asks only this API; the demo is also a client of the stack, over WebSocket.

use std::sync::Arc;

use axum::Router;
use axum::extract::Path;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Redirect, Response};
use axum::routing::get;
use xxhash_rust::xxh3::xxh3_64;

use super::Deps;
use super::answer::Problem;

/// The content security policy: nothing is loaded from other sites, nothing is inline, and no frame shows the page.
const POLICY: &str =
    "default-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

/// The policy of the demo. It may open WebSockets to any host, since the gateway's answers decide which access server on
/// which host it connects to.
const DEMO_POLICY: &str = "default-src 'self'; connect-src 'self' ws: wss:; base-uri 'none'; form-action 'none'; \
    frame-ancestors 'none'";

const HTML: &str = "text/html; charset=utf-8";
const CSS: &str = "text/css; charset=utf-8";
const SCRIPT: &str = "text/javascript; charset=utf-8";
const IMAGE: &str = "image/svg+xml";

/// A file of a page.
struct Asset {
    /// The folder of the file: in the sources, and in its URL.
    folder: &'static str,
    name: &'static str,
    /// The media type.
    kind: &'static str,
    bytes: &'static [u8],
}

macro_rules! asset {
    ($kind:ident $folder:literal $name:literal) => {
        Asset {
            folder: $folder,
            name: $name,
            kind: $kind,
            bytes: include_bytes!(concat!($folder, "/", $name)),
        }
    };
}

/// The file under `/`.
const INDEX: Asset = asset!(HTML "console" "index.html");

/// The file under `/demo/`.
const DEMO: Asset = asset!(HTML "demo" "index.html");

/// The files under `/console/` and `/demo/`. The demo uses modules of the console too.
const ASSETS: &[Asset] = &[
    asset!(IMAGE "console" "icon.svg"),
    asset!(CSS "console" "base.css"),
    asset!(CSS "console" "pages.css"),
    asset!(SCRIPT "console" "theme.js"),
    asset!(SCRIPT "console" "main.js"),
    asset!(SCRIPT "console" "tools.js"),
    asset!(SCRIPT "console" "dom.js"),
    asset!(SCRIPT "console" "words.js"),
    asset!(SCRIPT "console" "api.js"),
    asset!(SCRIPT "console" "notice.js"),
    asset!(SCRIPT "console" "ring.js"),
    asset!(SCRIPT "console" "journal.js"),
    asset!(SCRIPT "console" "list.js"),
    asset!(SCRIPT "console" "metrics.js"),
    asset!(SCRIPT "console" "chart.js"),
    asset!(SCRIPT "console" "drawing.js"),
    asset!(SCRIPT "console" "frame.js"),
    asset!(SCRIPT "console" "record.js"),
    asset!(SCRIPT "console" "stack.js"),
    asset!(SCRIPT "console" "wire.js"),
    asset!(SCRIPT "console" "users.js"),
    asset!(SCRIPT "console" "inbox.js"),
    asset!(SCRIPT "console" "faults.js"),
    asset!(SCRIPT "console" "quirks.js"),
    asset!(SCRIPT "console" "help.js"),
    asset!(SCRIPT "console" "snippets.js"),
    asset!(CSS "demo" "demo.css"),
    asset!(SCRIPT "demo" "main.js"),
    asset!(SCRIPT "demo" "user.js"),
    asset!(SCRIPT "demo" "talk.js"),
    asset!(SCRIPT "demo" "imd-client.js"),
];

impl Asset {
    /// Returns the file under a content security policy, or 304 if the browser has this version of it.
    fn answer(&self, policy: &'static str, headers: &HeaderMap) -> Response {
        let tag = format!("\"{:016x}\"", xxh3_64(self.bytes));
        let known = headers.get(header::IF_NONE_MATCH);
        let is_known = known.is_some_and(|known| known.as_bytes() == tag.as_bytes());
        let about = [
            (header::CONTENT_SECURITY_POLICY, policy),
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
    INDEX.answer(POLICY, &headers)
}

async fn demo(headers: HeaderMap) -> Response {
    DEMO.answer(DEMO_POLICY, &headers)
}

/// Leads to the demo with a slash at the end, to which the names in the page are relative. The location is relative too,
/// for a proxy that removes a path.
async fn demo_folder() -> Redirect {
    Redirect::temporary("./demo/")
}

async fn asset(
    folder: &'static str,
    Path(name): Path<String>,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let mut assets = ASSETS.iter();
    let found = assets.find(|asset| asset.folder == folder && asset.name == name);
    let found = found.ok_or_else(|| Problem::missing(format!("the {folder} has no {name:?}")))?;
    Ok(found.answer(POLICY, &headers))
}

/// Returns the router of both pages and of the files that they load.
pub fn router() -> Router<Arc<Deps>> {
    Router::new()
        .route("/", get(index))
        .route(
            "/console/{name}",
            get(|name, head| asset("console", name, head)),
        )
        .route("/demo", get(demo_folder))
        .route("/demo/", get(demo))
        .route("/demo/{name}", get(|name, head| asset("demo", name, head)))
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

    fn all() -> impl Iterator<Item = &'static Asset> {
        ASSETS.iter().chain([&INDEX, &DEMO])
    }

    #[test]
    fn every_file_is_served_and_every_file_that_is_named_is_there() {
        let mut files = BTreeSet::new();
        for folder in ["console", "demo"] {
            let path = format!("{}/src/admin/{folder}", env!("CARGO_MANIFEST_DIR"));
            for file in std::fs::read_dir(path).unwrap() {
                let name = file.unwrap().file_name().into_string().unwrap();
                files.insert(format!("{folder}/{name}"));
            }
        }
        let served = all().map(|asset| format!("{}/{}", asset.folder, asset.name));
        let served: BTreeSet<String> = served.collect();
        assert_eq!(files, served);
        let mut named = 0;
        for asset in all() {
            let text = text(asset);
            let beside = quoted(text, "from \"./").map(|name| format!("{}/{name}", asset.folder));
            let below = quoted(text, "\"./console/").map(|name| format!("console/{name}"));
            let console = quoted(text, "\"../console/").map(|name| format!("console/{name}"));
            for name in beside.chain(below).chain(console) {
                assert!(served.contains(&name), "{} names {name}", asset.name);
                named += 1;
            }
        }
        assert!(named > 40, "{named}");
    }

    #[test]
    fn every_address_is_told_from_where_the_page_is() {
        for asset in all() {
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
        for asset in all() {
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
