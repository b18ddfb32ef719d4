//! Tests of what a WebSocket makes of a client's bytes, through a pipe instead of a socket.

use std::future::poll_fn;

use tokio_tungstenite::tungstenite::protocol::frame::coding::Control;

use super::*;
use crate::transport::pipe::{self, Pipe};

const BINARY: OpCode = OpCode::Data(Data::Binary);
const CONTINUE: OpCode = OpCode::Data(Data::Continue);
const PING: OpCode = OpCode::Control(Control::Ping);
const CLOSE: OpCode = OpCode::Control(Control::Close);

fn connected() -> (WebSocket, Transport) {
    let (server_end, client_end): (Pipe, Pipe) = pipe::pair(1 << 20);
    let socket = WebSocket::new(Transport::Pipe(server_end), BytesMut::new());
    (socket, Transport::Pipe(client_end))
}

/// Returns a frame as a client sends it.
fn frame(opcode: OpCode, is_final: bool, payload: &[u8]) -> Vec<u8> {
    let header = FrameHeader {
        is_final,
        opcode,
        mask: Some([1, 2, 3, 4]),
        ..FrameHeader::default()
    };
    let mut bytes = Vec::new();
    Frame::from_payload(header, payload.to_vec().into())
        .format(&mut bytes)
        .unwrap();
    bytes
}

/// Reads what is there. Returns the messages, or none if there is nothing yet.
async fn read(socket: &mut WebSocket) -> Option<Vec<Vec<u8>>> {
    let mut into = BytesMut::with_capacity(STEP);
    let read = poll_fn(|cx| Poll::Ready(socket.poll_read(cx, &mut into, STEP))).await;
    let Poll::Ready(read) = read else {
        return None;
    };
    assert_eq!(read.unwrap(), into.len());
    let messages = Framing::WebSocket.frames(&into);
    Some(messages.map(|(message, _)| message.to_vec()).collect())
}

/// Returns the code and the text of the close frame that the socket ends with.
fn closed_with(socket: &WebSocket) -> (u16, String) {
    let mut bytes = BytesMut::new();
    socket.put_close_frame(4000, "its own", &mut bytes);
    assert_eq!(bytes[0], 0x88);
    assert_eq!(usize::from(bytes[1]), bytes.len() - 2);
    let code = u16::from_be_bytes([bytes[2], bytes[3]]);
    (code, String::from_utf8(bytes[4..].to_vec()).unwrap())
}

#[tokio::test]
async fn messages_arrive_whole_however_their_bytes_are_cut() {
    let (mut socket, mut client) = connected();
    let long = vec![9; 40_000];
    let mut bytes = frame(BINARY, true, b"one");
    bytes.extend(frame(BINARY, false, b"t"));
    bytes.extend(frame(CONTINUE, false, b""));
    bytes.extend(frame(PING, true, b"between"));
    bytes.extend(frame(CONTINUE, true, b"wo"));
    bytes.extend(frame(BINARY, true, b""));
    bytes.extend(frame(BINARY, true, &long));
    for size in [1, 7, 1000, bytes.len()] {
        let mut got = Vec::new();
        for piece in bytes.chunks(size) {
            client.write_all(piece).await.unwrap();
            while let Some(messages) = read(&mut socket).await {
                got.extend(messages);
            }
            // The pong is taken, so that the next read goes on.
            socket.take_control_frames(&mut BytesMut::new());
        }
        while let Some(messages) = read(&mut socket).await {
            got.extend(messages);
        }
        assert_eq!(got, [&b"one"[..], b"two", b"", &long], "{size}");
        assert!(!socket.holds_partial_message());
        assert_eq!(socket.raw.capacity(), 0, "an idle socket holds no buffer");
    }
}

#[tokio::test]
async fn each_ping_is_answered_between_frames_and_nothing_is_read_before() {
    let (mut socket, mut client) = connected();
    let pings = [frame(PING, true, b"a"), frame(PING, true, b"b")].concat();
    client.write_all(&pings).await.unwrap();
    assert_eq!(read(&mut socket).await, None);
    client.write_all(&frame(BINARY, true, b"c")).await.unwrap();
    assert_eq!(read(&mut socket).await, None, "the pongs come first");
    let mut answers = BytesMut::new();
    socket.take_control_frames(&mut answers);
    assert_eq!(&answers[..], [0x8a, 1, b'a', 0x8a, 1, b'b']);
    assert_eq!(read(&mut socket).await.unwrap(), [b"c"]);
}

#[tokio::test]
async fn a_part_of_a_message_is_seen_in_each_of_its_forms() {
    let (mut socket, mut client) = connected();
    assert!(!socket.holds_partial_message());
    client.write_all(&frame(BINARY, false, b"a")).await.unwrap();
    assert_eq!(read(&mut socket).await, None);
    assert!(socket.holds_partial_message(), "a fragment");
    client
        .write_all(&frame(CONTINUE, true, b"b"))
        .await
        .unwrap();
    assert_eq!(read(&mut socket).await.unwrap(), [b"ab"]);
    client.write_all(&[0x82]).await.unwrap();
    assert_eq!(read(&mut socket).await, None);
    assert!(socket.holds_partial_message(), "a byte of a header");
}

#[tokio::test]
async fn a_close_is_answered_with_its_code_behind_the_messages_before_it() {
    let (mut socket, mut client) = connected();
    let close = [&1000_u16.to_be_bytes()[..], b"bye"].concat();
    let bytes = [frame(BINARY, true, b"last"), frame(CLOSE, true, &close)].concat();
    client.write_all(&bytes).await.unwrap();
    assert_eq!(read(&mut socket).await.unwrap(), [b"last"]);
    assert_eq!(read(&mut socket).await.unwrap(), Vec::<Vec<u8>>::new());
    assert_eq!(socket.end(), Some(End::Closed));
    assert_eq!(closed_with(&socket), (1000, "bye".to_owned()));
}

#[tokio::test]
async fn a_broken_rule_ends_the_socket_with_the_code_for_it() {
    let unmasked = vec![0x82, 1, b'a'];
    let mut compressed = frame(BINARY, true, b"a");
    compressed[0] |= 0x40;
    let long_control = frame(PING, true, &[0; 126]);
    let bad_utf8 = [&1000_u16.to_be_bytes()[..], &[0xff]].concat();
    // What its header shows is refused by the header alone.
    let unmasked_header = vec![0x82, 126, 0xea, 0x60];
    let compressed_header = vec![0xc2, 0xfe, 0xea, 0x60, 0, 0, 0, 0];
    let long = vec![0; 60_000];
    let cases: [(&str, Vec<u8>, u16); 15] = [
        ("unmasked", unmasked, 1002),
        ("an unmasked header", unmasked_header, 1002),
        ("compressed", compressed, 1002),
        ("a compressed header", compressed_header, 1002),
        (
            "two long messages, one within the other",
            [frame(BINARY, false, &long), frame(BINARY, true, &long)].concat(),
            1002,
        ),
        ("text", frame(OpCode::Data(Data::Text), true, b"{}"), 1003),
        ("opcode 3", vec![0x83, 0x80, 0, 0, 0, 0], 1002),
        ("opcode 11", vec![0x8b, 0x80, 0, 0, 0, 0], 1002),
        ("a long ping", long_control, 1002),
        ("a ping in parts", frame(PING, false, b""), 1002),
        ("a rest of nothing", frame(CONTINUE, true, b""), 1002),
        ("a close of one byte", frame(CLOSE, true, b"x"), 1002),
        ("a close with bad text", frame(CLOSE, true, &bad_utf8), 1007),
        (
            "a message within another one",
            [frame(BINARY, false, b"a"), frame(BINARY, true, b"b")].concat(),
            1002,
        ),
        (
            "a ping of 2^40 bytes",
            [&[0x89, 0xff][..], &(1_u64 << 40).to_be_bytes(), &[0; 4]].concat(),
            1002,
        ),
    ];
    for (what, bytes, code) in cases {
        let (mut socket, mut client) = connected();
        let before = frame(BINARY, true, b"before");
        client.write_all(&[before, bytes].concat()).await.unwrap();
        assert_eq!(read(&mut socket).await.unwrap(), [b"before"], "{what}");
        assert_eq!(read(&mut socket).await.unwrap(), Vec::<Vec<u8>>::new());
        assert_eq!(socket.end(), Some(End::Violated), "{what}");
        assert_eq!(closed_with(&socket).0, code, "{what}");
        assert!(
            socket.incomplete.is_none() && socket.raw.capacity() == 0,
            "{what}"
        );
    }
}

#[tokio::test]
async fn a_message_over_the_limit_is_known_from_its_headers_and_takes_no_memory() {
    let whole = [&[0x82, 0xff][..], &(1_u64 << 50).to_be_bytes(), &[0; 4]].concat();
    let in_parts = [frame(BINARY, false, &[0; 4000]), vec![0x80, 0xfe, 0, 200]].concat();
    for (bytes, len) in [(whole, 1 << 50), ([in_parts, vec![0; 4]].concat(), 4200)] {
        let (mut socket, mut client) = connected();
        socket.set_max_message(4096);
        client.write_all(&bytes).await.unwrap();
        let mut into = BytesMut::with_capacity(STEP);
        let read = poll_fn(|cx| socket.poll_read(cx, &mut into, STEP)).await;
        assert_eq!(read.unwrap(), 10);
        let error = Framing::WebSocket.split(&into, 4096).unwrap_err();
        assert_eq!(error.len, len);
        assert_eq!(closed_with(&socket).0, 1009);
        assert_eq!(socket.raw.capacity(), 0);
    }
}

#[tokio::test]
async fn a_close_of_this_server_has_its_code_and_a_text_that_fits() {
    let (socket, _client) = connected();
    assert_eq!(closed_with(&socket), (4000, "its own".to_owned()));
    let bytes = close_frame(CloseCode::Policy, "ä".repeat(100));
    assert_eq!(bytes.len(), 2 + 2 + 122);
}
