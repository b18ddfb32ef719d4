//! Runs the command of `imd exec`: it gets every signal exactly once, and is never left behind.
//!
//! Serves [`exec`](super), on Unix. A terminal sends its signals to all processes of its foreground group. When `imd`
//! is in that group, so is the command, and the terminal's signals reach it directly: only signals that another process
//! sends to `imd` alone are passed on. Otherwise the command gets a process group of its own, which only `imd` sends
//! signals to, and every signal is passed on.

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

/// Signals that ask a process to end.
const ENDING: [Signal; 4] = [
    Signal::SIGHUP,
    Signal::SIGINT,
    Signal::SIGQUIT,
    Signal::SIGTERM,
];

/// Signals whose meaning is up to the command.
const OTHERS: [Signal; 3] = [Signal::SIGUSR1, Signal::SIGUSR2, Signal::SIGWINCH];

/// Receives the signals sent to this process. From its creation on, they no longer end the process by themselves.
pub struct Signals {
    /// Signals from the thread that listens, in order of arrival.
    received: mpsc::UnboundedReceiver<ReceivedSignal>,
    /// When each signal that asks to end was last handled.
    last: HashMap<Signal, Instant>,
}

/// A signal that was sent to this process.
#[derive(Clone, Copy)]
struct ReceivedSignal {
    signal: Signal,
    /// Set when another process sent it, and not the system on behalf of a terminal.
    is_sent: bool,
}

impl Signals {
    /// Starts to listen. Signals that were ignored when the process began stay ignored, for the command too.
    ///
    /// # Errors
    ///
    /// When the system can't register a handler or start the thread.
    pub fn listen() -> io::Result<Signals> {
        let handled = ENDING.iter().chain(&OTHERS);
        let handled = handled.filter(|signal| !is_ignored(**signal));
        let mut origins = SignalsInfo::<WithOrigin>::new(handled.map(|&signal| signal as i32))?;
        let (send, received) = mpsc::unbounded_channel();
        thread::Builder::new()
            .name("signals".into())
            .spawn(move || {
                for origin in origins.forever() {
                    let is_sent = origin.process.is_some();
                    let Ok(signal) = Signal::try_from(origin.signal) else {
                        continue;
                    };
                    if send.send(ReceivedSignal { signal, is_sent }).is_err() {
                        return;
                    }
                }
            })?;
        Ok(Signals {
            received,
            last: HashMap::new(),
        })
    }

    /// Waits for the next signal. A signal that asks to end counts once, however many processes send it at the same
    /// time.
    async fn next(&mut self) -> ReceivedSignal {
        while let Some(received) = self.received.recv().await {
            if ENDING.contains(&received.signal) {
                let now = Instant::now();
                let last = self.last.get(&received.signal);
                if last.is_some_and(|&last| now.duration_since(last) < TOGETHER) {
                    continue;
                }
                self.last.insert(received.signal, now);
            }
            return received;
        }
        std::future::pending().await
    }

    /// Resolves when the process is asked to end.
    pub async fn ending(&mut self) {
        while !ENDING.contains(&self.next().await.signal) {}
    }
}

/// A running command. It is killed when dropped.
pub struct Running {
    pid: Pid,
    /// Set when the command is in a process group of its own.
    has_own_group: bool,
    has_ended: bool,
    /// Fires when a child has ended.
    children: Listener,
}

impl Running {
    /// Starts a command.
    ///
    /// # Errors
    ///
    /// When the system can't start the command.
    pub fn start(mut command: Command) -> io::Result<Running> {
        let has_own_group = !is_in_foreground();
        if has_own_group {
            command.process_group(0);
        }
        // The listener has to exist before the child does, or the end of a short command could be missed.
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

    /// Waits for the command to end, and passes signals on meanwhile. Returns its exit code as a shell would: 128
    /// plus the signal when a signal killed it.
    ///
    /// # Errors
    ///
    /// When the system can't tell how the command ended.
    pub async fn ended(&mut self, signals: &mut Signals) -> io::Result<u8> {
        loop {
            if let Some(code) = self.reap()? {
                self.has_ended = true;
                return Ok(code);
            }
            tokio::select! {
                _ = self.children.recv() => {}
                received = signals.next() => self.pass_on(received),
            }
        }
    }

    /// Reaps every child that has ended, and returns the exit code of the command if it is among them. As the first
    /// process of a container, this process also has orphans to reap.
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

    /// Sends a signal to the command, unless the terminal has sent it there already.
    fn pass_on(&self, received: ReceivedSignal) {
        // When a terminal closes, the system signals only the leader of its session.
        let is_for_leader = received.signal == Signal::SIGHUP && getsid(None) == Ok(getpid());
        // The command may have ended just now, so errors are ignored.
        if self.has_own_group && ENDING.contains(&received.signal) {
            // The whole group gets the signal, as it would in the foreground group, so that the children of the
            // command end too.
            let _ = killpg(self.pid, received.signal);
        } else if self.has_own_group || received.is_sent || is_for_leader {
            let _ = kill(self.pid, received.signal);
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

/// Returns whether this process is in the foreground group of its terminal, whatever stdin is.
fn is_in_foreground() -> bool {
    let terminal = File::open("/dev/tty");
    terminal.is_ok_and(|terminal| tcgetpgrp(terminal) == Ok(getpgrp()))
}
