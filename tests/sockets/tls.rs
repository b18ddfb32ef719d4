//! TLS on the listeners of the gateway and the access servers: with and without plain clients beside, with a certificate that
//! is replaced, and with clients that do not get through the handshake.

use std::fs;
use std::path::Path;
use std::time::Duration;

use imd::client::{Address, ClientError, Connector};
use imd::proto::{Cmd, Error, ReqAccessServer};
use imd::{Client, Config, Imd, StartError};
use prometheus_client::registry::Registry;
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::support::{Wire, advance, framed, ports, soon, start, sync, until};

/// Returns a config with a local CA of its own, in a folder that is removed with the guard.
fn with_local_ca() -> (TempDir, Config) {
    let folder = tempfile::tempdir().unwrap();
    let mut config = Config::ephemeral();
    config.tls.local_ca = true;
    config.tls.ca_dir = Some(folder.path().join("ca"));
    (folder, config)
}

/// Returns what a client needs that trusts the stack's local CA.
fn connector(imd: &Imd) -> Connector {
    Connector::trusting(&fs::read(imd.ca_certificate().unwrap()).unwrap()).unwrap()
}

/// Returns the URL of the gateway.
fn gateway(imd: &Imd) -> String {
    format!("tls://{}", imd.gateway_addr())
}

async fn user(imd: &Imd, uid: i64) -> Client {
    let mut client = soon(connector(imd).connect(gateway(imd))).await.unwrap();
    soon(client.login(uid, &imd.token(uid))).await.unwrap();
    client
}

/// Returns how many handshakes at a server have failed for a reason.
fn failed(imd: &Imd, server: &str, reason: &str) -> u64 {
    let text = imd.metrics().text(&Registry::default()).unwrap();
    let line = format!("imd_handshake_failures_total{{server=\"{server}\",reason=\"{reason}\"}} ");
    let count = text.lines().find_map(|found| found.strip_prefix(&line));
    count.map_or(0, |count| count.parse().unwrap())
}

/// Writes a certificate for `localhost` and 127.0.0.1 that signs itself, and its key. Returns the certificate.
fn write_certificate(folder: &Path) -> String {
    let key = rcgen::KeyPair::generate().unwrap();
    let names = ["localhost".to_owned(), "127.0.0.1".to_owned()];
    let params = rcgen::CertificateParams::new(names).unwrap();
    let pem = params.self_signed(&key).unwrap().pem();
    fs::write(folder.join("cert.pem"), &pem).unwrap();
    fs::write(folder.join("key.pem"), key.serialize_pem()).unwrap();
    pem
}

fn with_files(folder: &Path) -> Config {
    let mut config = Config::ephemeral();
    config.tls.cert = Some(folder.join("cert.pem"));
    config.tls.key = Some(folder.join("key.pem"));
    config
}

#[tokio::test]
async fn messages_of_every_size_pass_through_tls_in_order() {
    let (_folder, config) = with_local_ca();
    let imd = start(config).await;
    let (mut ann, mut bob) = (user(&imd, 1).await, user(&imd, 2).await);
    let texts: Vec<String> = (0..100).map(|n| "x".repeat(n * 320)).collect();
    for text in &texts {
        soon(ann.send_p2p(2, text)).await.unwrap();
    }
    let mut read = Vec::new();
    while read.len() < texts.len() {
        let page = soon(bob.sync(read.len() as i64, 0)).await.unwrap();
        read.extend(page.messages.into_iter().map(|message| message.text));
    }
    assert_eq!(read, texts);
    let closed = tokio::spawn(async move {
        loop {
            if let Err(error) = soon(bob.next_event()).await {
                return error;
            }
        }
    });
    imd.shutdown().await;
    // The farewell arrives, and behind it the end as TLS has it.
    assert!(matches!(closed.await.unwrap(), ClientError::Refused { .. }));
}

#[tokio::test]
async fn plain_clients_are_served_beside_those_with_tls_if_the_config_says_so() {
    let (_folder, mut config) = with_local_ca();
    config.tls.plain = true;
    let imd = start(config).await;
    let mut ann = user(&imd, 1).await;
    let mut bob = soon(Client::connect(imd.gateway_addr())).await.unwrap();
    soon(bob.login(2, &imd.token(2))).await.unwrap();
    soon(ann.send_p2p(2, "hello")).await.unwrap();
    assert_eq!(
        soon(bob.sync(0, 0)).await.unwrap().messages[0].text,
        "hello"
    );
    // A client that says nothing at first is one without TLS: it has the time that a person takes to type.
    let mut silent = Wire::connect(imd.access_servers()[0].addr()).await;
    let sessions = imd.access_servers()[0].sessions();
    until(|| sessions.sessions().any(|session| session.uid().is_none())).await;
    silent.login(&imd, 3).await;
}

#[tokio::test]
async fn a_client_without_tls_is_told_what_the_port_speaks() {
    let (_folder, mut config) = with_local_ca();
    let ws = ports::reserved();
    config.gateway.ws_listen = Some(ws);
    let imd = start(config).await;
    let mut wire = Wire::connect(imd.gateway_addr()).await;
    wire.send(&ReqAccessServer {
        cmd: Cmd::ReqAccessServer.number(),
        ..Default::default()
    })
    .await;
    let refused: Error = wire.recv(Cmd::ErrServer).await;
    assert_eq!(refused.err_code, 10001);
    assert!(
        refused.err_str.contains("this port speaks TLS"),
        "{}",
        refused.err_str
    );
    wire.finished().await;
    let mut http = soon(TcpStream::connect(ws)).await.unwrap();
    http.write_all(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
        .await
        .unwrap();
    let mut answer = String::new();
    soon(http.read_to_string(&mut answer)).await.unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    assert!(
        head.starts_with("HTTP/1.1 400 ")
            && head.contains(&format!("Content-Length: {}", body.len())),
        "{answer}"
    );
    assert_eq!(failed(&imd, "gateway", "plain"), 2);
}

#[tokio::test]
async fn the_client_takes_the_url_of_a_web_socket_over_tls() {
    let (_folder, mut config) = with_local_ca();
    config.with_websockets();
    let imd = start(config).await;
    let url = format!("wss://{}", imd.gateway_ws_addr().unwrap());
    let told = soon(connector(&imd).ask_gateway(&url)).await.unwrap();
    assert!(told.starts_with("wss://127.0.0.1:"), "{told}");
    let mut ann = soon(connector(&imd).connect(url)).await.unwrap();
    soon(ann.login(1, &imd.token(1))).await.unwrap();
    soon(ann.send_p2p(1, &"x".repeat(30_000))).await.unwrap();
    assert_eq!(soon(ann.sync(0, 0)).await.unwrap().messages.len(), 1);
}

#[tokio::test]
async fn a_client_that_does_not_trust_the_certificate_is_counted() {
    let (_folder, config) = with_local_ca();
    let imd = start(config).await;
    let error = soon(Client::connect(gateway(&imd))).await.unwrap_err();
    assert!(
        matches!(&error, ClientError::Tls(_)) && error.to_string().contains("UnknownIssuer"),
        "{error}"
    );
    until(|| failed(&imd, "gateway", "untrusted") == 1).await;
    // A name that the certificate lacks.
    let port = imd.gateway_addr().port();
    let error = soon(connector(&imd).connect(format!("tls://ip6-localhost:{port}"))).await;
    assert!(error.is_err());
}

#[tokio::test]
async fn a_new_certificate_is_for_new_connections_and_a_broken_one_for_none() {
    let folder = tempfile::tempdir().unwrap();
    let first = write_certificate(folder.path());
    let imd = start(with_files(folder.path())).await;
    let connect = async |pem: &str| {
        let connector = Connector::trusting(pem.as_bytes()).unwrap();
        soon(connector.connect(gateway(&imd))).await
    };
    let mut ann = connect(&first).await.unwrap();
    soon(ann.login(1, &imd.token(1))).await.unwrap();

    let second = write_certificate(folder.path());
    soon(async {
        while connect(&second).await.is_err() {
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    })
    .await;
    assert!(connect(&first).await.is_err());
    fs::write(folder.path().join("key.pem"), "hello").unwrap();
    tokio::time::sleep(Duration::from_secs(3)).await;
    connect(&second).await.unwrap();
    soon(ann.ping()).await.unwrap();
}

#[tokio::test]
async fn a_stack_with_a_wrong_certificate_does_not_start_and_names_the_key() {
    let folder = tempfile::tempdir().unwrap();
    let other = tempfile::tempdir().unwrap();
    write_certificate(folder.path());
    write_certificate(other.path());
    let mut config = with_files(folder.path());
    config.tls.key = Some(other.path().join("key.pem"));
    let error = Imd::start(config.clone()).await.unwrap_err();
    assert!(
        matches!(error, StartError::Tls { key: "tls.key", .. }),
        "{error}"
    );
    assert!(
        error
            .to_string()
            .contains("does not belong to the certificate"),
        "{error}"
    );
    config.tls.cert = Some(folder.path().join("none.pem"));
    let error = Imd::start(config).await.unwrap_err().to_string();
    assert!(
        error.starts_with("tls.cert: ") && error.contains("none.pem: "),
        "{error}"
    );
}

/// Ten thousand in the issue; fewer here, since a test may have few open files.
#[tokio::test]
async fn half_handshakes_hold_nobody_up_and_end_by_their_deadline() {
    let (_folder, config) = with_local_ca();
    let half_frame = config.session.half_frame;
    let imd = start(config.manual_clock()).await;
    let server = &imd.access_servers()[0];
    let mut half = Vec::new();
    for n in 0..200 {
        let mut stream = soon(TcpStream::connect(server.addr())).await.unwrap();
        // Half of them say nothing, the others begin a record of TLS.
        if n % 2 == 0 {
            stream.write_all(&[0x16, 3, 1, 2, 0, 1]).await.unwrap();
        }
        half.push(stream);
    }
    until(|| imd.room().taken >= half.len()).await;
    let mut ann = soon(connector(&imd).connect_to(format!("tls://{}", server.addr())))
        .await
        .unwrap();
    soon(ann.login(1, &imd.token(1))).await.unwrap();
    assert_eq!(server.sessions().len(), 1, "the others are no sessions yet");
    advance(&imd, half_frame).await;
    for mut stream in half {
        let _ = soon(stream.read(&mut [0; 16])).await;
    }
    until(|| failed(&imd, "access-1", "too_slow") == 200).await;
    soon(ann.ping()).await.unwrap();
}

#[tokio::test]
async fn half_handshakes_end_with_their_server() {
    let (_folder, config) = with_local_ca();
    let imd = start(config).await;
    let mut half = soon(TcpStream::connect(imd.gateway_addr())).await.unwrap();
    half.write_all(&[0x16, 3, 1, 2, 0, 1]).await.unwrap();
    until(|| imd.room().taken == 1).await;
    let report = soon(imd.shutdown()).await;
    assert_eq!(report.unfinished, 0);
    let _ = soon(half.read(&mut [0; 16])).await;
}

/// The write deadline and the limit of unwritten bytes see the socket, not the buffers of TLS.
#[tokio::test]
async fn a_client_that_does_not_read_meets_the_write_deadline() {
    let (_folder, mut config) = with_local_ca();
    config.session.write_deadline = Duration::from_secs(7);
    let imd = start(config.manual_clock()).await;
    let mut ann = user(&imd, 1).await;
    soon(ann.send_p2p(1, &"x".repeat(32_000))).await.unwrap();
    drop(ann);
    let server = &imd.access_servers()[0];
    let sessions = server.sessions();
    let address = format!("tls://{}", server.addr()).endpoint();
    let (mut stream, _) = soon(connector(&imd).open(&address)).await.unwrap();
    let mut requests = framed(&crate::support::login(&imd, 1)).to_vec();
    for _ in 0..1_000 {
        requests.extend_from_slice(&framed(&sync(0, 0)));
    }
    soon(stream.write_all(&requests)).await.unwrap();
    soon(stream.flush()).await.unwrap();
    until(|| {
        sessions
            .sessions()
            .any(|session| session.queued() >= 200_000)
    })
    .await;
    advance(&imd, Duration::from_secs(8)).await;
    until(|| sessions.is_empty()).await;
    let text = imd.metrics().text(&Registry::default()).unwrap();
    assert!(text.contains("reason=\"write_deadline\"} 1"), "{text}");
}

/// Sends a request to an HTTP API over TLS, and returns everything until the end of the connection.
async fn ask_api(imd: &Imd, addr: std::net::SocketAddr, request: &str) -> String {
    let address = format!("tls://{addr}").endpoint();
    let (mut stream, _) = soon(connector(imd).open(&address)).await.unwrap();
    soon(stream.write_all(request.as_bytes())).await.unwrap();
    let mut answer = String::new();
    // This fails if the end is none of TLS.
    soon(stream.read_to_string(&mut answer)).await.unwrap();
    answer
}

#[tokio::test]
async fn the_http_apis_are_served_over_tls() {
    let (_folder, config) = with_local_ca();
    let imd = start(config).await;
    let register = "POST /x/user/register HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\
                    Content-Type: application/x-www-form-urlencoded\r\nContent-Length: 5\r\n\r\nuid=7";
    let answer = ask_api(&imd, imd.user_api_addr(), register).await;
    assert!(
        answer.starts_with("HTTP/1.1 200 ") && answer.contains("\"code\":0"),
        "{answer}"
    );
    // The answer to a request that is too long arrives although the rest of it was not read.
    let body = "x".repeat(200_000);
    let long = format!(
        "POST /x/group/create HTTP/1.1\r\nHost: localhost\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    );
    let answer = ask_api(&imd, imd.group_api_addr(), &long).await;
    assert!(answer.starts_with("HTTP/1.1 413 "), "{answer}");
}

#[tokio::test]
async fn a_request_without_tls_is_told_to_use_https() {
    let (_folder, mut config) = with_local_ca();
    config.http.timeout = Duration::from_millis(500);
    let imd = start(config.clone()).await;
    let request = b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n";
    let answer = soon(crate::support::http::answered(imd.user_api_addr(), request))
        .await
        .unwrap();
    assert!(
        answer.status == 400 && answer.body.contains("https://"),
        "{answer:?}"
    );
    assert_eq!(failed(&imd, "user_api", "plain"), 1);
    // A handshake that stops half-way is closed in time.
    let mut half = soon(TcpStream::connect(imd.group_api_addr()))
        .await
        .unwrap();
    half.write_all(&[0x16, 3, 1, 2, 0, 1]).await.unwrap();
    assert_eq!(soon(half.read(&mut [0; 16])).await.unwrap_or(0), 0);
    until(|| failed(&imd, "group_api", "too_slow") == 1).await;

    config.tls.plain = true;
    let imd = start(config).await;
    let (status, _) = crate::support::post(imd.user_api_addr(), "/x/user/auth", "uid=7").await;
    assert_eq!(status, 200);
}
