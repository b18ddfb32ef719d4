//! Unusual forms: every request to the user API and the group API gets a defined answer, and the next request is
//! served.

use std::net::SocketAddr;

use imd::{Config, Imd};
use tokio::io::AsyncWriteExt;

use crate::support::http::Answer;
use crate::support::{Http, post, soon, start};

const FORM: &str = "application/x-www-form-urlencoded";

/// A request as bytes, with the HTTP status and the code of its answer. `None` if it is not HTTP: then the server
/// answers without a body, or closes the connection.
struct UnusualRequest {
    name: String,
    request: Vec<u8>,
    answer: Option<(u16, u64)>,
}

fn unusual(
    name: &str,
    request: impl Into<Vec<u8>>,
    answer: impl Into<Option<(u16, u64)>>,
) -> UnusualRequest {
    UnusualRequest {
        name: name.into(),
        request: request.into(),
        answer: answer.into(),
    }
}

/// Returns a POST that creates a group.
fn posted(head: &str, body: &[u8]) -> Vec<u8> {
    let length = body.len();
    let head = format!(
        "POST /x/group/create HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\
         content-length: {length}\r\n{head}\r\n"
    );
    [head.as_bytes(), body].concat()
}

fn form(body: &[u8]) -> Vec<u8> {
    posted(&format!("content-type: {FORM}\r\n"), body)
}

/// Returns bodies, all with the content type of a form.
fn bodies() -> Vec<UnusualRequest> {
    let long = "9".repeat(60_000);
    let many = "a=b&".repeat(10_000) + "uid=7";
    let brackets = "uid[".repeat(5_000) + "=7&uid=7";
    let cases: &[(&str, u64)] = &[
        ("", 10001),
        ("&", 10001),
        ("&&&&", 10001),
        ("=", 10001),
        ("==", 10001),
        ("=7", 10001),
        ("uid", 10001),
        ("uid=", 10001),
        ("uid==7", 10001),
        ("uid=7", 0),
        ("uid=7&", 0),
        ("&uid=7", 0),
        ("uid=7&uid=8", 0),
        ("uid=x&uid=7", 10001),
        ("uid=&uid=7", 10001),
        ("uid=7&uid=x", 0),
        ("UID=7", 10001),
        ("Uid=7", 10001),
        ("uid =7", 10001),
        (" uid=7", 10001),
        ("uid= 7", 10001),
        ("uid=7 ", 10001),
        ("uid=+7", 10001),
        ("uid=%2B7", 0),
        ("uid=%37", 0),
        ("%75%69%64=7", 0),
        ("uid=%", 10001),
        ("uid=%3", 10001),
        ("uid=%zz", 10001),
        ("uid=%00", 10001),
        ("uid=7%00", 10001),
        ("uid=7%0d%0a", 10001),
        ("uid=7\r\n", 10001),
        ("uid=7\n", 10001),
        ("uid=7;name=x", 10001),
        ("uid=7&name=a;b", 0),
        ("uid=-7", 10001),
        ("uid=-0", 10001),
        ("uid=0", 10001),
        ("uid=00000000000000000000000000007", 0),
        ("uid=7.0", 10001),
        ("uid=7e0", 10001),
        ("uid=0x7", 10001),
        ("uid=1_000", 10001),
        ("uid=1,000", 10001),
        ("uid=NaN", 10001),
        ("uid=null", 10001),
        ("uid=true", 10001),
        ("uid=[7]", 10001),
        ("uid[]=7", 10001),
        ("uid[0]=7", 10001),
        ("uid.x=7", 10001),
        ("uid=9223372036854775807", 0),
        ("uid=9223372036854775808", 10001),
        ("uid=18446744073709551623", 10001),
        ("uid=-9223372036854775808", 10001),
        ("uid=\u{667}", 10001),
        ("uid=%D9%A7", 10001),
        ("uid=\u{ff17}", 10001),
        ("\u{feff}uid=7", 10001),
        ("uid=7&name=\u{1f600}", 0),
        ("uid=7&name=%F0%9F%98%80", 0),
        ("uid=7&name=%ff%fe", 0),
        ("uid=7&name=%00", 0),
        ("uid=7&name=%ED%A0%80", 0),
        ("uid=7&name", 0),
        ("uid=7&name=a&name=b", 0),
        ("uid=7&name=<script>alert(1)</script>", 0),
        ("uid=7&name='; drop table groups; --", 0),
        ("uid=7&__proto__=x&constructor=y", 0),
        (r#"{"uid": 7}"#, 10001),
        (r#"[{"uid": 7}]"#, 10001),
        ("<uid>7</uid>", 10001),
        ("uid: 7", 10001),
        ("uid\t=7", 10001),
        ("?uid=7", 10001),
        ("/x/group/create?uid=7", 10001),
        (&brackets, 0),
        (&many, 0),
    ];
    let mut requests: Vec<UnusualRequest> = cases
        .iter()
        .map(|(body, code)| {
            unusual(
                &format!("body {body:.40?}"),
                form(body.as_bytes()),
                (200, *code),
            )
        })
        .collect();
    requests.push(unusual(
        "digits",
        form(format!("uid={long}").as_bytes()),
        (200, 10001),
    ));
    requests.push(unusual("zeros", form(&[0; 1_000]), (200, 10001)));
    requests.push(unusual("no utf-8", form(b"uid=\xff7"), (200, 10001)));
    requests.push(unusual(
        "key of no utf-8",
        form(b"\xffuid=1&uid=7"),
        (200, 0),
    ));
    requests.push(unusual("too long", form(&vec![b'a'; 70_000]), (413, 10001)));
    requests
}

/// Returns heads, all with a valid body behind them.
fn heads() -> Vec<UnusualRequest> {
    let kinds: &[(&str, u64)] = &[
        ("", 10001),
        ("content-type:\r\n", 10001),
        ("content-type: ;\r\n", 10001),
        ("content-type: application\r\n", 10001),
        ("content-type: application/*\r\n", 10001),
        ("content-type: text/plain\r\n", 10001),
        ("content-type: application/json\r\n", 10001),
        ("content-type: multipart/form-data\r\n", 10001),
        ("content-type: multipart/form-data; boundary=\r\n", 10001),
        (
            "content-type: application/x-www-form-urlencoded;charset=utf-16\r\n",
            0,
        ),
        (
            "content-type: application/x-www-form-urlencoded; =;;\r\n",
            0,
        ),
        ("content-type:application/x-www-form-urlencoded\r\n", 0),
        (
            "content-type: \t application/x-www-form-urlencoded \t\r\n",
            0,
        ),
        ("CONTENT-TYPE: APPLICATION/X-WWW-FORM-URLENCODED\r\n", 0),
        (
            "content-type: application/x-www-form-urlencoded, text/plain\r\n",
            10001,
        ),
        (
            "content-type: application/x-www-form-urlencoded\r\ncontent-type: text/plain\r\n",
            0,
        ),
        (
            "content-type: text/plain\r\ncontent-type: application/x-www-form-urlencoded\r\n",
            10001,
        ),
        (
            "content-type: application/x-www-form-urlencoded\r\ncontent-encoding: gzip\r\n",
            0,
        ),
        (
            "content-type: application/x-www-form-urlencoded\r\nexpect: 100-continue\r\n",
            0,
        ),
        (
            "content-type: application/x-www-form-urlencoded\r\naccept: image/png\r\n",
            0,
        ),
        (
            "content-type: application/x-www-form-urlencoded\r\nrange: bytes=0-1\r\n",
            0,
        ),
        (
            "content-type: application/x-www-form-urlencoded\r\nif-none-match: *\r\n",
            0,
        ),
        (
            "content-type: application/x-www-form-urlencoded\r\nx-http-method-override: DELETE\r\n",
            0,
        ),
        (
            "content-type: application/x-www-form-urlencoded\r\ncookie: \u{1f36a}\r\n",
            0,
        ),
    ];
    let requests = kinds.iter().map(|(head, code)| {
        let request = posted(head, b"uid=7");
        unusual(&format!("head {head:?}"), request, (200, *code))
    });
    requests.collect()
}

/// Returns request lines, and bodies of every transfer encoding and length.
fn lines() -> Vec<UnusualRequest> {
    let line = |line: &str, answer: Option<(u16, u64)>| {
        let request = format!("{line}\r\nhost: localhost\r\nconnection: close\r\n\r\n");
        unusual(&format!("{line:.60}"), request, answer)
    };
    let long = "a".repeat(4_000);
    let chunked = |body: &str, answer: Option<(u16, u64)>| {
        let request = format!(
            "POST /x/group/create HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\
             content-type: {FORM}\r\ntransfer-encoding: chunked\r\n\r\n{body}"
        );
        unusual(&format!("chunked {body:?}"), request, answer)
    };
    let with = |head: &str, body: &str, answer: Option<(u16, u64)>| {
        let request = format!(
            "POST /x/group/create HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\
             content-type: {FORM}\r\n{head}\r\n{body}"
        );
        unusual(&format!("{head:?}"), request, answer)
    };
    vec![
        line("POST /x/group/create?uid=7 HTTP/1.1", Some((200, 0))),
        line("POST /x/group/create?uid=7#part HTTP/1.1", Some((200, 0))),
        line(
            "POST /x/group/create?uid=7?uid=8 HTTP/1.1",
            Some((200, 10001)),
        ),
        line("POST /x/group/create?? HTTP/1.1", Some((200, 10001))),
        line(
            &format!("POST /x/group/create?{long}&uid=7 HTTP/1.1"),
            Some((200, 0)),
        ),
        line(
            "POST http://localhost/x/group/create?uid=7 HTTP/1.1",
            Some((200, 0)),
        ),
        line("POST /x/group/create/?uid=7 HTTP/1.1", Some((404, 10001))),
        line("POST //x/group/create?uid=7 HTTP/1.1", Some((404, 10001))),
        line("POST /x/group/%63reate?uid=7 HTTP/1.1", None),
        line(
            "POST /x/group/../group/create?uid=7 HTTP/1.1",
            Some((404, 10001)),
        ),
        line("POST /X/GROUP/CREATE?uid=7 HTTP/1.1", Some((404, 10001))),
        line("POST / HTTP/1.1", Some((404, 10001))),
        line(&format!("POST /{long} HTTP/1.1"), Some((404, 10001))),
        line("GET /x/group/create?uid=7 HTTP/1.1", Some((405, 10001))),
        line("PUT /x/group/create?uid=7 HTTP/1.1", Some((405, 10001))),
        line("DELETE /x/group/create HTTP/1.1", Some((405, 10001))),
        line("OPTIONS /x/group/create HTTP/1.1", Some((405, 10001))),
        line("TRACE /x/group/create HTTP/1.1", Some((405, 10001))),
        line("BREW /x/group/create HTTP/1.1", Some((405, 10001))),
        line("post /x/group/create?uid=7 HTTP/1.1", Some((405, 10001))),
        line("POST /x/group/create?uid=7 HTTP/1.0", Some((200, 0))),
        line("POST /x/group/create?uid=7 HTTP/2.0", None),
        line("POST /x/group/create?uid=7", None),
        line("POST  /x/group/create HTTP/1.1", None),
        line("\u{16}\u{3}\u{1}", None),
        line("PRI * HTTP/2.0", None),
        chunked("5\r\nuid=7\r\n0\r\n\r\n", Some((200, 0))),
        chunked("1\r\nu\r\n2\r\nid\r\n2\r\n=7\r\n0\r\n\r\n", Some((200, 0))),
        chunked("5;a=b\r\nuid=7\r\n0\r\nx-more: 1\r\n\r\n", Some((200, 0))),
        chunked("0\r\n\r\n", Some((200, 10001))),
        chunked("x\r\nuid=7\r\n0\r\n\r\n", None),
        chunked("-1\r\nuid=7\r\n0\r\n\r\n", None),
        chunked("fffffffffffffffff\r\nuid=7\r\n0\r\n\r\n", None),
        with(
            "content-length: 5\r\ncontent-length: 5\r\n",
            "uid=7",
            Some((200, 0)),
        ),
        with("content-length: 5\r\ncontent-length: 6\r\n", "uid=7", None),
        with("content-length: -5\r\n", "uid=7", None),
        with("content-length: +5\r\n", "uid=7", None),
        with("content-length: 5x\r\n", "uid=7", None),
        with("content-length: 99999999999999999999\r\n", "uid=7", None),
        with(
            "content-length: 9223372036854775807\r\n",
            "uid=7",
            Some((413, 10001)),
        ),
        with(
            "content-length: 5\r\ntransfer-encoding: chunked\r\n",
            "5\r\nuid=7\r\n0\r\n\r\n",
            Some((200, 0)),
        ),
        with("transfer-encoding: gzip\r\n", "uid=7", None),
        with("no colon\r\ncontent-length: 5\r\n", "uid=7", None),
        with("na me: x\r\ncontent-length: 5\r\n", "uid=7", None),
        with("x: \u{0}\r\ncontent-length: 5\r\n", "uid=7", None),
    ]
}

/// Sends a request, ends the writing side, and returns the answer; `None` if the server closes the connection without
/// one.
async fn answered(addr: SocketAddr, request: &[u8]) -> Option<Answer> {
    let mut http = Http::connect(addr).await;
    // The server may answer and close before it has taken the whole request.
    let _ = soon(http.stream.write_all(request)).await;
    let _ = http.stream.shutdown().await;
    let answer = http.rest_or_reset().await;
    let go_on = "HTTP/1.1 100 Continue\r\n\r\n";
    Answer::of(answer.strip_prefix(go_on).unwrap_or(&answer))
}

/// Sends each request on a connection of its own, compares the answer, and then checks that a plain request is served.
async fn check(imd: &Imd, requests: Vec<UnusualRequest>) {
    let api = imd.group_api_addr();
    for UnusualRequest {
        name,
        request,
        answer,
    } in requests
    {
        let got = answered(api, &request).await;
        match (answer, &got) {
            (Some((status, code)), Some(got)) => {
                let body = got.json();
                let keys: Vec<_> = body.as_object().unwrap().keys().collect();
                assert_eq!(
                    (got.status, &body["code"]),
                    (status, &code.into()),
                    "{name}: {body}"
                );
                let expected = ["code", "data", "message"];
                let expected = expected.iter().filter(|key| code == 0 || **key != "data");
                assert!(keys.iter().eq(expected), "{name}: {body}");
            }
            (None, Some(got)) => assert!((400..500).contains(&got.status), "{name}: {got:?}"),
            (None, None) => {}
            (Some(_), None) => panic!("{name}: no answer"),
        }
    }
    let (status, created) = post(api, "/x/group/create", "uid=7").await;
    assert_eq!((status, &created["code"]), (200, &0.into()));
}

#[tokio::test]
async fn odd_bodies_have_a_defined_answer() {
    check(&start(Config::ephemeral()).await, bodies()).await;
}

#[tokio::test]
async fn odd_heads_have_a_defined_answer() {
    check(&start(Config::ephemeral()).await, heads()).await;
}

#[tokio::test]
async fn odd_first_lines_and_lengths_have_a_defined_answer() {
    check(&start(Config::ephemeral()).await, lines()).await;
}

/// Leaves out each field of each path, and gives it each kind of invalid value.
#[tokio::test]
async fn every_field_of_every_path_is_checked() {
    let imd = start(Config::ephemeral()).await;
    let (users, groups) = (imd.user_api_addr(), imd.group_api_addr());
    let (_, created) = post(groups, "/x/group/create", "uid=1").await;
    let gid = created["data"]["gid_str"].as_str().unwrap();
    let paths = [
        (
            users,
            "/x/user/register",
            vec![("uid", "5"), ("name", "n"), ("pw", "p")],
        ),
        (users, "/x/user/auth", vec![("uid", "5"), ("pw", "p")]),
        (groups, "/x/group/create", vec![("uid", "5"), ("name", "n")]),
        (groups, "/x/group/join", vec![("uid", "5"), ("gid", gid)]),
        (groups, "/x/group/quit", vec![("uid", "5"), ("gid", gid)]),
    ];
    for (api, path, fields) in paths {
        for (at, (field, right)) in fields.iter().enumerate() {
            let is_id = field.ends_with("id");
            for (value, is_valid_id) in [
                (None, false),
                (Some(""), false),
                (Some("0"), false),
                (Some("-1"), false),
                (Some("x"), false),
                (Some("99999999999999999999"), false),
                (Some("%00"), false),
                (Some("%FF"), false),
                (Some(right), true),
            ] {
                let mut fields = fields.clone();
                match value {
                    Some(value) => fields[at].1 = value,
                    None => drop(fields.remove(at)),
                }
                let pairs: Vec<_> = fields
                    .iter()
                    .map(|(key, value)| format!("{key}={value}"))
                    .collect();
                let (status, answer) = post(api, path, &pairs.join("&")).await;
                let case = format!("{path} {pairs:?}: {status} {answer}");
                assert_eq!(status, 200, "{case}");
                let is_refused = answer["code"] == 10001;
                assert_eq!(is_refused, is_id && !is_valid_id, "{case}");
                let message = answer["message"].as_str().unwrap();
                assert!(!is_refused || message.contains(field), "{case}");
            }
        }
    }
}
