//! The page Stack: the drawing of the servers, and what can be done to each.

use std::time::Duration;

use browser::{on_console, user};
use imd::access::ServerState;
use imd::client::ClientError;
use imd::{Config, Imd};
use serde_json::json;

fn state(imd: &Imd, name: &str) -> ServerState {
    imd.access(name).unwrap().state()
}

#[tokio::test(flavor = "multi_thread")]
async fn it_shows_who_is_where_what_is_stored_and_how_long_leases_last() {
    on_console(Config::ephemeral(), async |page, imd| {
        page.reads("[data-part=gateway]", &imd.gateway_addr().to_string()).await;
        let mut ann = user(imd, 1).await;
        let _bob = user(imd, 2).await;
        page.reads("[data-part=access-1] .link", "Sessions: 2").await;
        page.reads("[data-part=clients]", "Connections2").await;
        for n in 0..3 {
            ann.send_p2p(2, &format!("message {n}")).await.unwrap();
        }
        page.reads("[data-part=store]", "Stored3").await;
        page.reads("[data-part=store]", "Pending3").await;
        page.reads("[data-part=registry]", "access-1, access-2, access-3").await;
        let left = page.until("a lease", "return document.querySelector('[data-part=access-1] progress:not([hidden])')?.value").await;
        assert!((0.0..=1.0).contains(&left.as_f64().unwrap()));
        page.reads("[data-part=access-1] .left", "lease ").await;
        // Each line of the drawing has its place.
        assert_eq!(page.count(".edge").await, 2 + 3 * 3);
        page.until("lines", "return [...document.querySelectorAll('.edge')].every((edge) => edge.getTotalLength() > 5)").await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_passes_moves_and_is_charted() {
    on_console(Config::ephemeral(), async |page, imd| {
        let mut ann = user(imd, 1).await;
        page.sees("#chart-messages").await;
        let mut moved = false;
        for _ in 0..1_000 {
            user(imd, 3).await;
            ann.send_p2p(2, "hello").await.unwrap();
            moved |= page.count(".lines .dot.in").await > 0;
            let charted = "return ['messages', 'frames', 'latency', 'commit', 'accepts', 'memory'].every((id) => document.querySelector(`#chart-${id} .top`).textContent)";
            if moved && page.run(charted, &[]).await == true {
                return;
            }
        }
        panic!("moved: {moved}, and not all is charted");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn access_servers_are_killed_stopped_paused_resumed_and_restarted() {
    on_console(Config::ephemeral(), async |page, imd| {
        for (what, told, becomes) in [
            ("pause", "access-1 is paused", ServerState::Paused),
            ("resume", "access-1 goes on", ServerState::Running),
            ("kill", "access-1 is killed", ServerState::Killed),
            ("restart", "access-1 serves again", ServerState::Running),
            ("stop", "access-1 is stopped", ServerState::Stopped),
            ("restart", "access-1 serves again", ServerState::Running),
        ] {
            page.click(&format!("[data-part=access-1] [data-do={what}]"))
                .await;
            page.is_told(told).await;
            assert_eq!(state(imd, "access-1"), becomes);
            page.sees(&format!(
                "[data-part=access-1] .state[data-is={}]",
                becomes.name()
            ))
            .await;
        }
        // The page offers only what is possible in this state.
        page.misses("[data-part=access-1] [data-do=restart]").await;
        assert_eq!(state(imd, "access-2"), ServerState::Running);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn access_servers_are_added_and_a_refusal_is_said() {
    on_console(Config::ephemeral(), async |page, imd| {
        page.fill("#add-name", "access-4").await;
        page.click(".add button").await;
        page.is_told("access-4 serves").await;
        page.sees("[data-part=access-4]").await;
        assert_eq!(state(imd, "access-4"), ServerState::Running);
        page.fill("#add-name", "access-4").await;
        page.click(".add button").await;
        page.is_told("access-4").await;
        page.is_forgiven("409").await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_registry_is_frozen_and_thawed() {
    on_console(Config::ephemeral(), async |page, imd| {
        page.click("[data-do=freeze]").await;
        page.reads("[data-part=registry]", "a frozen list").await;
        assert!(imd.registry().is_frozen());
        page.click("[data-do=thaw]").await;
        page.sees("[data-do=freeze]").await;
        assert!(!imd.registry().is_frozen());
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn sessions_are_listed_and_closed_or_reset() {
    on_console(Config::ephemeral(), async |page, imd| {
        page.click("[data-part=access-1] .link").await;
        for (uid, title) in [(77, "Close it"), (78, "Reset it")] {
            let mut ann = user(imd, uid).await;
            page.reads("[data-part=access-1] .link", "Sessions: 1")
                .await;
            page.reads("[data-part=access-1] .seat", &format!(" {uid} "))
                .await;
            page.click(&format!(".seat [title={title:?}]")).await;
            page.is_told("done").await;
            let closed = matches!(ann.next_event().await, Err(ClientError::Closed));
            assert_eq!(closed, title == "Close it");
            page.reads(
                "[data-part=access-1] .sessions",
                "Nobody is connected here.",
            )
            .await;
            page.reads("[data-part=access-1] .link", "Sessions: 0")
                .await;
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_is_left_half_open() {
    on_console(Config::ephemeral(), async |page, imd| {
        let mut ann = user(imd, 77).await;
        page.reads("[data-part=access-1] .link", "Sessions: 1")
            .await;
        page.click("[data-part=access-1] .link").await;
        page.reads("[data-part=access-1] .seat", " 77 ").await;
        page.click(".seat [title^=\"Leave it unserved\"]").await;
        page.is_told("done").await;
        ann.set_timeout(Duration::from_millis(300));
        assert!(matches!(ann.ping().await, Err(ClientError::Timeout)));
        page.reads("[data-part=access-1] .seat", " 77 ").await;
        assert_eq!(imd.access("access-1").unwrap().sessions().len(), 1);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lease_is_shown_as_a_part_of_a_whole_one() {
    on_console(Config::ephemeral().manual_clock(), async |page, imd| {
        page.go("help").await;
        imd.access("access-1").unwrap().kill().await;
        imd.clock().advance(Duration::from_secs(7)).await;
        // This page was not open before, so it has seen none of this happen.
        page.go("stack").await;
        page.reads("[data-part=access-1] .left", "lease 3.0 s")
            .await;
        let bar = "return document.querySelector('[data-part=access-1] progress').value";
        assert_eq!(page.run(bar, &[]).await, json!(0.3));
        page.sees("[data-part=access-1].expiring").await;
        page.misses("[data-part=access-2].expiring").await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_the_daemon_has_no_more_goes() {
    on_console(Config::ephemeral(), async |page, _| {
        page.sees("[data-part=access-3]").await;
        page.run(
            "const real = window.fetch;
             window.fetch = async (path, options) => {
               const response = await real(path, options);
               if (new URL(path).pathname !== '/v1/state') return response;
               const state = await response.json();
               state.access.pop();
               return Response.json(state);
             }",
            &[],
        )
        .await;
        page.misses("[data-part=access-3]").await;
        page.sees("[data-part=access-2]").await;
        page.until(
            "their lines",
            "return document.querySelectorAll('.edge').length === 2 + 2 * 3",
        )
        .await;
    })
    .await;
}
