//! Benchmarks of `imd::command`: frames to commands, without the services that carry them out.
//!
//! The other benchmarks take their requests from here, so that all of them measure the same message.

use bytes::BytesMut;
use divan::{Bencher, black_box};
use imd::codec;
use imd::command::{Command, Listener};
use imd::proto::{Cmd, Payload, Reply, ReqPing, ReqSendP2pMsg, ReqSyncMsg};

use crate::TEXT;

/// Returns a message from user 1 to user 2, with the text that all benchmarks use.
pub fn p2p() -> ReqSendP2pMsg {
    ReqSendP2pMsg {
        cmd: Cmd::SendP2PMsg.number(),
        source_uid: 1,
        target_uid: 2,
        msg_id: "0123456789".into(),
        msg: "x".repeat(TEXT),
        ..Default::default()
    }
}

/// Returns the answer to the request of [`p2p`].
pub fn answer() -> Reply {
    let request = p2p();
    Reply::p2p(request.source_uid, request.target_uid, &request.msg_id)
}

/// Returns a request for the page behind `current_id`.
pub fn sync(uid: i64, current_id: i64) -> ReqSyncMsg {
    ReqSyncMsg {
        cmd: Cmd::SyncMsg.number(),
        uid,
        current_id,
        ..Default::default()
    }
}

/// Encodes a message as a frame.
pub fn frame(message: &impl Payload) -> BytesMut {
    let mut frame = BytesMut::new();
    codec::encode(message, &mut frame).expect("it is short");
    frame
}

fn decode(bencher: Bencher, message: &impl Payload) {
    let frame = frame(message);
    bencher.bench(|| {
        let decoded = Command::decode(black_box(&frame[2..]), Listener::Access);
        assert!(decoded.is_ok());
        decoded
    });
}

#[divan::bench]
fn decode_send(bencher: Bencher) {
    decode(bencher, &p2p());
}

#[divan::bench]
fn decode_sync(bencher: Bencher) {
    decode(bencher, &sync(2, 1_000));
}

#[divan::bench]
fn decode_ping(bencher: Bencher) {
    let ping = ReqPing {
        cmd: Cmd::Ping.number(),
        uid: 1,
        ..Default::default()
    };
    decode(bencher, &ping);
}
