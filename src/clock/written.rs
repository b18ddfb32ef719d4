//! The text form of durations, for serde: `"10s"`, `"5m"`, `"1h 30m"`.
//!
//! Serves the config and the admin API, so that a duration is written in the same way in imd.toml and in JSON.

/// The serde form of a duration: a text such as `"10s"`, `"5m"` or `"1h 30m"`. For `#[serde(with)]`.
pub mod duration {
    use std::time::Duration;

    use serde::de::Error;
    use serde::{Deserialize, Deserializer, Serializer};

    pub fn serialize<S: Serializer>(value: &Duration, to: S) -> Result<S::Ok, S::Error> {
        to.collect_str(&humantime::format_duration(*value))
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Duration, D::Error> {
        let text = String::deserialize(from)?;
        humantime::parse_duration(&text).map_err(|error| {
            D::Error::custom(format!(
                "{text:?} is no duration such as \"10s\" or \"5m\": {error}"
            ))
        })
    }
}

/// The serde form of an optional duration, which is that of [`duration`]. For `#[serde(with)]` on a key that may be
/// left out.
pub mod optional_duration {
    use std::time::Duration;

    use serde::{Deserializer, Serializer};

    pub fn serialize<S: Serializer>(value: &Option<Duration>, to: S) -> Result<S::Ok, S::Error> {
        match value {
            Some(value) => super::duration::serialize(value, to),
            None => to.serialize_none(),
        }
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Option<Duration>, D::Error> {
        super::duration::deserialize(from).map(Some)
    }
}
