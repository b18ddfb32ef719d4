//! Why a connection of `imd bench` can't go on, and single requests over one: to set a run up, and to measure connecting.

use std::io;

use imd::codec::FrameTooLong;
use imd::load::{Connection, FieldTable, request};
use imd::proto::{Cmd, Payload};

use crate::cli::refusal;

/// Why a connection can't be used any longer.
#[derive(Debug, thiserror::Error)]
pub enum ConnectionError {
    #[error(transparent)]
    Io(#[from] io::Error),
    /// The server refuses a request without which the run can't go on, or it announces that it closes the connection.
    #[error("{}", refusal::advise(*code, text))]
    Refused { code: u32, text: String },
    #[error(transparent)]
    TooLong(#[from] FrameTooLong),
}

impl ConnectionError {
    /// Makes an error of a server's code and text.
    pub fn refused((code, text): (u32, &[u8])) -> Self {
        let text = String::from_utf8_lossy(text).into_owned();
        ConnectionError::Refused { code, text }
    }
}

/// Sends a request and returns its answer, whatever its code.
///
/// # Errors
///
/// When the connection fails, the answer does not come in time, or the server answers that it can't read the request.
pub async fn ask(
    connection: &mut Connection,
    cmd: Cmd,
    message: &impl Payload,
) -> Result<Vec<u8>, ConnectionError> {
    connection.send(&request::frame(message)?).await?;
    answer(connection, cmd).await
}

/// Waits for the next answer to such a request. What the server pushes meanwhile is ignored.
///
/// # Errors
///
/// As [`ask`].
pub async fn answer(connection: &mut Connection, cmd: Cmd) -> Result<Vec<u8>, ConnectionError> {
    loop {
        let message = connection.next().await?;
        let fields = FieldTable::read(&message);
        match fields.cmd() {
            Some(Cmd::ErrServer) => return Err(ConnectionError::refused(fields.status(2))),
            Some(found) if found == cmd => return Ok(message),
            _ => {}
        }
    }
}

/// Makes sure that an answer, whose code is in that field, is no refusal.
///
/// # Errors
///
/// The refusal.
pub fn check(answer: &[u8], code: usize) -> Result<(), ConnectionError> {
    match FieldTable::read(answer).status(code) {
        (0, _) => Ok(()),
        refusal => Err(ConnectionError::refused(refusal)),
    }
}
