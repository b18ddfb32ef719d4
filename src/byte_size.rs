//! Parses sizes in bytes, with or without a unit: `65536`, or `64KiB`.
//!
//! Serves imd.toml, the admin API and the command line, so that each accepts and refuses the same texts.

use bytesize::ByteSize;

/// Why a text is not a size. The text of the error says what to write instead.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SizeError {
    /// The text begins with a minus.
    #[error("a size can't be negative")]
    Negative,
    /// The number has a decimal point, and the size in bytes might not be whole.
    #[error("write a whole number, with a smaller unit if need be")]
    Fraction,
    /// The size does not fit into 64 bits.
    #[error("a size is less than 16EiB")]
    TooLarge,
    /// The text does not begin with a number, or its unit is not one of bytes.
    #[error(
        "write a number, and behind it B, KiB, MiB, GiB, TiB, or kB, MB, GB, TB for powers of 1000"
    )]
    Unknown,
}

/// Parses a size such as `65536`, `64KiB` or `64 kB`, and returns it in bytes. The case of the unit does not matter.
///
/// # Errors
///
/// [`SizeError`], which says what is wrong with the text.
pub fn parse(text: &str) -> Result<u64, SizeError> {
    let is_digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
    match text.parse::<ByteSize>() {
        _ if text.starts_with('-') => Err(SizeError::Negative),
        _ if text.contains('.') => Err(SizeError::Fraction),
        // The parser returns this instead of an error for a size that does not fit.
        Ok(ByteSize(u64::MAX)) => Err(SizeError::TooLarge),
        Ok(ByteSize(bytes)) => Ok(bytes),
        Err(_) if !text.is_empty() && is_digits(text) => Err(SizeError::TooLarge),
        Err(_) => Err(SizeError::Unknown),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_size_is_a_number_with_or_without_a_unit() {
        for (text, bytes) in [
            ("0", 0),
            ("65536", 65_536),
            ("7B", 7),
            ("64KiB", 65_536),
            ("64kib", 65_536),
            ("16MiB", 16 << 20),
            ("16 MiB", 16 << 20),
            ("1GiB", 1 << 30),
            ("15EiB", 15 << 60),
            ("64kB", 64_000),
            ("2M", 2_000_000),
        ] {
            assert_eq!(parse(text), Ok(bytes), "{text}");
        }
    }

    #[test]
    fn each_kind_of_mistake_has_its_own_error() {
        for (text, error) in [
            ("-1", SizeError::Negative),
            ("-1MiB", SizeError::Negative),
            ("-x", SizeError::Negative),
            ("1.5MiB", SizeError::Fraction),
            ("16EiB", SizeError::TooLarge),
            ("99999999999999999999", SizeError::TooLarge),
            ("99999999999999999999KiB", SizeError::TooLarge),
            ("1.5", SizeError::Fraction),
            ("16MX", SizeError::Unknown),
            ("16Mbit", SizeError::Unknown),
            ("MiB", SizeError::Unknown),
            ("1e3", SizeError::Unknown),
            ("0x10", SizeError::Unknown),
            ("1_000", SizeError::Unknown),
            (" 8", SizeError::Unknown),
            ("8 ", SizeError::Unknown),
            ("٧", SizeError::Unknown),
            ("", SizeError::Unknown),
        ] {
            assert_eq!(parse(text), Err(error), "{text}");
        }
    }
}
