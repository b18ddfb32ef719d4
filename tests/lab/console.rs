//! The console as it is served; what it does in a browser is in tests/browser.

use std::collections::BTreeSet;
use std::net::SocketAddr;

use imd::{Config, Imd};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use crate::support::{soon, start, start_manual};

/// The head and the body of what a GET is answered with.
async fn got(imd: &Imd, path: &str, headers: &str) -> (String, String) {
    let addr = imd.admin_addr().unwrap();
    let mut stream = soon(TcpStream::connect(addr)).await.unwrap();
    let request =
        format!("GET {path} HTTP/1.1\r\nhost: {addr}\r\nconnection: close\r\n{headers}\r\n");
    soon(stream.write_all(request.as_bytes())).await.unwrap();
    let mut answer = String::new();
    soon(stream.read_to_string(&mut answer)).await.unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").expect("a whole answer");
    (head.to_owned(), body.to_owned())
}

/// The value of a header.
fn header<'a>(head: &'a str, name: &str) -> &'a str {
    let line = head
        .lines()
        .find_map(|line| line.strip_prefix(&format!("{name}: ")));
    line.unwrap_or_else(|| panic!("no {name} in {head}"))
}

#[tokio::test]
async fn it_comes_with_its_files_their_types_and_a_strict_policy() {
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
        let (head, body) = got(&imd, path, "").await;
        assert!(head.starts_with("HTTP/1.1 200"), "{path}: {head}");
        assert_eq!(header(&head, "content-type"), kind);
        assert_eq!(header(&head, "x-content-type-options"), "nosniff");
        let policy = header(&head, "content-security-policy");
        assert!(policy.starts_with("default-src 'self';"), "{policy}");
        assert!(policy.contains("frame-ancestors 'none'"), "{policy}");
        assert!(body.contains(has), "{path}");
    }
    for path in ["/console/other.js", "/console/..%2Fconsole.rs", "/console/"] {
        let (head, _) = got(&imd, path, "").await;
        assert!(head.starts_with("HTTP/1.1 404"), "{path}: {head}");
    }
}

#[tokio::test]
async fn a_browser_that_has_it_is_not_sent_it_again() {
    let imd = start_manual().await;
    let (head, _) = got(&imd, "/console/main.js", "").await;
    assert_eq!(header(&head, "cache-control"), "no-cache");
    let tag = header(&head, "etag").to_owned();
    let (head, body) = got(
        &imd,
        "/console/main.js",
        &format!("if-none-match: {tag}\r\n"),
    )
    .await;
    assert!(head.starts_with("HTTP/1.1 304"), "{head}");
    assert_eq!((header(&head, "etag"), body.as_str()), (tag.as_str(), ""));
    let (head, _) = got(
        &imd,
        "/console/wire.js",
        &format!("if-none-match: {tag}\r\n"),
    )
    .await;
    assert!(head.starts_with("HTTP/1.1 200"), "{head}");
}

#[tokio::test]
async fn it_opens_from_the_address_bar_and_from_a_link_and_no_other_site_fetches_it() {
    let mut config = Config::ephemeral();
    config.admin.token = Some("hush".to_owned().into());
    let imd = start(config).await;
    for (headers, status) in [
        (
            "sec-fetch-site: none\r\nsec-fetch-mode: navigate\r\n",
            "200",
        ),
        ("sec-fetch-site: same-origin\r\n", "200"),
        (
            "sec-fetch-site: cross-site\r\nsec-fetch-mode: navigate\r\n",
            "200",
        ),
        (
            "sec-fetch-site: cross-site\r\nsec-fetch-mode: cors\r\n",
            "403",
        ),
        ("origin: http://evil.example\r\n", "403"),
    ] {
        let (head, _) = got(&imd, "/", headers).await;
        assert!(
            head.starts_with(&format!("HTTP/1.1 {status}")),
            "{headers}: {head}"
        );
    }
    let (head, _) = got(&imd, "/v1/menu", "").await;
    assert!(head.starts_with("HTTP/1.1 401"), "{head}");
}

/// A proxy in front of `to` that serves it under `/imd` and tells it nothing of that, as nginx does by default.
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
async fn all_that_it_names_is_found_behind_a_proxy_that_takes_a_path_off() {
    let mut config = Config::ephemeral();
    config.admin.hosts = vec!["imd.example".into()];
    let imd = start(config).await;
    let addr = proxy(imd.admin_addr().unwrap()).await;
    let ask = async |method: &str, path: &str| {
        let mut stream = soon(TcpStream::connect(addr)).await.unwrap();
        let request = format!(
            "{method} {path} HTTP/1.1\r\nhost: imd.example\r\norigin: http://imd.example\r\nconnection: close\r\n\r\n"
        );
        soon(stream.write_all(request.as_bytes())).await.unwrap();
        let mut answer = String::new();
        soon(stream.read_to_string(&mut answer)).await.unwrap();
        assert!(answer.contains(" 200 OK\r\n"), "{path}: {answer}");
        answer
    };
    // As a browser does, from the page to all that it loads: each name is one beside the file that has it.
    let mut left = vec!["/imd/".to_owned()];
    let mut seen = BTreeSet::new();
    while let Some(path) = left.pop() {
        let answer = ask("GET", &path).await;
        let folder = &path[..=path.rfind('/').unwrap()];
        let named = answer.split("\"./").skip(1);
        let named = named.filter_map(|rest| rest.split('"').next());
        for name in named {
            // The page shows what a script names as an attribute; a script loads what it names as a module.
            let from = if name.starts_with("console/") {
                "/imd/"
            } else {
                folder
            };
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
