use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use imd::proto::{Cmd, Error};
use imd::{Config, Imd};
use prost::Message;
use tokio::net::TcpListener;

use crate::support::{Wire, access, p2p, soon, start, user};

fn addrs(imd: &Imd) -> Vec<std::net::SocketAddr> {
    let mut all = vec![
        imd.gateway_addr(),
        imd.user_api_addr(),
        imd.group_api_addr(),
    ];
    all.extend(imd.access_servers().iter().map(|server| server.addr()));
    all
}

#[tokio::test]
async fn sessions_are_told_and_the_ports_are_free_afterwards() {
    let imd = start(Config::ephemeral()).await;
    let mut ann = user(&imd, 1).await;
    let mut at_gateway = Wire::connect(imd.gateway_addr()).await;
    assert_eq!(at_gateway.ask().await.err_code, 0);
    let addrs = addrs(&imd);
    let report = soon(imd.shutdown()).await;
    assert_eq!(report.unfinished, 0);
    for wire in [&mut ann, &mut at_gateway] {
        assert_eq!(
            wire.error(Cmd::ErrServer, 90001).await,
            "server error: shutting down"
        );
        wire.finished().await;
    }
    for addr in addrs {
        TcpListener::bind(addr)
            .await
            .unwrap_or_else(|error| panic!("{addr}: {error}"));
    }
}

#[tokio::test]
async fn a_new_stack_can_take_the_same_ports_at_once() {
    let mut config = Config::ephemeral();
    for _ in 0..3 {
        let imd = start(config.clone()).await;
        config.gateway.listen = imd.gateway_addr();
        for (server, running) in config.access.0.iter_mut().zip(imd.access_servers()) {
            server.listen = running.addr();
        }
        let mut ann = user(&imd, 1).await;
        ann.ping().await;
        soon(imd.shutdown()).await;
    }
}

#[tokio::test]
async fn dropping_the_handle_closes_listeners_and_sessions() {
    let imd = start(Config::ephemeral()).await;
    let mut ann = user(&imd, 1).await;
    let addr = access(&imd);
    drop(imd);
    ann.error(Cmd::ErrServer, 90001).await;
    ann.finished().await;
    soon(async {
        // The listener's task ends in its own time; what it has accepted until then is closed.
        while tokio::net::TcpStream::connect(addr).await.is_ok() {
            tokio::task::yield_now().await;
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn under_load_every_acknowledged_message_is_in_the_report() {
    let imd = start(Config::ephemeral()).await;
    let acknowledged = Arc::new(AtomicU64::new(0));
    let (first_ack, mut under_way) = tokio::sync::mpsc::channel(64);
    let mut senders = Vec::new();
    for uid in 1..=16 {
        let mut wire = user(&imd, uid).await;
        let (acknowledged, first_ack) = (Arc::clone(&acknowledged), first_ack.clone());
        senders.push(tokio::spawn(async move {
            for n in 0.. {
                let batch: Vec<_> = (0..8)
                    .map(|k| p2p(1000, &format!("{n}-{k}"), "x"))
                    .collect();
                let mut bytes = bytes::BytesMut::new();
                batch
                    .iter()
                    .for_each(|m| imd::codec::encode(m, &mut bytes).unwrap());
                if !wire.try_raw(&bytes).await {
                    return;
                }
                for _ in 0..8 {
                    let Some(frame) = wire.try_frame().await else {
                        return;
                    };
                    let reply = Error::decode(frame.clone()).unwrap_or_default();
                    if reply.cmd == 90001 {
                        return;
                    }
                    let reply = imd::proto::ResSendP2pMsg::decode(frame).unwrap();
                    assert_eq!(reply.err_code, 0);
                    acknowledged.fetch_add(1, Ordering::SeqCst);
                }
                let _ = first_ack.try_send(());
            }
        }));
    }
    for _ in 0..32 {
        soon(under_way.recv()).await.unwrap();
    }
    let report = soon(imd.shutdown()).await;
    for sender in senders {
        soon(sender).await.unwrap();
    }
    let acknowledged = acknowledged.load(Ordering::SeqCst);
    assert!(acknowledged >= 32 * 8);
    assert!(
        report.stored >= acknowledged,
        "{report:?}, {acknowledged} acknowledged"
    );
    assert_eq!(report.unfinished, 0);
}

#[tokio::test]
async fn an_http_request_under_way_is_answered() {
    let imd = start(Config::ephemeral()).await;
    let api = imd.user_api_addr();
    let register = crate::support::post(api, "/x/user/register", "uid=1&pw=secret");
    let (sent, under_way) = tokio::sync::oneshot::channel();
    let register = tokio::spawn(async move {
        sent.send(()).unwrap();
        register.await
    });
    under_way.await.unwrap();
    // Whether it was accepted before the listener closed is a race; what was accepted is answered.
    soon(imd.shutdown()).await;
    if let Ok((status, answer)) = soon(register).await {
        assert_eq!((status, &answer["code"]), (200, &serde_json::json!(0)));
    }
}
