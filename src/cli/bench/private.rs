//! A private `imd`: another process of this program, on free ports, gone when the run is over.

use std::fs;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Stdio};
use std::time::{Duration, Instant};

use imd::Config;
use imd::daemon::Addresses;
use tempfile::TempDir;

use crate::cli::failure::Failure;
use crate::cli::{addr_file, launch};

/// How long it gets to stop by itself.
const GRACE: Duration = Duration::from_secs(10);

/// How often to look whether it has stopped.
const LOOK_EVERY: Duration = Duration::from_millis(2);

/// Messages in memory may take so much: a fast run would soon fill what is usual.
const MEMORY_LIMIT: u64 = 8 << 30;

/// A daemon that serves.
pub struct Private {
    child: Running,
    /// Held open, so that it can say its last line.
    _stdout: BufReader<ChildStdout>,
    pub addresses: Addresses,
    /// For config and addresses. Removed when dropped.
    _folder: TempDir,
}

/// A process that is killed when dropped.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        // Both do nothing when it has ended.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Private {
    /// Starts it and waits until it serves.
    ///
    /// # Errors
    ///
    /// When it does not start; it has said why on stderr.
    pub fn start(config: Option<&Path>, store: Option<&Path>) -> Result<Private, Failure> {
        let failed = |error: String| Failure::Failed(format!("a private imd: {error}"));
        let folder = tempfile::Builder::new().prefix("imd-bench-").tempdir();
        let folder = folder.map_err(|error| failed(error.to_string()))?;
        let config = match config {
            Some(config) => config.to_owned(),
            None => write_config(folder.path()).map_err(failed)?,
        };
        let addresses = folder.path().join("addr.json");
        let program = std::env::current_exe().map_err(|error| failed(error.to_string()))?;
        let mut command = launch::command(program.as_os_str(), None, None)
            .map_err(|error| failed(error.to_string()))?;
        command.arg("--config").arg(config);
        command.arg("--addr-file").arg(&addresses).arg("--any-port");
        match store {
            Some(store) => command.arg("--store").arg(store),
            None => command.arg("--memory"),
        };
        // A Ctrl-C is for this process, which then stops the other one.
        #[cfg(unix)]
        std::os::unix::process::CommandExt::process_group(&mut command, 0);
        let child = command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn();
        let mut child = Running(child.map_err(|error| failed(error.to_string()))?);
        let stdout = child.0.stdout.take();
        let stdout = stdout.ok_or_else(|| failed("it has no stdout".into()))?;
        let mut stdout = BufReader::new(stdout);
        let mut line = String::new();
        while !line.starts_with("Ready") {
            line.clear();
            if stdout.read_line(&mut line).unwrap_or_default() == 0 {
                return Err(failed("it does not start".into()));
            }
        }
        Ok(Private {
            addresses: addr_file::read(&addresses)?,
            child,
            _stdout: stdout,
            _folder: folder,
        })
    }

    /// Its process.
    pub fn pid(&self) -> u32 {
        self.child.0.id()
    }

    /// Stops it with manners.
    ///
    /// # Errors
    ///
    /// When it does not stop, or has failed.
    pub async fn stop(mut self) -> Result<(), Failure> {
        self.terminate();
        let until = Instant::now() + GRACE;
        while Instant::now() < until {
            match self.child.0.try_wait() {
                Ok(Some(status)) if status.success() => return Ok(()),
                Ok(Some(status)) => {
                    return Err(Failure::Failed(format!("the private imd ended: {status}")));
                }
                Ok(None) => tokio::time::sleep(LOOK_EVERY).await,
                Err(error) => return Err(Failure::Failed(format!("the private imd: {error}"))),
            }
        }
        Err(Failure::Failed("the private imd does not stop".into()))
    }

    #[cfg(unix)]
    fn terminate(&mut self) {
        use nix::sys::signal::{Signal, kill};
        if let Ok(pid) = i32::try_from(self.pid()) {
            // Fails only when it is gone, which the wait tells.
            let _ = kill(nix::unistd::Pid::from_raw(pid), Signal::SIGTERM);
        }
    }

    #[cfg(not(unix))]
    fn terminate(&mut self) {
        let _ = self.child.0.kill();
    }
}

/// Writes the defaults, with room for many messages, into a folder.
fn write_config(folder: &Path) -> Result<PathBuf, String> {
    let mut config = Config::default();
    config.store.memory_limit = usize::try_from(MEMORY_LIMIT).unwrap_or(usize::MAX);
    let text = config.to_toml().map_err(|error| error.to_string())?;
    let path = folder.join("imd.toml");
    fs::write(&path, text).map_err(|error| error.to_string())?;
    Ok(path)
}
