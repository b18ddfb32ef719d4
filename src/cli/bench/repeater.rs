//! Implements the role of users who repeat one request: command 10001 at the gateway, or heartbeats.
//!
//! Serves `setup`, which creates the users of `gateway` and `idle` runs.

use bytes::BytesMut;
use imd::load::{FieldTable, Status, request};
use imd::proto::{Cmd, Payload};

use super::connection::ConnectionError;
use super::tally::{Received, Tally};
use super::user::Role;

/// A user who repeats one request.
pub struct Repeater {
    /// The command of the request, which its answers have too.
    cmd: Cmd,
    /// The encoded request.
    frame: BytesMut,
    /// Number of the field of the answer that holds its code.
    code: usize,
}

impl Repeater {
    /// Creates a user who repeats the request `message`. Its answers have their code in the field `code`.
    ///
    /// # Errors
    ///
    /// When the request is too long for a frame.
    pub fn new(cmd: Cmd, message: &impl Payload, code: usize) -> Result<Self, ConnectionError> {
        let frame = request::frame(message)?;
        Ok(Repeater { cmd, frame, code })
    }
}

impl Role for Repeater {
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
            Status { code: 0, .. } => Received::Answer,
            refusal => tally.refuse(refusal),
        })
    }
}
