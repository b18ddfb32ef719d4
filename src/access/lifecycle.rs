//! The lifecycle of an access server: kill, stop, pause, resume and restart.
//!
//! Serves tests, the admin API, the resets and the shutdown of the stack. Each operation comes in two forms: one that does
//! nothing if the state does not allow it, for tests that only want to reach a state, and one with `try_` that reports it as
//! an error.
//!
//! | operation | allowed in | leads to |
//! |---|---|---|
//! | kill | running, paused, draining after a stop | killed, or stopped if it was draining |
//! | stop | running, paused | stopped |
//! | pause | running | paused |
//! | resume | paused | running |
//! | restart | any, until the stack is shut down | running |
//! | end, when the stack is shut down | any | stopped for ever |

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use super::registration::Registration;
use super::{AccessServer, RestartError, ServerState, WrongState};
use crate::listener::{BindError, BoundSockets, Listeners};
use crate::session::SessionManager;

/// The state of an access server, and what belongs to its last start.
#[derive(Debug)]
pub(super) struct Lifecycle {
    state: ServerState,
    /// The manager of the sessions since the last start.
    pub manager: Arc<SessionManager>,
    /// The registration in the registry since the last start. None until the first attempt to register is done.
    pub registration: Option<Arc<Registration>>,
    /// Sockets that are bound to the server's addresses but do not listen, while the server is down. They keep the
    /// addresses free for a restart, and keep other programs from answering the server's clients.
    held_addresses: Option<BoundSockets>,
    /// Whether the stack has been shut down, after which the server can't start again.
    is_retired: bool,
}

impl Lifecycle {
    /// Creates the lifecycle of a server that has just started.
    pub fn new(manager: Arc<SessionManager>) -> Self {
        Lifecycle {
            state: ServerState::Running,
            manager,
            registration: None,
            held_addresses: None,
            is_retired: false,
        }
    }

    /// Enters the state `to`, if the current state is one of `from`. Returns whether it was.
    fn transition(&mut self, from: &[ServerState], to: ServerState) -> bool {
        let is_allowed = from.contains(&self.state);
        if is_allowed {
            self.state = to;
        }
        is_allowed
    }
}

impl AccessServer {
    /// Returns the state of the server. An operation changes the state when it begins, so a server that is
    /// [`ServerState::Stopped`] may still be draining its sessions.
    pub fn state(&self) -> ServerState {
        self.lifecycle.lock().state
    }

    /// Kills the server, with the effects of the death of a process: every connection is reset (RST), new ones are
    /// refused, and the lease is no longer renewed. Until the lease expires, the gateway still gives this address to
    /// clients.
    ///
    /// A request that was read before may have been carried out or not. It is not answered, but the receivers of a
    /// message that it stored are notified. Every connection is closed when this returns.
    ///
    /// A [`stop`](Self::stop) in progress is cut short. A server that has stopped or was killed already is left as it
    /// is; [`try_kill`](Self::try_kill) reports that as an error.
    pub async fn kill(&self) {
        let manager = self.sessions();
        if self.try_kill().await.is_err() {
            // The server is down, or another caller is killing it: in that case this call waits for the same end.
            self.warn_of_unfinished(manager.tasks().end_at_once().await);
        }
    }

    /// Kills the server as [`kill`](Self::kill) does, and reports an error if it is down already.
    ///
    /// # Errors
    ///
    /// [`WrongState`], when the server was killed before, or was stopped and its sessions have ended. Nothing was done
    /// then.
    pub async fn try_kill(&self) -> Result<(), WrongState> {
        let manager = {
            let mut lifecycle = self.lifecycle.lock();
            let is_killed = lifecycle.transition(
                &[ServerState::Running, ServerState::Paused],
                ServerState::Killed,
            );
            let is_draining =
                lifecycle.state == ServerState::Stopped && !lifecycle.manager.tasks().has_ended();
            if !is_killed && !is_draining {
                return Err(self.wrong_state(&lifecycle, "kill", "running, paused or draining"));
            }
            Arc::clone(&lifecycle.manager)
        };
        manager.kill();
        self.warn_of_unfinished(manager.tasks().end_at_once().await);
        self.hold_addresses();
        Ok(())
    }

    /// Stops the server in an orderly way. It gives its lease back, closes its listener, sends `Error` 90001 'shutting
    /// down' to its sessions, and waits up to `shutdown.grace` for them to read what was written to them. Requests that
    /// the handler has taken are answered; later ones of the same read are discarded. All of this is done when the call
    /// returns.
    ///
    /// A paused server is resumed for it. A server that was stopped or killed already is left as it is, and the lease
    /// of a killed one still expires; the call waits for the end of a stop in progress. [`try_stop`](Self::try_stop)
    /// reports these cases as an error.
    pub async fn stop(&self) {
        let manager = self.sessions();
        if self.try_stop().await.is_err() {
            self.warn_of_unfinished(manager.shut_down(self.settings.grace).await);
            self.hold_addresses();
        }
    }

    /// Stops the server as [`stop`](Self::stop) does, and reports an error if it is down already.
    ///
    /// # Errors
    ///
    /// [`WrongState`], when the server was stopped or killed before. It is returned at once, and nothing was done.
    pub async fn try_stop(&self) -> Result<(), WrongState> {
        let manager = {
            let mut lifecycle = self.lifecycle.lock();
            if !lifecycle.transition(
                &[ServerState::Running, ServerState::Paused],
                ServerState::Stopped,
            ) {
                return Err(self.wrong_state(&lifecycle, "stop", "running or paused"));
            }
            Arc::clone(&lifecycle.manager)
        };
        self.warn_of_unfinished(manager.shut_down(self.settings.grace).await);
        self.hold_addresses();
        Ok(())
    }

    /// Pauses the server, with the effects of a process that hangs: it accepts, reads, answers and renews nothing, but
    /// its sockets stay open. A client that connects waits in the system's queue. Responses to requests that were read
    /// before are held back.
    ///
    /// The deadlines of the sessions stand still, so no session expires. The lease is lost when it expires. A server
    /// that is not running is left as it is; [`try_pause`](Self::try_pause) reports that as an error.
    // Async like the other operations, so that a server in another process can be paused with the same interface.
    pub async fn pause(&self) {
        // A server that is paused or down already answers nothing either, which is all that the caller wants.
        let _ = self.try_pause().await;
    }

    /// Pauses the server as [`pause`](Self::pause) does, and reports an error if it is not running.
    ///
    /// # Errors
    ///
    /// [`WrongState`], when the server is not running. Nothing was done then.
    pub async fn try_pause(&self) -> Result<(), WrongState> {
        let mut lifecycle = self.lifecycle.lock();
        if !lifecycle.transition(&[ServerState::Running], ServerState::Paused) {
            return Err(self.wrong_state(&lifecycle, "pause", "running"));
        }
        lifecycle.manager.pause();
        Ok(())
    }

    /// Resumes a server after a [`pause`](Self::pause). It accepts the connections and answers the requests that have
    /// arrived meanwhile. The server is registered when this returns, with a new lease if the old one was lost.
    ///
    /// A server that is not paused is left as it is; [`try_resume`](Self::try_resume) reports that as an error.
    pub async fn resume(&self) {
        // A server that is not paused needs no resume.
        let _ = self.try_resume().await;
    }

    /// Resumes the server as [`resume`](Self::resume) does, and reports an error if it is not paused.
    ///
    /// # Errors
    ///
    /// [`WrongState`], when the server is not paused. Nothing was done then.
    pub async fn try_resume(&self) -> Result<(), WrongState> {
        let registration = {
            let mut lifecycle = self.lifecycle.lock();
            if !lifecycle.transition(&[ServerState::Paused], ServerState::Running) {
                return Err(self.wrong_state(&lifecycle, "resume", "paused"));
            }
            lifecycle.manager.resume();
            lifecycle.registration.clone()
        };
        if let Some(registration) = registration {
            registration.renew().await;
        }
        Ok(())
    }

    /// Creates the error of an operation `what` that only the states `needs` allow.
    fn wrong_state(
        &self,
        lifecycle: &Lifecycle,
        what: &'static str,
        needs: &'static str,
    ) -> WrongState {
        WrongState {
            name: self.name.clone(),
            state: lifecycle.state,
            what,
            needs,
        }
    }

    /// Starts the server again, with the same name and the same address (also if the config leaves the port open), but
    /// without its sessions. It listens and is registered when this returns. A server that is running or paused is
    /// [stopped](Self::stop) first.
    ///
    /// # Errors
    ///
    /// [`RestartError::Bind`], when the address is no longer free, and [`RestartError::Ended`], when the stack has been
    /// shut down. The server does not run then.
    pub async fn restart(&self) -> Result<(), RestartError> {
        let _restarting = self.restarting.lock().await;
        self.stop().await;
        self.serve_on_same_address()?;
        self.register().await;
        Ok(())
    }

    /// Makes the server run and be registered, whatever its state: resumes it if it is paused, restarts it if it is
    /// down, and renews its lease if it runs.
    ///
    /// # Errors
    ///
    /// The errors of [`restart`](Self::restart).
    pub(crate) async fn revive(&self) -> Result<(), RestartError> {
        match self.state() {
            ServerState::Running => {
                let registration = self.lifecycle.lock().registration.clone();
                if let Some(registration) = registration {
                    registration.renew().await;
                }
            }
            ServerState::Paused => self.resume().await,
            ServerState::Stopped | ServerState::Killed => self.restart().await?,
        }
        Ok(())
    }

    /// Renews the server's record as if it had just started: with its current number of sessions, and with a count of
    /// renewals that begins again at 0.
    pub(crate) async fn register_anew(&self) {
        self.renewals.store(0, Ordering::Relaxed);
        let registration = self.lifecycle.lock().registration.clone();
        if let Some(registration) = registration {
            registration.renew().await;
        }
    }

    /// Listens on the server's address again, and starts to serve new sessions there.
    ///
    /// # Errors
    ///
    /// The errors of [`restart`](Self::restart).
    fn serve_on_same_address(&self) -> Result<(), RestartError> {
        let mut lifecycle = self.lifecycle.lock();
        if lifecycle.is_retired {
            return Err(RestartError::Ended {
                name: self.name.clone(),
            });
        }
        let held = match lifecycle.held_addresses.take() {
            Some(held) => Ok(held),
            None => self.bind_without_listening(),
        };
        let listeners = held.and_then(Listeners::listen);
        let listeners = listeners.map_err(|BindError { addr, source }| RestartError::Bind {
            name: self.name.clone(),
            addr,
            source,
        })?;
        *lifecycle = Lifecycle::new(self.settings.serve(&self.name, listeners, &self.core));
        Ok(())
    }

    fn bind_without_listening(&self) -> Result<BoundSockets, BindError> {
        BoundSockets::bind(self.addr, self.ws_addr)
    }

    /// Stops the server for ever, because its stack is shut down. Waits up to `grace` for the sessions to finish, and
    /// returns how many of the server's tasks had not ended by then.
    pub(crate) async fn end(&self, grace: Duration) -> usize {
        self.retire().shut_down(grace).await
    }

    /// Ends the server for ever, without waiting for its sessions.
    pub(crate) fn end_now(&self) {
        self.retire().end_now();
    }

    /// Marks the server as ended for ever, and returns the manager of the sessions that are still to be ended.
    fn retire(&self) -> Arc<SessionManager> {
        let mut lifecycle = self.lifecycle.lock();
        lifecycle.is_retired = true;
        lifecycle.held_addresses = None;
        lifecycle.transition(
            &[ServerState::Running, ServerState::Paused],
            ServerState::Stopped,
        );
        Arc::clone(&lifecycle.manager)
    }

    /// Keeps the addresses of a server that is down from being taken by other programs.
    fn hold_addresses(&self) {
        let mut lifecycle = self.lifecycle.lock();
        let is_down = matches!(lifecycle.state, ServerState::Stopped | ServerState::Killed);
        if is_down && !lifecycle.is_retired && lifecycle.held_addresses.is_none() {
            // If this fails, another program has taken an address meanwhile. A restart reports that.
            lifecycle.held_addresses = self.bind_without_listening().ok();
        }
    }

    /// Logs a warning if tasks of the server have not ended.
    fn warn_of_unfinished(&self, unfinished: usize) {
        if unfinished > 0 {
            tracing::warn!(access = self.name, unfinished, "tasks have not ended");
        }
    }
}

impl Drop for AccessServer {
    fn drop(&mut self) {
        self.end_now();
    }
}
