//! The file that says where a daemon listens, for those who wait for it.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use imd::daemon::Addresses;
use imd::text;

use super::failure::Failure;

/// A file that this daemon wrote.
pub struct AddrFile {
    path: PathBuf,
    text: String,
}

impl AddrFile {
    /// Writes the addresses as one line of JSON. The file appears whole, by rename, in place of an older one.
    ///
    /// # Errors
    ///
    /// When it can't be written; nothing is left behind then.
    pub fn write(path: &Path, addresses: &Addresses) -> Result<AddrFile, Failure> {
        let bad = |error: String| {
            let path = path.display();
            Failure::Usage(format!(
                "--addr-file {path}: {error}: give a file in a folder that can be written to"
            ))
        };
        let mut text = serde_json::to_string(addresses).map_err(|error| bad(error.to_string()))?;
        text.push('\n');
        let name = path
            .file_name()
            .ok_or_else(|| bad("this is no file name".into()))?;
        let mut temporary = std::ffi::OsString::from(".");
        temporary.push(name);
        temporary.push(format!(".{}.tmp", std::process::id()));
        let temporary = path.with_file_name(temporary);
        write_whole(&temporary, path, &text).map_err(|error| {
            // It may not be there at all.
            let _ = fs::remove_file(&temporary);
            bad(error.to_string())
        })?;
        let path = path.to_owned();
        Ok(AddrFile { path, text })
    }

    /// Removes the file, unless another daemon has written it anew.
    pub fn remove(self) {
        if fs::read_to_string(&self.path).is_ok_and(|text| text == self.text)
            && let Err(error) = fs::remove_file(&self.path)
        {
            tracing::warn!(file = %self.path.display(), %error, "the addresses file was not removed");
        }
    }
}

fn write_whole(temporary: &Path, path: &Path, text: &str) -> io::Result<()> {
    File::create(temporary)?.write_all(text.as_bytes())?;
    fs::rename(temporary, path)
}

/// Reads the addresses that a daemon wrote.
///
/// # Errors
///
/// When the file is not there, or is another one.
pub fn read(path: &Path) -> Result<Addresses, Failure> {
    let bad = |error: String| Failure::Usage(format!("--addr-file {}: {error}", path.display()));
    let bytes = fs::read(path).map_err(|error| {
        bad(format!(
            "{error} (a running daemon writes it with --addr-file)"
        ))
    })?;
    let text = text::read_lines(&bytes).map_err(|error| bad(error.to_string()))?;
    serde_json::from_str(text)
        .map_err(|error| bad(format!("this is no file of a daemon's addresses: {error}")))
}
