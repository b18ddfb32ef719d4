//! The console and the demo as the admin API serves them: their files, their types, their caching and their policy.
//!
//! What the pages do in a browser is tested in tests/browser.

use std::collections::BTreeSet;
use std::net::SocketAddr;

use imd::Imd;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use crate::support::http::{Answer, request};
use crate::support::{ephemeral, start, start_manual};

/// Asks the admin API with more headers, each of which has its line end in front.
async fn get(imd: &Imd, path: &str, headers: &str) -> Answer {
    let addr = imd.admin_addr().unwrap();
    let head = format!("GET {path} HTTP/1.1\r\nhost: {addr}{headers}");
    request(addr, &head, "").await
}

#[tokio::test]
async fn the_console_has_its_files_with_their_types_and_a_strict_policy() {
    let imd = start_manual().await;
    for (path, kind, has) in [
        ("/", "text/html; charset=utf-8", "/console/main.js"),
        (
            "/console/main.js",
            "text/javascript; charset=utf-8",
            "from \"./wire.js\"",
        ),
        (
            "/console/base.css",
            "text/css; charset=utf-8",
            "light-dark(",
        ),
        ("/console/icon.svg", "image/svg+xml", "<svg"),
    ] {
        let file = get(&imd, path, "").await;
        assert_eq!(file.status, 200, "{path}");
        assert_eq!(file.header("content-type"), kind);
        assert_eq!(file.header("x-content-type-options"), "nosniff");
        let policy = file.header("content-security-policy");
        assert!(policy.starts_with("default-src 'self';"), "{policy}");
        assert!(policy.contains("frame-ancestors 'none'"), "{policy}");
        assert!(file.body.contains(has), "{path}");
    }
    for path in ["/console/other.js", "/console/..%2Fconsole.rs", "/console/"] {
        assert_eq!(get(&imd, path, "").await.status, 404, "{path}");
    }
}

#[tokio::test]
async fn the_demo_may_open_websockets_and_its_folder_leads_to_it() {
    let imd = start_manual().await;
    let page = get(&imd, "/demo/", "").await;
    assert_eq!(page.header("content-type"), "text/html; charset=utf-8");
    let policy = page.header("content-security-policy");
    assert!(policy.contains("connect-src 'self' ws: wss:;"), "{policy}");
    assert!(policy.contains("default-src 'self';"), "{policy}");
    assert!(policy.contains("frame-ancestors 'none'"), "{policy}");
    assert!(page.body.contains("./main.js"));
    let folder = get(&imd, "/demo", "").await;
    assert_eq!((folder.status, folder.header("location")), (307, "./demo/"));
    let client = get(&imd, "/demo/imd-client.js", "").await;
    assert_eq!(
        client.header("content-type"),
        "text/javascript; charset=utf-8"
    );
    // It is one file, to be copied.
    assert!(!client.body.contains("\nimport ") && client.body.contains("export class ImdClient"));
    for path in ["/demo/dom.js", "/console/imd-client.js", "/demo/index.html"] {
        assert_eq!(get(&imd, path, "").await.status, 404, "{path}");
    }
}

#[tokio::test]
async fn a_browser_that_has_a_file_cached_is_not_sent_it_again() {
    let imd = start_manual().await;
    let file = get(&imd, "/console/main.js", "").await;
    assert_eq!(file.header("cache-control"), "no-cache");
    let tag = file.header("etag");
    let if_changed = format!("\r\nif-none-match: {tag}");
    let again = get(&imd, "/console/main.js", &if_changed).await;
    assert_eq!((again.status, again.body.as_str()), (304, ""));
    assert_eq!(again.header("etag"), tag);
    let other = get(&imd, "/console/wire.js", &if_changed).await;
    assert_eq!(other.status, 200);
}

#[tokio::test]
async fn the_console_opens_from_the_address_bar_and_from_links_and_other_sites_can_not_fetch_it() {
    let mut config = ephemeral();
    config.admin.token = Some("hush".to_owned().into());
    let imd = start(config).await;
    for (headers, status) in [
        ("\r\nsec-fetch-site: none\r\nsec-fetch-mode: navigate", 200),
        ("\r\nsec-fetch-site: same-origin", 200),
        (
            "\r\nsec-fetch-site: cross-site\r\nsec-fetch-mode: navigate",
            200,
        ),
        (
            "\r\nsec-fetch-site: cross-site\r\nsec-fetch-mode: cors",
            403,
        ),
        ("\r\norigin: http://evil.example", 403),
    ] {
        assert_eq!(get(&imd, "/", headers).await.status, status, "{headers}");
    }
    assert_eq!(get(&imd, "/v1/menu", "").await.status, 401);
}

/// Starts a proxy that serves `to` under `/imd`, and does not tell it so, as nginx does by default.
async fn proxy(to: SocketAddr) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let addr = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((mut client, _)) = listener.accept().await {
            tokio::spawn(async move {
                let mut head = String::new();
                while !head.ends_with("\r\n\r\n") {
                    head.push(client.read_u8().await.unwrap().into());
                }
                let head = head
                    .replacen(" /imd/", " /", 1)
                    .replacen("HTTP/1.1", "HTTP/1.0", 1);
                let host = head
                    .lines()
                    .find(|line| line.starts_with("host: "))
                    .unwrap();
                let head = head.replacen(host, &format!("host: {to}"), 1);
                let mut server = TcpStream::connect(to).await.unwrap();
                server.write_all(head.as_bytes()).await.unwrap();
                let _ = tokio::io::copy_bidirectional(&mut client, &mut server).await;
            });
        }
    });
    addr
}

#[tokio::test]
async fn every_file_is_found_behind_a_proxy_that_strips_a_path_prefix() {
    let mut config = ephemeral();
    config.admin.hosts = vec!["imd.example".into()];
    let imd = start(config).await;
    let addr = proxy(imd.admin_addr().unwrap()).await;
    let ask = async |method: &str, path: &str| {
        let head =
            format!("{method} {path} HTTP/1.1\r\nhost: imd.example\r\norigin: http://imd.example");
        let answer = request(addr, &head, "").await;
        assert_eq!(answer.status, 200, "{path}: {answer:?}");
        answer.body
    };
    // Follows the names as a browser does, from the page to all that it loads. Each names a file beside the one that it
    // is in.
    let mut left = vec!["/imd/".to_owned(), "/imd/demo/".to_owned()];
    let mut seen = BTreeSet::new();
    while let Some(path) = left.pop() {
        let answer = ask("GET", &path).await;
        let folder = &path[..=path.rfind('/').unwrap()];
        let named = |before| {
            let rest = answer.split(before).skip(1);
            rest.filter_map(|rest| rest.split('"').next())
        };
        // A script names an image in an attribute, which is relative to the page. It names a module relative to itself.
        let beside = named("\"./").map(|name| match name.starts_with("console/") {
            true => ("/imd/", name),
            false => (folder, name),
        });
        let above = named("\"../").map(|name| ("/imd/", name));
        for (from, name) in beside.chain(above) {
            let path = format!("{from}{name}");
            if seen.insert(path.clone()) {
                left.push(path);
            }
        }
    }
    assert!(seen.len() > 15, "{seen:?}");
    ask("GET", "/imd/v1/state").await;
    ask("POST", "/imd/v1/registry/freeze").await;
}
