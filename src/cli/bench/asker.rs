use bytes::BytesMut;
use imd::codec;
use imd::proto::{Cmd, Payload};

use super::driver::{Heard, Record, Role};
use super::fields::{command, verdict};
use super::line::Broken;
use super::tally::Tally;

/// Makes the same request again and again: 10001 at the gateway, or heartbeats.
pub struct Asker {
    cmd: u32,
    /// The request as a frame.
    frame: BytesMut,
    /// The field of the answer that holds its code.
    code: u32,
}

impl Asker {
    /// A user who makes this request, whose answer has its code in that field.
    ///
    /// # Errors
    ///
    /// When it fits no frame.
    pub fn new(cmd: Cmd, request: &impl Payload, code: u32) -> Result<Self, Broken> {
        let mut frame = BytesMut::new();
        codec::encode(request, &mut frame)?;
        Ok(Asker {
            cmd: cmd.number(),
            frame,
            code,
        })
    }
}

impl Role for Asker {
    fn asks(&self) -> bool {
        true
    }

    fn ask(&mut self, _due: u64, out: &mut BytesMut) -> Result<(), Broken> {
        out.extend_from_slice(&self.frame);
        Ok(())
    }

    fn hear(
        &mut self,
        frame: &[u8],
        _now: u64,
        tally: &mut Tally,
        _out: &mut BytesMut,
    ) -> Result<Heard, Broken> {
        let cmd = command(frame);
        if cmd == Cmd::ErrServer.number() {
            return Err(Broken::told(verdict(frame, 2)));
        }
        if cmd != self.cmd {
            return Ok(Heard::Other);
        }
        match verdict(frame, self.code) {
            (0, _) => Ok(Heard::Answer),
            refusal => Ok(tally.refuse(refusal)),
        }
    }

    fn record(self) -> Record {
        Record::default()
    }
}
