//! Frames that are not what the contract says: not protobuf, empty, too long. Each is answered, and the connection
//! stays usable while the boundary of the frame is known.

use imd::proto::Cmd;
use proptest::prelude::*;

use crate::support::{
    Wire, access, ephemeral, framed, gateway, p2p, ping, raw_frame, soon, start, user,
};

#[tokio::test]
async fn a_frame_that_can_not_be_decoded_is_answered_and_the_connection_stays() {
    let imd = start(ephemeral()).await;
    let mut wire = user(&imd, 1).await;
    let cases: [&[u8]; 4] = [
        b"\xff\xff\xff",                  // no protobuf
        b"\x0a\x01x",                     // cmd as text
        b"\x08\xa3\x9c\x01\x1a\x01x",     // 20003 with sourceUID as text
        b"\x08\xa3\x9c\x01\x32\x7fshort", // 20003 whose text is longer than the frame
    ];
    for message in cases {
        wire.raw(&raw_frame(message)).await;
        assert!(
            wire.error(Cmd::ErrServer, 90001)
                .await
                .starts_with("server error")
        );
    }
    wire.ping().await;
}

#[tokio::test]
async fn an_empty_frame_is_a_bad_request() {
    let imd = start(ephemeral()).await;
    for addr in [access(&imd), gateway(&imd)] {
        let mut wire = Wire::connect(addr).await;
        wire.raw(&[0, 0, 0, 0]).await;
        for _ in 0..2 {
            assert!(
                wire.error(Cmd::ErrServer, 10001)
                    .await
                    .starts_with("request err")
            );
        }
    }
}

#[tokio::test]
async fn answers_to_good_and_bad_frames_keep_their_order() {
    let imd = start(ephemeral()).await;
    let mut wire = user(&imd, 1).await;
    let mut bytes = framed(&p2p(2, "a", "x")).to_vec();
    bytes.extend_from_slice(&[0, 1, 0xff]);
    bytes.extend_from_slice(&framed(&ping()));
    bytes.extend_from_slice(&[0, 0]);
    wire.raw(&bytes).await;
    let _: imd::proto::ResSendP2pMsg = wire.recv(Cmd::SendP2PMsg).await;
    wire.error(Cmd::ErrServer, 90001).await;
    wire.error(Cmd::Ping, 0).await;
    wire.error(Cmd::ErrServer, 10001).await;
}

#[tokio::test]
async fn a_long_frame_before_the_login_is_answered_and_the_connection_closed() {
    let imd = start(ephemeral()).await;
    for addr in [access(&imd), gateway(&imd)] {
        let mut wire = Wire::connect(addr).await;
        // The length alone is too much. The bytes behind it stay unread, and to close a socket over unread bytes would
        // reset the connection.
        let mut bytes = vec![0x10, 0x01];
        bytes.extend_from_slice(&[0; 200_000]);
        wire.raw(&bytes).await;
        let text = wire.error(Cmd::ErrServer, 10001).await;
        assert_eq!(text, "request err: a frame has 4097 bytes, at most 4096");
        wire.finished().await;
    }
}

#[tokio::test]
async fn a_frame_of_4096_bytes_is_taken_before_the_login_and_of_65535_after_it() {
    let imd = start(ephemeral()).await;
    let mut wire = Wire::connect(access(&imd)).await;
    wire.raw(&raw_frame(&[0xff; 4096])).await;
    wire.error(Cmd::ErrServer, 90001).await;
    wire.login(&imd, 1).await;
    wire.raw(&raw_frame(&[0xff; 65_535])).await;
    wire.error(Cmd::ErrServer, 90001).await;
    wire.ping().await;
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    /// A task that panics would end its session without a reply, and the ping at the end would not be answered.
    #[test]
    fn random_frames_are_all_answered(frames in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..80), 1..20)) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let imd = start(ephemeral()).await;
            let mut wire = user(&imd, 1).await;
            let bytes: Vec<u8> = frames.iter().flat_map(|frame| raw_frame(frame)).collect();
            wire.raw(&bytes).await;
            for _ in &frames {
                soon(wire.frame()).await;
            }
            wire.ping().await;
        });
    }
}
