//! What stands in the messages of the load: their texts, by which they are recognised, and requests as frames.
//!
//! Serves all loads. A text says which message it is, whatever the server does with ids; every number has the same number of
//! digits, so that all messages have the same length.

use bytes::BytesMut;
use imd::codec;
use imd::config::PUBLIC_SALT;
use imd::load::request;
use imd::proto::Payload;
use imd::service::salted_token;

use crate::Fault;

/// The length of a message's text, in bytes.
pub const TEXT: usize = 32;

/// How many digits at the start of a text say which message it is: enough for every message of a run.
const NUMBER: usize = 10;

/// Returns a number with leading zeros.
pub fn digits<const N: usize>(mut number: usize) -> [u8; N] {
    let mut digits = [b'0'; N];
    for digit in digits.iter_mut().rev() {
        *digit += (number % 10) as u8;
        number /= 10;
    }
    digits
}

/// Returns the text of the message with this number.
pub fn text(number: usize) -> [u8; TEXT] {
    let mut text = [b'x'; TEXT];
    text[..NUMBER].copy_from_slice(&digits::<NUMBER>(number));
    text
}

/// Returns the number of the message with this text.
pub fn number(text: &[u8]) -> Result<usize, Fault> {
    let digits = text.get(..NUMBER).filter(|_| text.len() == TEXT);
    let digits = digits.ok_or("a text of another length")?;
    digits.iter().try_fold(0, |number, digit| match digit {
        b'0'..=b'9' => Ok(number * 10 + usize::from(digit - b'0')),
        _ => Err("a text without its number".into()),
    })
}

/// Encodes a request as a frame.
pub fn frame(request: &impl Payload) -> BytesMut {
    let mut frame = BytesMut::new();
    put(request, &mut frame);
    frame
}

/// Appends a request as a frame.
pub fn put(request: &impl Payload, out: &mut BytesMut) {
    codec::encode(request, out).expect("the load sends short messages only");
}

/// Logs a user in, as a frame.
pub fn login(uid: i64) -> BytesMut {
    frame(&request::login(uid, salted_token(uid, PUBLIC_SALT)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_says_which_message_it_is() {
        assert_eq!(&text(1_234), b"0000001234xxxxxxxxxxxxxxxxxxxxxx");
        for message in [0, 7, 9_999_999_999] {
            assert_eq!(number(&text(message)).unwrap(), message);
        }
        assert!(number(b"0000000001").is_err() && number(&[b'x'; TEXT]).is_err());
    }
}
