use bytes::Bytes;
use imd::codec::MAX_FRAME;
use imd::proto::{Cmd, ReqLogin};
use prost::Message;
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// What the first line of every record calls its format.
pub const FORMAT: &str = "imd-record";

/// The format's version: a reader refuses any other.
pub const VERSION: u32 = 1;

/// What the server of a session is called when it is the gateway.
pub const GATEWAY: &str = "gateway";

/// The first line.
#[derive(Debug, Serialize, Deserialize)]
pub struct Header {
    /// [`FORMAT`].
    pub format: String,
    /// [`VERSION`].
    pub version: u32,
    /// Which imd was recorded.
    #[serde(default)]
    pub imd: String,
}

impl Header {
    /// This imd's.
    pub fn new() -> Header {
        Header {
            format: FORMAT.into(),
            version: VERSION,
            imd: env!("CARGO_PKG_VERSION").into(),
        }
    }
}

/// Every other line: something that happened to a session.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
pub struct Line {
    /// When, in microseconds since the first line.
    pub us: u64,
    /// To which session: a number that no other has.
    pub session: u64,
    /// Where: the name of an access server, or [`GATEWAY`].
    pub server: String,
    /// Whose session it was, after the login.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub uid: Option<i64>,
    /// What.
    pub what: What,
    /// Why it was closed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// The frame's command, for readers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cmd: Option<String>,
    /// The frame's message, without its length, in base16.
    #[serde(default, skip_serializing_if = "Option::is_none", with = "base16")]
    pub bytes: Option<Bytes>,
    /// The frame's fields, for readers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub frame: Option<Value>,
}

/// What happened.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum What {
    /// It was accepted.
    Opened,
    /// The client said something.
    In,
    /// The server said something.
    Out,
    /// It was closed.
    Closed,
}

impl Line {
    /// Whether it can be what a recorder writes.
    ///
    /// # Errors
    ///
    /// What is wrong.
    pub fn check(&self) -> Result<(), String> {
        let is_frame = matches!(self.what, What::In | What::Out);
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

    /// The login that it is.
    pub fn login(&self) -> Option<ReqLogin> {
        let bytes = self.bytes.as_ref().filter(|_| self.what == What::In)?;
        if Cmd::of(bytes) != Some(Cmd::Login) {
            return None;
        }
        ReqLogin::decode(bytes.clone()).ok()
    }
}

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
    fn a_line_is_written_as_it_is_read() {
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
    fn what_no_recorder_writes_is_refused() {
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
