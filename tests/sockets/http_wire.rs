//! HTTP as clients write it to the socket: bodies that are too long, clients that close early, kept connections. All
//! three listeners do the same.

use std::net::SocketAddr;
use std::time::Duration;

use imd::{Config, Imd};
use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::support::{soon, start};

const MIB: usize = 1 << 20;

/// A path of each listener that reads a body.
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

async fn connect(addr: SocketAddr) -> TcpStream {
    soon(TcpStream::connect(addr)).await.unwrap()
}

/// Reads until the server closes. A reset is an error.
async fn rest(stream: &mut TcpStream) -> String {
    let mut answer = String::new();
    soon(stream.read_to_string(&mut answer)).await.unwrap();
    answer
}

/// Reads one answer with a `content-length`.
async fn answer(stream: &mut TcpStream) -> (String, Value) {
    let mut read = Vec::new();
    let end = loop {
        let found = read.windows(4).position(|four| four == b"\r\n\r\n");
        if let Some(end) = found {
            break end + 4;
        }
        let n = soon(stream.read_buf(&mut read)).await.unwrap();
        assert_ne!(n, 0, "{}", String::from_utf8_lossy(&read));
    };
    let head = String::from_utf8(read[..end].to_vec()).unwrap();
    let length = head.split("content-length: ").nth(1).unwrap();
    let length: usize = length.split("\r\n").next().unwrap().parse().unwrap();
    while read.len() < end + length {
        let n = soon(stream.read_buf(&mut read)).await.unwrap();
        assert_ne!(n, 0, "{head}");
    }
    let body = serde_json::from_slice(&read[end..end + length]).unwrap();
    (head, body)
}

fn is_too_long(answer: &str) -> bool {
    answer.starts_with("HTTP/1.1 413 ")
        && answer.contains("connection: close")
        && answer.contains("the body has more than")
}

#[tokio::test]
async fn who_writes_a_whole_body_before_reading_still_reads_that_it_is_too_long() {
    let imd = start(Config::ephemeral()).await;
    for (addr, path) in listeners(&imd) {
        for length in [3 * MIB, 32 * MIB] {
            let mut stream = connect(addr).await;
            let head = head(path, &format!("content-length: {length}\r\n"));
            soon(stream.write_all(head.as_bytes())).await.unwrap();
            // More than all buffers in between: it is written only if somebody reads it.
            soon(stream.write_all(&vec![b'x'; length])).await.unwrap();
            let answer = rest(&mut stream).await;
            assert!(is_too_long(&answer), "{path} {length}: {answer}");
        }
    }
}

#[tokio::test]
async fn a_body_in_chunks_is_refused_when_it_gets_too_long() {
    let imd = start(Config::ephemeral()).await;
    for (addr, path) in listeners(&imd) {
        let mut stream = connect(addr).await;
        let head = head(path, "transfer-encoding: chunked\r\n");
        soon(stream.write_all(head.as_bytes())).await.unwrap();
        let chunk = format!("10000\r\n{}\r\n", "x".repeat(0x10000));
        for _ in 0..128 {
            soon(stream.write_all(chunk.as_bytes())).await.unwrap();
        }
        soon(stream.write_all(b"0\r\n\r\n")).await.unwrap();
        let answer = rest(&mut stream).await;
        assert!(is_too_long(&answer), "{path}: {answer}");
    }
}

#[tokio::test]
async fn a_length_over_the_limit_is_refused_before_anything_of_the_body_has_come() {
    let imd = start(Config::ephemeral()).await;
    let snapshots = (imd.admin_addr().unwrap(), "/v1/snapshot");
    for (addr, path) in listeners(&imd).into_iter().chain([snapshots]) {
        for expect in ["", "expect: 100-continue\r\n"] {
            let mut stream = connect(addr).await;
            let more = format!("{expect}content-length: 1000000000\r\n");
            let head = head(path, &more);
            let head = head.replace("POST /v1/snapshot", "PUT /v1/snapshot");
            soon(stream.write_all(head.as_bytes())).await.unwrap();
            let (head, body) = answer(&mut stream).await;
            assert!(is_too_long(&format!("{head}{body}")), "{path}: {head}");
        }
    }
}

#[tokio::test]
async fn a_body_that_may_come_is_asked_for() {
    let imd = start(Config::ephemeral()).await;
    for (addr, path) in listeners(&imd) {
        let mut stream = connect(addr).await;
        let head = head(path, "expect: 100-continue\r\ncontent-length: 5\r\n");
        soon(stream.write_all(head.as_bytes())).await.unwrap();
        let mut asked = [0; 25];
        soon(stream.read_exact(&mut asked)).await.unwrap();
        assert_eq!(&asked, b"HTTP/1.1 100 Continue\r\n\r\n");
        soon(stream.write_all(b"uid=7")).await.unwrap();
        let (head, _) = answer(&mut stream).await;
        assert!(head.contains("connection: keep-alive"), "{head}");
    }
}

#[tokio::test]
async fn an_answer_to_a_body_that_nobody_wanted_is_readable() {
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
        let mut stream = connect(addr).await;
        let head = head(path, &format!("content-length: {}\r\n", 8 * MIB));
        let head = head.replacen("POST", method, 1);
        soon(stream.write_all(head.as_bytes())).await.unwrap();
        soon(stream.write_all(&vec![b'x'; 8 * MIB])).await.unwrap();
        let answer = rest(&mut stream).await;
        let begin = format!("HTTP/1.1 {status} ");
        assert!(answer.starts_with(&begin), "{method} {path}: {answer}");
    }
}

#[tokio::test]
async fn a_head_that_is_too_long_is_answered_readably() {
    let imd = start(Config::ephemeral()).await;
    for (addr, path) in listeners(&imd) {
        let mut stream = connect(addr).await;
        let head = head(path, &format!("x: {}\r\n", "y".repeat(4 * MIB)));
        soon(stream.write_all(head.as_bytes())).await.unwrap();
        let answer = rest(&mut stream).await;
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
        // Takes a moment: a password is hashed.
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
        // Nobody reads these bodies.
        (admin, whole("/v1/nowhere"), "HTTP/1.1 404 "),
        (admin, whole("/v1/access/access-1/pause"), "HTTP/1.1 200 "),
        (admin, whole("/v1/registry/freeze"), "HTTP/1.1 200 "),
        (
            admin,
            "GET /healthz HTTP/1.0\r\n\r\n".into(),
            "HTTP/1.0 200 ",
        ),
    ] {
        let mut stream = connect(addr).await;
        soon(stream.write_all(request.as_bytes())).await.unwrap();
        soon(stream.shutdown()).await.unwrap();
        let answer = rest(&mut stream).await;
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
            let mut stream = connect(addr).await;
            let head = head(path, &format!("{length}expect: 100-continue\r\n"));
            soon(stream.write_all(head.as_bytes())).await.unwrap();
            // From here on the body is waited for.
            let mut go_on = [0; "HTTP/1.1 100 Continue\r\n\r\n".len()];
            soon(stream.read_exact(&mut go_on)).await.unwrap();
            soon(stream.write_all(body.as_bytes())).await.unwrap();
            soon(stream.shutdown()).await.unwrap();
            let answer = rest(&mut stream).await;
            assert!(answer.starts_with("HTTP/1.1 "), "{path} {length}: {answer}");
        }
    }
}

#[tokio::test]
async fn a_client_that_has_gone_is_not_waited_for_without_end() {
    let mut config = Config::ephemeral();
    config.http.timeout = Duration::from_millis(50);
    let imd = start(config).await;
    let mut stream = connect(imd.admin_addr().unwrap()).await;
    let request = "GET /v1/wait?timeout=1h HTTP/1.1\r\nhost: localhost\r\n\r\n";
    soon(stream.write_all(request.as_bytes())).await.unwrap();
    soon(stream.shutdown()).await.unwrap();
    assert_eq!(rest(&mut stream).await, "");
}

#[tokio::test]
async fn a_body_that_ends_too_early_is_answered_at_once() {
    let imd = start(Config::ephemeral()).await;
    for (addr, path) in listeners(&imd) {
        let mut stream = connect(addr).await;
        let request = head(path, "content-length: 100\r\n") + "uid=7";
        soon(stream.write_all(request.as_bytes())).await.unwrap();
        soon(stream.shutdown()).await.unwrap();
        let answer = rest(&mut stream).await;
        assert!(answer.starts_with("HTTP/1.1 400 "), "{path}: {answer}");
    }
}

#[tokio::test]
async fn a_kept_connection_says_for_how_long_it_is_kept() {
    let imd = start(Config::ephemeral()).await;
    for (addr, path) in listeners(&imd) {
        let request = head(path, "content-length: 5\r\n") + "uid=7";
        let mut stream = connect(addr).await;
        for _ in 0..3 {
            soon(stream.write_all(request.as_bytes())).await.unwrap();
            let (head, _) = answer(&mut stream).await;
            let said = head.split("keep-alive: timeout=").nth(1).unwrap();
            let said: u64 = said.split("\r\n").next().unwrap().parse().unwrap();
            // It is open for longer: what is sent at the last moment is answered.
            assert_eq!(said, Config::default().http.timeout.as_secs() - 1);
        }
        let last = request.replace("content-length", "connection: close\r\ncontent-length");
        soon(stream.write_all(last.as_bytes())).await.unwrap();
        let answer = rest(&mut stream).await;
        assert!(!answer.contains("keep-alive"), "{answer}");
        // HTTP/1.0 closes unless it is asked not to.
        let mut old = connect(addr).await;
        let last = request.replace("HTTP/1.1", "HTTP/1.0");
        soon(old.write_all(last.as_bytes())).await.unwrap();
        let answer = rest(&mut old).await;
        assert!(!answer.contains("keep-alive"), "{answer}");
    }
}

#[tokio::test]
async fn a_client_that_writes_without_end_is_cut_off() {
    let mut config = Config::ephemeral();
    config.http.timeout = Duration::from_millis(200);
    let imd = start(config).await;
    let mut stream = connect(imd.user_api_addr()).await;
    let head = head("/x/user/register", "transfer-encoding: chunked\r\n");
    soon(stream.write_all(head.as_bytes())).await.unwrap();
    let chunk = format!("10000\r\n{}\r\n", "x".repeat(0x10000));
    let write = async { while stream.write_all(chunk.as_bytes()).await.is_ok() {} };
    soon(write).await;
}
