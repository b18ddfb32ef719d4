//! Whole numbers of 64 bits in JSON, written as a number or as a text of its digits.
//!
//! Serves the admin API.
//!
//! JavaScript and others read a JSON number as a double, which can't represent every whole number beyond 2^53. Ids have
//! 64 bits, so clients in these languages write them as texts.

use std::fmt;
use std::marker::PhantomData;

use serde::de::{Error, Unexpected, Visitor};
use serde::{Deserialize, Deserializer, Serialize};

/// A whole number that is read from `7` or `"7"`, and written as `7`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(transparent)]
pub struct Whole<T>(pub T);

/// The id of a user or of a group.
pub type Id = Whole<i64>;

impl<'de, T: TryFrom<i128>> Deserialize<'de> for Whole<T> {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        from.deserialize_any(Digits(PhantomData))
    }
}

/// Reads a [`Whole`].
struct Digits<T>(PhantomData<T>);

impl<T: TryFrom<i128>> Digits<T> {
    /// Converts a number, or refuses one that `T` can't represent.
    fn fit<E: Error>(&self, number: i128) -> Result<Whole<T>, E> {
        let number = T::try_from(number).map_err(|_| {
            let text = number.to_string();
            E::invalid_value(Unexpected::Other(&text), self)
        })?;
        Ok(Whole(number))
    }
}

impl<T: TryFrom<i128>> Visitor<'_> for Digits<T> {
    type Value = Whole<T>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let sign = if T::try_from(-1).is_ok() {
            ""
        } else {
            ", not negative"
        };
        write!(f, "a whole number of 64 bits{sign}, as 7 or as \"7\"")
    }

    fn visit_i64<E: Error>(self, number: i64) -> Result<Whole<T>, E> {
        self.fit(number.into())
    }

    fn visit_u64<E: Error>(self, number: u64) -> Result<Whole<T>, E> {
        self.fit(number.into())
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<Whole<T>, E> {
        let digits = text.strip_prefix('-').unwrap_or(text);
        let is_number = !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit());
        match text.parse() {
            Ok(number) if is_number => self.fit(number),
            _ => Err(E::invalid_value(Unexpected::Str(text), &self)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read<T: TryFrom<i128>>(json: &str) -> Result<T, String> {
        let read = serde_json::from_str::<Whole<T>>(json);
        read.map(|Whole(number)| number)
            .map_err(|error| error.to_string())
    }

    #[test]
    fn every_number_of_64_bits_is_read_from_number_and_text() {
        for number in [i64::MIN, -1, 0, 7, (1 << 53) + 1, i64::MAX] {
            assert_eq!(read(&number.to_string()), Ok(number));
            assert_eq!(read(&format!("\"{number}\"")), Ok(number));
        }
        assert_eq!(read("\"18446744073709551615\""), Ok(u64::MAX));
        assert_eq!(read("18446744073709551615"), Ok(u64::MAX));
    }

    #[test]
    fn errors_say_what_a_valid_number_is() {
        for json in [
            "9223372036854775808",
            "\"9223372036854775808\"",
            "\"-9223372036854775809\"",
            "\"99999999999999999999999999999999999999999999\"",
            "1.5",
            "1e3",
            "\"\"",
            "\"-\"",
            "\"+7\"",
            "\" 7\"",
            "\"7 \"",
            "\"7.0\"",
            "\"0x7\"",
            "\"\u{0667}\"",
            "true",
            "null",
            "[7]",
        ] {
            let why = read::<i64>(json).unwrap_err();
            assert!(why.contains("a whole number of 64 bits"), "{json}: {why}");
        }
        let why = read::<u64>("\"-1\"").unwrap_err();
        assert!(why.contains("not negative"), "{why}");
    }

    #[test]
    fn a_number_is_written_as_a_number() {
        let written = serde_json::to_string(&Whole(i64::MAX)).unwrap();
        assert_eq!(written, "9223372036854775807");
    }
}
