//! A page in a browser: clicking, typing, and waiting for what it shows.

use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use fantoccini::Locator;
use fantoccini::elements::Element;
use serde_json::{Value, json};
use tokio::time::Instant;

use crate::Browser;

/// How long the page may take to show something. Only a failing test uses it up.
const PATIENCE: Duration = Duration::from_secs(30);

/// The console or the demo in one tab of a browser.
pub struct Page<'a> {
    browser: &'a Browser,
    origin: String,
}

impl<'a> Page<'a> {
    pub(crate) async fn open(browser: &'a Browser, admin: SocketAddr, path: &str) -> Page<'a> {
        let origin = format!("http://{admin}");
        let url = format!("{origin}{path}");
        browser.client.goto(&url).await.unwrap();
        Page { browser, origin }
    }

    /// Goes to a page, such as `wire?uid=7`, and waits until it is shown.
    pub async fn go(&self, place: &str) {
        self.run("location.hash = '#/' + arguments[0]", &[json!(place)])
            .await;
        let name = place.split(['/', '?']).next().unwrap();
        self.until(
            &format!("main.page-{name} is there"),
            &format!("return document.querySelector('main.page-{name}')?.children.length > 0"),
        )
        .await;
    }

    /// Opens the console in a new tab, and stays there. The other tabs are left as they are.
    pub async fn goes_on_in_a_new_tab(&self) {
        let client = &self.browser.client;
        let tab = client.new_window(true).await.unwrap();
        client.switch_to_window(tab.handle).await.unwrap();
        self.browser.remember().await;
        client.goto(&format!("{}/", self.origin)).await.unwrap();
    }

    /// Loads the page again.
    pub async fn reload(&self) {
        self.browser.client.refresh().await.unwrap();
    }

    /// Sets the size of the window, as [`Browser::resize`] does.
    pub async fn resize(&self, size: (u32, u32)) {
        self.browser.resize(size).await;
    }

    /// Makes the page believe that another tab is in front of it: a headless browser shows all of its tabs.
    pub async fn hide(&self) {
        self.run(
            "Object.defineProperty(document, 'visibilityState', { configurable: true, get: () => 'hidden' });
             document.dispatchEvent(new Event('visibilitychange'))",
            &[],
        )
        .await;
    }

    /// Makes the page believe that it is in front again.
    pub async fn show(&self) {
        self.run("delete document.visibilityState; document.dispatchEvent(new Event('visibilitychange'))", &[]).await;
    }

    /// Runs a script in the page, and returns its result.
    pub async fn run(&self, script: &str, arguments: &[Value]) -> Value {
        let ran = self
            .browser
            .client
            .execute(script, arguments.to_vec())
            .await;
        ran.unwrap_or_else(|error| panic!("{script}: {error}"))
    }

    /// Runs a script again and again until its result is true in the sense of JavaScript, and returns the result.
    pub async fn until(&self, what: &str, script: &str) -> Value {
        let end = Instant::now() + PATIENCE;
        loop {
            let seen = self.run(script, &[]).await;
            if ![json!(null), json!(false), json!(0), json!("")].contains(&seen) {
                return seen;
            }
            if Instant::now() > end {
                let text = self.run("return document.body.innerText", &[]).await;
                panic!("not seen: {what}\n{}", text.as_str().unwrap_or_default());
            }
            self.next_frame().await;
        }
    }

    /// Waits until the page is drawn once more. If the page is left meanwhile, it does not wait.
    pub async fn next_frame(&self) {
        let script = "requestAnimationFrame(() => arguments[0]())";
        let _ = self.browser.client.execute_async(script, Vec::new()).await;
    }

    /// Waits until an element is visible.
    pub async fn sees(&self, css: &str) {
        self.until(
            css,
            &format!(
                "return document.querySelector({})?.checkVisibility()",
                json!(css)
            ),
        )
        .await;
    }

    /// Waits until no such element is visible.
    pub async fn misses(&self, css: &str) {
        self.until(
            &format!("no {css}"),
            &format!(
                "return !document.querySelector({})?.checkVisibility()",
                json!(css)
            ),
        )
        .await;
    }

    /// Waits until the text of an element contains `text`.
    pub async fn reads(&self, css: &str, text: &str) {
        let script = format!(
            "return [...document.querySelectorAll({})].some((one) => one.textContent.includes({}))",
            json!(css),
            json!(text)
        );
        self.until(&format!("{text:?} in {css}"), &script).await;
    }

    /// Returns how many such elements there are now.
    pub async fn count(&self, css: &str) -> u64 {
        self.run(
            "return document.querySelectorAll(arguments[0]).length",
            &[json!(css)],
        )
        .await
        .as_u64()
        .unwrap()
    }

    /// Returns the text of the first such element.
    pub async fn text(&self, css: &str) -> String {
        self.find(css).await.text().await.unwrap()
    }

    async fn find(&self, css: &str) -> Element {
        let found = self
            .browser
            .client
            .wait()
            .at_most(PATIENCE)
            .for_element(Locator::Css(css))
            .await;
        found.unwrap_or_else(|error| panic!("{css}: {error}"))
    }

    /// Clicks the first such element, as a mouse does.
    pub async fn click(&self, css: &str) {
        self.sees(&format!("{css}:not(:disabled)")).await;
        // Under the bar at the top, the driver would take the element for visible, and click the bar.
        let script = "document.querySelector(arguments[0]).scrollIntoView({ block: 'center', behavior: 'instant' })";
        self.run(script, &[json!(css)]).await;
        let clicked = self.find(css).await.click().await;
        clicked.unwrap_or_else(|error| panic!("{css}: {error}"));
    }

    /// Replaces the text in the first such element.
    pub async fn fill(&self, css: &str, text: &str) {
        let element = self.find(css).await;
        element.clear().await.unwrap();
        element.send_keys(text).await.unwrap();
    }

    /// Chooses an option of the first such element.
    pub async fn select(&self, css: &str, value: &str) {
        let option = format!("{css} option[value={}]", json!(value));
        let script = format!("return document.querySelector({})", json!(option));
        self.until(&option, &script).await;
        self.find(css).await.select_by_value(value).await.unwrap();
    }

    /// Presses keys in the element that has the focus.
    pub async fn press(&self, keys: &str) {
        self.browser
            .client
            .active_element()
            .await
            .unwrap()
            .send_keys(keys)
            .await
            .unwrap();
    }

    /// Waits until the page shows a notice with this text, and closes all notices.
    pub async fn is_told(&self, text: &str) {
        self.reads(".notice", text).await;
        self.run(
            "document.querySelectorAll('.notice button').forEach((one) => one.click())",
            &[],
        )
        .await;
    }

    /// Checks that the browser has logged nothing, and that everything was loaded from this stack.
    pub async fn is_clean(&self) {
        let said = self.browser.said().await;
        assert!(said.is_empty(), "{said:#?}");
        let loaded = self.run("return performance.getEntries().map((one) => one.name).filter((name) => name.includes(':'))", &[]).await;
        let loaded = loaded.as_array().unwrap();
        assert!(loaded.len() > 10, "{loaded:?}");
        for name in loaded {
            assert!(name.as_str().unwrap().starts_with(&self.origin), "{name}");
        }
    }

    /// Discards what the browser has logged. Each entry must contain `what`: the test has caused it.
    pub async fn is_forgiven(&self, what: &str) {
        for said in self.browser.said().await {
            assert!(
                said["message"].as_str().unwrap().contains(what),
                "{said:#?}"
            );
        }
    }

    /// Returns whether the page is no wider than its window.
    pub async fn fits(&self) -> bool {
        let script = "return document.documentElement.scrollWidth <= innerWidth";
        self.run(script, &[]).await.as_bool().unwrap()
    }

    /// Waits until a file has been downloaded, and returns its text.
    pub async fn gets(&self, name: &str) -> String {
        let file = self.browser.download(name);
        let end = Instant::now() + PATIENCE;
        loop {
            match std::fs::read_to_string(&file) {
                Ok(text) => return text,
                Err(error) if Instant::now() > end => panic!("{name}: {error}"),
                Err(_) => self.next_frame().await,
            }
        }
    }

    /// Writes a picture of the page to a PNG file.
    pub async fn shoot(&self, file: &Path) {
        let shot = self.browser.client.screenshot().await.unwrap();
        std::fs::write(file, shot).unwrap();
    }
}
