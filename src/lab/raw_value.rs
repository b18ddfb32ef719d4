//! The value of one key of a rule, as TOML, JSON or the command line write it, before it is parsed.
//!
//! Serves `rule_table`. Each value may be a number or a text: the command line has texts only, JSON has no NaN while TOML has
//! one, and many JSON readers can't represent a 64-bit id as a number.

use std::fmt;
use std::ops::RangeInclusive;
use std::time::Duration;

use serde::de::{Deserialize, Deserializer, Visitor};
use serde::ser::{Serialize, Serializer};

use super::FaultError;
use super::check::whole_number;
use crate::byte_size;
use crate::proto::Cmd;

/// An unparsed value.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum RawValue {
    Whole(i128),
    Fraction(f64),
    Text(String),
}

impl fmt::Display for RawValue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            RawValue::Whole(number) => number.fmt(f),
            RawValue::Fraction(number) => number.fmt(f),
            // A numeric text is shown without quotes, like the number that was meant.
            RawValue::Text(text) if text.parse::<f64>().is_ok() => f.write_str(text),
            RawValue::Text(text) => write!(f, "{text:?}"),
        }
    }
}

impl RawValue {
    /// Returns the value that stands for a whole number.
    pub fn number(number: impl Into<i128>) -> RawValue {
        RawValue::Whole(number.into())
    }

    /// Returns the value that stands for a duration, as text with units.
    pub fn duration(time: Duration) -> RawValue {
        RawValue::Text(humantime::format_duration(time).to_string())
    }

    /// Parses a whole number of type `N`.
    ///
    /// # Errors
    ///
    /// [`FaultError`] that names `bounds`, if the value is no whole number or does not fit `N`.
    pub fn whole<N: TryFrom<i128>>(
        &self,
        key: &'static str,
        bounds: &RangeInclusive<u64>,
    ) -> Result<N, FaultError> {
        let number = match self {
            RawValue::Whole(number) => Some(*number),
            RawValue::Fraction(_) => None,
            RawValue::Text(text) => text.parse().ok(),
        };
        let number = number.and_then(|number| N::try_from(number).ok());
        number.ok_or_else(|| FaultError::out_of_bounds(key, self, whole_number(bounds)))
    }

    /// Parses a number of bytes: as [`whole`](Self::whole) does, or from a text with a unit such as `16KiB`.
    ///
    /// # Errors
    ///
    /// [`FaultError::OutOfBounds`] if the value is neither.
    pub fn bytes(
        &self,
        key: &'static str,
        bounds: &RangeInclusive<u64>,
    ) -> Result<u64, FaultError> {
        let RawValue::Text(text) = self else {
            return self.whole(key, bounds);
        };
        byte_size::parse(text).map_err(|error| {
            let number = whole_number(bounds);
            let bounds = format!("{number}, or a size such as \"16KiB\" ({error})");
            FaultError::out_of_bounds(key, self, bounds)
        })
    }

    /// Parses a probability. Whether it is between 0 and 1 is checked with the rule as a whole.
    ///
    /// # Errors
    ///
    /// [`FaultError::OutOfBounds`] if the value is no number.
    pub fn chance(&self) -> Result<f64, FaultError> {
        let number = match self {
            #[allow(
                clippy::cast_precision_loss,
                reason = "only numbers far from 0 and 1 lose digits"
            )]
            RawValue::Whole(number) => Some(*number as f64),
            RawValue::Fraction(number) => Some(*number),
            RawValue::Text(text) => text.parse().ok(),
        };
        let bounds = "more than 0 and at most 1";
        number.ok_or_else(|| FaultError::out_of_bounds("probability", self, bounds))
    }

    /// Parses a duration with a unit.
    ///
    /// # Errors
    ///
    /// [`FaultError::OutOfBounds`] if the value is no such text.
    pub fn time(&self, key: &'static str) -> Result<Duration, FaultError> {
        let time = match self {
            RawValue::Text(text) => humantime::parse_duration(text).ok(),
            _ => None,
        };
        let bounds = r#"a duration such as "10s" or "5m", at most 365 days"#;
        time.ok_or_else(|| FaultError::out_of_bounds(key, self, bounds))
    }

    /// Parses a command, given by its number or its name.
    ///
    /// # Errors
    ///
    /// [`FaultError::NoSuchCmd`]
    pub fn cmd(&self) -> Result<Cmd, FaultError> {
        let by_number = |number: i128| Cmd::from_number(u32::try_from(number).ok()?);
        let cmd = match self {
            RawValue::Whole(number) => by_number(*number),
            RawValue::Fraction(_) => None,
            RawValue::Text(text) => match text.parse() {
                Ok(number) => by_number(number),
                Err(_) => Cmd::named(text),
            },
        };
        cmd.ok_or_else(|| FaultError::NoSuchCmd(self.to_string()))
    }
}

impl Serialize for RawValue {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        match self {
            RawValue::Whole(number) => match (u64::try_from(*number), i64::try_from(*number)) {
                (Ok(number), _) => to.serialize_u64(number),
                (_, Ok(number)) => to.serialize_i64(number),
                _ => to.collect_str(number),
            },
            RawValue::Fraction(number) => to.serialize_f64(*number),
            RawValue::Text(text) => to.serialize_str(text),
        }
    }
}

impl<'de> Deserialize<'de> for RawValue {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        from.deserialize_any(RawValueVisitor)
    }
}

struct RawValueVisitor;

impl Visitor<'_> for RawValueVisitor {
    type Value = RawValue;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a number or a text")
    }

    fn visit_i64<E>(self, number: i64) -> Result<RawValue, E> {
        Ok(RawValue::number(number))
    }

    fn visit_u64<E>(self, number: u64) -> Result<RawValue, E> {
        Ok(RawValue::number(number))
    }

    fn visit_f64<E>(self, number: f64) -> Result<RawValue, E> {
        Ok(RawValue::Fraction(number))
    }

    fn visit_str<E>(self, text: &str) -> Result<RawValue, E> {
        Ok(RawValue::Text(text.to_owned()))
    }
}
