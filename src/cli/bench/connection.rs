//! Sends single requests over a connection of `imd bench`, and defines the errors of such a connection.
//!
//! Serves `setup`, and `dialer`, which measures connecting.

use std::io;

use imd::codec::FrameTooLong;
use imd::load::{Connection, FieldTable, Status, request};
use imd::proto::{Cmd, Payload};

use crate::cli::advice;

/// The reason why a connection can't be used any further.
#[derive(Debug, thiserror::Error)]
pub enum ConnectionError {
    #[error(transparent)]
    Io(#[from] io::Error),
    /// The server refused a request without which the run can't go on, or it announced that it closes the connection.
    #[error("{}", advice::advise(*code, text))]
    Refused { code: u32, text: String },
    #[error(transparent)]
    TooLong(#[from] FrameTooLong),
}

impl ConnectionError {
    /// Creates the error for the status of a refusal.
    pub fn refused(status: Status<'_>) -> Self {
        ConnectionError::Refused {
            code: status.code,
            text: String::from_utf8_lossy(status.text).into_owned(),
        }
    }
}

/// Sends a request and returns its answer, whatever its code is.
///
/// # Errors
///
/// When the connection fails, the answer does not arrive in time, or the server answers that it can't read the
/// request.
pub async fn ask(
    connection: &mut Connection,
    cmd: Cmd,
    message: &impl Payload,
) -> Result<Vec<u8>, ConnectionError> {
    connection.send(&request::frame(message)?).await?;
    answer(connection, cmd).await
}

/// Waits for the next answer to a request of that command. Frames that the server pushes meanwhile are ignored.
///
/// # Errors
///
/// The errors of [`ask`].
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

/// Checks that an answer, whose code is in the field `code`, is not a refusal.
///
/// # Errors
///
/// [`ConnectionError::Refused`] with the code and text of the answer.
pub fn check(answer: &[u8], code: usize) -> Result<(), ConnectionError> {
    match FieldTable::read(answer).status(code) {
        Status { code: 0, .. } => Ok(()),
        refusal => Err(ConnectionError::refused(refusal)),
    }
}
