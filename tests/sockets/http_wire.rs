//! HTTP as bytes on a connection: bodies that are too long, clients that close early, connections that are kept. The
//! user API, the group API and the admin API behave alike.

use std::net::SocketAddr;
use std::time::Duration;

use imd::{Config, Imd};
use tokio::io::AsyncWriteExt;

use crate::support::{Http, soon, start};

const MIB: usize = 1 << 20;

/// Returns the three listeners, each with a path that reads a body.
fn listeners(imd: &Imd) -> [(SocketAddr, &'static str); 3] {
    [
        (imd.user_api_addr(), "/x/user/register"),
        (imd.group_api_addr(), "/x/group/create"),
        (imd.admin_addr().unwrap(), "/v1/messages"),
    ]
}

fn head(path: &str, more: &str) -> String {
    format!(
        "POST {path} HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/x-www-form-urlencoded\r\n{more}\r\n"
    )
}

const CONTINUE: &str = "HTTP/1.1 100 Continue\r\n\r\n";

fn is_too_long(answer: &str) -> bool {
    answer.starts_with("HTTP/1.1 413 ")
        && answer.contains("connection: close")
        && answer.contains("the body has more than")
}

#[tokio::test]
async fn a_client_that_writes_its_whole_body_first_still_reads_that_it_is_too_long() {
    let imd = start(Config::ephemeral()).await;
    for (addr, path) in listeners(&imd) {
        for length in [3 * MIB, 32 * MIB] {
            let head = head(path, &format!("content-length: {length}\r\n"));
            let mut stream = Http::sent(addr, head).await;
            // The body is larger than all buffers on the way, so it can be written only while the server reads.
            stream.send(&vec![b'x'; length]).await;
            let answer = stream.rest().await;
            assert!(is_too_long(&answer), "{path} {length}: {answer}");
        }
    }
}

#[tokio::test]
async fn a_body_in_chunks_is_refused_when_it_gets_too_long() {
    let imd = start(Config::ephemeral()).await;
    for (addr, path) in listeners(&imd) {
        let head = head(path, "transfer-encoding: chunked\r\n");
        let mut stream = Http::sent(addr, head).await;
        let chunk = format!("10000\r\n{}\r\n", "x".repeat(0x10000));
        for _ in 0..128 {
            stream.send(&chunk).await;
        }
        stream.send(b"0\r\n\r\n").await;
        let answer = stream.rest().await;
        assert!(is_too_long(&answer), "{path}: {answer}");
    }
}

#[tokio::test]
async fn a_length_over_the_limit_is_refused_before_any_of_the_body_arrives() {
    let imd = start(Config::ephemeral()).await;
    let snapshots = (imd.admin_addr().unwrap(), "/v1/snapshot");
    for (addr, path) in listeners(&imd).into_iter().chain([snapshots]) {
        for expect in ["", "expect: 100-continue\r\n"] {
            let mut stream = Http::connect(addr).await;
            let more = format!("{expect}content-length: 1000000000\r\n");
            let head = head(path, &more);
            let head = head.replace("POST /v1/snapshot", "PUT /v1/snapshot");
            stream.send(head).await;
            let answer = stream.answer().await;
            let is_too_long = is_too_long(&format!("{}{}", answer.head, answer.body));
            assert!(is_too_long, "{path}: {answer:?}");
        }
    }
}

#[tokio::test]
async fn a_client_that_expects_100_continue_gets_it() {
    let imd = start(Config::ephemeral()).await;
    for (addr, path) in listeners(&imd) {
        let head = head(path, "expect: 100-continue\r\ncontent-length: 5\r\n");
        let mut stream = Http::sent(addr, head).await;
        stream.expect(CONTINUE).await;
        stream.send(b"uid=7").await;
        assert_eq!(stream.answer().await.header("connection"), "keep-alive");
    }
}

#[tokio::test]
async fn an_answer_is_readable_although_the_body_was_not_read() {
    let imd = start(Config::ephemeral()).await;
    let admin = imd.admin_addr().unwrap();
    for (addr, method, path, status) in [
        (imd.user_api_addr(), "POST", "/no/such/path", 404),
        (imd.user_api_addr(), "PUT", "/x/user/register", 405),
        (imd.group_api_addr(), "DELETE", "/x/group/join", 405),
        (admin, "POST", "/no/such/path", 404),
        (admin, "PATCH", "/v1/state", 405),
        (admin, "POST", "/v1/registry/thaw", 200),
    ] {
        let head = head(path, &format!("content-length: {}\r\n", 8 * MIB));
        let head = head.replacen("POST", method, 1);
        let mut stream = Http::sent(addr, head).await;
        stream.send(&vec![b'x'; 8 * MIB]).await;
        let answer = stream.rest().await;
        let begin = format!("HTTP/1.1 {status} ");
        assert!(answer.starts_with(&begin), "{method} {path}: {answer}");
    }
}

#[tokio::test]
async fn a_head_that_is_too_long_is_answered_readably() {
    let imd = start(Config::ephemeral()).await;
    for (addr, path) in listeners(&imd) {
        let head = head(path, &format!("x: {}\r\n", "y".repeat(4 * MIB)));
        let mut stream = Http::sent(addr, head).await;
        let answer = stream.rest().await;
        assert!(answer.starts_with("HTTP/1.1 431 "), "{path}: {answer}");
    }
}

#[tokio::test]
async fn a_request_whose_client_closes_its_writing_side_is_answered() {
    let imd = start(Config::ephemeral()).await;
    let admin = imd.admin_addr().unwrap();
    let whole = |path: &str| head(path, "content-length: 5\r\n") + "uid=7";
    let get = |path: &str| format!("GET {path} HTTP/1.1\r\nhost: localhost\r\n\r\n");
    for (addr, request, begin) in [
        // This one takes a while, because a password is hashed.
        (
            imd.user_api_addr(),
            whole("/x/user/register"),
            "HTTP/1.1 200 ",
        ),
        (
            imd.group_api_addr(),
            whole("/x/group/create"),
            "HTTP/1.1 200 ",
        ),
        (admin, get("/healthz"), "HTTP/1.1 200 "),
        (admin, get("/v1/state"), "HTTP/1.1 200 "),
        (admin, get("/v1/wait?timeout=100ms"), "HTTP/1.1 408 "),
        // The server does not read the bodies of these requests.
        (admin, whole("/v1/nowhere"), "HTTP/1.1 404 "),
        (admin, whole("/v1/access/access-1/pause"), "HTTP/1.1 200 "),
        (admin, whole("/v1/registry/freeze"), "HTTP/1.1 200 "),
        (
            admin,
            "GET /healthz HTTP/1.0\r\n\r\n".into(),
            "HTTP/1.0 200 ",
        ),
    ] {
        let mut stream = Http::sent(addr, &request).await;
        stream.end().await;
        let answer = stream.rest().await;
        assert!(answer.starts_with(begin), "{request}: {answer}");
    }
}

#[tokio::test]
async fn a_client_that_closes_its_writing_side_right_behind_a_body_that_was_waited_for_is_answered()
{
    let imd = start(Config::ephemeral()).await;
    let bodies = [
        ("content-length: 5\r\n", "uid=7"),
        ("transfer-encoding: chunked\r\n", "5\r\nuid=7\r\n0\r\n\r\n"),
    ];
    for (addr, path) in listeners(&imd) {
        for (length, body) in bodies.iter().cycle().take(20) {
            let head = head(path, &format!("{length}expect: 100-continue\r\n"));
            let mut stream = Http::sent(addr, head).await;
            // From here on the server waits for the body.
            stream.expect(CONTINUE).await;
            stream.send(body).await;
            stream.end().await;
            let answer = stream.rest().await;
            assert!(answer.starts_with("HTTP/1.1 "), "{path} {length}: {answer}");
        }
    }
}

#[tokio::test]
async fn a_client_that_has_gone_is_given_up_in_time() {
    let mut config = Config::ephemeral();
    config.http.timeout = Duration::from_millis(50);
    let imd = start(config).await;
    let mut stream = Http::connect(imd.admin_addr().unwrap()).await;
    let request = "GET /v1/wait?timeout=1h HTTP/1.1\r\nhost: localhost\r\n\r\n";
    stream.send(request).await;
    stream.end().await;
    assert_eq!(stream.rest().await, "");
}

#[tokio::test]
async fn a_body_that_ends_too_early_is_answered_at_once() {
    let imd = start(Config::ephemeral()).await;
    for (addr, path) in listeners(&imd) {
        let mut stream = Http::connect(addr).await;
        let request = head(path, "content-length: 100\r\n") + "uid=7";
        stream.send(request).await;
        stream.end().await;
        let answer = stream.rest().await;
        assert!(answer.starts_with("HTTP/1.1 400 "), "{path}: {answer}");
    }
}

#[tokio::test]
async fn a_kept_connection_says_for_how_long_it_is_kept() {
    let imd = start(Config::ephemeral()).await;
    for (addr, path) in listeners(&imd) {
        let request = head(path, "content-length: 5\r\n") + "uid=7";
        let mut stream = Http::connect(addr).await;
        for _ in 0..3 {
            stream.send(&request).await;
            let answer = stream.answer().await;
            let seconds = answer.header("keep-alive").strip_prefix("timeout=");
            let seconds: u64 = seconds.unwrap().parse().unwrap();
            // The server keeps the connection for a second longer than it says, so that a request sent at the last
            // moment is answered.
            assert_eq!(seconds, Config::default().http.timeout.as_secs() - 1);
        }
        let last = request.replace("content-length", "connection: close\r\ncontent-length");
        stream.send(last).await;
        let answer = stream.rest().await;
        assert!(!answer.contains("keep-alive"), "{answer}");
        // An HTTP/1.0 connection is closed unless the client asks to keep it.
        let mut old = Http::connect(addr).await;
        let last = request.replace("HTTP/1.1", "HTTP/1.0");
        old.send(last).await;
        let answer = old.rest().await;
        assert!(!answer.contains("keep-alive"), "{answer}");
    }
}

#[tokio::test]
async fn a_client_that_writes_without_end_is_cut_off() {
    let mut config = Config::ephemeral();
    config.http.timeout = Duration::from_millis(200);
    let imd = start(config).await;
    let head = head("/x/user/register", "transfer-encoding: chunked\r\n");
    let mut stream = Http::sent(imd.user_api_addr(), head).await;
    let chunk = format!("10000\r\n{}\r\n", "x".repeat(0x10000));
    let write = async { while stream.stream.write_all(chunk.as_bytes()).await.is_ok() {} };
    soon(write).await;
}
