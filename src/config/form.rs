//! The text forms of the config's values, for serde.
//!
//! Serves the tables of the config. The messages of these forms reach the user as part of a `ConfigError`, so they say
//! how a value is written.

use std::fmt;

use serde::de::value::SeqAccessDeserializer;
use serde::de::{Error, SeqAccess, Unexpected, Visitor};
use serde::{Deserialize, Deserializer};

use crate::byte_size;
pub(crate) use crate::clock::written::{duration, optional_duration};

/// The serde form of a listener's address: a text such as `"127.0.0.1:10000"`, `"localhost:10000"` or `":10000"`. It is
/// serialized as the socket address that was found for it. For `#[serde(with)]`.
pub mod address {
    use std::net::SocketAddr;

    use serde::de::Error;
    use serde::{Deserialize, Deserializer, Serializer};

    use crate::config::listen;

    pub fn serialize<S: Serializer>(value: &SocketAddr, to: S) -> Result<S::Ok, S::Error> {
        to.collect_str(value)
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<SocketAddr, D::Error> {
        let text = String::deserialize(from)?;
        listen::parse(&text).map_err(D::Error::custom)
    }
}

/// The serde form of an [`address`](self::address) that may be absent. For `#[serde(with)]`.
pub mod optional_address {
    use std::net::SocketAddr;

    use serde::{Deserializer, Serializer};

    pub fn serialize<S: Serializer>(value: &Option<SocketAddr>, to: S) -> Result<S::Ok, S::Error> {
        match value {
            Some(addr) => super::address::serialize(addr, to),
            None => to.serialize_none(),
        }
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Option<SocketAddr>, D::Error> {
        super::address::deserialize(from).map(Some)
    }
}

/// Deserializes a list of texts. A text alone is a list of one. For `#[serde(deserialize_with)]`.
///
/// # Errors
///
/// The error of the deserializer, if the value is neither a text nor a list of texts.
pub fn one_or_more<'de, D: Deserializer<'de>>(from: D) -> Result<Vec<String>, D::Error> {
    from.deserialize_any(Texts)
}

/// Accepts a list of texts, or a text alone.
struct Texts;

impl<'de> Visitor<'de> for Texts {
    type Value = Vec<String>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a list of texts")
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<Vec<String>, E> {
        Ok(vec![text.to_owned()])
    }

    fn visit_seq<A: SeqAccess<'de>>(self, list: A) -> Result<Vec<String>, A::Error> {
        Vec::deserialize(SeqAccessDeserializer::new(list))
    }
}

/// Deserializes a number of bytes, written as `65536` or `"64KiB"`. For `#[serde(deserialize_with)]`; the number is
/// serialized as a number.
///
/// # Errors
///
/// A message that shows both forms, if the value has neither or does not fit `T`.
pub fn bytes<'de, D: Deserializer<'de>, T: TryFrom<u64>>(from: D) -> Result<T, D::Error> {
    let bytes = from.deserialize_any(ByteCount)?;
    T::try_from(bytes).map_err(|_| D::Error::invalid_value(Unexpected::Unsigned(bytes), &ByteCount))
}

/// Accepts a whole number, or a text with a unit.
struct ByteCount;

impl Visitor<'_> for ByteCount {
    type Value = u64;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a number of bytes such as 65536 or \"64KiB\"")
    }

    fn visit_i64<E: Error>(self, number: i64) -> Result<u64, E> {
        let invalid = |_| E::invalid_value(Unexpected::Signed(number), &self);
        u64::try_from(number).map_err(invalid)
    }

    fn visit_u64<E: Error>(self, number: u64) -> Result<u64, E> {
        Ok(number)
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<u64, E> {
        byte_size::parse(text).map_err(|error| {
            E::custom(format!(
                "{text:?} is no size in bytes such as 65536 or \"64KiB\": {error}"
            ))
        })
    }
}
