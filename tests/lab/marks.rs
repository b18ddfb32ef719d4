//! Marks in the journal, and streams of events that are resumed after a break.
//!
//! A mark says from where on a test looks; one of an earlier run is refused. A stream says how many events it has
//! missed.

use imd::Imd;
use imd::lab::{Capture, Event, Mark, Unknowable};
use imd::proto::Cmd;
use serde_json::{Value, json};

use crate::admin::{asked, call, get};
use crate::support::{Http, PATIENCE, ephemeral, start, start_manual, user};

/// A stream of server-sent events of the journal.
struct Events {
    stream: Http,
    head: String,
}

/// One server-sent event.
#[derive(Debug, PartialEq)]
struct Sent {
    kind: String,
    id: u64,
    data: Value,
}

impl Events {
    /// Follows the journal. More headers each have their line end behind them.
    async fn follow(imd: &Imd, query: &str, headers: &str) -> Events {
        let addr = imd.admin_addr().unwrap();
        // In HTTP/1.0 the body is not in chunks.
        let request = format!(
            "GET /v1/journal?{query} HTTP/1.0\r\nhost: {addr}\r\naccept: text/event-stream\r\n{headers}\r\n"
        );
        let mut stream = Http::sent(addr, request).await;
        let head = stream.until("\r\n\r\n").await;
        assert!(head.contains(" 200 "), "{head}");
        Events { stream, head }
    }

    async fn next(&mut self) -> Sent {
        loop {
            let block = self.stream.until("\n\n").await;
            let field = |name: &str| {
                let mut lines = block.lines();
                lines.find_map(|line| Some(line.strip_prefix(name)?.trim().to_owned()))
            };
            if let Some(data) = field("data:") {
                return Sent {
                    kind: field("event:").unwrap_or_default(),
                    id: field("id:").expect("each has an id").parse().unwrap(),
                    data: serde_json::from_str(&data).unwrap(),
                };
            }
        }
    }

    /// Returns the numbers of the next events, none of which may be a gap.
    async fn numbers(&mut self, count: usize) -> Vec<u64> {
        let mut numbers = Vec::new();
        while numbers.len() < count {
            let sent = self.next().await;
            assert_eq!(
                (sent.kind.as_str(), &sent.data["seq"]),
                ("", &sent.id.into())
            );
            numbers.push(sent.id);
        }
        numbers
    }
}

/// Starts a stack that records frames only while somebody reads them.
async fn start_auto() -> Imd {
    let mut config = ephemeral().manual_clock();
    config.journal.capture = Capture::Auto;
    start(config).await
}

#[tokio::test]
async fn a_stream_goes_on_after_the_event_that_its_client_got_last() {
    let imd = start_manual().await;
    let mut ann = user(&imd, 1).await;
    let mut events = Events::follow(&imd, "since=0", "").await;
    assert_eq!(events.numbers(2).await, [0, 1]);
    drop(events);
    ann.ping().await;
    imd.settled().await;
    let newest = imd.journal().end().0 - 1;
    // A browser that resumes a stream repeats its first request, with the id of the last event.
    let headers = "last-event-id: 1\r\n";
    let mut events = Events::follow(&imd, "since=0", headers).await;
    let rest: Vec<u64> = (2..=newest).collect();
    assert_eq!(events.numbers(rest.len()).await, rest);
    // Behind the newest event the stream goes on with the next one. An empty id counts as none.
    let headers = format!("last-event-id: {newest}\r\n");
    for headers in [headers.as_str(), "last-event-id:\r\n"] {
        let next = imd.journal().end().0;
        let mut events = Events::follow(&imd, "", headers).await;
        ann.ping().await;
        let first = events.next().await.id;
        assert!(first == next || first == newest + 1, "{headers}: {first}");
    }
}

#[tokio::test]
async fn a_stream_says_how_many_events_the_journal_no_longer_has() {
    let mut config = ephemeral().manual_clock();
    config.journal.events = 4;
    let imd = start(config).await;
    let mut ann = user(&imd, 1).await;
    for _ in 0..5 {
        ann.ping().await;
    }
    imd.settled().await;
    let end = imd.journal().end().0;
    for (query, headers, from) in [
        ("since=0", "", 0),
        ("", "last-event-id: 2\r\n", 3),
        // A gap is also announced where no event that is left matches the filter.
        ("since=0&uid=9", "", 0),
    ] {
        let mut events = Events::follow(&imd, query, headers).await;
        let gap = events.next().await;
        let first = end - 4;
        let expected = Sent {
            kind: "gap".to_owned(),
            id: first - 1,
            data: json!({ "count": first - from, "unrecorded": 0 }),
        };
        assert_eq!(gap, expected, "{query} {headers}");
        // A client that resumes behind the gap is not told of it again.
        let headers = format!("last-event-id: {}\r\n", gap.id);
        let mut events = Events::follow(&imd, "", &headers).await;
        assert_eq!(events.numbers(4).await, Vec::from_iter(first..end));
    }
    let listed = get(&imd, "/v1/journal?since=2").await;
    assert_eq!(
        (&listed["missed"], &listed["mark"]),
        (&json!(end - 4 - 2), &json!(end))
    );
}

#[tokio::test]
async fn events_during_a_reconnect_are_sent_later_or_counted_as_missed() {
    let imd = start_auto().await;
    let mut events = Events::follow(&imd, "what=in", "").await;
    let mut ann = user(&imd, 1).await;
    let last = events.next().await.id;
    drop(events);
    for _ in 0..10 {
        ann.ping().await;
    }
    imd.settled().await;
    let headers = format!("last-event-id: {last}\r\n");
    let mut events = Events::follow(&imd, "cmd=Ping&what=in", &headers).await;
    let mut seen = 0;
    while seen < 10 {
        let sent = events.next().await;
        match sent.kind.as_str() {
            // The replies to the missed requests were missed too.
            "gap" => seen += sent.data["unrecorded"].as_u64().unwrap().div_ceil(2),
            _ => seen += 1,
        }
    }
}

#[tokio::test]
async fn a_stream_starts_at_once_behind_a_buffering_proxy() {
    let imd = start_manual().await;
    let events = Events::follow(&imd, "", "").await;
    let head = events.head.to_lowercase();
    for line in ["cache-control: no-cache", "x-accel-buffering: no"] {
        assert_eq!(head.matches(line).count(), 1, "{head}");
    }
    assert_eq!(head.matches("cache-control").count(), 1, "{head}");
    // The first bytes come at once, and say when to reconnect.
    let mut events = events;
    assert_eq!(events.stream.until("\n\n").await, "retry: 1000\n\n");
}

#[tokio::test]
async fn a_mark_of_another_run_is_refused_by_every_route() {
    let imd = start_manual().await;
    let mut ann = user(&imd, 1).await;
    ann.ping().await;
    imd.settled().await;
    let end = imd.journal().end().0;
    let addr = imd.admin_addr().unwrap();
    let beyond = format!("is beyond the newest event, which is {}", end - 1);
    for mark in [end + 1, end + 1_000, u64::MAX] {
        for path in ["/v1/journal", "/v1/wait"] {
            let path = format!("{path}?since={mark}");
            let (status, why) = call(&imd, "GET", &path, Value::Null).await;
            assert_eq!(status, 409, "{path}: {why}");
            let why = why["error"].as_str().unwrap();
            assert!(why.contains(&format!("since: {mark} {beyond}")), "{why}");
        }
    }
    let follow = async |query: &str, id: &str| {
        let head = format!(
            "GET /v1/journal?{query} HTTP/1.1\r\nhost: {addr}\r\naccept: text/event-stream{id}"
        );
        asked(addr, &head, "").await
    };
    let (status, why) = follow(&format!("since={}", end + 1), "").await;
    assert_eq!(status, 409, "{why}");
    for last in [end, u64::MAX] {
        let (status, why) = follow("", &format!("\r\nlast-event-id: {last}")).await;
        assert_eq!(status, 409, "{why}");
        let why = why["error"].as_str().unwrap();
        assert!(
            why.contains(&format!("Last-Event-ID: {last} {beyond}")),
            "{why}"
        );
    }
    for id in ["x", "-1", "1.5", "18446744073709551616", "1 2"] {
        let (status, why) = follow("", &format!("\r\nlast-event-id: {id}")).await;
        assert_eq!(status, 400, "{id}: {why}");
        assert!(
            why["error"].as_str().unwrap().contains("Last-Event-ID"),
            "{why}"
        );
    }
    // A client that names the instance of its mark is refused by another instance, even if the number of the event
    // exists there.
    let instance = get(&imd, "/v1/mark").await["instance"].clone();
    let instance = instance.as_str().unwrap();
    assert_eq!(get(&imd, "/v1/journal").await["instance"], instance);
    assert_eq!(get(&imd, "/v1/state").await["instance"], instance);
    for path in ["/v1/journal", "/v1/wait"] {
        get(&imd, &format!("{path}?since=0&instance={instance}")).await;
        let other = format!("{path}?since=0&instance=other");
        let (status, why) = call(&imd, "GET", &other, Value::Null).await;
        assert_eq!(status, 409, "{why}");
        assert!(why["error"].as_str().unwrap().contains(instance), "{why}");
    }
}

#[tokio::test]
async fn every_event_after_a_mark_is_found() {
    for taken_from in ["/v1/mark", "/v1/journal"] {
        let imd = start_auto().await;
        let mut ann = user(&imd, 1).await;
        let mark = get(&imd, taken_from).await["mark"].clone();
        ann.ping().await;
        let path = format!("/v1/wait?since={mark}&cmd=Ping&what=in&timeout=1m");
        let seen = get(&imd, &path).await;
        assert_eq!(seen["uid"], 1, "{taken_from}");
        let listed = get(&imd, &format!("/v1/journal?since={mark}&cmd=Ping")).await;
        assert_eq!(listed["unrecorded"], 0);
        assert_eq!(listed["events"].as_array().unwrap().len(), 2, "{listed}");
    }
    let listed = get(&start_auto().await, "/v1/mark").await;
    assert_eq!(listed["recorded_ms"], 300_000);
    let listed = get(&start_manual().await, "/v1/mark").await;
    assert_eq!(listed["recorded_ms"], Value::Null);
}

#[tokio::test]
async fn a_wait_for_events_that_were_not_recorded_fails_at_once() {
    let imd = start_auto().await;
    let mark = get(&imd, "/v1/state").await["journal"]["mark"].clone();
    let mut ann = user(&imd, 1).await;
    ann.ping().await;
    imd.settled().await;
    let wait = format!("/v1/wait?since={mark}&cmd=Ping&timeout=1h");
    let (status, why) = call(&imd, "GET", &wait, Value::Null).await;
    assert_eq!(status, 409, "{why}");
    let why = why["error"].as_str().unwrap();
    // The connection, the login and the ping, and the replies to both.
    assert!(why.contains("since: 5 frames and other events"), "{why}");
    assert!(why.contains("/v1/mark"), "{why}");
    let listed = get(&imd, &format!("/v1/journal?since={mark}")).await;
    assert_eq!(
        (&listed["unrecorded"], &listed["missed"]),
        (&json!(5), &json!(0))
    );
    // That request counts as a reader, so frames are recorded from now on. Whether this ping was the first that was
    // recorded is not known.
    ann.ping().await;
    imd.settled().await;
    get(&imd, &wait).await;
    // An event that has not occurred is waited for.
    let imd = start_auto().await;
    let (status, _) = call(&imd, "GET", "/v1/wait?since=0&timeout=1ms", Value::Null).await;
    assert_eq!(status, 408);
    let (status, _) = call(&imd, "GET", "/v1/wait?timeout=1ms", Value::Null).await;
    assert_eq!(status, 408);
}

#[tokio::test]
async fn a_wait_fails_at_once_where_nothing_is_recorded() {
    let mut config = ephemeral();
    config.journal.capture = Capture::Off;
    let imd = start(config).await;
    for path in ["/v1/mark", "/v1/wait", "/v1/wait?since=0"] {
        let (status, why) = call(&imd, "GET", path, Value::Null).await;
        assert_eq!(status, 409, "{path}: {why}");
        assert!(
            why["error"]
                .as_str()
                .unwrap()
                .contains("capture is \"off\"")
        );
    }
    assert_eq!(get(&imd, "/v1/journal").await["events"], json!([]));
    let none = imd.wait_for(imd.mark(), |_| true, PATIENCE).await;
    assert_eq!(none.unwrap_err().unknowable, Some(Unknowable::Off));
}

#[tokio::test]
async fn marks_in_process_are_checked_too() {
    let imd = start_auto().await;
    let before = imd.journal().end();
    let mut ann = user(&imd, 1).await;
    imd.settled().await;
    let is_ping = |event: &Event| event.cmd == Cmd::Ping;
    let is_login = |event: &Event| event.cmd == Cmd::Login;
    let mark = imd.mark();
    ann.ping().await;
    imd.wait_for(mark, is_ping, PATIENCE).await.unwrap();
    let none = imd.wait_for(before, is_login, PATIENCE).await;
    let count = 3;
    let why = none.unwrap_err();
    assert_eq!(why.unknowable, Some(Unknowable::Unrecorded { count }));
    assert!(why.to_string().contains("imd.mark()"), "{why}");
    // A mark of another instance, which has recorded more events.
    let (mark, next) = (1_000, imd.journal().end().0);
    let none = imd.wait_for(Mark(mark), is_ping, PATIENCE).await;
    let beyond = Unknowable::Beyond { mark, next };
    assert_eq!(none.unwrap_err().unknowable, Some(beyond));
}
