//! Runs a private `imd` for a benchmark: another process of this program, on free ports, which is stopped when the
//! run is over.
//!
//! Serves [`run`](fn@super::run). The process and its folder are gone once [`Private`] is dropped. It has a core of its own
//! where there are two, so that the load takes no time from it and a run says the same figure the next time. On one core,
//! `imd` has one worker: the figure is that of one core, as all those of `examples/side_by_side` are.

use std::fs;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Stdio};
use std::time::{Duration, Instant};

use imd::Config;
use imd::daemon::Addresses;
use imd::load::{CoreSplit, pin};
use tempfile::TempDir;

use crate::cli::failure::Failure;
use crate::cli::{addr_file, launch, settings};

/// How long the process may take to stop by itself.
const GRACE: Duration = Duration::from_secs(10);

/// How often to check whether the process has stopped.
const CHECK_INTERVAL: Duration = Duration::from_millis(2);

/// Memory limit of a store in memory, in bytes. A fast run would soon exceed the default.
const MEMORY_LIMIT: u64 = 8 << 30;

/// A running daemon that serves.
pub struct Private {
    child: Running,
    /// Kept open, so that the daemon can write its last line.
    _stdout: BufReader<ChildStdout>,
    /// Where the daemon listens.
    pub addresses: Addresses,
    /// Whether it has one core, and the load generator the others. Otherwise they share all cores.
    pub has_own_core: bool,
    /// The folder for config and addresses. It is removed when dropped.
    _folder: TempDir,
}

/// A process that is killed when dropped.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        // Both calls do nothing when the process has ended.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Private {
    /// Starts the daemon and waits until it serves. Unless they are to share the cores, the daemon gets one, and the calling
    /// thread and the threads that it starts later get the others.
    ///
    /// # Errors
    ///
    /// When the daemon does not start. It has written the reason to stderr.
    pub fn start(
        config: Option<&Path>,
        store: Option<&Path>,
        shares_cores: bool,
    ) -> Result<Private, Failure> {
        let failed = |error: String| Failure::Failed(format!("a private imd: {error}"));
        let folder = tempfile::Builder::new().prefix("imd-bench-").tempdir();
        let folder = folder.map_err(|error| failed(error.to_string()))?;
        let config = match settings::file(config) {
            Some(config) => config,
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
        // Ctrl-C is handled by this process, which then stops the daemon; a process group of its own keeps the
        // terminal from signalling it too.
        #[cfg(unix)]
        std::os::unix::process::CommandExt::process_group(&mut command, 0);
        command.stdin(Stdio::null()).stdout(Stdio::piped());
        // A process begins on the cores of the thread that starts it, so this thread moves to that core, and then to the others.
        let split = CoreSplit::of_this_thread().filter(|split| !shares_cores && pin(&split.server));
        let child = command.spawn();
        let has_own_core = split.is_some_and(|split| pin(&split.load));
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
            has_own_core,
            child,
            _stdout: stdout,
            _folder: folder,
        })
    }

    /// Returns the id of the process.
    pub fn pid(&self) -> u32 {
        self.child.0.id()
    }

    /// Asks the daemon to stop, and waits for its end.
    ///
    /// # Errors
    ///
    /// When the daemon does not stop in time, or ends with an error.
    pub async fn stop(mut self) -> Result<(), Failure> {
        self.terminate();
        let until = Instant::now() + GRACE;
        while Instant::now() < until {
            match self.child.0.try_wait() {
                Ok(Some(status)) if status.success() => return Ok(()),
                Ok(Some(status)) => {
                    return Err(Failure::Failed(format!("the private imd ended: {status}")));
                }
                Ok(None) => tokio::time::sleep(CHECK_INTERVAL).await,
                Err(error) => return Err(Failure::Failed(format!("the private imd: {error}"))),
            }
        }
        Err(Failure::Failed("the private imd does not stop".into()))
    }

    /// Asks the process to end.
    #[cfg(unix)]
    fn terminate(&mut self) {
        use nix::sys::signal::{Signal, kill};
        if let Ok(pid) = i32::try_from(self.pid()) {
            // This fails only when the process has ended, which the caller notices.
            let _ = kill(nix::unistd::Pid::from_raw(pid), Signal::SIGTERM);
        }
    }

    /// Kills the process: there is no signal to ask it with.
    #[cfg(not(unix))]
    fn terminate(&mut self) {
        let _ = self.child.0.kill();
    }
}

/// Writes a config into a folder: the defaults, with more memory for messages.
fn write_config(folder: &Path) -> Result<PathBuf, String> {
    let mut config = Config::default();
    config.store.memory_limit = usize::try_from(MEMORY_LIMIT).unwrap_or(usize::MAX);
    let text = config.to_toml().map_err(|error| error.to_string())?;
    let path = folder.join("imd.toml");
    fs::write(&path, text).map_err(|error| error.to_string())?;
    Ok(path)
}
