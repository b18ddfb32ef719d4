//! The page Help: what it explains, and the commands that it offers to copy.

use browser::on_console;
use imd::Config;

#[tokio::test(flavor = "multi_thread")]
async fn it_has_every_address_and_copies_them() {
    on_console(Config::ephemeral(), async |page, imd| {
        page.go("help").await;
        let told = imd.addresses();
        let admin = told.admin.unwrap();
        for address in [
            &told.gateway,
            &told.user_api,
            &told.group_api,
            &admin,
            &told.access[2].addr,
        ] {
            page.reads("#addresses code", address).await;
        }
        page.click("#addresses .copy").await;
        page.is_told("Copied").await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn it_makes_tokens_and_puts_them_in_the_snippets() {
    on_console(Config::ephemeral(), async |page, imd| {
        page.go("help").await;
        page.reads("#token-made", &imd.token(321)).await;
        page.fill("#token-uid", "7").await;
        page.click("#token-make").await;
        page.reads("#token-made", &imd.token(7)).await;
        for (tab, has) in [
            (0, "imd chat"),
            (1, "imd::Client"),
            (2, "import socket"),
            (3, "protobufjs"),
            (4, "proto.Marshal"),
        ] {
            page.click(&format!("#tab-{tab}")).await;
            page.reads("#snippet", has).await;
            page.reads("#snippet", &imd.gateway_addr().port().to_string())
                .await;
            if tab > 0 {
                page.reads("#snippet", &imd.token(7)).await;
            }
        }
        page.fill("#token-uid", "nobody").await;
        page.click("#token-make").await;
        page.is_told("a whole number of 64 bits").await;
        page.is_forgiven("400").await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn its_snippets_dial_an_address_of_ipv6_as_each_language_wants_it() {
    let mut config = Config::ephemeral();
    config.gateway.listen = "[::1]:0".parse().unwrap();
    config.http.user_listen = "[::1]:0".parse().unwrap();
    on_console(config, async |page, imd| {
        page.go("help").await;
        let (gateway, user_api) = (imd.gateway_addr(), imd.user_api_addr());
        for (tab, has) in [
            (0, format!("imd chat --gateway '{gateway}'")),
            (0, format!("'http://{user_api}/x/user/register'")),
            (1, format!("connect(\"{gateway}\")")),
            (
                2,
                format!("create_connection((\"::1\", {}))", gateway.port()),
            ),
            (2, "host.strip(\"[]\")".to_owned()),
            (3, "replace(/[[\\]]/g, \"\")".to_owned()),
            (4, format!("call(\"{gateway}\"")),
        ] {
            page.click(&format!("#tab-{tab}")).await;
            page.reads("#snippet", &has).await;
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn it_says_what_is_not_emulated_and_which_keys_there_are() {
    on_console(Config::ephemeral(), async |page, _| {
        page.go("help").await;
        page.reads(
            "#not-emulated li",
            "Only a user who has pinged within 15 s is notified.",
        )
        .await;
        for (key, name) in [
            ("2", "wire"),
            ("4", "faults"),
            ("1", "stack"),
            ("?", "help"),
        ] {
            page.press(key).await;
            page.sees(&format!("main.page-{name}")).await;
        }
        page.reads(".keys", "the pages").await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_and_its_snippets_are_for_an_id_of_any_size() {
    on_console(Config::ephemeral(), async |page, imd| {
        page.go("help").await;
        page.reads("#snippet", "--uid 321").await;
        for uid in [(1i64 << 53) + 1, i64::MAX] {
            page.fill("#token-uid", &uid.to_string()).await;
            page.click("#token-make").await;
            page.reads("#token-made", &imd.token(uid)).await;
            page.reads("#snippet", &format!("--uid {uid}")).await;
        }
    })
    .await;
}
