//! HTTP clients that write their requests slowly, never read their answers, or hold every connection of a listener.
//!
//! Each is cut off in time, and other clients are served meanwhile, probes above all.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::time::Duration;

use imd::{Config, Imd};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::support::{Http, soon, start};

/// How many connections the admin API takes, without those that are reserved for probes.
const CONNECTIONS: usize = 64;

const PROBES: [&str; 3] = ["/healthz", "/readyz", "/metrics"];

/// Returns a request with a body for each listener.
fn with_bodies(imd: &Imd) -> [(SocketAddr, &'static str); 4] {
    let admin = imd.admin_addr().unwrap();
    [
        (imd.user_api_addr(), "POST /x/user/register"),
        (imd.group_api_addr(), "POST /x/group/create"),
        (admin, "POST /v1/users"),
        (admin, "PUT /v1/snapshot"),
    ]
}

fn head(request: &str, more: &str) -> String {
    format!("{request} HTTP/1.1\r\nhost: localhost\r\n{more}\r\n")
}

/// Sends a request to the admin API, and returns the answer.
async fn asked(imd: &Imd, request: &str) -> String {
    let request = head(request, "connection: close\r\n");
    Http::sent(imd.admin_addr().unwrap(), request)
        .await
        .rest()
        .await
}

/// Waits until the admin API takes a connection for any request.
async fn free(imd: &Imd) {
    while !asked(imd, "GET /v1/state")
        .await
        .starts_with("HTTP/1.1 200 ")
    {}
}

/// Begins a body that does not go on. The server waits for the rest of it when this returns.
async fn stuck(addr: SocketAddr, request: &str) -> Http {
    let head = head(request, "expect: 100-continue\r\ncontent-length: 1000\r\n");
    let mut stream = Http::sent(addr, head).await;
    stream.expect("HTTP/1.1 100 Continue\r\n\r\n").await;
    stream.send("{").await;
    stream
}

#[tokio::test]
async fn a_body_that_stops_is_answered_408() {
    let mut config = Config::ephemeral();
    config.http.timeout = Duration::from_millis(500);
    let imd = start(config).await;
    for (addr, request) in with_bodies(&imd) {
        let mut stream = stuck(addr, request).await;
        let answer = stream.rest().await;
        assert!(answer.starts_with("HTTP/1.1 408 "), "{request}: {answer}");
        assert!(answer.contains("connection: close"), "{answer}");
        assert!(answer.contains("no whole body within 500ms"), "{answer}");
    }
}

#[tokio::test]
async fn a_body_that_comes_byte_by_byte_is_answered_408() {
    let mut config = Config::ephemeral();
    config.http.timeout = Duration::from_millis(500);
    let imd = start(config).await;
    for (addr, request) in with_bodies(&imd) {
        for length in [
            "content-length: 60000\r\n",
            "transfer-encoding: chunked\r\n",
        ] {
            let mut http = Http::connect(addr).await;
            http.send(head(request, length)).await;
            let (mut read, mut write) = http.stream.split();
            let dribble = async {
                // A real delay, because the deadline of HTTP runs by the clock of the machine.
                let mut pause = tokio::time::interval(Duration::from_millis(5));
                // The body is blanks, because a server that reads a snapshot line by line would refuse any other text
                // before the deadline.
                let piece: &[u8] = match length.starts_with("transfer") {
                    true => b"1\r\n \r\n",
                    false => b" ",
                };
                while write.write_all(piece).await.is_ok() {
                    pause.tick().await;
                }
                std::future::pending::<()>().await;
            };
            let mut answer = vec![0; 12];
            tokio::select! {
                read = soon(read.read_exact(&mut answer)) => drop(read.unwrap()),
                () = dribble => {}
            }
            let answer = String::from_utf8(answer).unwrap();
            assert_eq!(answer, "HTTP/1.1 408", "{request} {length}");
        }
    }
}

#[tokio::test]
async fn a_long_body_may_take_longer_than_the_deadline() {
    let mut config = Config::ephemeral();
    config.http.timeout = Duration::from_secs(2);
    let imd = start(config).await;
    let length = 1 << 20;
    let head = head(
        "POST /v1/users",
        &format!("content-length: {length}\r\nconnection: close\r\n"),
    );
    let mut stream = Http::sent(imd.admin_addr().unwrap(), head).await;
    // A real delay, because the body has to take longer than the deadline: 64 parts take 2.5 s.
    let mut pause = tokio::time::interval(Duration::from_millis(40));
    for _ in 0..64 {
        pause.tick().await;
        let part = vec![b' '; length / 64];
        stream.send(&part).await;
    }
    let answer = stream.rest().await;
    assert!(answer.starts_with("HTTP/1.1 400 "), "{answer}");
}

#[tokio::test]
async fn a_client_that_never_reads_its_answers_is_cut_off() {
    let mut config = Config::ephemeral();
    config.http.timeout = Duration::from_millis(200);
    let imd = start(config).await;
    let admin = imd.admin_addr().unwrap();
    for (addr, path) in [
        (imd.user_api_addr(), "/nowhere"),
        (imd.group_api_addr(), "/nowhere"),
        (admin, "/v1/openapi.json"),
    ] {
        let mut http = Http::connect(addr).await;
        let requests = head(&format!("GET {path}"), "").repeat(100);
        let write = async { while http.stream.write_all(requests.as_bytes()).await.is_ok() {} };
        soon(write).await;
    }
}

#[tokio::test]
async fn probes_are_answered_while_clients_hold_every_connection_of_the_admin_api() {
    let mut config = Config::ephemeral();
    // The deadline is longer than the test, so no connection is cut off.
    config.http.timeout = Duration::from_secs(3_600);
    let imd = start(config).await;
    let admin = imd.admin_addr().unwrap();
    let mut held = Vec::with_capacity(CONNECTIONS);
    for _ in 0..CONNECTIONS {
        held.push(stuck(admin, "POST /v1/users").await);
    }
    for path in PROBES {
        let request = head(&format!("GET {path}"), "");
        // The connection of a probe is closed after the answer, although the client would keep it.
        let answer = Http::sent(admin, request).await.rest().await;
        assert!(answer.starts_with("HTTP/1.1 200 "), "{path}: {answer}");
        assert!(answer.contains("connection: close"), "{answer}");
        assert!(!answer.contains("keep-alive"), "{answer}");
    }
    for request in ["GET /v1/state", "GET /", "POST /v1/reset", "GET /healthz/"] {
        let answer = asked(&imd, request).await;
        assert!(answer.starts_with("HTTP/1.1 503 "), "{request}: {answer}");
        assert!(answer.contains("connection: close"), "{answer}");
        assert!(answer.contains("/healthz, /readyz, /metrics"), "{answer}");
    }
    // The places for probes can't be held either: a client that says nothing, sends half a head or begins a body gives
    // way.
    for request_start in [
        "",
        "GET /healthz HT",
        "POST /v1/users HTTP/1.1\r\ncontent-length: 9\r\n\r\n{",
    ] {
        for _ in 0..CONNECTIONS {
            held.push(Http::sent(admin, request_start).await);
        }
        for path in PROBES {
            let answer = asked(&imd, &format!("GET {path}")).await;
            assert!(answer.starts_with("HTTP/1.1 200 "), "{path}: {answer}");
        }
    }
    // More probes at once than there are places for.
    let mut probes = Vec::new();
    for _ in 0..CONNECTIONS {
        let request = head("GET /healthz", "");
        probes.push(Http::sent(admin, request).await);
    }
    for probe in &mut probes {
        let answer = probe.rest().await;
        assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
    }
    // As soon as a connection is free, every request is answered again.
    drop(held);
    soon(free(&imd)).await;
}

#[tokio::test]
async fn slow_bodies_give_their_connections_back() {
    let mut config = Config::ephemeral();
    config.http.timeout = Duration::from_millis(500);
    let imd = start(config).await;
    let admin = imd.admin_addr().unwrap();
    let body = head("POST /v1/users", "content-length: 1000\r\n") + "{";
    let mut held = Vec::new();
    for _ in 0..CONNECTIONS {
        held.push(Http::sent(admin, &body).await);
    }
    soon(free(&imd)).await;
    for stream in &mut held {
        let answer = stream.rest().await;
        assert!(answer.starts_with("HTTP/1.1 408 "), "{answer}");
    }
}

/// Opens connections and sends nothing, for ever. The newest 400 stay open.
async fn open_endlessly(addr: SocketAddr) {
    let mut open = VecDeque::new();
    loop {
        open.extend(TcpStream::connect(addr).await);
        if open.len() > 400 {
            open.pop_front();
        }
    }
}

/// Sends a probe to the admin API until one is answered: it is closed like the others if it comes so slowly that 72
/// connections are opened before its request.
async fn probe(imd: &Imd, path: &str) {
    let request = head(&format!("GET {path}"), "connection: close\r\n");
    loop {
        let mut http = Http::connect(imd.admin_addr().unwrap()).await;
        if http.stream.write_all(request.as_bytes()).await.is_ok()
            && http.rest_or_reset().await.starts_with("HTTP/1.1 200 ")
        {
            return;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn probes_are_answered_while_a_client_opens_connections_endlessly() {
    for stuck_bodies in [0, CONNECTIONS] {
        let mut config = Config::ephemeral();
        config.http.timeout = Duration::from_secs(3_600);
        let imd = start(config).await;
        let admin = imd.admin_addr().unwrap();
        let mut held = Vec::new();
        for _ in 0..stuck_bodies {
            held.push(stuck(admin, "POST /v1/users").await);
        }
        let flood = tokio::spawn(open_endlessly(admin));
        let probes = async {
            for path in PROBES.iter().cycle().take(90) {
                probe(&imd, path).await;
            }
        };
        soon(probes).await;
        flood.abort();
        // Whoever has begun a request has kept the connection.
        for mut http in held {
            http.send(" ".repeat(999)).await;
            http.expect("HTTP/1.1 400 ").await;
        }
    }
}
