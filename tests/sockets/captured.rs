//! Frames as an existing client of FishChatServer2 sends them, and replies as it decodes them, byte for byte.
//!
//! The frames are in `tests/wire`. A change that fails here breaks clients that are already in use, whatever the other
//! tests say.

use imd::proto::{
    Base, Cmd, Error, ResNotify, ResSelectAccessServerForClient, ResSendP2pMsg, ResSyncMsg,
};
use prost::Message;

use crate::support::{Wire, access, ephemeral, gateway, p2p, soon, start, user};

const CLIENT: &str = include_str!("../wire/p2p-client.hex");
const REPLIES: &str = include_str!("../wire/server-replies.hex");

/// Returns the first word and the bytes of each line that is not a comment.
fn frames(file: &'static str) -> Vec<(&'static str, Vec<u8>)> {
    let lines = file
        .lines()
        .filter(|line| !line.starts_with('#') && !line.trim().is_empty());
    let hex = |text: &str| {
        (0..text.len())
            .step_by(2)
            .map(|i| u8::from_str_radix(&text[i..i + 2], 16).unwrap())
            .collect()
    };
    lines
        .map(|line| {
            let (name, bytes) = line.split_once(char::is_whitespace).unwrap();
            (name, hex(bytes.trim()))
        })
        .collect()
}

fn cmd(frame: &[u8]) -> u32 {
    Base::decode(&frame[2..]).unwrap().cmd
}

#[tokio::test]
async fn every_frame_of_an_existing_client_is_answered_as_it_expects() {
    let imd = start(ephemeral()).await;
    let mut friend = user(&imd, 654).await;
    let mut gateway = Wire::connect(gateway(&imd)).await;
    let mut wire = Wire::connect(access(&imd)).await;
    let captured = frames(CLIENT);
    assert_eq!(captured.len(), 7);
    for (to, frame) in captured {
        if to == "gateway" {
            gateway.raw(&frame).await;
            let reply: ResSelectAccessServerForClient = gateway.recv(Cmd::ReqAccessServer).await;
            assert_eq!((reply.err_code, reply.err_str.as_str()), (0, "ok"));
            let known = imd
                .access_servers()
                .iter()
                .any(|s| s.addr().to_string() == reply.addr);
            assert!(known, "{}", reply.addr);
            continue;
        }
        assert_eq!(to, "access");
        wire.raw(&frame).await;
        match cmd(&frame) {
            20001 => assert_eq!(wire.error(Cmd::Login, 0).await, "ok"),
            20002 => assert_eq!(wire.error(Cmd::Ping, 0).await, "ok"),
            20003 => {
                let reply: ResSendP2pMsg = wire.recv(Cmd::SendP2PMsg).await;
                assert_eq!(
                    (reply.err_code, reply.source_uid, reply.target_uid),
                    (0, 321, 654)
                );
                assert_eq!(
                    reply.msg, "",
                    "else the client would show it as an incoming message"
                );
                let _ = friend.notified().await;
            }
            20006 => {
                let reply: ResSyncMsg = wire.recv(Cmd::SyncMsg).await;
                // The second request asks from version 3, which lies beyond this new inbox.
                assert_eq!(
                    (reply.err_code, reply.current_id, reply.msgs.len()),
                    (0, 0, 0)
                );
            }
            other => panic!("a command that was not captured: {other}"),
        }
    }
    let page = friend.sync(0, 0).await;
    assert_eq!(crate::support::texts(&page.msgs), ["hello", "你好"]);
    assert!(
        page.msgs
            .iter()
            .all(|entry| entry.source_uid == 321 && !entry.msg_id.is_empty())
    );
}

#[tokio::test]
async fn the_captured_frames_are_answered_however_they_are_cut() {
    let imd = start(ephemeral()).await;
    let mut wire = Wire::connect(access(&imd)).await;
    let to_access: Vec<_> = frames(CLIENT)
        .into_iter()
        .filter(|(to, _)| *to == "access")
        .collect();
    let stream: Vec<u8> = to_access
        .iter()
        .flat_map(|(_, frame)| frame.clone())
        .collect();
    for byte in stream {
        wire.raw(&[byte]).await;
    }
    for (_, frame) in to_access {
        let reply = wire.frame().await;
        assert_eq!(
            Base::decode(reply).unwrap().cmd,
            cmd(&frame),
            "in the order of the requests"
        );
    }
}

/// The captured replies, decoded and encoded again by this crate, are the same bytes: the fields that `imd` adds are
/// left out when they are empty.
#[test]
fn replies_are_the_captured_ones_with_more_fields() {
    let captured = frames(REPLIES);
    assert_eq!(captured.len(), 5);
    for (name, frame) in captured {
        let message = &frame[2..];
        assert_eq!(
            usize::from(u16::from_be_bytes([frame[0], frame[1]])),
            message.len()
        );
        let again = match name {
            "gateway-address" => {
                let reply = ResSelectAccessServerForClient::decode(message).unwrap();
                assert_eq!(reply.addr, "127.0.0.1:21900");
                crate::support::framed(&reply)
            }
            "login-ok" | "ping-ok" => {
                let reply = Error::decode(message).unwrap();
                assert_eq!((reply.err_code, reply.err_str.as_str()), (0, "ok"));
                crate::support::framed(&reply)
            }
            "p2p-ok" => crate::support::framed(&ResSendP2pMsg::decode(message).unwrap()),
            "notify-3" => {
                let notify = ResNotify::decode(message).unwrap();
                assert_eq!((notify.current_id, notify.total_id), (3, 0));
                crate::support::framed(&notify)
            }
            other => panic!("a reply that was not captured: {other}"),
        };
        assert_eq!(again, frame, "{name}: byte for byte");
    }
}

#[tokio::test]
async fn login_and_ping_are_answered_byte_for_byte_as_captured() {
    let imd = start(ephemeral()).await;
    let mut wire = Wire::connect(access(&imd)).await;
    let replies = frames(REPLIES);
    let find = |name| replies.iter().find(|(n, _)| *n == name).unwrap().1[2..].to_vec();
    let client = frames(CLIENT);
    for (request, reply) in [(20001, "login-ok"), (20002, "ping-ok")] {
        let (_, frame) = client
            .iter()
            .find(|(_, frame)| cmd(frame) == request)
            .unwrap();
        wire.raw(frame).await;
        assert_eq!(wire.frame().await, find(reply));
    }
}

/// An existing client connects first, and logs in when a person has typed the id.
#[tokio::test]
async fn a_session_may_log_in_minutes_after_it_connects() {
    let imd = crate::support::start_manual().await;
    let mut gateway = Wire::connect(gateway(&imd)).await;
    let mut wire = Wire::connect(access(&imd)).await;
    assert_eq!(gateway.ask().await.err_code, 0);
    wire.send(&p2p(2, "m", "x")).await;
    let refused: ResSendP2pMsg = wire.recv(Cmd::SendP2PMsg).await;
    assert_eq!(refused.err_code, 93003);
    soon(imd.clock().advance(std::time::Duration::from_secs(290))).await;
    wire.login(&imd, 1).await;
    assert_eq!(gateway.ask().await.err_code, 0);
}
