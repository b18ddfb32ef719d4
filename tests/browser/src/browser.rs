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

/// A browser starts within this time, or the test fails.
const PATIENCE: Duration = Duration::from_secs(60);

/// A headless Chromium and its driver.
pub struct Browser {
    pub(crate) client: Client,
    driver: Child,
    /// Chromium's, and where it puts what it loads down; gone with this.
    folder: TempDir,
}

/// A command that WebDriver itself does not have.
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

/// Starts chromedriver; answers where it listens. None when it has ended at once: the free port that it chooses is
/// another's now and then.
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
    /// Starts both. chromedriver and Chromium are found on the path.
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
                // It has nobody else's pages to keep apart, and as root there is no sandbox.
                "--no-sandbox",
                "--disable-dev-shm-usage",
                "--disable-gpu",
                "--hide-scrollbars",
                // Whoever asks for another host is told that there is none.
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

    /// Has the page think that its window is so large, in pixels; a real one can't be narrow.
    pub async fn resize(&self, (width, height): (u32, u32)) {
        let metrics =
            json!({ "width": width, "height": height, "deviceScaleFactor": 1, "mobile": false });
        self.devtools("Emulation.setDeviceMetricsOverride", metrics)
            .await;
    }

    /// Has each page remember all that it loads, for [`Page::is_clean`](crate::Page::is_clean): it keeps 250 by itself.
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

    /// What the browser has said about its pages since the last time: errors, warnings, refusals.
    pub async fn said(&self) -> Vec<Value> {
        let said = self
            .client
            .issue_cmd(Extra("se/log", json!({ "type": "browser" })))
            .await;
        said.unwrap().as_array().unwrap().clone()
    }

    /// Where a file is once it is loaded down.
    pub fn download(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Ends both.
    pub async fn end(mut self) {
        let closed = self.client.close().await;
        self.driver.kill().await.unwrap();
        closed.unwrap();
    }
}
