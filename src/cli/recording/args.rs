//! Defines the arguments of `imd record` and `imd replay`.
//!
//! Serves `record` and `replay`. Doc comments on the argument types are the help texts of `--help`.

use std::path::PathBuf;
use std::time::Duration;

use clap::Args;

use crate::cli::LoginArgs;
use crate::cli::duration::{duration, some_time};
use crate::cli::lab::AdminArgs;

#[derive(Args)]
pub struct RecordArgs {
    /// The file to write; where there is one already, it is left alone. It holds the tokens of logins, so only its owner
    /// may read it
    #[arg(long, value_name = "FILE")]
    pub to: PathBuf,
    /// Replace a file that is there already
    #[arg(long)]
    pub force: bool,
    /// Only this user's sessions, each from its login on; may be given more than once
    #[arg(long)]
    pub uid: Vec<i64>,
    /// Only this session, by its number in `imd state` and `imd tail`; may be given more than once
    #[arg(long, value_name = "ID")]
    pub session: Vec<u64>,
    /// End after this many frames
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    pub count: Option<u64>,
    /// End after this time, such as 30s
    #[arg(long = "for", value_name = "TIME", value_parser = duration)]
    pub lasting: Option<Duration>,
    #[command(flatten)]
    pub admin: AdminArgs,
}

#[derive(Args)]
pub struct ReplayArgs {
    /// The record
    #[arg(value_name = "FILE")]
    pub file: PathBuf,
    /// Connect to this access server; the gateway is not asked, and what was said to it is left out
    #[arg(long, value_name = "ADDR")]
    pub access: Option<String>,
    /// Log in with tokens that the user API gives for this password
    #[arg(long, value_name = "PASSWORD", conflicts_with = "token")]
    pub pw: Option<String>,
    /// Keep the recorded times, or replay this many times as fast [default: as fast as replies come]
    #[arg(long, value_name = "FACTOR", value_parser = factor)]
    pub speed: Option<f64>,
    /// How long to wait for each reply and notify
    #[arg(long, value_name = "TIME", default_value = "5s", value_parser = some_time)]
    pub timeout: Duration,
    /// Fields that are not compared, such as totalID or SendP2PMsg.msgID
    #[arg(long, value_name = "FIELDS", value_delimiter = ',')]
    pub ignore: Vec<String>,
    /// One JSON line for each difference, and one at the end
    #[arg(long)]
    pub json: bool,
    #[command(flatten)]
    pub login: LoginArgs,
}

/// Parses a factor of time, which is a finite number above 0.
fn factor(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(factor) if factor.is_finite() && factor > 0.0 => Ok(factor),
        _ => Err("give a number above 0, such as 1 or 0.5".into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_speed_must_be_above_0() {
        assert_eq!(factor("0.5"), Ok(0.5));
        for wrong in ["0", "-1", "inf", "NaN", "fast"] {
            factor(wrong).unwrap_err();
        }
    }
}
