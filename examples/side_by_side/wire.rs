//! Requests of the load, encoded, and the ids of its messages.

use bytes::BytesMut;
use imd::codec;
use imd::config::PUBLIC_SALT;
use imd::load::{Template, request};
use imd::proto::Payload;
use imd::service::salted_token;

use crate::Fault;

/// The digits of a message id: enough for every number of a run, so that all ids have the same length.
pub const ID_DIGITS: usize = 10;

/// The id that stands in a request or a packet of which a template is made.
pub const NO_ID: &str = "0000000000";

/// Returns the id of the message with this number.
pub fn id(mut number: usize) -> [u8; ID_DIGITS] {
    let mut id = [b'0'; ID_DIGITS];
    for digit in id.iter_mut().rev() {
        *digit += (number % 10) as u8;
        number /= 10;
    }
    id
}

/// Returns the number of the message with this id.
pub fn number(id: &[u8]) -> Result<usize, Fault> {
    if id.len() != ID_DIGITS {
        return Err("a message without its id".into());
    }
    Ok(std::str::from_utf8(id)?.parse()?)
}

/// Makes a template of a frame that holds [`NO_ID`].
pub fn template(frame: &[u8]) -> Template {
    Template::new(frame, NO_ID.as_bytes()).expect("the frame holds the id")
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
