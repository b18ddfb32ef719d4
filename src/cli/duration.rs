//! Parses durations on the command line. Every flag that takes a time takes a number with its unit, such as `15s`.
//!
//! Serves the argument types as their value parsers, so the errors are plain texts that clap prints.

use std::time::Duration;

/// The longest duration that a flag takes. It is short enough for timers to add to the current time without overflow.
const MAX_DURATION: Duration = Duration::from_secs(100 * 365 * 24 * 3600);

/// Parses a duration such as `15s`, `500ms` or `1h 30m`.
///
/// # Errors
///
/// A text that says what to write instead. A number without a unit and a negative number have texts of their own.
pub fn duration(text: &str) -> Result<Duration, String> {
    let parsed = humantime::parse_duration(text).map_err(|error| {
        if text.trim_start().starts_with('-') {
            return "a time can't be negative here".to_owned();
        }
        match text.trim().parse::<f64>() {
            Ok(_) => format!("write the unit too, such as {0}s or {0}ms", text.trim()),
            Err(_) => format!("write a number with its unit, such as 500ms, 15s or 1h: {error}"),
        }
    })?;
    if parsed > MAX_DURATION {
        return Err("at most 100 years".into());
    }
    Ok(parsed)
}

/// Parses a duration as [`duration`] does, and refuses zero.
///
/// # Errors
///
/// The errors of [`duration`], and zero.
pub fn some_time(text: &str) -> Result<Duration, String> {
    match duration(text)? {
        Duration::ZERO => Err("give a time above 0, such as 5s".into()),
        time => Ok(time),
    }
}

/// Parses a duration with an optional sign, and returns it in milliseconds.
///
/// # Errors
///
/// The errors of [`duration`], and a time that is not a whole number of milliseconds.
pub fn signed_ms(text: &str) -> Result<i64, String> {
    let (sign, rest) = match text.strip_prefix('-') {
        Some(rest) => (-1, rest),
        None => (1, text.strip_prefix('+').unwrap_or(text)),
    };
    let time = duration(rest)?;
    if time.subsec_nanos() % 1_000_000 != 0 {
        return Err("whole milliseconds, such as 15s or -500ms".into());
    }
    let ms = i64::try_from(time.as_millis()).map_err(|_| "at most 100 years".to_owned())?;
    Ok(sign * ms)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_duration_needs_a_unit() {
        assert_eq!(duration("15s"), Ok(Duration::from_secs(15)));
        assert_eq!(duration("1m 500ms"), Ok(Duration::from_millis(60_500)));
        assert_eq!(duration("0s"), Ok(Duration::ZERO));
        for (text, says) in [
            ("15", "such as 15s or 15ms"),
            ("0.5", "such as 0.5s"),
            ("", "such as 500ms, 15s or 1h"),
            ("soon", "such as 500ms, 15s or 1h"),
            ("5x", "such as 500ms, 15s or 1h"),
            ("-5s", "negative"),
            ("1000years", "at most 100 years"),
        ] {
            let error = duration(text).unwrap_err();
            assert!(error.contains(says), "{text}: {error}");
        }
        some_time("0ms").unwrap_err();
    }

    #[test]
    fn a_signed_duration_may_be_negative() {
        assert_eq!(signed_ms("-1h"), Ok(-3_600_000));
        assert_eq!(signed_ms("+5s"), Ok(5_000));
        assert_eq!(signed_ms("500ms"), Ok(500));
        for bad in ["1000", "-1000", "--5s", "-", "5us", ""] {
            signed_ms(bad).unwrap_err();
        }
    }
}
