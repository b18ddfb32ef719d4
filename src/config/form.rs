//! How values are written in imd.toml.

pub(crate) use crate::clock::written::{duration, optional_duration};

/// `"127.0.0.1:10000"`, `"[::1]:10000"`.
pub mod address {
    use std::net::SocketAddr;

    use serde::de::Error;
    use serde::{Deserialize, Deserializer, Serializer};

    pub fn serialize<S: Serializer>(value: &SocketAddr, to: S) -> Result<S::Ok, S::Error> {
        to.collect_str(value)
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<SocketAddr, D::Error> {
        let text = String::deserialize(from)?;
        text.parse().map_err(|_| {
            D::Error::custom(format!(
                "{text:?} is no address such as \"127.0.0.1:10000\" (an IP address and a port, 0 for a free one)"
            ))
        })
    }
}
