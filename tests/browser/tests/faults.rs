//! The page Faults: adding, watching and ending faults.

use std::time::Duration;

use browser::{on_console, user};
use imd::lab::{Fault, Site};
use imd::{Config, Imd};

fn hits(imd: &Imd) -> Vec<(String, u64)> {
    let listed = imd.faults().list().into_iter();
    listed
        .map(|rule| (rule.fault.name().unwrap_or_default().to_owned(), rule.hits))
        .collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn one_from_the_menu_is_injected_hits_is_switched_off_and_on_and_removed() {
    on_console(Config::ephemeral(), async |page, imd| {
        page.go("faults").await;
        page.reads("#rules", "Nothing is made to fail").await;
        page.click("[data-preset=reply-lost]").await;
        page.fill("[name=uid]", "7").await;
        page.fill("[name=name]", "lost").await;
        page.select("[name=cmd]", "SendP2PMsg").await;
        page.click("#inject").await;
        page.is_told("lost is in force").await;
        let mut ann = user(imd, 7).await;
        ann.set_timeout(Duration::from_millis(300));
        ann.send_p2p(8, "hello").await.unwrap_err();
        page.reads("[data-rule=lost] .hits", "1 hits").await;
        page.reads(
            "[data-rule=lost] code",
            "at access.reply  uid 7  cmd SendP2PMsg  times 1  drop",
        )
        .await;
        assert_eq!(hits(imd), [("lost".to_owned(), 1)]);
        page.click("[data-rule=lost] [role=switch]").await;
        page.is_told("lost is off").await;
        assert_eq!(hits(imd), []);
        page.reload().await;
        page.reads("[data-rule=lost] .hits", "off").await;
        page.click("[data-rule=lost] [role=switch]").await;
        page.is_told("lost is on").await;
        assert_eq!(hits(imd), [("lost".to_owned(), 0)]);
        page.click("[data-rule=lost] button").await;
        page.is_told("lost has ended").await;
        page.misses("[data-rule=lost]").await;
        assert_eq!(hits(imd), []);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn every_entry_of_the_menu_can_be_injected_and_all_removed() {
    on_console(Config::ephemeral(), async |page, imd| {
        page.go("faults").await;
        page.sees("#inject").await;
        let names = page.run("return [...document.querySelectorAll('[data-preset]')].map((one) => one.dataset.preset)", &[]).await;
        let names = names.as_array().unwrap();
        assert!(names.len() > 20);
        for (index, name) in names.iter().enumerate() {
            page.click(&format!("[data-preset={}]", name.as_str().unwrap())).await;
            page.click("#inject").await;
            page.is_told(&format!("fault-{} is in force", index + 1)).await;
        }
        assert_eq!(hits(imd).len(), names.len());
        page.click("#faults-clear").await;
        page.is_told("All faults have ended").await;
        assert_eq!(hits(imd), []);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn every_action_of_every_site_has_a_form() {
    on_console(Config::ephemeral(), async |page, imd| {
        page.go("faults").await;
        let mut count = 0;
        for site in Site::ALL {
            for action in site.actions() {
                page.select("[name=at]", site.name()).await;
                page.select("[name=action]", action).await;
                page.click("#inject").await;
                page.is_told("is in force").await;
                let rule = imd.faults().list().pop().unwrap();
                let rule = serde_json::to_value(rule).unwrap();
                assert_eq!(rule["at"], site.name());
                assert!(rule.get(action).is_some(), "{action}: {rule}");
                count += 1;
            }
        }
        assert_eq!(hits(imd).len(), count);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_api_refuses_is_said_in_its_words() {
    on_console(Config::ephemeral(), async |page, imd| {
        page.go("faults").await;
        page.fill("[name=for]", "soon").await;
        page.click("#inject").await;
        page.is_told("\"soon\" must be a duration").await;
        page.is_forgiven("400").await;
        assert_eq!(hits(imd), []);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_clock_that_goes_by_hand_is_moved() {
    on_console(Config::ephemeral().manual_clock(), async |page, imd| {
        page.go("faults").await;
        page.reads("#clock-kind", "hand").await;
        let (now, wall) = (imd.clock().now(), imd.clock().unix_ms());
        page.fill("#advance-by", "15s").await;
        page.click("#advance").await;
        page.is_told("moved by 15s").await;
        assert_eq!(imd.clock().now() - now, Duration::from_secs(15));
        page.reads("#clock-up", "15.0 s").await;
        page.click("#skew").await;
        page.is_told("moved by -3600000 ms").await;
        assert_eq!(imd.clock().unix_ms() - wall, 15_000 - 3_600_000);
        assert_eq!(imd.clock().now() - now, Duration::from_secs(15));
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_machine_s_clock_is_not_advanced_and_quirks_are_told() {
    let mut config = Config::ephemeral();
    config.quirks.sync_inclusive = true;
    on_console(config, async |page, _| {
        page.go("faults").await;
        page.reads("#clock-kind", "the machine").await;
        page.sees("#advance:disabled").await;
        page.reads("#clock", "kind = \"manual\"").await;
        page.reads("[data-quirk=sync_inclusive] .badge", "on").await;
        page.reads("[data-quirk=replies_as_schema] .badge", "off")
            .await;
        assert_eq!(page.count("[data-quirk]").await, 8);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_broken_in_the_browser_s_storage_is_passed_over() {
    on_console(Config::ephemeral(), async |page, _| {
        for broken in ["[{", "7", "[null, {}]"] {
            page.run(
                "localStorage.setItem('imd.faults.off', arguments[0]); location.hash = '#/help'",
                &[broken.into()],
            )
            .await;
            page.sees("main.page-help").await;
            page.go("faults").await;
            page.reads("#rules", "Nothing is made to fail").await;
            page.click("[data-preset=notify-lost]").await;
            page.fill("[name=name]", "lost").await;
            page.click("#inject").await;
            page.is_told("lost is in force").await;
            page.click("[data-rule=lost] [role=switch]").await;
            page.is_told("lost is off").await;
            page.reads("[data-rule=lost] .hits", "off").await;
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rule_for_an_id_of_any_size_is_made_switched_off_and_on_unchanged() {
    on_console(Config::ephemeral(), async |page, imd| {
        let uid = i64::MAX;
        page.go("faults").await;
        page.click("[data-preset=\"store-full\"]").await;
        page.fill("[name=uid]", &uid.to_string()).await;
        page.fill("[name=name]", "large").await;
        page.click("#inject").await;
        page.is_told("large is in force").await;
        let told = format!("uid {uid}");
        page.reads("[data-rule=large] code", &told).await;
        let is_meant = || {
            let listed = imd.faults().list();
            let text = serde_json::to_string(&listed).unwrap();
            text.contains(&format!("\"uid\":{uid},"))
        };
        assert!(is_meant());
        page.click("[data-rule=large] input").await;
        page.is_told("large is off").await;
        page.reads("[data-rule=large] code", &told).await;
        page.click("[data-rule=large] input").await;
        page.is_told("large is on").await;
        assert!(is_meant());
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn more_faults_than_one_answer_holds_are_all_shown() {
    on_console(Config::ephemeral(), async |page, imd| {
        for n in 0..=1_000 {
            let fault = Fault::at(Site::Notify).named(format!("f & {n}"));
            imd.fault(fault).keep();
        }
        page.go("faults").await;
        page.sees("[data-rule=\"f & 1000\"]").await;
        assert_eq!(page.count("[data-rule]").await, 1_001);
    })
    .await;
}
