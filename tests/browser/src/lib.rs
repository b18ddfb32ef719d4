//! One `imd` and one browser for each test, both gone when it ends, however it ends.
//!
//! | file | what it does |
//! |---|---|
//! | `browser` | chromedriver and Chromium: started, ended |
//! | `page` | the console in it: what is clicked, waited for and checked |

mod browser;
mod page;

pub use browser::Browser;
pub use page::Page;

use std::panic::AssertUnwindSafe;

use futures_util::FutureExt;
use imd::{Client, Config, Imd};

/// What a test begins with.
#[derive(Debug, Clone, Copy)]
pub struct Look {
    /// What the browser says that its user reads.
    pub language: &'static str,
    /// Whether its user likes it dark.
    pub dark: bool,
    /// Its window, in pixels.
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

/// Runs a test on the console of an `imd` of its own.
pub async fn on_console(config: Config, test: impl AsyncFnOnce(&Page, &Imd)) {
    look_at_console(Look::default(), config, test).await;
}

/// The same with another look. What every page must keep to is checked at the end: no errors, and nothing from elsewhere.
pub async fn look_at_console(look: Look, config: Config, test: impl AsyncFnOnce(&Page, &Imd)) {
    let imd = Imd::start(config).await.unwrap();
    let browser = Browser::start(look).await;
    let page = Page::open(&browser, imd.admin_addr().unwrap()).await;
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

/// A client that is logged in on the first access server.
pub async fn user(imd: &Imd, uid: i64) -> Client {
    let mut client = Client::connect_to(imd.access_servers()[0].addr())
        .await
        .unwrap();
    client.login(uid, &imd.token(uid)).await.unwrap();
    client
}
