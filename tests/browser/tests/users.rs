//! The page Users: the list, one user's inbox, and sending messages.

use browser::{on_console, user};
use imd::Config;
use imd::config::User;

const MARKUP: &str = "<b onclick=alert(1)>bold</b> & more";

#[tokio::test(flavor = "multi_thread")]
async fn it_shows_who_is_where_and_for_how_long() {
    on_console(Config::ephemeral().manual_clock(), async |page, imd| {
        page.go("users").await;
        page.reads("#people", "Nobody is registered").await;
        let _ann = user(imd, 7).await;
        page.sees("[data-uid=\"7\"] .online.is-on").await;
        page.reads("[data-uid=\"7\"] .where", "access-1").await;
        page.reads("[data-uid=\"7\"] .who", "not registered").await;
        page.click("[data-uid=\"7\"]").await;
        page.reads("#whereabouts", "online, for 15 s more").await;
        imd.clock().advance(std::time::Duration::from_secs(5)).await;
        page.reads("#whereabouts", "online, for 10 s more").await;
        imd.clock()
            .advance(std::time::Duration::from_secs(10))
            .await;
        page.reads("#whereabouts", "offline").await;
        page.sees("[data-uid=\"7\"] .online:not(.is-on)").await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_inbox_is_a_line_of_versions_with_the_read_mark() {
    on_console(Config::ephemeral(), async |page, imd| {
        let mut ann = user(imd, 1).await;
        for n in 1..=3 {
            ann.send_p2p(2, &format!("{n} {MARKUP}")).await.unwrap();
        }
        page.go("users/2").await;
        page.reads("#level", "3 stored, read up to 0, 3 to come")
            .await;
        page.reads(
            "#entries [data-version=\"3\"] .body",
            &format!("3 {MARKUP}"),
        )
        .await;
        assert_eq!(page.count("#entries b[onclick]").await, 0);
        assert_eq!(page.count(".version.is-new").await, 3);
        let mut bob = user(imd, 2).await;
        bob.sync(0, 0).await.unwrap();
        bob.sync(2, 0).await.unwrap();
        page.reads("#level", "3 stored, read up to 2, 1 to come")
            .await;
        page.until(
            "the mark behind 2",
            "return document.querySelector('.mark').previousElementSibling.title.startsWith('2:')",
        )
        .await;
        assert_eq!(page.count(".version.is-new").await, 1);
        // The address of the page leads to the same user again.
        page.reload().await;
        page.reads("#level", "read up to 2").await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn users_are_registered_groups_made_and_messages_sent_in_their_place() {
    on_console(Config::ephemeral(), async |page, imd| {
        page.go("users").await;
        page.fill("#register-uid", "7").await;
        page.fill("#register-name", MARKUP).await;
        page.fill("#register-pw", "secret").await;
        page.click("#register button").await;
        page.is_told("7 is registered").await;
        page.reads("[data-uid=\"7\"] .who", MARKUP).await;
        page.fill("#register-uid", "7").await;
        page.click("#register button").await;
        page.is_told("user is already exist").await;
        page.is_forgiven("40").await;

        page.fill("#group-owner", "7").await;
        page.fill("#group-name", "team").await;
        page.fill("#group-members", "8, 9").await;
        page.click("#group button").await;
        page.is_told("is there").await;
        page.reads("#groups .group", "3 members").await;
        let gid = page.text("#groups .group code").await;

        let mut bob = user(imd, 8).await;
        page.fill("#send-from", "7").await;
        page.fill("#send-to", "8").await;
        page.fill("#send-text", MARKUP).await;
        page.click("#send button").await;
        page.is_told("Stored, as ").await;
        assert_eq!(bob.sync(0, 0).await.unwrap().messages[0].text, MARKUP);
        // The id of a group is larger than a number of JavaScript can hold.
        page.select("#send-kind", "group").await;
        page.fill("#send-to", &gid).await;
        page.fill("#send-text", "to all").await;
        page.click("#send button").await;
        page.is_told("Stored, as ").await;
        let page_of_bob = bob.sync(1, 0).await.unwrap();
        assert_eq!(
            (
                page_of_bob.messages[0].text.as_str(),
                page_of_bob.messages[0].source
            ),
            ("to all", 7)
        );
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_is_open_is_shown_also_when_not_among_those_that_are_listed() {
    let mut config = Config::ephemeral().manual_clock();
    config.user = vec![User {
        uid: 150,
        name: "Zoe".to_owned(),
        pw: "secret".to_owned().into(),
    }];
    on_console(config, async |page, imd| {
        let mut all = vec![user(imd, 150).await];
        for uid in 1..=100 {
            all.push(user(imd, uid).await);
        }
        page.go("users/150").await;
        page.reads("#whereabouts", "online, for 15 s more").await;
        page.reads("#whereabouts", "access-1").await;
        page.reads("#opened .who", "Zoe").await;
        page.misses("#people [data-uid=\"150\"]").await;
        // A user who does not exist is not taken for the next one in the list.
        page.go("users/149").await;
        page.reads("#opened h2", "149").await;
        page.reads("#whereabouts", "offline").await;
        assert_eq!(page.text("#opened .who").await, "");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_inbox_of_large_messages_shows_the_newest() {
    on_console(Config::ephemeral(), async |page, imd| {
        let mut ann = user(imd, 1).await;
        let large = "x".repeat(30_000);
        for _ in 0..40 {
            ann.send_p2p(2, &large).await.unwrap();
        }
        page.go("users/2").await;
        page.reads("#level", "40 stored").await;
        page.sees("#entries [data-version=\"40\"]").await;
        assert_eq!(page.count("#entries .entry").await, 40);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_inbox_is_shown_anew_after_a_reset_also_with_as_many_messages() {
    on_console(Config::ephemeral(), async |page, imd| {
        let mut ann = user(imd, 1).await;
        ann.send_p2p(2, "before").await.unwrap();
        page.go("users/2").await;
        page.reads("#entries [data-version=\"1\"] .body", "before")
            .await;
        // While the page is hidden, it sees no events.
        page.hide().await;
        imd.reset().await.unwrap();
        let mut ann = user(imd, 1).await;
        ann.send_p2p(2, "after").await.unwrap();
        page.show().await;
        page.reads("#entries [data-version=\"1\"] .body", "after")
            .await;
        assert_eq!(page.count("#entries .entry").await, 1);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_uid_that_is_none_stops_its_inbox_alone() {
    on_console(Config::ephemeral(), async |page, imd| {
        page.go("users/abc").await;
        page.is_told("abc").await;
        page.is_forgiven("40").await;
        page.reads("#people", "Nobody is registered").await;
        let _ann = user(imd, 7).await;
        page.sees("[data-uid=\"7\"] .online.is-on").await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn groups_are_asked_for_less_often_than_people() {
    on_console(Config::ephemeral(), async |page, _| {
        page.go("users").await;
        page.reads("#groups", "There are no groups").await;
        let fewer = "
            const loaded = performance.getEntriesByType('resource').map(({ name }) => name);
            const asked = (path) => loaded.filter((name) => name.includes(path)).length;
            return asked('/v1/users?') - asked('/v1/groups?') >= 3";
        page.until("fewer groups", fewer).await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_group_of_many_members_is_shown_with_the_first_of_them() {
    let mut config = Config::ephemeral();
    let group = |gid, members: i64| imd::config::Group {
        gid,
        name: String::new(),
        members: (1..=members).collect(),
    };
    config.group = vec![group(5, 100), group(6, 101)];
    on_console(config, async |page, _| {
        page.go("users").await;
        page.reads("[data-gid=\"5\"]", "100 members").await;
        page.reads("[data-gid=\"6\"]", "100+ members").await;
    })
    .await;
}

/// Two numbers that JavaScript rounds to the same one, and the largest.
const LARGE: [i64; 3] = [1 << 53, (1 << 53) + 1, i64::MAX];

#[tokio::test(flavor = "multi_thread")]
async fn ids_of_any_size_are_shown_as_they_are_and_told_apart() {
    on_console(Config::ephemeral().manual_clock(), async |page, imd| {
        let [even, odd, largest] = LARGE;
        page.go("users").await;
        for uid in LARGE {
            page.fill("#register-uid", &uid.to_string()).await;
            page.fill("#register-name", &format!("name of {uid}")).await;
            page.click("#register button").await;
            page.is_told(&format!("{uid} is registered")).await;
        }
        for uid in LARGE {
            let row = format!("[data-uid=\"{uid}\"]");
            page.reads(&format!("{row} b"), &uid.to_string()).await;
            page.reads(&format!("{row} .who"), &format!("name of {uid}"))
                .await;
        }
        let _there = user(imd, odd).await;
        page.sees(&format!("[data-uid=\"{odd}\"] .online.is-on"))
            .await;
        page.sees(&format!("[data-uid=\"{even}\"] .online:not(.is-on)"))
            .await;

        page.fill("#group-owner", &odd.to_string()).await;
        page.fill("#group-members", &largest.to_string()).await;
        page.click("#group button").await;
        page.is_told("is there").await;
        page.reads("#groups .members", &largest.to_string()).await;
        let gid = page.text("#groups .group code").await;
        page.fill("#send-from", &odd.to_string()).await;
        page.fill("#send-to", &largest.to_string()).await;
        page.fill("#send-text", "hello").await;
        page.click("#send button").await;
        page.is_told("Stored, as ").await;

        page.click(&format!("[data-uid=\"{largest}\"]")).await;
        assert_eq!(
            page.run("return location.hash", &[]).await,
            format!("#/users/{largest}")
        );
        page.reads("#opened .who", &format!("name of {largest}"))
            .await;
        page.reads("#entries b", &odd.to_string()).await;
        page.reads("#whereabouts", &gid).await;
        page.sees(&format!("[data-uid=\"{largest}\"][aria-current=\"true\"]"))
            .await;
        assert_eq!(page.count(".person[aria-current=\"true\"]").await, 1);
        page.go(&format!("users/{even}")).await;
        page.reads("#whereabouts", "offline").await;
        assert_eq!(page.text("#opened .who").await, format!("name of {even}"));
        // An id with blanks or zeros in front of it is the same id.
        page.go(&format!("users/00{odd}")).await;
        page.reads("#whereabouts", "online").await;
    })
    .await;
}
