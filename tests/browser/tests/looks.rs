//! What holds for every page: light and dark colors, both languages, narrow windows, the keyboard, tokens.

use browser::{Look, look_at_console, on_console, user};
use imd::Config;

const PAGES: [&str; 5] = ["stack", "wire", "users", "faults", "help"];

const GROUND: &str = "return getComputedStyle(document.body).backgroundColor";
const LIGHT: &str = "rgb(246, 247, 248)";
const DARK: &str = "rgb(16, 20, 24)";

#[tokio::test(flavor = "multi_thread")]
async fn it_is_light_or_dark_as_the_system_has_it_or_as_it_is_told() {
    let look = Look {
        dark: true,
        ..Look::default()
    };
    look_at_console(look, Config::ephemeral(), async |page, _| {
        page.sees("#theme").await;
        for (chosen, ground) in [("Auto", DARK), ("Light", LIGHT), ("Dark", DARK)] {
            page.reads("#theme", chosen).await;
            assert_eq!(page.run(GROUND, &[]).await, ground, "{chosen}");
            page.reload().await;
            page.reads("#theme", chosen).await;
            assert_eq!(page.run(GROUND, &[]).await, ground, "{chosen}");
            page.click("#theme").await;
        }
        page.reads("#theme", "Auto").await;
    })
    .await;
    on_console(Config::ephemeral(), async |page, _| {
        page.sees("#theme").await;
        assert_eq!(page.run(GROUND, &[]).await, LIGHT);
        page.press("t").await;
        page.press("t").await;
        page.reads("#theme", "Dark").await;
        for name in PAGES {
            page.go(name).await;
            assert_eq!(page.run(GROUND, &[]).await, DARK);
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn it_speaks_chinese_to_who_reads_it_and_can_be_switched() {
    let look = Look {
        language: "zh-CN",
        ..Look::default()
    };
    look_at_console(look, Config::ephemeral(), async |page, _| {
        for (name, text) in PAGES
            .into_iter()
            .zip(["架构", "线路", "用户", "故障", "帮助"])
        {
            page.reads(&format!("nav [data-page={name}]"), text).await;
            page.go(name).await;
            assert_eq!(
                page.run("return document.documentElement.lang", &[]).await,
                "zh"
            );
        }
        page.reads("main", "地址").await;
        page.click("#language").await;
        page.reads("main", "Addresses").await;
        page.reload().await;
        page.reads("nav", "Stack").await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn it_fits_a_narrow_window() {
    let look = Look {
        size: (360, 740),
        ..Look::default()
    };
    look_at_console(look, Config::ephemeral(), async |page, imd| {
        let mut ann = user(imd, 1).await;
        ann.send_p2p(2, &"a long word ".repeat(50)).await.unwrap();
        for name in PAGES {
            page.go(name).await;
            assert!(page.fits().await, "{name}");
        }
        page.go("wire").await;
        page.sees(".row .summary").await;
        page.click(".row[data-what=in]").await;
        page.sees("#wire-details .hex").await;
        assert!(page.fits().await);
        page.go("stack").await;
        page.click("[data-part=access-2] [data-do=pause]").await;
        page.is_told("access-2 is paused").await;
        page.resize((1280, 860)).await;
        page.until("lines that follow", "return [...document.querySelectorAll('.edge')].some((edge) => edge.getBBox().width > 40)").await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn it_is_used_by_keys() {
    on_console(Config::ephemeral(), async |page, _| {
        page.sees("[data-part=access-1] [data-do=kill]").await;
        let focused = "return document.activeElement.className || document.activeElement.id || document.activeElement.textContent";
        page.press("\u{E004}").await;
        assert_eq!(page.run(focused, &[]).await, "skip");
        page.press("\u{E007}").await;
        assert_eq!(page.run("return document.activeElement.id", &[]).await, "main");
        // The next key goes on to the first button, which gets a ring.
        page.press("\u{E004}").await;
        let ring = "return getComputedStyle(document.activeElement).outlineStyle";
        assert_eq!(page.run(ring, &[]).await, "solid");
        // Every element that can be used has a name.
        for name in PAGES {
            page.go(name).await;
            let named = "const has = (one) => one.textContent.trim() || one.getAttribute('aria-label') || one.labels?.length;
                return [...document.querySelectorAll('button, input, select, a')].every(has)";
            page.until("names for all", named).await;
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn where_a_token_is_set_it_is_asked_for_once() {
    let mut config = Config::ephemeral();
    config.admin.token = Some("hush".to_owned().into());
    on_console(config, async |page, imd| {
        page.fill("#token-input", "wrong").await;
        page.click("#token button").await;
        page.reads("#token", "That was not the one").await;
        // The question for the token can't be closed, and a token that no header can carry does not answer it.
        for _ in 0..3 {
            page.press("\u{E00C}").await;
            page.sees("#token-input").await;
        }
        page.fill("#token-input", "schlüssel").await;
        page.click("#token button").await;
        page.reads("#token", "No token has such characters").await;
        page.fill("#token-input", "hush").await;
        page.click("#token button").await;
        page.misses("#token").await;
        let _ann = user(imd, 1).await;
        page.reads("[data-part=access-1]", "Sessions: 1").await;
        page.reads("#status", "Live").await;
        page.reload().await;
        page.reads("#status", "Live").await;
        page.misses("#token").await;
        page.run("sessionStorage.setItem('imd.token', '钥匙')", &[])
            .await;
        page.reload().await;
        page.fill("#token-input", "hush").await;
        page.click("#token button").await;
        page.reads("#status", "Live").await;
        page.is_forgiven("401").await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_address_that_means_nothing_opens_the_stack() {
    on_console(Config::ephemeral(), async |page, _| {
        for place in ["constructor", "%E0%A4%A", "nothing/there?at=all"] {
            page.run("location.hash = '#/' + arguments[0]", &[place.into()])
                .await;
            page.reload().await;
            page.sees("main.page-stack [data-part=access-1]").await;
            page.reads("#status", "Live").await;
        }
        page.go("wire/%E0%A4%A").await;
        page.reads("#status", "Live").await;
    })
    .await;
}
