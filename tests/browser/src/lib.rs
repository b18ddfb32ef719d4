//! What the tests of the console and the demo build on: each test has a stack and a browser of its own, which end with it, whether
//! it passes or fails.
//!
//! | file | what it holds |
//! |---|---|
//! | `browser` | chromedriver and Chromium: start and end |
//! | `page` | a page in the browser: what is clicked, waited for and checked |

mod browser;
mod page;

pub use browser::Browser;
pub use page::Page;

use std::panic::AssertUnwindSafe;

use futures_util::FutureExt;
use imd::{Client, Config, Imd};

/// The settings of the browser in which a test runs.
#[derive(Debug, Clone, Copy)]
pub struct Look {
    /// The language that the browser asks for.
    pub language: &'static str,
    /// Whether the browser asks for dark colors.
    pub dark: bool,
    /// The size of the window, in pixels.
    pub size: (u32, u32),
}

impl Default for Look {
    fn default() -> Self {
        Look {
            language: "en-US",
            dark: false,
            size: (1280, 860),
        }
    }
}

/// Runs a test on the console of a stack of its own.
pub async fn on_console(config: Config, test: impl AsyncFnOnce(&Page, &Imd)) {
    look_at_console(Look::default(), config, test).await;
}

/// Runs a test as [`on_console`] does, with other settings of the browser. At the end it checks that the page has
/// logged no errors and loaded nothing from elsewhere.
pub async fn look_at_console(look: Look, config: Config, test: impl AsyncFnOnce(&Page, &Imd)) {
    look_at(look, "/", config, test).await;
}

/// Runs a test on the demo of a stack of its own that takes WebSocket clients, with the same checks.
pub async fn on_demo(test: impl AsyncFnOnce(&Page, &Imd)) {
    look_at_demo(Look::default(), test).await;
}

/// Runs a test as [`on_demo`] does, with other settings of the browser.
pub async fn look_at_demo(look: Look, test: impl AsyncFnOnce(&Page, &Imd)) {
    let mut config = Config::ephemeral();
    config.with_websockets();
    look_at(look, "/demo/", config, test).await;
}

/// Runs a test on the page at a path of a stack of its own.
pub async fn look_at(look: Look, path: &str, config: Config, test: impl AsyncFnOnce(&Page, &Imd)) {
    let imd = Imd::start(config).await.unwrap();
    let browser = Browser::start(look).await;
    let page = Page::open(&browser, imd.admin_addr().unwrap(), path).await;
    let run = async {
        test(&page, &imd).await;
        page.is_clean().await;
    };
    let ended = AssertUnwindSafe(run).catch_unwind().await;
    browser.end().await;
    if let Err(panic) = ended {
        std::panic::resume_unwind(panic);
    }
}

/// Logs a client in on the first access server.
pub async fn user(imd: &Imd, uid: i64) -> Client {
    let mut client = Client::connect_to(imd.access_servers()[0].addr())
        .await
        .unwrap();
    client.login(uid, &imd.token(uid)).await.unwrap();
    client
}
