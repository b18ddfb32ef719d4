//! The file that says where a daemon listens, for those who wait for it.

use std::fs::{self, File};
use std::io::{ErrorKind, Read};
use std::path::Path;
use std::time::Duration;

use imd::daemon::Addresses;
use imd::file_target::{FileTarget, TargetError};
use imd::text;
use tokio::task::JoinHandle;

use super::failure::Failure;

/// No addresses take more.
const LONGEST: u64 = 16 << 20;

/// The file of this daemon. Dropped, it is gone, unless another daemon has written it anew.
pub struct AddrFile {
    target: FileTarget,
    /// What was written into a regular file.
    text: Option<String>,
    /// The writing of a pipe or a device, which takes as long as its reader.
    writing: Option<JoinHandle<Result<(), TargetError>>>,
}

impl AddrFile {
    /// Takes the place of the file, before anything listens: whoever waits for the file must not find that of an earlier
    /// daemon.
    ///
    /// # Errors
    ///
    /// When what stands there can't be written to, or not be removed.
    pub fn claim(path: &Path) -> Result<AddrFile, Failure> {
        let target = FileTarget::at(path).map_err(failed)?;
        target.remove().map_err(|source| {
            let path = path.to_owned();
            failed(TargetError::Io { path, source })
        })?;
        Ok(AddrFile {
            target,
            text: None,
            writing: None,
        })
    }

    /// Writes the addresses as one line of JSON. A regular file is there, whole, when this returns. A pipe or a device is
    /// written to when it is read, however late that is.
    ///
    /// # Errors
    ///
    /// When a regular file can't be written; nothing is left behind then.
    pub fn write(&mut self, addresses: &Addresses) -> Result<(), Failure> {
        let text = serde_json::to_string(addresses);
        let text = text.map_err(|error| Failure::Failed(format!("--addr-file: {error}")))?;
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
        written.map_err(failed)?;
        self.text = Some(text);
        Ok(())
    }

    /// Resolves when a pipe or a device could not be written to. A reader who has gone is no failure.
    pub async fn failed(&mut self) -> Failure {
        let written = match &mut self.writing {
            Some(writing) => writing.await,
            None => std::future::pending().await,
        };
        // It is not asked again.
        self.writing = None;
        match written {
            Ok(Err(TargetError::Io { source, .. })) if source.kind() == ErrorKind::BrokenPipe => {}
            Ok(Err(error)) => return failed(error),
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

fn failed(error: TargetError) -> Failure {
    Failure::of_target("--addr-file ", error)
}

/// Reads the addresses that a daemon wrote.
///
/// # Errors
///
/// When the file is not there, or is another one.
pub fn read(path: &Path) -> Result<Addresses, Failure> {
    let bad = |error: String| Failure::Usage(format!("--addr-file {}: {error}", path.display()));
    let mut bytes = Vec::new();
    File::open(path)
        .and_then(|file| file.take(LONGEST).read_to_end(&mut bytes))
        .map_err(|error| {
            bad(format!(
                "{error} (a running daemon writes it with --addr-file)"
            ))
        })?;
    let text = text::read_lines(&bytes).map_err(|error| bad(error.to_string()))?;
    serde_json::from_str(text)
        .map_err(|error| bad(format!("this is no file of a daemon's addresses: {error}")))
}
