//! Starting and ending Chromium and its driver.

use std::path::PathBuf;
use std::process::Stdio;
use std::time::Duration;

use fantoccini::wd::WebDriverCompatibleCommand;
use fantoccini::{Client, ClientBuilder};
use hyper_util::client::legacy::connect::HttpConnector;
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, Command};
use tokio::time::timeout;
use url::{ParseError, Url};

use crate::Look;

/// How long a browser may take to start. Only a failing test uses it up.
const PATIENCE: Duration = Duration::from_secs(60);

/// A headless Chromium and its driver.
pub struct Browser {
    pub(crate) client: Client,
    driver: Child,
    /// The profile of Chromium and its downloads. Removed when this is dropped.
    folder: TempDir,
}

/// A command that is not part of WebDriver: its path, and its body.
#[derive(Debug)]
struct Extra(&'static str, Value);

impl WebDriverCompatibleCommand for Extra {
    fn endpoint(&self, base: &Url, session: Option<&str>) -> Result<Url, ParseError> {
        base.join(&format!(
            "session/{}/{}",
            session.unwrap_or_default(),
            self.0
        ))
    }

    fn method_and_body(&self, _: &Url) -> (http::Method, Option<String>) {
        (http::Method::POST, Some(self.1.to_string()))
    }
}

/// Starts chromedriver, and returns the port on which it listens. Returns `None` if it ends at once, which happens when
/// another program takes the free port that it has chosen.
async fn start_driver() -> Option<(Child, u16)> {
    let mut driver = Command::new("chromedriver")
        .arg("--port=0")
        .stdout(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .expect("chromedriver: docs/console.md says how to install it");
    let mut lines = BufReader::new(driver.stdout.take()?).lines();
    while let Some(line) = lines.next_line().await.unwrap() {
        if let Some((_, port)) = line.rsplit_once("successfully on port ") {
            return Some((driver, port.trim_end_matches('.').parse().unwrap()));
        }
    }
    None
}

impl Browser {
    /// Starts the driver and Chromium, which must be on the path.
    pub async fn start(look: Look) -> Browser {
        let started = async {
            loop {
                if let Some(started) = start_driver().await {
                    return started;
                }
            }
        };
        let started = timeout(PATIENCE, started).await;
        let (driver, port) = started.expect("chromedriver's port");
        let folder = tempfile::tempdir().unwrap();
        let capabilities = json!({
            "goog:loggingPrefs": { "browser": "ALL" },
            "goog:chromeOptions": { "prefs": { "download.default_directory": folder.path() }, "args": [
                "--headless=new",
                // There are no other users' pages to be protected from, and a sandbox can't be had as root.
                "--no-sandbox",
                "--disable-dev-shm-usage",
                "--disable-gpu",
                "--hide-scrollbars",
                // Every other host is reported as not found.
                "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1",
                format!("--accept-lang={}", look.language),
                format!("--user-data-dir={}", folder.path().join("profile").display()),
            ] },
        });
        let Value::Object(capabilities) = capabilities else {
            unreachable!("it is written as an object");
        };
        let client = ClientBuilder::new(HttpConnector::new())
            .capabilities(capabilities)
            .connect(&format!("http://127.0.0.1:{port}"))
            .await
            .unwrap();
        let browser = Browser {
            client,
            driver,
            folder,
        };
        browser.resize(look.size).await;
        let scheme = if look.dark { "dark" } else { "light" };
        let features = json!([{ "name": "prefers-color-scheme", "value": scheme }]);
        browser.remember().await;
        browser
            .devtools(
                "Emulation.setEmulatedMedia",
                json!({ "features": features }),
            )
            .await;
        browser
    }

    /// Sets the size of the window that the page sees, in pixels. A real window can't be narrow.
    pub async fn resize(&self, (width, height): (u32, u32)) {
        let metrics =
            json!({ "width": width, "height": height, "deviceScaleFactor": 1, "mobile": false });
        self.devtools("Emulation.setDeviceMetricsOverride", metrics)
            .await;
    }

    /// Makes each page remember everything that it loads, for [`Page::is_clean`](crate::Page::is_clean). Without this
    /// it remembers 250 entries.
    pub(crate) async fn remember(&self) {
        let source = "performance.setResourceTimingBufferSize(1_000_000)";
        self.devtools(
            "Page.addScriptToEvaluateOnNewDocument",
            json!({ "source": source }),
        )
        .await;
    }

    async fn devtools(&self, cmd: &str, params: Value) {
        let command = Extra("goog/cdp/execute", json!({ "cmd": cmd, "params": params }));
        self.client.issue_cmd(command).await.unwrap();
    }

    /// Returns the errors, warnings and refusals that the browser has logged since the last call.
    pub async fn said(&self) -> Vec<Value> {
        let said = self
            .client
            .issue_cmd(Extra("se/log", json!({ "type": "browser" })))
            .await;
        said.unwrap().as_array().unwrap().clone()
    }

    /// Returns the path to which a file of this name is downloaded.
    pub fn download(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Ends Chromium and the driver.
    pub async fn end(mut self) {
        let closed = self.client.close().await;
        self.driver.kill().await.unwrap();
        closed.unwrap();
    }
}
