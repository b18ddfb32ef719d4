use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use fantoccini::Locator;
use fantoccini::elements::Element;
use serde_json::{Value, json};
use tokio::time::Instant;

use crate::Browser;

/// What should be seen soon has not been seen when this is over: the test fails.
const PATIENCE: Duration = Duration::from_secs(30);

/// The console.
pub struct Page<'a> {
    browser: &'a Browser,
    origin: String,
}

impl<'a> Page<'a> {
    pub(crate) async fn open(browser: &'a Browser, admin: SocketAddr) -> Page<'a> {
        let origin = format!("http://{admin}");
        browser.client.goto(&format!("{origin}/")).await.unwrap();
        Page { browser, origin }
    }

    /// Goes to a page, such as `wire?uid=7`, and waits until it is there.
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

    /// Opens it in one more tab, and stays there; the others are left as they are.
    pub async fn goes_on_in_a_new_tab(&self) {
        let client = &self.browser.client;
        let tab = client.new_window(true).await.unwrap();
        client.switch_to_window(tab.handle).await.unwrap();
        self.browser.remember().await;
        client.goto(&format!("{}/", self.origin)).await.unwrap();
    }

    /// Loads it anew.
    pub async fn reload(&self) {
        self.browser.client.refresh().await.unwrap();
    }

    /// See [`Browser::resize`].
    pub async fn resize(&self, size: (u32, u32)) {
        self.browser.resize(size).await;
    }

    /// Has the page think that it lies behind another tab: a headless browser shows all of its own.
    pub async fn hide(&self) {
        self.run(
            "Object.defineProperty(document, 'visibilityState', { configurable: true, get: () => 'hidden' });
             document.dispatchEvent(new Event('visibilitychange'))",
            &[],
        )
        .await;
    }

    /// Has it seen again.
    pub async fn show(&self) {
        self.run("delete document.visibilityState; document.dispatchEvent(new Event('visibilitychange'))", &[]).await;
    }

    /// Runs a script in the page.
    pub async fn run(&self, script: &str, arguments: &[Value]) -> Value {
        let ran = self
            .browser
            .client
            .execute(script, arguments.to_vec())
            .await;
        ran.unwrap_or_else(|error| panic!("{script}: {error}"))
    }

    /// Looks until a script answers what is true; says what that is.
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

    /// Waits until the page is drawn once more. Where it goes away meanwhile, there is nothing to wait for.
    pub async fn next_frame(&self) {
        let script = "requestAnimationFrame(() => arguments[0]())";
        let _ = self.browser.client.execute_async(script, Vec::new()).await;
    }

    /// Waits until an element is seen.
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

    /// Waits until no element is seen.
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

    /// Waits until the text of an element has this in it.
    pub async fn reads(&self, css: &str, text: &str) {
        let script = format!(
            "return [...document.querySelectorAll({})].some((one) => one.textContent.includes({}))",
            json!(css),
            json!(text)
        );
        self.until(&format!("{text:?} in {css}"), &script).await;
    }

    /// How many elements there are at the moment.
    pub async fn count(&self, css: &str) -> u64 {
        self.run(
            "return document.querySelectorAll(arguments[0]).length",
            &[json!(css)],
        )
        .await
        .as_u64()
        .unwrap()
    }

    /// The text of the first element.
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

    /// Clicks the first element, as a mouse does.
    pub async fn click(&self, css: &str) {
        self.sees(&format!("{css}:not(:disabled)")).await;
        // Not under the bar on top, where the driver would take it for being in sight.
        let script = "document.querySelector(arguments[0]).scrollIntoView({ block: 'center', behavior: 'instant' })";
        self.run(script, &[json!(css)]).await;
        let clicked = self.find(css).await.click().await;
        clicked.unwrap_or_else(|error| panic!("{css}: {error}"));
    }

    /// Types into the first element, in place of what stands there.
    pub async fn fill(&self, css: &str, text: &str) {
        let element = self.find(css).await;
        element.clear().await.unwrap();
        element.send_keys(text).await.unwrap();
    }

    /// Chooses from the first element.
    pub async fn select(&self, css: &str, value: &str) {
        let option = format!("{css} option[value={}]", json!(value));
        let script = format!("return document.querySelector({})", json!(option));
        self.until(&option, &script).await;
        self.find(css).await.select_by_value(value).await.unwrap();
    }

    /// Presses keys, wherever the page has its focus.
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

    /// Waits until the page has said this, and puts it away.
    pub async fn is_told(&self, text: &str) {
        self.reads(".notice", text).await;
        self.run(
            "document.querySelectorAll('.notice button').forEach((one) => one.click())",
            &[],
        )
        .await;
    }

    /// Fails when something went wrong in the page, or something came from elsewhere than its `imd`.
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

    /// Forgets what the browser has said: what a test has made it say.
    pub async fn is_forgiven(&self, what: &str) {
        for said in self.browser.said().await {
            assert!(
                said["message"].as_str().unwrap().contains(what),
                "{said:#?}"
            );
        }
    }

    /// Whether the page is no wider than its window.
    pub async fn fits(&self) -> bool {
        let script = "return document.documentElement.scrollWidth <= innerWidth";
        self.run(script, &[]).await.as_bool().unwrap()
    }

    /// The text of a file, once the page has given it out.
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

    /// Writes what is seen to a PNG file.
    pub async fn shoot(&self, file: &Path) {
        let shot = self.browser.client.screenshot().await.unwrap();
        std::fs::write(file, shot).unwrap();
    }
}
