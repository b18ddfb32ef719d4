//! The admin API as a whole: what each route does, and who may ask.
//!
//! Read this file first for what the API offers. The routes with many cases have files of their own; `described`
//! compares all of them with the OpenAPI document.

use std::net::SocketAddr;

use imd::Imd;
use imd::proto::Cmd;
use serde_json::{Value, json};

use crate::support::http::request;
use crate::support::{
    Http, Wire, access, ephemeral, gateway, login, ping, refuses, soon, start, start_manual, user,
};

/// Sends a request, and returns the status and the body: JSON, or the text of metrics and snapshots.
pub async fn asked(addr: SocketAddr, head: &str, body: impl AsRef<[u8]>) -> (u16, Value) {
    let answer = request(addr, head, body).await;
    let body = serde_json::from_str(&answer.body).unwrap_or_else(|_| answer.body.into());
    (answer.status, body)
}

pub async fn call(imd: &Imd, method: &str, path: &str, body: Value) -> (u16, Value) {
    let addr = imd.admin_addr().unwrap();
    let body = match body {
        Value::Null => String::new(),
        Value::String(lines) => lines,
        body => body.to_string(),
    };
    asked(
        addr,
        &format!("{method} {path} HTTP/1.1\r\nhost: {addr}"),
        &body,
    )
    .await
}

pub async fn get(imd: &Imd, path: &str) -> Value {
    let (status, answer) = call(imd, "GET", path, Value::Null).await;
    assert_eq!(status, 200, "{path}: {answer}");
    answer
}

pub async fn post(imd: &Imd, path: &str, body: Value) -> Value {
    let (status, answer) = call(imd, "POST", path, body).await;
    assert!((200..300).contains(&status), "{path}: {status} {answer}");
    answer
}

#[tokio::test]
async fn requests_of_other_hosts_and_other_sites_are_refused() {
    let imd = start_manual().await;
    let addr = imd.admin_addr().unwrap();
    for (headers, status) in [
        (format!("host: {addr}"), 200),
        ("host: localhost".to_owned(), 200),
        ("host: evil.example".to_owned(), 403),
        (format!("host: {addr}\r\nsec-fetch-site: cross-site"), 403),
        (format!("host: {addr}\r\norigin: http://evil.example"), 403),
        (format!("host: {addr}\r\norigin: http://{addr}"), 200),
    ] {
        let (got, answer) = asked(addr, &format!("GET /v1/state HTTP/1.1\r\n{headers}"), "").await;
        assert_eq!(got, status, "{headers}: {answer}");
    }
}

#[tokio::test]
async fn a_configured_token_is_required() {
    let mut config = ephemeral();
    config.admin.token = Some("hush".to_owned().into());
    let imd = start(config).await;
    let addr = imd.admin_addr().unwrap();
    let with = |token: &str| {
        let head =
            format!("GET /v1/state HTTP/1.1\r\nhost: {addr}\r\nauthorization: Bearer {token}");
        async move { asked(addr, &head, "").await.0 }
    };
    assert_eq!((with("hush").await, with("other").await), (200, 401));
    assert_eq!(get(&imd, "/readyz").await["status"], "ready");
}

#[tokio::test]
async fn the_admin_api_can_be_disabled() {
    let mut config = ephemeral();
    config.admin.enabled = false;
    let imd = start(config).await;
    assert_eq!((imd.admin_addr(), imd.addresses().admin), (None, None));
}

#[tokio::test]
async fn access_servers_are_killed_paused_and_restarted() {
    let imd = start_manual().await;
    let mut ann = user(&imd, 1).await;
    let state = async |what: &str| {
        let path = format!("/v1/access/access-1/{what}");
        post(&imd, &path, Value::Null).await["state"].clone()
    };
    assert_eq!(state("pause").await, "paused");
    ann.send(&ping()).await;
    ann.hears_nothing(&imd).await;
    assert_eq!(state("resume").await, "running");
    ann.error(imd::proto::Cmd::Ping, 0).await;
    assert_eq!(state("kill").await, "killed");
    ann.reset().await;
    assert_eq!(state("restart").await, "running");
    let mut ann = user(&imd, 1).await;
    assert_eq!(state("stop").await, "stopped");
    ann.error(imd::proto::Cmd::ErrServer, 90001).await;
    let added = post(&imd, "/v1/access", json!({ "name": "access-4" })).await;
    assert_eq!(
        (&added["name"], &added["state"]),
        (&json!("access-4"), &json!("running"))
    );
    let (status, _) = call(&imd, "POST", "/v1/access", json!({ "name": "access-4" })).await;
    assert_eq!(status, 409);
    let (status, _) = call(&imd, "POST", "/v1/access", json!({ "name": "" })).await;
    assert_eq!(status, 400);
    let (status, _) = call(&imd, "POST", "/v1/access/nobody/kill", Value::Null).await;
    assert_eq!(status, 404);
    let listed = &get(&imd, "/v1/state").await["access"];
    assert_eq!(
        (&listed[0]["state"], &listed[3]["name"]),
        (&json!("stopped"), &json!("access-4"))
    );
}

#[tokio::test]
async fn the_registry_is_frozen_and_lists_other_addresses() {
    let imd = start_manual().await;
    let names = |shown: &Value| {
        let records = shown["records"].as_array().unwrap().clone();
        records
            .into_iter()
            .map(|r| r["Name"].as_str().unwrap().to_owned())
            .collect::<Vec<_>>()
    };
    post(&imd, "/v1/registry/freeze", Value::Null).await;
    let shown = post(&imd, "/v1/registry/access-1/expire", Value::Null).await;
    assert_eq!((&shown["frozen"], names(&shown).len()), (&json!(true), 3));
    let shown = post(&imd, "/v1/registry/thaw", Value::Null).await;
    assert_eq!(names(&shown), ["access-2", "access-3"]);
    let elsewhere = json!({ "addr": "127.0.0.1:1" });
    let shown = post(&imd, "/v1/registry/access-2/advertise", elsewhere).await;
    assert_eq!(shown["records"][0]["IP"], "127.0.0.1:1");
    let shown = post(
        &imd,
        "/v1/registry/access-2/advertise",
        json!({ "addr": null }),
    )
    .await;
    assert_ne!(shown["records"][0]["IP"], "127.0.0.1:1");
    let (status, _) = call(&imd, "POST", "/v1/registry/nobody/expire", Value::Null).await;
    assert_eq!(status, 404);
    assert_eq!(get(&imd, "/v1/registry").await["frozen"], false);
}

#[tokio::test]
async fn faults_are_added_listed_and_removed() {
    let imd = start_manual().await;
    let fault = json!({ "name": "f", "at": "access.request", "cmd": "Ping", "error": 90001 });
    let added = post(&imd, "/v1/faults", fault.clone()).await;
    assert_eq!(added["name"], "f");
    let mut ann = user(&imd, 1).await;
    ann.send(&ping()).await;
    ann.error(imd::proto::Cmd::Ping, 90001).await;
    let listed = get(&imd, "/v1/faults").await;
    assert_eq!(
        (&listed[0]["name"], &listed[0]["hits"]),
        (&json!("f"), &json!(1))
    );
    assert_eq!(call(&imd, "POST", "/v1/faults", fault.clone()).await.0, 409);
    let (status, why) = call(&imd, "POST", "/v1/faults", json!({ "at": "notify" })).await;
    assert_eq!(status, 400);
    assert!(
        why["error"]
            .as_str()
            .unwrap()
            .contains("a fault does one thing"),
        "{why}"
    );
    assert_eq!(
        call(&imd, "DELETE", "/v1/faults/f", Value::Null).await.0,
        200
    );
    assert_eq!(
        call(&imd, "DELETE", "/v1/faults/f", Value::Null).await.0,
        404
    );
    ann.ping().await;
    post(&imd, "/v1/faults", fault).await;
    assert_eq!(call(&imd, "DELETE", "/v1/faults", Value::Null).await.0, 200);
    ann.ping().await;
}

#[tokio::test]
async fn a_manual_clock_is_moved_and_a_real_one_is_not() {
    let imd = start_manual().await;
    let before = get(&imd, "/v1/clock").await;
    assert_eq!(before["kind"], "manual");
    let after = post(&imd, "/v1/clock/advance", json!({ "by": "15s" })).await;
    let passed = |key: &str| after[key].as_i64().unwrap() - before[key].as_i64().unwrap();
    assert_eq!((passed("now_ms"), passed("unix_ms")), (15_000, 15_000));
    let skewed = post(&imd, "/v1/clock/skew", json!({ "ms": -3_600_000 })).await;
    assert_eq!(skewed["now_ms"], after["now_ms"]);
    assert_eq!(
        skewed["unix_ms"].as_i64().unwrap(),
        after["unix_ms"].as_i64().unwrap() - 3_600_000
    );
    let (status, why) = call(&imd, "POST", "/v1/clock/advance", json!({ "by": "soon" })).await;
    assert_eq!(status, 400, "{why}");

    let real = start(ephemeral()).await;
    let (status, why) = call(&real, "POST", "/v1/clock/advance", json!({ "by": "1s" })).await;
    assert_eq!(status, 409);
    assert!(why["error"].as_str().unwrap().contains("manual"), "{why}");
}

#[tokio::test]
async fn sessions_are_listed_and_ended() {
    let imd = start_manual().await;
    let mut wires = Vec::new();
    for uid in 1..=3 {
        wires.push(user(&imd, uid).await);
    }
    let mut gateway = Wire::connect(gateway(&imd)).await;
    gateway.ask().await;
    let sessions = get(&imd, "/v1/sessions").await["sessions"]
        .as_array()
        .unwrap()
        .clone();
    assert_eq!(sessions.len(), 4);
    let of = |uid: i64| {
        sessions.iter().find(|s| s["uid"] == uid).unwrap()["id"]
            .as_u64()
            .unwrap()
    };
    for (uid, how) in [(1, "fin"), (2, "rst"), (3, "halfopen")] {
        let path = format!("/v1/sessions/{}?how={how}", of(uid));
        assert_eq!(call(&imd, "DELETE", &path, Value::Null).await.0, 200);
    }
    wires[0].finished().await;
    wires[1].reset().await;
    wires[2].send(&ping()).await;
    wires[2].hears_nothing(&imd).await;
    let unknown = call(&imd, "DELETE", "/v1/sessions/999999", Value::Null).await;
    assert_eq!(unknown.0, 404);
    let path = format!("/v1/sessions/{}?how=gently", of(3));
    assert_eq!(call(&imd, "DELETE", &path, Value::Null).await.0, 400);
}

#[tokio::test]
async fn events_are_listed_and_waited_for() {
    let imd = start_manual().await;
    let mut ann = user(&imd, 1).await;
    let mark = get(&imd, "/v1/journal").await["mark"].as_u64().unwrap();
    assert_eq!(ann.p2p(2, "an id", "a text").await.err_code, 0);
    imd.settled().await;
    let shown = get(
        &imd,
        &format!("/v1/journal?since={mark}&uid=1&cmd=20003&what=in"),
    )
    .await;
    let events = shown["events"].as_array().unwrap();
    assert_eq!(events.len(), 1);
    assert_eq!(events[0]["frame"]["msg"], "a text");
    let seen = get(&imd, &format!("/v1/wait?since={mark}&what=out&timeout=30s")).await;
    assert_eq!(
        (&seen["cmd"], &seen["uid"]),
        (&json!("SendP2PMsg"), &json!(1))
    );
    let (status, _) = call(&imd, "GET", "/v1/wait?uid=7&timeout=1ms", Value::Null).await;
    assert_eq!(status, 408);
    let path = format!("/v1/journal?since={mark}&uid=1&cmd=20003&what=in&bytes=true");
    let shown = get(&imd, &path).await;
    let sent = imd.journal().frames().cmd(Cmd::SendP2PMsg).collect();
    let bytes = base16ct::lower::encode_string(&sent[0].frame);
    assert_eq!(shown["events"][0]["bytes"], bytes);
    assert!(!events[0].as_object().unwrap().contains_key("bytes"));
    for bad in ["cmd=Nothing", "since=x", "who=1", "what=nothing", "bytes=x"] {
        let (status, why) = call(&imd, "GET", &format!("/v1/journal?{bad}"), Value::Null).await;
        assert_eq!(status, 400, "{bad}: {why}");
    }
}

#[tokio::test]
async fn events_are_streamed_as_they_occur() {
    let imd = start_manual().await;
    let addr = imd.admin_addr().unwrap();
    let request = format!(
        "GET /v1/journal?since=0&cmd=Login&what=in HTTP/1.1\r\nhost: {addr}\r\naccept: text/event-stream\r\n\r\n"
    );
    let mut stream = Http::sent(addr, request).await;
    let mut ann = Wire::connect(access(&imd)).await;
    ann.send(&login(&imd, 5)).await;
    let shown = stream.until("\"UID\":5").await;
    assert!(
        shown.contains("text/event-stream") && shown.contains("data:"),
        "{shown}"
    );
    assert!(!shown.contains(&imd.token(5)));
}

#[tokio::test]
async fn health_version_fidelity_and_state_are_reported() {
    let mut config = ephemeral();
    config.quirks.sync_inclusive = true;
    let imd = start(config).await;
    for path in ["/healthz", "/readyz"] {
        assert!(get(&imd, path).await["status"].is_string());
    }
    assert_eq!(
        get(&imd, "/version").await["version"],
        env!("CARGO_PKG_VERSION")
    );
    let fidelity = get(&imd, "/v1/fidelity").await;
    assert_eq!(fidelity["quirks"], json!(["sync_inclusive"]));
    let left = fidelity["not_emulated"].as_array().unwrap();
    assert!(left.len() > 5, "{left:?}");
    // The list is that of docs/quirks.md, without its headings.
    let first = "The sender is answered before the message is stored.";
    assert_eq!(left[0], first);
    let titles = left
        .iter()
        .filter(|item| item.as_str().unwrap().ends_with(':'));
    assert_eq!(titles.count(), 0, "{left:?}");
    let mut ann = user(&imd, 1).await;
    assert_eq!(ann.p2p(2, "a", "a").await.err_code, 0);
    let state = get(&imd, "/v1/state").await;
    assert_eq!(state["ledger"]["stored"], 1);
    assert_eq!(state["clock"]["kind"], "real");
    assert_eq!(state["access"].as_array().unwrap().len(), 3);
    let addr = imd.admin_addr().unwrap();
    soon(imd.shutdown()).await;
    assert!(refuses(addr).await);
}

#[tokio::test]
async fn a_follower_of_the_journal_does_not_hold_up_a_shutdown() {
    let imd = start_manual().await;
    let addr = imd.admin_addr().unwrap();
    let request =
        format!("GET /v1/journal HTTP/1.1\r\nhost: {addr}\r\naccept: text/event-stream\r\n\r\n");
    let mut stream = Http::sent(addr, request).await;
    stream.expect("HTTP/1.1 200").await;
    let report = imd.shutdown().await;
    assert_eq!(report.unfinished, 0);
    // The answer has its last chunk: it was ended, not cut off.
    assert!(stream.rest().await.ends_with("0\r\n\r\n"));
}

#[tokio::test]
async fn durations_without_end_and_of_zero_are_refused() {
    let imd = start_manual().await;
    let for_ever = "18446744073709551615s";
    for body in [
        json!({ "at": "notify", "drop": true, "for": for_ever }),
        json!({ "at": "notify", "delay": for_ever }),
        json!({ "at": "notify", "delay": "0s" }),
        json!({ "at": "notify", "drop": true, "name": "" }),
    ] {
        let (status, why) = call(&imd, "POST", "/v1/faults", body).await;
        assert_eq!(status, 400, "{why}");
    }
    let (status, _) = call(&imd, "POST", "/v1/clock/advance", json!({ "by": for_ever })).await;
    assert_eq!(status, 400);
}

#[tokio::test]
async fn the_admin_api_answers_when_clients_hold_every_place_and_reports_it() {
    let mut config = ephemeral();
    config.limits.connections = 3;
    let imd = start(config).await;
    let mut ann = user(&imd, 1).await;
    let mut bob = user(&imd, 2).await;
    assert_eq!(get(&imd, "/readyz").await["status"], "ready");
    let mut cora = user(&imd, 3).await;
    assert_eq!(imd.room().taken, 3);
    let (status, why) = call(&imd, "GET", "/readyz", Value::Null).await;
    assert_eq!(status, 503);
    let why = why["error"].as_str().unwrap();
    assert!(
        why.contains("every place is taken") && why.contains("limits.connections"),
        "{why}"
    );
    let sessions = get(&imd, "/v1/sessions").await;
    assert_eq!(sessions["sessions"].as_array().unwrap().len(), 3);
    ann.ping().await;
    bob.ping().await;
    cora.end().await;
    cora.finished().await;
    // The place is free when the task of the session has ended.
    soon(async { while call(&imd, "GET", "/readyz", Value::Null).await.0 != 200 {} }).await;
}

#[tokio::test]
async fn the_menu_of_faults_and_the_addresses_are_reported() {
    let imd = start_manual().await;
    let menu = get(&imd, "/v1/menu").await;
    let sites = menu["sites"].as_array().unwrap();
    assert_eq!(sites.len(), 10);
    let notify = sites.iter().find(|site| site["name"] == "notify").unwrap();
    assert!(
        notify["actions"]
            .as_array()
            .unwrap()
            .contains(&json!("gap"))
    );
    assert_eq!(
        (&notify["has_user"], &sites[0]["has_user"]),
        (&json!(true), &json!(false))
    );
    assert!(
        menu["cmds"]
            .as_array()
            .unwrap()
            .contains(&json!({ "number": 20007, "name": "Notify" }))
    );
    assert!(
        menu["codes"]
            .as_array()
            .unwrap()
            .contains(&json!({ "number": 95001, "text": "no such group" }))
    );
    let state = get(&imd, "/v1/state").await;
    let shown = imd.addresses();
    assert_eq!(state["gateway"]["addr"], shown.gateway);
    assert_eq!(
        state["http"],
        json!({ "user_api": shown.user_api, "group_api": shown.group_api })
    );
    let made = get(&imd, "/v1/users/321/token").await;
    assert_eq!(
        made,
        json!({ "uid": 321, "uid_str": "321", "token": imd.token(321) })
    );
    for uid in ["0", "-1", "ann"] {
        let (status, _) = call(&imd, "GET", &format!("/v1/users/{uid}/token"), Value::Null).await;
        assert_eq!(status, 400, "{uid}");
    }
}
