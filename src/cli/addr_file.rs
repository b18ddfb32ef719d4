//! Writes and reads the file that says where a daemon listens.
//!
//! Serves `main`, which writes it, and the client commands, which read it. A regular file exists, complete, only
//! while the daemon that wrote it serves: other processes wait for it to appear.

use std::fs::{self, File};
use std::io::{ErrorKind, Read};
use std::path::Path;
use std::time::Duration;

use imd::daemon::Addresses;
use imd::file_target::{FileTarget, TargetError};
use imd::text;
use tokio::task::JoinHandle;

use super::failure::Failure;

/// Longest addresses file that is read, in bytes.
const MAX_FILE_BYTES: u64 = 16 << 20;

/// The addresses file of this daemon. Dropping it removes the file, unless another daemon has written its own there
/// meanwhile.
pub struct AddrFile {
    /// Where the addresses are written: a regular file, a pipe or a device.
    target: FileTarget,
    /// The flag or the variable that names the file, for errors.
    source: String,
    /// What was written to a regular file, which tells this daemon's file from that of another one.
    text: Option<String>,
    /// The task that writes to a pipe or a device, which takes until somebody reads it.
    writing: Option<JoinHandle<Result<(), TargetError>>>,
}

impl AddrFile {
    /// Removes the file of an earlier daemon. To be called before anything listens, so that a process that waits for
    /// the file never reads old addresses. `source` is the flag or the variable that names it.
    ///
    /// # Errors
    ///
    /// When the path can't be written to, or the file there can't be removed.
    pub fn claim(path: &Path, source: String) -> Result<AddrFile, Failure> {
        let target = FileTarget::at(path).map_err(|error| failed(&source, error))?;
        target.remove().map_err(|error| {
            let path = path.to_owned();
            let error = TargetError::Io {
                path,
                source: error,
            };
            failed(&source, error)
        })?;
        Ok(AddrFile {
            target,
            source,
            text: None,
            writing: None,
        })
    }

    /// Writes the addresses as one line of JSON. A regular file is complete when this returns. A pipe or a device is
    /// written to in the background, however late it is read.
    ///
    /// # Errors
    ///
    /// When a regular file can't be written. No part of it is left behind.
    pub fn write(&mut self, addresses: &Addresses) -> Result<(), Failure> {
        let text = serde_json::to_string(addresses);
        let text = text.map_err(|error| Failure::Failed(format!("{}: {error}", self.source)))?;
        let text = text + "\n";
        if self.target.is_stream() {
            let target = self.target.clone();
            self.writing = Some(tokio::task::spawn_blocking(move || {
                target.write(Duration::MAX, |out| out.write_all(text.as_bytes()))
            }));
            return Ok(());
        }
        let written = self
            .target
            .write(Duration::ZERO, |out| out.write_all(text.as_bytes()));
        written.map_err(|error| failed(&self.source, error))?;
        self.text = Some(text);
        Ok(())
    }

    /// Resolves when writing to a pipe or a device failed. A reader that closes the pipe early is not a failure.
    pub async fn failed(&mut self) -> Failure {
        let written = match &mut self.writing {
            Some(writing) => writing.await,
            None => std::future::pending().await,
        };
        // A finished task must not be polled again.
        self.writing = None;
        match written {
            Ok(Err(TargetError::Io { source, .. })) if source.kind() == ErrorKind::BrokenPipe => {}
            Ok(Err(error)) => return failed(&self.source, error),
            Ok(Ok(())) | Err(_) => {}
        }
        std::future::pending().await
    }
}

impl Drop for AddrFile {
    fn drop(&mut self) {
        let Some(ours) = self.text.take() else {
            return;
        };
        let path = self.target.path();
        let is_ours = FileTarget::at(path).is_ok_and(|found| !found.is_stream())
            && fs::read_to_string(path).is_ok_and(|text| text == ours);
        if is_ours && let Err(error) = self.target.remove() {
            tracing::warn!(file = %path.display(), %error, "the addresses file was not removed");
        }
    }
}

/// Returns the failure for an addresses file that can't be written, with what names the file.
fn failed(source: &str, error: TargetError) -> Failure {
    Failure::of_target(&format!("{source} "), error)
}

/// Reads the addresses from the file that a daemon wrote.
///
/// # Errors
///
/// [`Failure::Usage`] when the file can't be read or does not hold the addresses of a daemon.
pub fn read(path: &Path) -> Result<Addresses, Failure> {
    let bad = |error: String| Failure::Usage(format!("--addr-file {}: {error}", path.display()));
    let mut bytes = Vec::new();
    File::open(path)
        .and_then(|file| file.take(MAX_FILE_BYTES).read_to_end(&mut bytes))
        .map_err(|error| {
            bad(format!(
                "{error} (a running daemon writes it with --addr-file)"
            ))
        })?;
    let text = text::read_lines(&bytes).map_err(|error| bad(error.to_string()))?;
    serde_json::from_str(text)
        .map_err(|error| bad(format!("this is no file of a daemon's addresses: {error}")))
}
