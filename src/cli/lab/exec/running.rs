//! The command of `imd exec` while it runs: it gets every signal exactly once, and is not left behind.
//!
//! A terminal sends its signals to all processes of its foreground group. When `imd` is one of them, the command is too,
//! and what the terminal sends has reached it: only what another process sends to `imd` alone is passed on. Otherwise
//! the command has a process group of its own, which nothing but `imd` sends signals to, and everything is passed on.

use std::collections::HashMap;
use std::fs::File;
use std::io;
use std::os::unix::process::CommandExt;
use std::process::Command;
use std::thread;
use std::time::Instant;

use nix::errno::Errno;
use nix::sys::signal::{Signal, kill, killpg};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::{Pid, getpgrp, getpid, getsid, tcgetpgrp};
use signal_hook::iterator::SignalsInfo;
use signal_hook::iterator::exfiltrator::WithOrigin;
use tokio::signal::unix::{Signal as Listener, SignalKind, signal};
use tokio::sync::mpsc;

use crate::cli::failure;
use crate::cli::signals::{TOGETHER, is_ignored};

/// Those that ask a process to end.
const ENDING: [Signal; 4] = [
    Signal::SIGHUP,
    Signal::SIGINT,
    Signal::SIGQUIT,
    Signal::SIGTERM,
];

/// Those that mean what the command says they mean.
const OTHERS: [Signal; 3] = [Signal::SIGUSR1, Signal::SIGUSR2, Signal::SIGWINCH];

/// Signals that came to this process. From its creation on they no longer end it by themselves.
pub struct Signals {
    came: mpsc::UnboundedReceiver<Came>,
    /// When a signal that asks to end was taken last.
    last: HashMap<Signal, Instant>,
}

#[derive(Clone, Copy)]
struct Came {
    signal: Signal,
    /// Another process has sent it, and not the system on behalf of a terminal.
    is_sent: bool,
}

impl Signals {
    /// Begins to listen. What was ignored when the process began stays ignored, for the command too.
    ///
    /// # Errors
    ///
    /// When the system refuses.
    pub fn listen() -> io::Result<Signals> {
        let meant = ENDING.iter().chain(&OTHERS);
        let meant = meant.filter(|signal| !is_ignored(**signal));
        let mut origins = SignalsInfo::<WithOrigin>::new(meant.map(|&signal| signal as i32))?;
        let (send, came) = mpsc::unbounded_channel();
        thread::Builder::new()
            .name("signals".into())
            .spawn(move || {
                for origin in origins.forever() {
                    let is_sent = origin.process.is_some();
                    let Ok(signal) = Signal::try_from(origin.signal) else {
                        continue;
                    };
                    if send.send(Came { signal, is_sent }).is_err() {
                        return;
                    }
                }
            })?;
        Ok(Signals {
            came,
            last: HashMap::new(),
        })
    }

    /// The next one. A signal that asks to end counts once, however many send it at the same time.
    async fn next(&mut self) -> Came {
        while let Some(came) = self.came.recv().await {
            if ENDING.contains(&came.signal) {
                let now = Instant::now();
                let last = self.last.get(&came.signal);
                if last.is_some_and(|&last| now.duration_since(last) < TOGETHER) {
                    continue;
                }
                self.last.insert(came.signal, now);
            }
            return came;
        }
        std::future::pending().await
    }

    /// Resolves when the process is asked to end.
    pub async fn ending(&mut self) {
        while !ENDING.contains(&self.next().await.signal) {}
    }
}

/// A command that runs. It is killed when dropped.
pub struct Running {
    pid: Pid,
    has_own_group: bool,
    has_ended: bool,
    /// Says that a child has ended.
    children: Listener,
}

impl Running {
    /// Starts a command.
    ///
    /// # Errors
    ///
    /// What the system says.
    pub fn start(mut command: Command) -> io::Result<Running> {
        let has_own_group = !is_in_foreground();
        if has_own_group {
            command.process_group(0);
        }
        // Before there is a child whose end could be missed.
        let children = signal(SignalKind::child())?;
        let pid = command.spawn()?.id();
        let pid = i32::try_from(pid).map_err(io::Error::other)?;
        Ok(Running {
            pid: Pid::from_raw(pid),
            has_own_group,
            has_ended: false,
            children,
        })
    }

    /// Waits for its end, and passes signals on meanwhile. Returns what a shell would say of it.
    ///
    /// # Errors
    ///
    /// What the system says.
    pub async fn ended(&mut self, signals: &mut Signals) -> io::Result<u8> {
        loop {
            if let Some(code) = self.reap()? {
                self.has_ended = true;
                return Ok(code);
            }
            tokio::select! {
                _ = self.children.recv() => {}
                came = signals.next() => self.pass_on(came),
            }
        }
    }

    /// Takes note of every child that has ended. As the first process of a container, this one is given those that have
    /// lost their parents.
    fn reap(&self) -> nix::Result<Option<u8>> {
        loop {
            let (pid, code) = match waitpid(None, Some(WaitPidFlag::WNOHANG)) {
                Ok(WaitStatus::Exited(pid, code)) => (pid, code),
                Ok(WaitStatus::Signaled(pid, signal, _)) => (pid, 128 + signal as i32),
                Ok(WaitStatus::StillAlive) => return Ok(None),
                Ok(_) | Err(Errno::EINTR) => continue,
                Err(error) => return Err(error),
            };
            if pid == self.pid {
                return Ok(Some(u8::try_from(code).unwrap_or(failure::FAILED)));
            }
        }
    }

    fn pass_on(&self, came: Came) {
        // When a terminal is gone, only the leader of its session is told.
        let is_for_leader = came.signal == Signal::SIGHUP && getsid(None) == Ok(getpid());
        // It may have ended just now.
        if self.has_own_group && ENDING.contains(&came.signal) {
            // As if it had stayed in the group of imd: what it has started ends too.
            let _ = killpg(self.pid, came.signal);
        } else if self.has_own_group || came.is_sent || is_for_leader {
            let _ = kill(self.pid, came.signal);
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if !self.has_ended {
            let _ = kill(self.pid, Signal::SIGKILL);
        }
    }
}

/// Whether this process is in the foreground group of its terminal, wherever stdin comes from.
fn is_in_foreground() -> bool {
    let terminal = File::open("/dev/tty");
    terminal.is_ok_and(|terminal| tcgetpgrp(terminal) == Ok(getpgrp()))
}
