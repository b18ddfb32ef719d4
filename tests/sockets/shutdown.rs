//! The end of a stack: sessions are told, ports are free afterwards, and every acknowledged message is stored.
//!
//! Proves `imd::shutdown` and `Imd::shutdown`, with their grace period. Shutdowns in which the store hangs are tested
//! in `slow_store`, and signals in `program/signals`.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use imd::Imd;
use imd::proto::{Cmd, Error};
use prost::Message;
use tokio::net::TcpListener;

use crate::support::{Wire, access, congest, ephemeral, gateway, p2p, refuses, soon, start, user};

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
    let imd = start(crate::support::quiet_ports()).await;
    let mut ann = user(&imd, 1).await;
    let mut at_gateway = Wire::connect(gateway(&imd)).await;
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
    let config = crate::support::quiet_ports();
    for _ in 0..3 {
        let imd = start(config.clone()).await;
        let mut ann = user(&imd, 1).await;
        ann.ping().await;
        soon(imd.shutdown()).await;
    }
}

#[tokio::test]
async fn dropping_the_handle_closes_listeners_and_sessions() {
    let imd = start(crate::support::quiet_ports()).await;
    let mut ann = user(&imd, 1).await;
    let addr = access(&imd);
    drop(imd);
    ann.error(Cmd::ErrServer, 90001).await;
    ann.finished().await;
    // The task of the listener ends a little later, and closes what it has accepted until then.
    soon(async { while !refuses(addr).await {} }).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn under_load_every_acknowledged_message_is_in_the_report() {
    let imd = start(ephemeral()).await;
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

/// Every message that was answered is stored. Of the others, none is stored after one that is not. The client is told
/// why the connection ends.
#[tokio::test(flavor = "multi_thread")]
async fn a_shutdown_among_three_thousand_sends_keeps_every_answered_message() {
    const SENDS: usize = 3_000;
    for kind in [
        "memory",
        #[cfg(feature = "durable")]
        "folder",
    ] {
        for answered_first in [1, 300, 2_000] {
            let folder = tempfile::tempdir().unwrap();
            let mut config = ephemeral();
            if kind == "folder" {
                config.store.path = Some(folder.path().join("data"));
            }
            let imd = start(config.clone()).await;
            let ann = user(&imd, 1).await;
            let messages: Vec<_> = (0..SENDS).map(|n| p2p(2, &n.to_string(), "x")).collect();
            let mut pipeline = bytes::BytesMut::new();
            for message in &messages {
                imd::codec::encode(message, &mut pipeline).unwrap();
            }
            let (mut answers, mut sending) = (ann.frames, ann.out);
            let sender = tokio::spawn(async move {
                // The server may close before it has taken the whole pipeline.
                let _ = tokio::io::AsyncWriteExt::write_all(&mut sending, &pipeline).await;
                sending
            });
            let mut next = async || futures_util::StreamExt::next(&mut answers).await;
            let mut answered = 0;
            let mut take = |frame: bytes::Bytes| {
                let reply = imd::proto::ResSendP2pMsg::decode(frame).unwrap();
                assert_eq!((reply.err_code, reply.msg_id), (0, answered.to_string()));
                answered += 1;
                answered
            };
            while take(soon(next()).await.unwrap().unwrap()) < answered_first {}
            let shutdown = tokio::spawn(imd.shutdown());
            let last = loop {
                let frame = soon(next()).await.expect("no last word").unwrap();
                match imd::proto::Cmd::of(&frame) {
                    Some(Cmd::SendP2PMsg) => drop(take(frame)),
                    _ => break Error::decode(frame).unwrap(),
                }
            };
            assert_eq!((last.cmd, last.err_code), (90001, 90001), "{last:?}");
            assert!(soon(next()).await.is_none());
            drop(soon(sender).await.unwrap());
            let report = soon(shutdown).await.unwrap();
            assert_eq!(report.unfinished, 0);
            assert_eq!(
                report.stored, answered,
                "{kind}: what is stored is answered"
            );
            if kind == "folder" {
                let imd = start(config).await;
                let mut bob = user(&imd, 2).await;
                let stored = i64::try_from(answered).unwrap();
                assert_eq!(bob.notified().await, (0, stored));
                let mut read = 0;
                while read < stored {
                    let page = {
                        bob.send(&crate::support::sync(read, 0)).await;
                        bob.answer::<imd::proto::ResSyncMsg>(Cmd::SyncMsg).await
                    };
                    for entry in &page.msgs {
                        assert_eq!(entry.msg_id, read.to_string());
                        read += 1;
                        assert_eq!(entry.increment_id, read);
                    }
                    assert_eq!(page.total_id, stored);
                }
            }
        }
    }
}

/// A peer that does not read its replies has the grace period to do so, and no longer.
#[tokio::test]
async fn a_peer_that_reads_late_is_told_within_the_grace_and_cut_off_after_it() {
    for (grace, is_told) in [(60_000, true), (50, false)] {
        let mut config = ephemeral();
        config.shutdown.grace = Duration::from_millis(grace);
        let imd = start(config).await;
        let mut wire = user(&imd, 1).await;
        congest(&imd.access_servers()[0], &mut wire).await;
        let shutdown = tokio::spawn(imd.shutdown());
        if !is_told {
            assert_eq!(soon(shutdown).await.unwrap().unfinished, 0);
            continue;
        }
        let mut last = 0;
        while let Some(frame) = wire.try_frame().await {
            last = imd::proto::Base::decode(frame).unwrap().cmd;
        }
        assert_eq!(last, 90001, "after all that was queued comes the last word");
        assert_eq!(soon(shutdown).await.unwrap().unfinished, 0);
    }
}

#[tokio::test]
async fn a_port_that_is_taken_is_named_with_its_key() {
    let running = start(ephemeral()).await;
    let mut config = ephemeral();
    config.access.0[1].listen = running.gateway_addr();
    let error = Imd::start(config).await.unwrap_err();
    assert!(matches!(error, imd::StartError::PortInUse { .. }));
    let addr = running.gateway_addr();
    assert_eq!(
        error.to_string(),
        format!(
            "access.1.listen: {addr} is in use: stop what listens there, change the key, or give --any-port"
        )
    );
}
