use bytes::BytesMut;
use prost::encoding::{
    DecodeContext, WireType, decode_key, decode_varint, encode_key, encode_varint, skip_field,
};
use prost::{DecodeError, Message};

/// Decodes a request whose text may not be valid UTF-8: each bad sequence becomes U+FFFD, as the stack's JSON hop does.
///
/// Only for messages whose length-delimited fields are all text, which holds for every request.
///
/// # Errors
///
/// What prost says of a frame that is not this message even then.
pub fn decode_lossy<M: Message + Default>(frame: &[u8]) -> Result<M, DecodeError> {
    M::decode(frame).or_else(|error| match with_valid_text(frame) {
        Some(mended) => M::decode(mended.as_ref()),
        None => Err(error),
    })
}

/// The same fields with valid text; none when the frame is no protobuf.
fn with_valid_text(mut frame: &[u8]) -> Option<BytesMut> {
    let mut mended = BytesMut::with_capacity(frame.len());
    while !frame.is_empty() {
        let start = frame;
        let (tag, wire_type) = decode_key(&mut frame).ok()?;
        if wire_type == WireType::LengthDelimited {
            let len = usize::try_from(decode_varint(&mut frame).ok()?).ok()?;
            let (text, rest) = frame.split_at_checked(len)?;
            let text = String::from_utf8_lossy(text);
            encode_key(tag, wire_type, &mut mended);
            encode_varint(text.len() as u64, &mut mended);
            mended.extend_from_slice(text.as_bytes());
            frame = rest;
        } else {
            skip_field(wire_type, tag, &mut frame, DecodeContext::default()).ok()?;
            mended.extend_from_slice(start.get(..start.len() - frame.len())?);
        }
    }
    Some(mended)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proto::ReqSendP2pMsg;

    #[test]
    fn bad_text_is_replaced_and_the_rest_kept() {
        let good = ReqSendP2pMsg {
            cmd: 20003,
            target_uid: 7,
            msg: "ab__cd".into(),
            ..Default::default()
        };
        let mut frame = good.encode_to_vec();
        let at = frame.windows(2).position(|w| w == b"__").unwrap();
        frame[at] = 0xff;
        frame[at + 1] = 0xfe;
        let read: ReqSendP2pMsg = decode_lossy(&frame).unwrap();
        assert_eq!(read.msg, "ab\u{fffd}\u{fffd}cd");
        assert_eq!(read.target_uid, 7);
    }

    #[test]
    fn what_is_no_protobuf_stays_an_error() {
        assert!(decode_lossy::<ReqSendP2pMsg>(&[0x0a, 0xff, 0xff]).is_err());
        // cmd as text: the right form, the wrong type
        assert!(decode_lossy::<ReqSendP2pMsg>(&[0x0a, 0x01, b'x']).is_err());
    }
}
