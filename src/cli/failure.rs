//! The reasons why a command fails, and the exit code for each.
//!
//! Every command returns a [`Failure`]; `main` reports it and exits with its code. A failure's text tells the user
//! what to do.

use std::io::ErrorKind;

use imd::StartError;
use imd::config::ConfigError;
use imd::file_target::TargetError;
use imd::store::StoreError;

use super::escape::escape;
use super::stderr;

/// Exit code of an operation that failed at run time.
pub const FAILED: u8 = 1;
/// Exit code of a wrong command line or config, and of a port that is taken (EX_USAGE of sysexits).
pub const USAGE: u8 = 64;

/// Exit code of a program that is there and can't be run, the one that shells use.
pub const NOT_EXECUTABLE: u8 = 126;
/// Exit code of a program that was not found, the one that shells use.
pub const NOT_FOUND: u8 = 127;

/// The reason why a command failed. Its text tells the user what to do.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    /// An argument or a file that it names is wrong.
    #[error("{0}")]
    Usage(String),
    /// The config can't be read or is invalid.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The stack could not start.
    #[error(transparent)]
    Start(#[from] StartError),
    /// The store failed while the stack was running, which ended the stack.
    #[error(
        "{0}: imd has stopped. See what the system says of the disk and of the folder, then start imd again"
    )]
    Store(StoreError),
    /// An operation failed at run time, and the command line is not to blame.
    #[error("{0}")]
    Failed(String),
    /// A program that is to be run was found, but can't be executed.
    #[error("{0}")]
    NotExecutable(String),
    /// A program that is to be run was not found.
    #[error("{0}")]
    NotFound(String),
    /// The reason was reported before; the process only has to exit with this code.
    #[error("the command ended with {0}")]
    Exit(u8),
    /// The reader of stdout has gone. Nothing is reported, and the exit code is 0.
    #[error("stdout is closed")]
    OutputClosed,
}

impl Failure {
    /// Returns the failure for a file that could not be read or written: a usage error when another file would do,
    /// and a run-time failure otherwise. `what` is put before the path, and says what the file is for.
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

    /// Returns the failure for a file that could not be written, as [`of_file`](Self::of_file) does.
    pub fn of_target(what: &str, error: TargetError) -> Failure {
        match error {
            TargetError::Io { path, source } => Failure::of_file(what, &path, &source),
            unfit @ TargetError::Unfit { .. } => Failure::Usage(format!("{what}{unfit}")),
        }
    }

    /// Returns the exit code of the process.
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

    /// Writes the failure to stderr, unless there is nothing to report.
    pub fn report(&self) {
        if self.needs_report() {
            warn(&self.to_string());
        }
    }

    /// Returns whether the failure has to be reported: not when it was reported before, and not when nobody reads
    /// stdout.
    pub fn needs_report(&self) -> bool {
        !matches!(self, Failure::OutputClosed | Failure::Exit(_))
    }
}

/// Writes a line to stderr. The text may come from a server, so it is escaped.
pub fn warn(text: &str) {
    stderr::write_warning(&format!("imd: {}\n", escape(text)));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failed_store_is_a_runtime_failure_and_its_text_says_what_to_do() {
        let failure = Failure::Store(StoreError::from(std::io::Error::other("fsync: I/O error")));
        assert_eq!(failure.exit_code(), FAILED);
        let text = failure.to_string();
        assert!(text.starts_with("the store has failed: fsync: I/O error: "));
        assert!(text.ends_with("start imd again"), "{text}");
    }
}
