//! The Host headers that the admin API accepts: any for probes; loopback and the hosts of the config for everything
//! else.

use serde_json::json;

use crate::admin::asked;
use crate::support::{ephemeral, start};

#[tokio::test]
async fn probes_need_no_host_header_and_all_other_requests_do() {
    let imd = start(ephemeral()).await;
    let addr = imd.admin_addr().unwrap();
    for (head, status) in [
        ("GET /healthz HTTP/1.0", 200),
        ("GET /readyz HTTP/1.0", 200),
        ("GET /metrics HTTP/1.0", 200),
        ("GET /healthz HTTP/1.1\r\nhost: 10.1.2.3:10090", 200),
        (
            "GET /readyz HTTP/1.1\r\nhost: imd.default.svc.cluster.local",
            200,
        ),
        ("GET /metrics HTTP/1.1\r\nhost: 10.1.2.3:10090", 200),
        ("GET /v1/state HTTP/1.0", 403),
        ("GET /v1/state HTTP/1.1\r\nhost: 10.1.2.3:10090", 403),
        ("GET / HTTP/1.1\r\nhost: 10.1.2.3:10090", 403),
        ("GET /v1/state HTTP/1.0\r\nhost: localhost.", 200),
        ("GET /v1/state HTTP/1.1\r\nhost: imd.localhost:1", 200),
        (
            "GET http://localhost:10090/v1/state HTTP/1.1\r\nhost: localhost:10090",
            200,
        ),
    ] {
        let (got, answer) = asked(addr, head, "").await;
        assert_eq!(got, status, "{head}: {answer}");
        if status == 403 {
            let why = answer["error"].as_str().unwrap();
            assert!(why.contains("admin.hosts"), "{head}: {why}");
        }
    }
}

#[tokio::test]
async fn the_console_works_behind_a_proxy_when_its_host_is_listed() {
    let mut config = ephemeral();
    let head = |addr: std::net::SocketAddr| {
        // This is what nginx makes of a browser's request by its default settings.
        format!("POST /v1/access HTTP/1.0\r\nhost: {addr}\r\norigin: http://Imd.example:8080")
    };
    let imd = start(config.clone()).await;
    let addr = imd.admin_addr().unwrap();
    let body = json!({ "name": "access-4" }).to_string();
    let (status, answer) = asked(addr, &head(addr), &body).await;
    assert_eq!(status, 403);
    let why = answer["error"].as_str().unwrap();
    assert!(why.contains("add \"imd.example\" to admin.hosts"), "{why}");

    config.admin.hosts = vec!["imd.example".into()];
    let imd = start(config).await;
    let addr = imd.admin_addr().unwrap();
    let (status, answer) = asked(addr, &head(addr), &body).await;
    assert_eq!(status, 201, "{answer}");
    // A proxy may also pass the browser's Host header on, with the port or without it.
    for host in ["imd.example:8080", "IMD.example"] {
        let head = format!(
            "POST /v1/registry/thaw HTTP/1.1\r\nhost: {host}\r\norigin: http://imd.example:8080"
        );
        assert_eq!(asked(addr, &head, "").await.0, 200, "{host}");
    }
}

#[tokio::test]
async fn the_error_for_an_unknown_host_names_a_config_that_works() {
    let imd = start(ephemeral()).await;
    let addr = imd.admin_addr().unwrap();
    for host in [
        "imd.example:99",
        "192.168.1.9:10090",
        "[fd00::1]:10090",
        "0.0.0.0:1",
    ] {
        let head = format!("GET /v1/state HTTP/1.1\r\nhost: {host}");
        let (_, answer) = asked(addr, &head, "").await;
        let why = answer["error"].as_str().unwrap().to_owned();
        let value = why
            .split("add \"")
            .nth(1)
            .unwrap()
            .split('"')
            .next()
            .unwrap();
        let mut config = ephemeral();
        config.admin.hosts = vec![value.to_owned()];
        let imd = start(config).await;
        let (status, answer) = asked(imd.admin_addr().unwrap(), &head, "").await;
        assert_eq!(status, 200, "{answer}");
    }
}
