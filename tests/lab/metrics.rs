//! `/metrics` of the admin API: what is counted, in both text formats.
//!
//! Also: docs/metrics.md lists every family, and the dashboard in docs/grafana.json asks for no other one. The counters
//! in process are tested in `sockets/metrics`.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use imd::Imd;
use imd::lab::{EventKind, Fault, Mark, Site};
use imd::proto::{Cmd, Code, ResSendP2pMsg};

use crate::support::http::request;
use crate::support::{
    PATIENCE, Wire, addr_of, ephemeral, framed, gateway, login, p2p, ping, start, start_manual,
    user,
};
use crate::wait_for_hit;

/// Scrapes with more headers, each of which has its line end in front. Returns the head and the text of the answer.
async fn scraped(imd: &Imd, headers: &str) -> (String, String) {
    let addr = imd.admin_addr().unwrap();
    let head = format!("GET /metrics HTTP/1.1\r\nhost: {addr}{headers}");
    let answer = request(addr, &head, "").await;
    assert_eq!(answer.status, 200, "{answer:?}");
    (answer.head, answer.body)
}

const OPEN_METRICS: &str = "\r\naccept: application/openmetrics-text";

/// Scrapes in the newer format. Returns the text, and the value of each sample.
async fn scrape(imd: &Imd) -> (String, BTreeMap<String, f64>) {
    let (head, text) = scraped(imd, OPEN_METRICS).await;
    assert!(head.contains("application/openmetrics-text"), "{head}");
    assert!(text.ends_with("\n# EOF\n"), "it is whole");
    let samples = text.lines().filter(|line| !line.starts_with('#'));
    let samples = samples.map(|line| {
        let (name, value) = line.rsplit_once(' ').unwrap();
        (name.to_owned(), value.parse().unwrap())
    });
    let samples = samples.collect();
    (text, samples)
}

async fn samples(imd: &Imd) -> BTreeMap<String, f64> {
    scrape(imd).await.1
}

/// Returns the value of a sample; 0 if there is no such sample yet.
fn of(samples: &BTreeMap<String, f64>, name: &str) -> f64 {
    samples.get(name).copied().unwrap_or_default()
}

/// Waits until a session has been closed for this reason and its task has ended.
async fn closed(imd: &Imd, reason: &str) {
    let is_meant = |what: &EventKind| matches!(what, EventKind::Closed(why) if *why == reason);
    let closed = imd.wait_for(Mark(0), |event| is_meant(&event.what), PATIENCE);
    closed.await.unwrap();
    imd.settled().await;
}

#[tokio::test]
async fn frames_and_messages_are_counted() {
    let imd = start_manual().await;
    Wire::connect(gateway(&imd)).await.ask().await;
    let mut ann = user(&imd, 1).await;
    let mut bob = user(&imd, 2).await;
    let sends = [p2p(2, "m-1", "hello"), p2p(2, "m-2", "hello")];
    ann.send_all(&sends).await;
    for _ in 0..2 {
        ann.recv::<ResSendP2pMsg>(Cmd::SendP2PMsg).await;
    }
    bob.notified().await;
    bob.sync(0, 0).await;
    imd.settled().await;

    let now = samples(&imd).await;
    for (name, expected) in [
        (r#"imd_frames_total{direction="in",cmd="SendP2PMsg"}"#, 2.0),
        (r#"imd_frames_total{direction="out",cmd="SendP2PMsg"}"#, 2.0),
        (r#"imd_request_seconds_count{cmd="SendP2PMsg"}"#, 2.0),
        (
            r#"imd_request_seconds_bucket{le="+Inf",cmd="SendP2PMsg"}"#,
            2.0,
        ),
        ("imd_messages_stored_total", 2.0),
        ("imd_commit_messages_sum", 2.0),
        ("imd_sync_pages_total", 1.0),
        (r#"imd_accepts_total{server="gateway"}"#, 1.0),
    ] {
        assert_eq!(of(&now, name), expected, "{name}: {now:#?}");
    }
    let commits = of(&now, "imd_commit_seconds_count");
    assert!((1.0..=2.0).contains(&commits), "{commits}");
    assert_eq!(of(&now, "imd_commit_messages_count"), commits);
    assert!(of(&now, "imd_commit_seconds_sum") > 0.0);
    let bytes = of(
        &now,
        r#"imd_frame_bytes_total{direction="in",cmd="SendP2PMsg"}"#,
    );
    let sent: usize = sends.iter().map(|send| framed(send).len()).sum();
    assert_eq!(bytes, sent as f64);
    assert!(of(&now, "imd_notifies_sent_total") >= 1.0);
    let servers = imd.access_servers();
    let accepts = servers.iter().map(|server| {
        let name = server.name();
        of(&now, &format!("imd_accepts_total{{server=\"{name}\"}}"))
    });
    assert_eq!(accepts.sum::<f64>(), 2.0);
}

/// Returns how many pings were answered after `least` or more, and how many were answered at all, both since `before`.
fn slow(
    before: &BTreeMap<String, f64>,
    now: &BTreeMap<String, f64>,
    least: Duration,
) -> (f64, f64) {
    let since = |name: &str| of(now, name) - of(before, name);
    let all = since(r#"imd_request_seconds_count{cmd="Ping"}"#);
    // The buckets end at powers of two. This is the last one that does not go beyond `least`.
    let micros = 1_u64 << least.as_micros().ilog2();
    let bound = micros as f64 / 1e6;
    let quick = format!(r#"imd_request_seconds_bucket{{le="{bound}",cmd="Ping"}}"#);
    (all - since(&quick), all)
}

/// One read brings three pings, and each rule delays some of the replies. The duration of a request is measured by the
/// clock of the machine, so the stack has a real clock here.
#[tokio::test]
async fn the_duration_of_a_request_is_as_long_as_its_client_waits() {
    let wait = Duration::from_millis(300);
    let at = |site| Fault::at(site).cmd(Cmd::Ping);
    for (fault, slow_ones) in [
        // The pings behind the delayed one wait too.
        (at(Site::AccessRequest).nth(2).delay(wait), 2.0),
        (at(Site::AccessReply).nth(2).delay(wait), 2.0),
        // The reply has eleven bytes, of which ten are sent in each second.
        (at(Site::AccessReply).nth(2).throttle(30), 2.0),
        // The last ping is held back until the rule ends.
        (at(Site::AccessReply).nth(3).reorder(), 1.0),
        (at(Site::AccessRequest).nth(3).reorder(), 1.0),
        (at(Site::AccessReply).nth(1).slice(2), 0.0),
    ] {
        let imd = start(ephemeral()).await;
        let mut ann = user(&imd, 1).await;
        let before = samples(&imd).await;
        let guard = imd.fault(fault.clone());
        ann.send_all(&[ping(), ping(), ping()]).await;
        wait_for_hit(&imd, &guard).await;
        if matches!(slow_ones, 1.0) {
            // A real delay, because it is what is measured: the frame is held back for this long.
            tokio::time::sleep(wait).await;
        }
        if !matches!(slow_ones, 2.0) {
            drop(guard);
        }
        for _ in 0..3 {
            ann.error(Cmd::Ping, 0).await;
        }
        let now = samples(&imd).await;
        let (slow, all) = slow(&before, &now, wait);
        assert_eq!(all, 3.0, "{fault:?}");
        // On a busy machine, more of them may be slow.
        assert!(slow >= slow_ones, "{fault:?}: {slow}");
    }
}

#[tokio::test]
async fn an_unanswered_request_has_no_duration_and_one_answered_twice_has_one() {
    let imd = start_manual().await;
    let mut ann = user(&imd, 1).await;
    let lost = imd.fault(
        Fault::at(Site::AccessRequest)
            .cmd(Cmd::Ping)
            .nth(1)
            .drop_it(),
    );
    let muted = imd.fault(Fault::at(Site::AccessReply).cmd(Cmd::Ping).nth(1).drop_it());
    let twice = imd.fault(
        Fault::at(Site::AccessReply)
            .cmd(Cmd::Ping)
            .nth(2)
            .duplicate(),
    );
    ann.send_all(&[ping(), ping(), ping(), ping()]).await;
    for _ in 0..3 {
        ann.error(Cmd::Ping, 0).await;
    }
    assert_eq!((lost.hits(), muted.hits(), twice.hits()), (1, 1, 1));
    let now = samples(&imd).await;
    let count = |name: &str| of(&now, name);
    assert_eq!(count(r#"imd_frames_total{direction="in",cmd="Ping"}"#), 4.0);
    assert_eq!(
        count(r#"imd_frames_total{direction="out",cmd="Ping"}"#),
        3.0
    );
    assert_eq!(count(r#"imd_request_seconds_count{cmd="Ping"}"#), 2.0);
    assert_eq!(count(r#"imd_request_seconds_count{cmd="Notify"}"#), 0.0);
}

#[tokio::test]
async fn a_notify_that_could_not_be_written_merges_with_the_next() {
    let imd = start_manual().await;
    let servers = imd.access_servers();
    let mut bob = Wire::connect(addr_of(&servers[0])).await;
    bob.login(&imd, 2).await;
    let mut ann = Wire::connect(addr_of(&servers[1])).await;
    ann.login(&imd, 1).await;
    servers[0].pause().await;
    for id in ["a", "b", "c"] {
        ann.p2p(2, id, "hello").await;
    }
    let merged = of(&samples(&imd).await, "imd_notifies_merged_total");
    assert_eq!(merged, 2.0);
    servers[0].resume().await;
    assert_eq!(bob.notified().await, (0, 3));
}

#[tokio::test]
async fn how_sessions_end_and_logins_fail_is_counted() {
    let imd = start_manual().await;
    let addr = addr_of(&imd.access_servers()[0]);
    let mut ann = Wire::connect(addr).await;
    ann.login(&imd, 1).await;
    let mut other = Wire::connect(addr).await;
    let mut wrong = login(&imd, 2);
    wrong.token = "no token of theirs".into();
    other.send(&wrong).await;
    other.error(Cmd::Login, 93002).await;
    let fault = imd.fault(Fault::at(Site::AccessLogin).error(Code::CalcTokenFailed));
    other.send(&login(&imd, 2)).await;
    other.error(Cmd::Login, 93002).await;
    drop(fault);
    let open = r#"imd_sessions{server="access-1"}"#;
    assert_eq!(of(&samples(&imd).await, open), 2.0);
    ann.end().await;
    drop(ann);
    closed(&imd, "peer_closed").await;
    let now = samples(&imd).await;
    assert_eq!(of(&now, open), 1.0);
    let ended = r#"imd_closes_total{server="access-1",reason="peer_closed"}"#;
    assert_eq!(of(&now, ended), 1.0);
    assert_eq!(of(&now, r#"imd_login_failures_total{code="93002"}"#), 2.0);
}

#[tokio::test]
async fn gauges_show_the_present_leases_faults_and_journal() {
    let mut config = ephemeral().manual_clock();
    config.journal.events = 4;
    let imd = start(config).await;
    let fault = Fault::at(Site::Notify).drop_it().named("lose one");
    let guard = imd.fault(fault);
    let before = samples(&imd).await;
    assert_eq!(of(&before, "imd_leases"), 3.0);
    let left = r#"imd_lease_remaining_seconds{server="access-1"}"#;
    assert_eq!(of(&before, left), 10.0);
    imd.clock().advance(Duration::from_secs(3)).await;
    imd.access("access-2").unwrap().stop().await;
    let mut ann = user(&imd, 1).await;
    let _bob = user(&imd, 2).await;
    ann.p2p(2, "m", "hello").await;
    wait_for_hit(&imd, &guard).await;
    let now = samples(&imd).await;
    assert_eq!(of(&now, "imd_leases"), 2.0);
    assert_eq!(of(&now, left), 7.0);
    assert_eq!(of(&now, r#"imd_fault_hits_total{rule="lose one"}"#), 1.0);
    assert!(of(&now, "imd_journal_dropped_total") > 0.0);
    if cfg!(target_os = "linux") {
        assert!(of(&now, "process_resident_memory_bytes") > 1e6);
        assert!(of(&now, "process_open_fds") > 5.0);
    }
}

/// Starts a stack that has metrics of every family, also of those that appear with their first label.
async fn with_every_family() -> Imd {
    let imd = start_manual().await;
    imd.fault(Fault::at(Site::Notify).named("a \"b\" \\ c").drop_it())
        .keep();
    let mut ann = Wire::connect(addr_of(&imd.access_servers()[0])).await;
    let mut nobody = login(&imd, 1);
    nobody.token.clear();
    ann.send(&nobody).await;
    ann.error(Cmd::Login, 93001).await;
    drop(ann);
    closed(&imd, "peer_closed").await;
    imd
}

/// Returns the family of a sample of the older format.
fn family<'a>(sample: &'a str, kinds: &BTreeMap<String, String>) -> &'a str {
    let name = sample.split(['{', ' ']).next().unwrap();
    let parts = ["_bucket", "_sum", "_count"];
    let base = parts.iter().find_map(|part| name.strip_suffix(part));
    let is_part = |base: &&str| kinds.get(*base).is_some_and(|kind| kind == "histogram");
    base.filter(is_part).unwrap_or(name)
}

#[tokio::test]
async fn the_older_format_describes_every_family_once_and_names_it_by_its_kind() {
    let imd = with_every_family().await;
    let (head, text) = scraped(&imd, "").await;
    assert!(
        head.contains("content-type: text/plain; version=0.0.4; charset=utf-8"),
        "{head}"
    );
    assert!(head.contains("vary: accept"), "{head}");
    assert!(text.ends_with('\n'));
    let mut kinds = BTreeMap::new();
    let mut samples = BTreeSet::new();
    let mut current = String::new();
    let mut lines = text.lines();
    while let Some(line) = lines.next() {
        if let Some(about) = line.strip_prefix("# HELP ") {
            let (name, help) = about.split_once(' ').unwrap();
            assert!(!help.trim().is_empty(), "{name} has no help");
            let kind = lines.next().unwrap();
            let kind = kind.strip_prefix(&format!("# TYPE {name} ")).unwrap();
            assert_eq!(kind == "counter", name.ends_with("_total"), "{name}");
            for other in ["milliseconds", "micros", "_ms", "_kb", "_kib"] {
                assert!(!name.contains(other), "{name} is in no base unit");
            }
            let before = kinds.insert(name.to_owned(), kind.to_owned());
            assert_eq!(before, None, "{name} is described twice");
            current = name.to_owned();
            continue;
        }
        assert!(!line.starts_with('#'), "{line}");
        let (sample, value) = line.rsplit_once(' ').unwrap();
        value.parse::<f64>().unwrap();
        assert_eq!(family(sample, &kinds), current, "{line}");
        assert!(samples.insert(sample.to_owned()), "{sample} is there twice");
    }
    assert!(kinds.len() > 15, "{kinds:?}");
    // Both formats have the same samples.
    let open: BTreeSet<String> = self::samples(&imd).await.into_keys().collect();
    assert_eq!(samples, open);
}

#[tokio::test]
async fn a_scrape_is_answered_in_the_format_that_it_asks_for() {
    let imd = start_manual().await;
    for (accept, is_open) in [
        ("", false),
        ("\r\naccept: text/plain", false),
        ("\r\naccept: */*", false),
        (OPEN_METRICS, true),
        (
            "\r\naccept: application/openmetrics-text;q=0.2, text/plain;q=0.3",
            false,
        ),
        (
            "\r\naccept: text/plain;q=0.3\r\naccept: application/openmetrics-text;q=0.4",
            true,
        ),
    ] {
        let (head, text) = scraped(&imd, accept).await;
        assert_eq!(
            head.contains("application/openmetrics-text"),
            is_open,
            "{accept}"
        );
        assert_eq!(text.ends_with("# EOF\n"), is_open, "{accept}");
    }
}

#[tokio::test]
async fn the_docs_list_every_family_and_no_other() {
    let imd = with_every_family().await;
    let (text, _) = scrape(&imd).await;
    let types = text.lines().filter_map(|line| line.strip_prefix("# TYPE "));
    let served: BTreeSet<String> = types
        .map(|line| {
            let (name, kind) = line.split_once(' ').unwrap();
            let end = if kind == "counter" { "_total" } else { "" };
            format!("{name}{end}")
        })
        .collect();
    let page = include_str!("../../docs/metrics.md");
    let cells = page.lines().filter_map(|line| line.strip_prefix("| `"));
    let listed: BTreeSet<String> = cells
        .map(|cell| cell.split(['`', '{']).next().unwrap().to_owned())
        .collect();
    assert_eq!(served, listed);
}

#[test]
fn the_dashboard_uses_only_existing_families() {
    let page = include_str!("../../docs/metrics.md");
    let dashboard = include_str!("../../docs/grafana.json");
    let dashboard: serde_json::Value = serde_json::from_str(dashboard).unwrap();
    let panels = dashboard["panels"].as_array().unwrap();
    let targets = panels
        .iter()
        .flat_map(|panel| panel["targets"].as_array().unwrap());
    let mut asked = 0;
    for target in targets {
        let words = target["expr"].as_str().unwrap();
        let words = words.split(|c: char| !c.is_ascii_alphanumeric() && c != '_');
        for name in words.filter(|word| word.starts_with("imd_") || word.starts_with("process_")) {
            let ends = ["_bucket", "_sum", "_count"];
            let base = ends.iter().find_map(|end| name.strip_suffix(end));
            let row = format!("| `{}", base.unwrap_or(name));
            assert!(page.contains(&row), "{name}");
            asked += 1;
        }
    }
    assert!(asked >= panels.len());
}
