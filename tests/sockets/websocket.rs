//! WebSocket clients of the gateway and of the access servers: the handshake, messages, control frames, closes, limits,
//! and what is cut by faults.

use std::time::Duration;

use futures_util::{SinkExt, StreamExt};
use imd::client::{Client, ClientError, Event};
use imd::lab::{Fault, Site};
use imd::proto::{Cmd, Error, Payload, ReqAccessServer, ResSelectAccessServerForClient};
use imd::{Config, Imd};
use prost::Message as _;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::{WebSocketStream, client_async};

use crate::support::{group_of, login, p2p, ping, soon, start, sync, user};

type Socket = WebSocketStream<TcpStream>;

/// Returns a config whose servers take WebSocket clients.
pub fn with_websockets() -> Config {
    let mut config = Config::ephemeral();
    config.with_websockets();
    config
}

async fn open(addr: std::net::SocketAddr) -> Socket {
    let stream = TcpStream::connect(addr).await.unwrap();
    let (socket, _) = soon(client_async(format!("ws://{addr}/"), stream))
        .await
        .unwrap();
    socket
}

async fn open_access(imd: &Imd) -> Socket {
    open(imd.access_servers()[0].ws_addr().unwrap()).await
}

async fn send(socket: &mut Socket, message: &impl Payload) {
    let mut bytes = bytes::BytesMut::new();
    message.encode_payload(&mut bytes);
    soon(socket.send(Message::Binary(bytes.freeze())))
        .await
        .unwrap();
}

/// Waits for the next message.
async fn next(socket: &mut Socket) -> Message {
    soon(socket.next()).await.unwrap().unwrap()
}

/// Waits for the next message, which must be `Error`. Returns its command and its code.
async fn error(socket: &mut Socket) -> (u32, u32) {
    let error = Error::decode(next(socket).await.into_data()).unwrap();
    (error.cmd, error.err_code)
}

/// Waits for the close frame. Returns its code and its text.
async fn closed(socket: &mut Socket) -> (u16, String) {
    match next(socket).await {
        Message::Close(Some(close)) => (close.code.into(), close.reason.to_string()),
        other => panic!("instead of a close: {other:?}"),
    }
}

/// Sends a request as text, and returns the answer as text.
async fn answer(addr: std::net::SocketAddr, request: &str) -> String {
    let mut stream = TcpStream::connect(addr).await.unwrap();
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    soon(stream.read_to_string(&mut answer)).await.unwrap();
    answer
}

#[tokio::test]
async fn the_gateway_tells_both_addresses_and_each_leads_to_the_stack() {
    let imd = start(with_websockets()).await;
    let gateway = imd.gateway_ws_addr().unwrap();
    let mut socket = open(gateway).await;
    let ask = ReqAccessServer {
        cmd: 10001,
        ..Default::default()
    };
    send(&mut socket, &ask).await;
    let reply = next(&mut socket).await.into_data();
    let reply = ResSelectAccessServerForClient::decode(reply).unwrap();
    let server = (imd.access_servers().into_iter())
        .find(|server| server.addr().to_string() == reply.addr)
        .unwrap();
    assert_eq!(reply.ws_addr, format!("ws://{}", server.ws_addr().unwrap()));

    let mut ann = soon(Client::connect(format!("ws://{gateway}")))
        .await
        .unwrap();
    ann.login(1, &imd.token(1)).await.unwrap();
    let mut bob = soon(Client::connect(imd.gateway_addr())).await.unwrap();
    bob.login(2, &imd.token(2)).await.unwrap();
    ann.send_p2p(2, "over both").await.unwrap();
    bob.next_event().await.unwrap();
    assert_eq!(bob.sync(0, 0).await.unwrap().messages[0].text, "over both");
    let long = "x".repeat(32_768);
    bob.send_p2p(1, &long).await.unwrap();
    let (current, total) = (0, 1);
    let notify = Event::Notify { current, total };
    assert_eq!(soon(ann.next_event()).await.unwrap(), notify);
    assert_eq!(ann.sync(0, 0).await.unwrap().messages[0].text, long);
}

#[tokio::test]
async fn without_ws_listen_the_gateway_tells_no_url() {
    let imd = start(Config::ephemeral()).await;
    assert_eq!(imd.gateway_ws_addr(), None);
    let mut wire = crate::support::Wire::connect(imd.gateway_addr()).await;
    assert_eq!(wire.ask().await.ws_addr, "");
}

#[tokio::test]
async fn a_request_that_is_no_upgrade_is_told_what_to_change() {
    let imd = start(with_websockets()).await;
    let addr = imd.gateway_ws_addr().unwrap();
    let upgrade = "Host: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\
                   Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n";
    let cases = [
        (
            "GET / HTTP/1.1\r\nHost: x\r\n\r\n".to_owned(),
            "426",
            "WebSocket",
        ),
        (
            format!("GET /chat HTTP/1.1\r\n{upgrade}\r\n"),
            "404",
            "is /",
        ),
        (format!("POST / HTTP/1.1\r\n{upgrade}\r\n"), "405", "GET"),
        (
            format!("GET / HTTP/1.1\r\n{upgrade}Sec-WebSocket-Protocol: mqtt, wamp\r\n\r\n"),
            "400",
            "\"imd\"",
        ),
        (
            format!("GET / HTTP/1.1\r\n{upgrade}Origin: https://evil.example\r\n\r\n"),
            "403",
            "add \"https://evil.example\" to http.cors_origins",
        ),
        (
            "\0\u{4}\u{8}\u{7f}\0\0".to_owned(),
            "400",
            "WebSocket clients",
        ),
        (
            format!("GET / HTTP/1.1\r\nX: {}\r\n", "x".repeat(20_000)),
            "431",
            "longer",
        ),
    ];
    for (request, status, says) in cases {
        let answer = answer(addr, &request).await;
        assert!(
            answer.starts_with(&format!("HTTP/1.1 {status} ")),
            "{answer}"
        );
        assert!(answer.contains(says), "{answer}");
    }
    let chosen = format!("GET /?v=1 HTTP/1.1\r\n{upgrade}Sec-WebSocket-Protocol: a, imd\r\n\r\n");
    let mut stream = TcpStream::connect(addr).await.unwrap();
    stream.write_all(chosen.as_bytes()).await.unwrap();
    let mut head = vec![0; 200];
    let n = soon(stream.read(&mut head)).await.unwrap();
    let head = String::from_utf8_lossy(&head[..n]).to_lowercase();
    assert!(head.starts_with("http/1.1 101"), "{head}");
    assert!(head.contains("sec-websocket-protocol: imd\r\n"), "{head}");
    assert!(
        head.contains("s3pplmbitxaq9kygzzhzrbk+xoo="),
        "the key of the RFC: {head}"
    );
    assert_eq!(imd.access_servers()[0].sessions().len(), 0);
}

#[tokio::test]
async fn a_handshake_that_does_not_end_is_closed_and_holds_up_nobody() {
    let mut config = with_websockets().manual_clock();
    config.session.half_frame = Duration::from_secs(10);
    let imd = start(config).await;
    let addr = imd.access_servers()[0].ws_addr().unwrap();
    let mut slow = TcpStream::connect(addr).await.unwrap();
    slow.write_all(b"GET / HT").await.unwrap();
    let mut ann = open_access(&imd).await;
    send(&mut ann, &login(&imd, 1)).await;
    assert_eq!(error(&mut ann).await, (20001, 0));
    soon(imd.clock().advance(Duration::from_secs(11))).await;
    assert_eq!(soon(slow.read(&mut [0; 8])).await.unwrap(), 0);
}

#[tokio::test]
async fn a_pause_of_the_server_does_not_count_against_a_handshake() {
    let mut config = with_websockets().manual_clock();
    config.session.half_frame = Duration::from_secs(10);
    let imd = start(config).await;
    let server = &imd.access_servers()[0];
    let addr = server.ws_addr().unwrap();
    let mut slow = TcpStream::connect(addr).await.unwrap();
    slow.write_all(b"GET / HT").await.unwrap();
    // It has been accepted once a later client is served.
    let mut ann = open(addr).await;
    send(&mut ann, &login(&imd, 1)).await;
    assert_eq!(error(&mut ann).await, (20001, 0));
    server.pause().await;
    soon(imd.clock().advance(Duration::from_secs(60))).await;
    server.resume().await;
    slow.write_all(b"TP/1.1\r\nHost: x\r\n\r\n").await.unwrap();
    let mut answer = String::new();
    soon(slow.read_to_string(&mut answer)).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 426 "), "{answer}");
}

#[tokio::test]
async fn a_refused_upgrade_is_counted_by_its_reason_while_its_client_stays() {
    let imd = start(with_websockets()).await;
    let addr = imd.gateway_ws_addr().unwrap();
    let mut stays = TcpStream::connect(addr).await.unwrap();
    let byte_by_byte = b"GET /chat HTTP/1.1\r\nHost: x\r\n\r\n";
    for byte in byte_by_byte {
        stays.write_all(&[*byte]).await.unwrap();
    }
    let mut answer = vec![0; 12];
    soon(stays.read_exact(&mut answer)).await.unwrap();
    assert_eq!(answer, b"HTTP/1.1 404");
    let counted = "imd_handshake_failures_total{server=\"gateway\",reason=\"wrong_path\"} 1";
    let text = imd
        .metrics()
        .text(&prometheus_client::registry::Registry::default());
    assert!(text.unwrap().contains(counted));
}

#[tokio::test]
async fn pings_are_answered_and_count_as_no_frame() {
    let imd = start(with_websockets()).await;
    let mut socket = open_access(&imd).await;
    socket.send(Message::Ping("a".into())).await.unwrap();
    assert_eq!(next(&mut socket).await, Message::Pong("a".into()));
    send(&mut socket, &login(&imd, 1)).await;
    socket.send(Message::Ping("b".into())).await.unwrap();
    send(&mut socket, &ping()).await;
    let mut got = Vec::new();
    for _ in 0..3 {
        got.push(match next(&mut socket).await {
            Message::Pong(text) => (0, u32::from(text[0])),
            other => {
                let reply = Error::decode(other.into_data()).unwrap();
                (reply.cmd, reply.err_code)
            }
        });
    }
    got.sort_unstable();
    assert_eq!(got, [(0, u32::from(b'b')), (20001, 0), (20002, 0)]);
}

#[tokio::test]
async fn each_end_has_its_close_code() {
    let imd = start(with_websockets()).await;
    let mut text = open_access(&imd).await;
    text.send(Message::Text("{}".into())).await.unwrap();
    assert_eq!(closed(&mut text).await.0, 1003);

    let mut long = open_access(&imd).await;
    long.send(Message::Binary(vec![8; 5000].into()))
        .await
        .unwrap();
    assert_eq!(error(&mut long).await, (90001, 10001));
    assert_eq!(closed(&mut long).await.0, 1009);

    let mut ann = open_access(&imd).await;
    send(&mut ann, &login(&imd, 1)).await;
    assert_eq!(error(&mut ann).await, (20001, 0));
    let long = Message::Binary(vec![8; 65_536].into());
    ann.send(long).await.unwrap();
    assert_eq!(error(&mut ann).await, (90001, 10001));
    assert_eq!(closed(&mut ann).await.0, 1009);

    let mut old = open_access(&imd).await;
    send(&mut old, &login(&imd, 1)).await;
    assert_eq!(error(&mut old).await, (20001, 0));
    let _new = user(&imd, 1).await;
    assert_eq!(error(&mut old).await, (90001, 93004));
    assert_eq!(closed(&mut old).await, (1008, "logged_in_elsewhere".into()));

    let mut leaving = open_access(&imd).await;
    leaving.close(None).await.unwrap();
    assert_eq!(next(&mut leaving).await, Message::Close(None));

    let mut last = open_access(&imd).await;
    let reading = tokio::spawn(async move { (error(&mut last).await, closed(&mut last).await.0) });
    soon(imd.shutdown()).await;
    assert_eq!(reading.await.unwrap(), ((90001, 90001), 1001));
}

#[tokio::test]
async fn a_reply_that_is_cut_by_a_fault_is_cut_on_the_wire() {
    let imd = start(with_websockets()).await;
    let mut client = soon(Client::connect(format!(
        "ws://{}",
        imd.gateway_ws_addr().unwrap()
    )))
    .await
    .unwrap();
    client.login(1, &imd.token(1)).await.unwrap();
    let _fault = imd.fault(Fault::at(Site::AccessReply).cmd(Cmd::Ping).truncate());
    let error = soon(client.ping()).await.unwrap_err();
    assert!(
        matches!(error, ClientError::WebSocket(_) | ClientError::Io(_)),
        "{error:?}"
    );
}

#[tokio::test]
async fn a_reply_in_slices_arrives_whole() {
    let imd = start(with_websockets()).await;
    let _fault = imd.fault(Fault::at(Site::AccessReply).slice(1));
    let mut client = soon(Client::connect(format!(
        "ws://{}",
        imd.gateway_ws_addr().unwrap()
    )))
    .await
    .unwrap();
    client.login(1, &imd.token(1)).await.unwrap();
    client.send_p2p(1, &"x".repeat(1000)).await.unwrap();
    assert_eq!(client.sync(0, 0).await.unwrap().messages.len(), 1);
}

#[tokio::test]
async fn notifies_of_a_socket_that_does_not_read_merge_into_one() {
    let imd = start(with_websockets()).await;
    let team = group_of(&imd, &[1, 2]).await;
    let mut bob = open_access(&imd).await;
    send(&mut bob, &login(&imd, 2)).await;
    assert_eq!(error(&mut bob).await, (20001, 0));
    let mut ann = user(&imd, 1).await;
    for n in 0..100 {
        ann.send(&crate::support::group_msg(team, &n.to_string(), "hi"))
            .await;
    }
    let mut total = 0;
    while total < 100 {
        let notify = imd::proto::ResNotify::decode(next(&mut bob).await.into_data()).unwrap();
        assert!(notify.total_id > total);
        total = notify.total_id;
    }
    send(&mut bob, &sync(0, 0)).await;
    let page = imd::proto::ResSyncMsg::decode(next(&mut bob).await.into_data()).unwrap();
    assert_eq!(page.msgs.len(), 100);
}

#[tokio::test]
async fn clients_of_other_protocols_are_told_on_the_port_for_frames() {
    let imd = start(with_websockets()).await;
    let addr = imd.access_servers()[0].addr();
    for (bytes, says) in [
        (&b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"[..], "not HTTP"),
        (&[0x16, 3, 1, 2, 0, 1, 0, 1, 0xfc, 3, 3][..], "without TLS"),
    ] {
        let mut stream = TcpStream::connect(addr).await.unwrap();
        stream.write_all(bytes).await.unwrap();
        let mut answer = Vec::new();
        soon(stream.read_to_end(&mut answer)).await.unwrap();
        let error = Error::decode(&answer[2..]).unwrap();
        assert_eq!((error.cmd, error.err_code), (90001, 10001));
        assert!(error.err_str.contains(says), "{}", error.err_str);
    }
}

#[tokio::test]
async fn a_restarted_server_takes_websocket_clients_at_its_old_address() {
    let imd = start(with_websockets()).await;
    let server = &imd.access_servers()[0];
    let addr = server.ws_addr().unwrap();
    let mut socket = open(addr).await;
    server.kill().await;
    assert!(soon(socket.next()).await.is_none_or(|end| end.is_err()));
    assert!(TcpStream::connect(addr).await.is_err());
    server.restart().await.unwrap();
    let mut socket = open(addr).await;
    send(&mut socket, &login(&imd, 1)).await;
    assert_eq!(error(&mut socket).await, (20001, 0));
    send(&mut socket, &p2p(1, "m", "hi")).await;
    assert!(matches!(next(&mut socket).await, Message::Binary(_)));
}
