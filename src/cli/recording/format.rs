//! Defines the format of a record: a file of JSON lines, the first of which is the header.
//!
//! Serves the recorder and the reader of records. A reader refuses a file of another version, and every line that no
//! recorder would write.

use bytes::Bytes;
use imd::codec::MAX_FRAME;
use imd::proto::{Cmd, ReqLogin};
use prost::Message;
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// The name of the format, in the first line of every record.
pub const FORMAT: &str = "imd-record";

/// The version of the format. A reader refuses any other.
pub const VERSION: u32 = 1;

/// The name of the server in lines of sessions at the gateway.
pub const GATEWAY: &str = "gateway";

/// The first line of a record.
#[derive(Debug, Serialize, Deserialize)]
pub struct Header {
    /// Always [`FORMAT`]: other files are refused.
    pub format: String,
    /// The [`VERSION`] of the format that the file was written in.
    pub version: u32,
    /// The version of the `imd` that wrote the record, for people.
    #[serde(default)]
    pub imd: String,
}

impl Header {
    /// Creates the header of a record that this `imd` writes.
    pub fn new() -> Header {
        Header {
            format: FORMAT.into(),
            version: VERSION,
            imd: env!("CARGO_PKG_VERSION").into(),
        }
    }
}

/// Any line of a record but the first: something that happened to a session.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
pub struct Line {
    /// The time of the event in microseconds since the first recorded one.
    pub us: u64,
    /// The session. Its number is unique within the record.
    pub session: u64,
    /// The server of the session: the name of an access server, or [`GATEWAY`].
    pub server: String,
    /// The user of the session, known after the login.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub uid: Option<i64>,
    /// The kind of the event.
    pub what: EventKind,
    /// Why the session was closed, in lines of that kind.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// The name of the frame's command. It is for people, and not read back.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cmd: Option<String>,
    /// The message of the frame, without its length prefix, in base16.
    #[serde(default, skip_serializing_if = "Option::is_none", with = "base16")]
    pub bytes: Option<Bytes>,
    /// The fields of the frame. They are for people, and not read back.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub frame: Option<Value>,
}

/// What happened to the session.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum EventKind {
    /// The server accepted the connection.
    Opened,
    /// The client sent a frame.
    In,
    /// The server sent a frame.
    Out,
    /// The connection was closed.
    Closed,
}

impl Line {
    /// Checks that a recorder could have written the line.
    ///
    /// # Errors
    ///
    /// A text that says what is wrong with the line.
    pub fn check(&self) -> Result<(), String> {
        let is_frame = matches!(self.what, EventKind::In | EventKind::Out);
        match &self.bytes {
            None if is_frame => Err("a frame without bytes".into()),
            Some(_) if !is_frame => Err("bytes, although it is no frame".into()),
            Some(bytes) if bytes.len() > MAX_FRAME => {
                let len = bytes.len();
                Err(format!("a frame of {len} bytes, at most {MAX_FRAME}"))
            }
            _ => Ok(()),
        }
    }

    /// Returns the request of the line if it is a login.
    pub fn login(&self) -> Option<ReqLogin> {
        let bytes = self.bytes.as_ref().filter(|_| self.what == EventKind::In)?;
        if Cmd::of(bytes) != Some(Cmd::Login) {
            return None;
        }
        ReqLogin::decode(bytes.clone()).ok()
    }
}

/// Serializes the bytes of a frame as base16 digits.
mod base16 {
    use bytes::Bytes;
    use serde::de::Error as _;
    use serde::{Deserialize, Deserializer, Serializer};

    pub fn serialize<S: Serializer>(bytes: &Option<Bytes>, to: S) -> Result<S::Ok, S::Error> {
        match bytes {
            Some(bytes) => to.serialize_str(&base16ct::lower::encode_string(bytes)),
            None => to.serialize_none(),
        }
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Option<Bytes>, D::Error> {
        let Some(text) = Option::<String>::deserialize(from)? else {
            return Ok(None);
        };
        let bytes = base16ct::mixed::decode_vec(&text);
        let bytes = bytes.map_err(|_| D::Error::custom("bytes: this is no base16"))?;
        Ok(Some(bytes.into()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(text: &str) -> Result<Line, String> {
        let line: Line = serde_json::from_str(text).map_err(|error| error.to_string())?;
        line.check().map(|()| line)
    }

    #[test]
    fn a_line_is_written_in_the_form_that_is_read() {
        for text in [
            r#"{"us":0,"session":3,"server":"access-1","what":"opened"}"#,
            r#"{"us":12,"session":3,"server":"access-1","uid":7,"what":"in","cmd":"Ping","bytes":"08a29c0118","frame":{"UID":7}}"#,
            r#"{"us":13,"session":3,"server":"gateway","what":"out","bytes":""}"#,
            r#"{"us":14,"session":3,"server":"access-1","uid":7,"what":"closed","reason":"logout"}"#,
        ] {
            assert_eq!(serde_json::to_string(&line(text).unwrap()).unwrap(), text);
        }
    }

    #[test]
    fn a_line_that_no_recorder_writes_is_refused() {
        let with = |rest: &str| {
            let text = format!(r#"{{"us":0,"session":1,"server":"a",{rest}}}"#);
            line(&text).unwrap_err()
        };
        assert!(with(r#""what":"in""#).contains("without bytes"));
        assert!(with(r#""what":"in","bytes":"xy""#).contains("no base16"));
        assert!(with(r#""what":"in","bytes":"abc""#).contains("no base16"));
        assert!(with(r#""what":"opened","bytes":"08""#).contains("no frame"));
        assert!(with(r#""what":"flew""#).contains("flew"));
        let long = "00".repeat(MAX_FRAME + 1);
        assert!(with(&format!(r#""what":"out","bytes":"{long}""#)).contains("65536 bytes"));
    }
}
