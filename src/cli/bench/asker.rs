//! The role of users who make one request again and again: 10001 at the gateway, or heartbeats.

use bytes::BytesMut;
use imd::load::{FieldTable, request};
use imd::proto::{Cmd, Payload};

use super::connection::ConnectionError;
use super::tally::{Received, Tally};
use super::user::Role;

/// Makes one request again and again.
pub struct Asker {
    cmd: Cmd,
    /// The request.
    frame: BytesMut,
    /// The field of the answer that holds its code.
    code: usize,
}

impl Asker {
    /// Creates a user who makes this request. Its answers have their code in the field `code`.
    ///
    /// # Errors
    ///
    /// When the request is too long for a frame.
    pub fn new(cmd: Cmd, message: &impl Payload, code: usize) -> Result<Self, ConnectionError> {
        let frame = request::frame(message)?;
        Ok(Asker { cmd, frame, code })
    }
}

impl Role for Asker {
    fn ask(&mut self, _due: u64, out: &mut BytesMut) -> Result<(), ConnectionError> {
        out.extend_from_slice(&self.frame);
        Ok(())
    }

    fn receive(
        &mut self,
        message: &FieldTable<'_>,
        _now: u64,
        tally: &mut Tally,
        _out: &mut BytesMut,
    ) -> Result<Received, ConnectionError> {
        if message.cmd() != Some(self.cmd) {
            return Ok(Received::Other);
        }
        Ok(match message.status(self.code) {
            (0, _) => Received::Answer,
            refusal => tally.refuse(refusal),
        })
    }
}
