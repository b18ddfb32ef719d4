//! The contract of `imd::codec`: a stream gives the same frames however it is cut, and no bytes make it panic.
//!
//! These are property tests: they try random messages, cuts and bytes. Malformed frames on real connections are tested
//! in `sockets/malformed` and `sockets/mutated`.

use bytes::{Bytes, BytesMut};
use imd::codec::{self, FrameCodec, MAX_FRAME, Split};
use imd::command::{Command, Decoded, Listener};
use imd::proto::ReqSendP2pMsg;
use proptest::prelude::*;
use prost::Message;
use tokio_util::codec::Decoder;

/// Decodes the frames of a stream that arrives in pieces.
fn decode(pieces: impl IntoIterator<Item = Vec<u8>>) -> Vec<Bytes> {
    let (mut buffer, mut frames) = (BytesMut::new(), Vec::new());
    for piece in pieces {
        buffer.extend_from_slice(&piece);
        while let Some(frame) = FrameCodec.decode(&mut buffer).unwrap() {
            frames.push(frame);
        }
    }
    assert!(buffer.is_empty(), "nothing is left of whole frames");
    frames
}

/// Cuts a stream at these places.
fn cut(stream: &[u8], mut places: Vec<usize>) -> Vec<Vec<u8>> {
    places
        .iter_mut()
        .for_each(|place| *place %= stream.len() + 1);
    places.sort_unstable();
    let mut pieces = Vec::new();
    let mut start = 0;
    for place in places.into_iter().chain([stream.len()]) {
        pieces.push(stream[start..place].to_vec());
        start = place;
    }
    pieces
}

proptest! {
    #[test]
    fn any_cutting_of_a_stream_decodes_to_the_same_frames(
        texts in prop::collection::vec(".{0,300}", 0..12),
        places in prop::collection::vec(any::<usize>(), 0..40),
    ) {
        let mut stream = BytesMut::new();
        let messages: Vec<_> = texts
            .into_iter()
            .map(|msg| ReqSendP2pMsg { cmd: 20003, msg, ..Default::default() })
            .collect();
        for message in &messages {
            codec::encode(message, &mut stream).unwrap();
        }
        let frames = decode(cut(&stream, places));
        let decoded: Vec<_> = frames.into_iter().map(|f| ReqSendP2pMsg::decode(f).unwrap()).collect();
        prop_assert_eq!(decoded, messages);
    }

    #[test]
    fn a_stream_that_comes_byte_by_byte_decodes_to_the_same_frames(
        messages in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..200), 0..8),
    ) {
        let mut stream = Vec::new();
        for message in &messages {
            stream.extend_from_slice(&u16::try_from(message.len()).unwrap().to_be_bytes());
            stream.extend_from_slice(message);
        }
        let frames = decode(stream.into_iter().map(|byte| vec![byte]));
        prop_assert_eq!(frames, messages);
    }

    #[test]
    fn random_bytes_never_panic_the_splitter(
        bytes in prop::collection::vec(any::<u8>(), 0..4096), max in 0..=MAX_FRAME,
    ) {
        match codec::split(&bytes, max) {
            Ok(Split::Frame { message, taken }) => {
                prop_assert!(message.len() <= max);
                prop_assert_eq!(taken, message.len() + 2);
            }
            Ok(Split::Needs(total)) => prop_assert!(total > bytes.len() && total <= max + 2),
            Err(error) => prop_assert!(error.len > max),
        }
    }

    #[test]
    fn random_bytes_never_panic_a_decoder(bytes in prop::collection::vec(any::<u8>(), 0..512)) {
        for listener in [Listener::Gateway, Listener::Access] {
            let _ = Command::decode(&bytes, listener);
        }
    }

    /// Invalid UTF-8 in a text is replaced, so any bytes are accepted as a text.
    #[test]
    fn any_text_is_accepted(msg in prop::collection::vec(any::<u8>(), 0..300)) {
        let mut frame = ReqSendP2pMsg { cmd: 20003, target_uid: 9, ..Default::default() }.encode_to_vec();
        frame.push(0x32);
        prost::encoding::encode_varint(msg.len() as u64, &mut frame);
        frame.extend_from_slice(&msg);
        let decoded = Command::decode(&frame, Listener::Access);
        let Ok(Decoded { command: Command::P2p(sending), needs_login: true }) = decoded else {
            return Err(TestCaseError::fail("it was not decoded"));
        };
        prop_assert_eq!(sending.text, String::from_utf8_lossy(&msg));
        prop_assert_eq!(sending.target, 9);
    }
}
