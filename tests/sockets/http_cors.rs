//! CORS on the user API and the group API: which pages of other sites may use them, and what their browser is told.
//!
//! Every answer that a page may read has the headers for it, errors too. Without `http.cors_origins`, each byte is as if
//! there were no CORS.

use std::net::SocketAddr;
use std::time::Duration;

use imd::{Config, Imd};

use crate::support::http::{Answer, request};
use crate::support::{Http, start};

const PAGE: &str = "http://localhost:5173";

async fn start_with(origins: &[&str]) -> Imd {
    let mut config = Config::ephemeral();
    config.http.cors_origins = origins.iter().map(|&origin| origin.into()).collect();
    config.http.timeout = Duration::from_secs(1);
    start(config).await
}

/// Sends a request as a browser does for a page of this origin. `more` are headers, each with its line end before it.
async fn asked(addr: SocketAddr, line: &str, origin: &str, more: &str, body: &str) -> Answer {
    let head = format!(
        "{line} HTTP/1.1\r\nhost: {addr}\r\norigin: {origin}\r\nsec-fetch-site: cross-site\r\nsec-fetch-mode: cors{more}"
    );
    request(addr, &head, body).await
}

/// Sends the preflight of a POST with the header `x-trace`.
async fn preflight(addr: SocketAddr, path: &str, origin: &str) -> Answer {
    let more = "\r\naccess-control-request-method: POST\r\naccess-control-request-headers: x-trace";
    asked(addr, &format!("OPTIONS {path}"), origin, more, "").await
}

/// Returns the headers of an answer that belong to CORS, in the order of their names.
fn cors_headers(answer: &Answer) -> Vec<&str> {
    let is_one = |line: &&str| line.starts_with("access-control-") || line.starts_with("vary: ");
    let mut headers: Vec<_> = answer.head.lines().filter(is_one).collect();
    headers.sort_unstable();
    headers
}

/// Returns the two APIs, each with one of its paths.
fn apis(imd: &Imd) -> [(SocketAddr, &'static str); 2] {
    [
        (imd.user_api_addr(), "/x/user/auth"),
        (imd.group_api_addr(), "/x/group/create"),
    ]
}

#[tokio::test]
async fn without_the_key_pages_of_other_sites_are_refused_and_told_nothing() {
    let imd = start_with(&[]).await;
    for (api, path) in apis(&imd) {
        for answer in [
            preflight(api, path, PAGE).await,
            asked(api, &format!("POST {path}"), PAGE, "", "uid=7").await,
        ] {
            assert_eq!(answer.status, 403);
            assert_eq!(cors_headers(&answer), [""; 0]);
            assert_eq!(answer.json()["code"], 10001);
        }
        let head = format!("POST {path}?uid=7 HTTP/1.1\r\nhost: {api}");
        let answer = request(api, &head, "").await;
        assert_eq!((answer.status, cors_headers(&answer).len()), (200, 0));
        let head = format!("OPTIONS {path} HTTP/1.1\r\nhost: {api}");
        let answer = request(api, &head, "").await;
        assert_eq!((answer.status, answer.header("allow")), (405, "POST"));
        assert_eq!(answer.json()["message"], "request err: OPTIONS is not POST");
    }
}

#[tokio::test]
async fn a_preflight_of_a_listed_origin_is_answered_204_on_every_path() {
    let imd = start_with(&["https://im.example", PAGE]).await;
    for (api, path) in apis(&imd) {
        for path in [path, "/x/nothing", "/"] {
            let answer = preflight(api, path, PAGE).await;
            assert_eq!(answer.status, 204);
            assert_eq!(
                cors_headers(&answer),
                [
                    "access-control-allow-headers: x-trace",
                    "access-control-allow-methods: POST",
                    "access-control-allow-origin: http://localhost:5173",
                    "access-control-max-age: 600",
                    "vary: Origin, Access-Control-Request-Headers",
                ]
            );
            assert_eq!(answer.body, "");
            assert!(!answer.head.contains("content-length"), "{}", answer.head);
        }
    }
}

#[tokio::test]
async fn a_preflight_allows_the_headers_that_were_asked_for_and_a_private_network() {
    let imd = start_with(&[PAGE]).await;
    let api = imd.user_api_addr();
    let post = "\r\naccess-control-request-method: POST";
    for (more, allowed) in [
        (
            "\r\naccess-control-request-headers: content-type,X-Requested-With , traceparent",
            Some("access-control-allow-headers: content-type, x-requested-with, traceparent"),
        ),
        (
            "\r\naccess-control-request-headers: a b,, x-good, (",
            Some("access-control-allow-headers: x-good"),
        ),
        ("\r\naccess-control-request-headers: ", None),
        ("", None),
        (
            "\r\naccess-control-request-private-network: true",
            Some("access-control-allow-private-network: true"),
        ),
        ("\r\naccess-control-request-private-network: false", None),
    ] {
        let more = format!("{post}{more}");
        let answer = asked(api, "OPTIONS /x/user/auth", PAGE, &more, "").await;
        assert_eq!(answer.status, 204, "{more}");
        let optional = cors_headers(&answer).into_iter().find(|line| {
            line.starts_with("access-control-allow-headers")
                || line.starts_with("access-control-allow-private")
        });
        assert_eq!(optional, allowed, "{more}");
    }
}

#[tokio::test]
async fn every_answer_to_a_listed_origin_can_be_read_by_its_page() {
    let imd = start_with(&[PAGE]).await;
    let form = "\r\ncontent-type: application/x-www-form-urlencoded";
    let evil = "\r\nhost: evil.example";
    let long = format!("uid={}", "x".repeat(70_000));
    for (api, path) in apis(&imd) {
        let post = format!("POST {path}");
        for (line, more, body, status) in [
            (&*post, form, "uid=7", 200),
            // An error of the service.
            (&post, form, "uid=x", 200),
            (&format!("GET {path}"), "", "", 405),
            // No preflight, since it asks for no method.
            (&format!("OPTIONS {path}"), "", "", 405),
            ("POST /x/nothing", form, "uid=7", 404),
            (&post, form, &long, 413),
            // A second host.
            (&post, evil, "", 403),
        ] {
            let answer = asked(api, line, PAGE, more, body).await;
            assert_eq!(answer.status, status, "{line}");
            let expected = [
                "access-control-allow-origin: http://localhost:5173",
                "vary: Origin",
            ];
            assert_eq!(cors_headers(&answer), expected, "{line}: {}", answer.head);
            assert!(answer.json()["code"].is_number());
        }
        let head = format!(
            "{post} HTTP/1.1\r\nhost: {api}\r\norigin: {PAGE}\r\ncontent-length: 9\r\n\r\nuid="
        );
        let slow = Http::sent(api, head).await.answer().await;
        assert_eq!((slow.status, cors_headers(&slow).len()), (408, 2));
    }
}

#[tokio::test]
async fn an_origin_that_is_not_listed_is_refused_as_before() {
    let imd = start_with(&[PAGE]).await;
    let api = imd.user_api_addr();
    for origin in [
        "http://localhost:5174",
        "http://localhost",
        "https://localhost:5173",
        "http://localhost:5173/",
        "http://LOCALHOST:5173",
        "http://localhost:5173.evil.example",
        "null",
        "*",
        "",
        "http://localhost:5173\r\norigin: http://localhost:5173",
    ] {
        for answer in [
            preflight(api, "/x/user/auth", origin).await,
            asked(api, "POST /x/user/auth?uid=7", origin, "", "").await,
        ] {
            assert_eq!(answer.status, 403, "{origin}");
            assert_eq!(cors_headers(&answer), ["vary: Origin"], "{origin}");
        }
    }
    // A page of the API's own address needs no CORS, and a client that is no browser sends no origin.
    let own = format!("\r\norigin: http://{api}\r\nsec-fetch-site: same-origin");
    for more in ["", &own] {
        let head = format!("POST /x/user/auth?uid=7 HTTP/1.1\r\nhost: {api}{more}");
        let answer = request(api, &head, "").await;
        assert_eq!(answer.status, 200);
        assert_eq!(cors_headers(&answer), ["vary: Origin"]);
    }
}

#[tokio::test]
async fn a_star_lets_every_page_in_also_one_that_was_opened_as_a_file() {
    let imd = start_with(&["*"]).await;
    let api = imd.group_api_addr();
    for origin in [PAGE, "https://im.example", "null"] {
        for (answer, status) in [
            (preflight(api, "/x/group/join", origin).await, 204),
            (
                asked(api, "POST /x/group/create?uid=7", origin, "", "").await,
                200,
            ),
        ] {
            assert_eq!(answer.status, status);
            assert_eq!(answer.header("access-control-allow-origin"), "*");
        }
    }
    // A page whose host name was made to resolve to this machine still comes with that name.
    let evil =
        "POST /x/group/create?uid=7 HTTP/1.1\r\nhost: evil.example\r\norigin: http://evil.example";
    assert_eq!(request(api, evil, "").await.status, 403);
}

#[tokio::test]
async fn a_preflight_and_its_request_may_come_on_one_connection() {
    let imd = start_with(&[PAGE]).await;
    let api = imd.user_api_addr();
    let mut http = Http::connect(api).await;
    for _ in 0..3 {
        let preflight = format!(
            "OPTIONS /x/user/auth HTTP/1.1\r\nhost: {api}\r\norigin: {PAGE}\r\naccess-control-request-method: POST\r\n\r\n"
        );
        http.send(preflight).await;
        assert!(http.until("\r\n\r\n").await.starts_with("HTTP/1.1 204 "));
        let post = format!(
            "POST /x/user/auth?uid=7 HTTP/1.1\r\nhost: {api}\r\norigin: {PAGE}\r\ncontent-length: 0\r\n\r\n"
        );
        http.send(post).await;
        assert_eq!(http.answer().await.status, 200);
    }
}

#[cfg(feature = "admin")]
#[tokio::test]
async fn the_admin_api_lets_no_page_of_another_site_in() {
    let imd = start_with(&["*"]).await;
    let admin = imd.admin_addr().unwrap();
    for answer in [
        preflight(admin, "/v1/reset", PAGE).await,
        asked(admin, "POST /v1/reset", PAGE, "", "").await,
    ] {
        assert_eq!((answer.status, cors_headers(&answer).len()), (403, 0));
    }
}
