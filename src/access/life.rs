//! How an access server dies, stops, rests and serves again.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::net::TcpSocket;

use super::membership::Membership;
use super::{AccessServer, RestartError, WrongState};
use crate::listener::{listen, reserve};
use crate::session::Manager;

/// What an access server does at the moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum State {
    /// It serves.
    Running,
    /// It holds its sockets and does nothing.
    Paused,
    /// It was stopped, or its stack was: it has told its sessions, and listens no more.
    Stopped,
    /// It was killed: it has reset its connections, and listens no more.
    Killed,
}

impl State {
    /// What it is called outside Rust.
    pub const fn name(self) -> &'static str {
        match self {
            State::Running => "running",
            State::Paused => "paused",
            State::Stopped => "stopped",
            State::Killed => "killed",
        }
    }
}

/// What changes with the state.
#[derive(Debug)]
pub(super) struct Life {
    state: State,
    /// Those of the last start.
    pub manager: Arc<Manager>,
    /// None until the registration of the last start is done.
    pub membership: Option<Arc<Membership>>,
    /// Keeps the address while nothing listens there, so that it is still there for a restart, and clients who dial it
    /// meet no stranger.
    reserved: Option<TcpSocket>,
    /// Whether the stack is gone.
    has_ended: bool,
}

impl Life {
    pub fn new(manager: Arc<Manager>) -> Self {
        Life {
            state: State::Running,
            manager,
            membership: None,
            reserved: None,
            has_ended: false,
        }
    }

    /// Goes over to a state, if it is in one of those.
    fn change(&mut self, from: &[State], to: State) -> bool {
        let changes = from.contains(&self.state);
        if changes {
            self.state = to;
        }
        changes
    }
}

impl AccessServer {
    /// What it does at the moment. A state is entered when the call for it begins: one that is [`State::Stopped`] may
    /// still be draining its sessions.
    pub fn state(&self) -> State {
        self.life.lock().state
    }

    /// Dies, as a process does that is killed: every connection is reset (RST), whatever its session is at, new ones
    /// are refused, and nothing is renewed. The lease stays in the registry until it runs out, so that the gateway
    /// still hands out this address.
    ///
    /// A request that was read before may have been carried out or not. It is not answered; those for whom it stored
    /// something are notified. Every connection is closed when this returns. It cuts short a
    /// [`stop`](Self::stop) that is under way; nothing else happens to a server that is stopped or killed already:
    /// [`try_kill`](Self::try_kill) says so.
    pub async fn kill(&self) {
        let manager = self.sessions();
        if self.try_kill().await.is_err() {
            // Somebody else has killed it: this waits for the same end.
            self.warn_of(manager.shutdown().ended_within(Duration::ZERO).await);
        }
    }

    /// As [`kill`](Self::kill), where it is a mistake if the server is down already.
    ///
    /// # Errors
    ///
    /// When it is killed already, or stopped, and its sessions have ended. Nothing has happened then.
    pub async fn try_kill(&self) -> Result<(), WrongState> {
        let manager = {
            let mut life = self.life.lock();
            let dies = life.change(&[State::Running, State::Paused], State::Killed);
            let drains = life.state == State::Stopped && !life.manager.shutdown().has_ended();
            if !dies && !drains {
                return Err(self.wrong_state(&life, "kill", "running, paused or draining"));
            }
            Arc::clone(&life.manager)
        };
        manager.kill();
        self.warn_of(manager.shutdown().ended_within(Duration::ZERO).await);
        self.keep_address();
        Ok(())
    }

    /// Stops in an orderly way: deregisters, accepts nothing more, tells its sessions `Error` 90001 'shutting down', and
    /// gives them `shutdown.grace` to take what was written to them. Requests that were read are answered. All of it is
    /// done when this returns.
    ///
    /// One that is paused goes on with it. Nothing happens to a server that is stopped or killed already, but that this
    /// waits for the end of a stop that is under way: [`try_stop`](Self::try_stop) says so. The lease of a killed one goes
    /// on running out.
    pub async fn stop(&self) {
        let manager = self.sessions();
        if self.try_stop().await.is_err() {
            self.warn_of(manager.dispose(self.settings.grace).await);
            self.keep_address();
        }
    }

    /// As [`stop`](Self::stop), where it is a mistake if the server is down already.
    ///
    /// # Errors
    ///
    /// When it is stopped or killed already, at once. Nothing has happened then.
    pub async fn try_stop(&self) -> Result<(), WrongState> {
        let manager = {
            let mut life = self.life.lock();
            if !life.change(&[State::Running, State::Paused], State::Stopped) {
                return Err(self.wrong_state(&life, "stop", "running or paused"));
            }
            Arc::clone(&life.manager)
        };
        self.warn_of(manager.dispose(self.settings.grace).await);
        self.keep_address();
        Ok(())
    }

    /// Rests, as a process does that hangs: it accepts, reads, answers and renews nothing, and its sockets stay open. A
    /// client that connects is taken by the system's queue and hears nothing. Answers to what was read before wait.
    ///
    /// Its sessions miss no deadline: theirs stand still. It loses its lease when that runs out. Nothing happens unless
    /// it is running: [`try_pause`](Self::try_pause) says so.
    // Async like the others, and so that a server in another process can stand behind it.
    pub async fn pause(&self) {
        // One that rests, or is down, answers nothing either.
        let _ = self.try_pause().await;
    }

    /// As [`pause`](Self::pause), where it is a mistake if the server does not run.
    ///
    /// # Errors
    ///
    /// When it is not running. Nothing has happened then.
    pub async fn try_pause(&self) -> Result<(), WrongState> {
        let mut life = self.life.lock();
        if !life.change(&[State::Running], State::Paused) {
            return Err(self.wrong_state(&life, "pause", "running"));
        }
        life.manager.pause();
        Ok(())
    }

    /// Goes on after a [`pause`](Self::pause), with the sessions that are left: answers what has come meanwhile, and
    /// accepts who has connected. It is registered when this returns, under a new lease if it has lost the old one.
    ///
    /// Nothing happens unless it is paused: [`try_resume`](Self::try_resume) says so.
    pub async fn resume(&self) {
        // One that does not rest need not go on.
        let _ = self.try_resume().await;
    }

    /// As [`resume`](Self::resume), where it is a mistake if the server does not rest.
    ///
    /// # Errors
    ///
    /// When it is not paused. Nothing has happened then.
    pub async fn try_resume(&self) -> Result<(), WrongState> {
        let membership = {
            let mut life = self.life.lock();
            if !life.change(&[State::Paused], State::Running) {
                return Err(self.wrong_state(&life, "resume", "paused"));
            }
            life.manager.resume();
            life.membership.clone()
        };
        if let Some(membership) = membership {
            membership.renew().await;
        }
        Ok(())
    }

    fn wrong_state(&self, life: &Life, what: &'static str, needs: &'static str) -> WrongState {
        WrongState {
            name: self.name.clone(),
            state: life.state,
            what,
            needs,
        }
    }

    /// Serves again under the same name and at the same address, also where the config leaves the port open, without the
    /// sessions that it had. It listens and is registered when this returns. One that is running or paused is
    /// [stopped](Self::stop) first.
    ///
    /// # Errors
    ///
    /// When somebody else listens at the address by now, or the stack has been shut down. Then it does not run.
    pub async fn restart(&self) -> Result<(), RestartError> {
        let _restarting = self.restarting.lock().await;
        self.stop().await;
        self.serve_again()?;
        self.join().await;
        Ok(())
    }

    /// Serves as after its start, whatever was done to it: goes on, serves again, or registers where its lease is lost.
    ///
    /// # Errors
    ///
    /// As [`restart`](Self::restart).
    pub(crate) async fn revive(&self) -> Result<(), RestartError> {
        match self.state() {
            State::Running => {
                let membership = self.life.lock().membership.clone();
                if let Some(membership) = membership {
                    membership.renew().await;
                }
            }
            State::Paused => self.resume().await,
            State::Stopped | State::Killed => self.restart().await?,
        }
        Ok(())
    }

    /// Registers as after its start: with the sessions that it has now, and as one that has renewed nothing yet.
    pub(crate) async fn register_anew(&self) {
        self.renewals.store(0, Ordering::Relaxed);
        let membership = self.life.lock().membership.clone();
        if let Some(membership) = membership {
            membership.renew().await;
        }
    }

    fn serve_again(&self) -> Result<(), RestartError> {
        let mut life = self.life.lock();
        if life.has_ended {
            return Err(RestartError::Ended {
                name: self.name.clone(),
            });
        }
        let reserved = match life.reserved.take() {
            Some(reserved) => Ok(reserved),
            None => reserve(self.addr),
        };
        let listener = reserved
            .and_then(listen)
            .map_err(|source| RestartError::Bind {
                name: self.name.clone(),
                addr: self.addr,
                source,
            })?;
        *life = Life::new(self.settings.serve(&self.name, listener, &self.core));
        Ok(())
    }

    /// The stack is shut down, and this server with it, for good. Returns how many of its tasks had not ended after the
    /// grace period.
    pub(crate) async fn end(&self, grace: Duration) -> usize {
        self.retire().dispose(grace).await
    }

    /// The same without waiting.
    pub(crate) fn abandon(&self) {
        self.retire().abandon();
    }

    fn retire(&self) -> Arc<Manager> {
        let mut life = self.life.lock();
        life.has_ended = true;
        life.reserved = None;
        life.change(&[State::Running, State::Paused], State::Stopped);
        Arc::clone(&life.manager)
    }

    fn keep_address(&self) {
        let mut life = self.life.lock();
        let is_down = matches!(life.state, State::Stopped | State::Killed);
        if is_down && !life.has_ended && life.reserved.is_none() {
            // Where this fails, somebody was faster, and a restart will say so.
            life.reserved = reserve(self.addr).ok();
        }
    }

    fn warn_of(&self, unfinished: usize) {
        if unfinished > 0 {
            tracing::warn!(access = self.name, unfinished, "tasks have not ended");
        }
    }
}

impl Drop for AccessServer {
    fn drop(&mut self) {
        self.abandon();
    }
}
