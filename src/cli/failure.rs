//! Why a command failed, and what the process then exits with.

use std::io::ErrorKind;

use imd::StartError;
use imd::config::ConfigError;
use imd::file_target::TargetError;
use imd::store::StoreFailed;

use super::escape::escape;
use super::stderr;

/// An operation failed at run time.
pub const FAILED: u8 = 1;
/// The command line or the config is wrong, or a port is taken (sysexits' EX_USAGE).
pub const USAGE: u8 = 64;

/// A program that is to be run can't be run, as a shell says it.
pub const NOT_EXECUTABLE: u8 = 126;
/// A program that is to be run is not there, as a shell says it.
pub const NOT_FOUND: u8 = 127;

/// Why a command failed. Its text says what to do.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    /// A flag is wrong.
    #[error("{0}")]
    Usage(String),
    /// The config is wrong.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The stack does not start.
    #[error(transparent)]
    Start(#[from] StartError),
    /// The stack ran, until its store failed.
    #[error(
        "{0}: imd has stopped. See what the system says of the disk and of the folder, then start imd again"
    )]
    Store(StoreFailed),
    /// It did not work out.
    #[error("{0}")]
    Failed(String),
    /// A program that is to be run is there and can't be run.
    #[error("{0}")]
    NotExecutable(String),
    /// A program that is to be run is not there.
    #[error("{0}")]
    NotFound(String),
    /// Why is said already; this is the code to exit with.
    #[error("the command ended with {0}")]
    Exit(u8),
    /// Nobody reads stdout any more: not worth a word.
    #[error("stdout is closed")]
    OutputClosed,
}

impl Failure {
    /// A file could not be read or written: the caller has named the wrong one, or it has failed. `what` says what it is
    /// for.
    pub fn of_file(what: &str, path: &std::path::Path, error: &std::io::Error) -> Failure {
        let text = format!("{what}{}: {error}", path.display());
        let is_wrong = matches!(
            error.kind(),
            ErrorKind::NotFound
                | ErrorKind::PermissionDenied
                | ErrorKind::AlreadyExists
                | ErrorKind::IsADirectory
                | ErrorKind::NotADirectory
                | ErrorKind::ReadOnlyFilesystem
                | ErrorKind::InvalidFilename
                | ErrorKind::InvalidInput
                | ErrorKind::InvalidData
        );
        match is_wrong {
            true => Failure::Usage(format!(
                "{text}: name another file, or make this one usable"
            )),
            false => Failure::Failed(text),
        }
    }

    /// A file could not be written; see [`of_file`](Self::of_file).
    pub fn of_target(what: &str, error: TargetError) -> Failure {
        match error {
            TargetError::Io { path, source } => Failure::of_file(what, &path, &source),
            unfit @ TargetError::Unfit { .. } => Failure::Usage(format!("{what}{unfit}")),
        }
    }

    /// What the process exits with.
    pub fn exit_code(&self) -> u8 {
        match self {
            Failure::Usage(_) | Failure::Config(_) | Failure::Start(_) => USAGE,
            Failure::Store(_) | Failure::Failed(_) => FAILED,
            Failure::NotExecutable(_) => NOT_EXECUTABLE,
            Failure::NotFound(_) => NOT_FOUND,
            Failure::Exit(code) => *code,
            Failure::OutputClosed => 0,
        }
    }

    /// Says it on stderr.
    pub fn report(&self) {
        if self.is_worth_a_word() {
            warn(&self.to_string());
        }
    }

    /// Whether there is something to say that was not said already.
    pub fn is_worth_a_word(&self) -> bool {
        !matches!(self, Failure::OutputClosed | Failure::Exit(_))
    }
}

/// A line on stderr. It may hold a server's text, so it is escaped.
pub fn warn(text: &str) {
    stderr::say(&format!("imd: {}\n", escape(text)));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_store_that_has_failed_is_no_usage_error_and_its_text_says_what_to_do() {
        let failure = Failure::Store(StoreFailed("fsync: I/O error".into()));
        assert_eq!(failure.exit_code(), FAILED);
        let text = failure.to_string();
        assert!(text.starts_with("the store has failed: fsync: I/O error: "));
        assert!(text.ends_with("start imd again"), "{text}");
    }
}
