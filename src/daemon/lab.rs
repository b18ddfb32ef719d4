//! What a test does with a running stack besides using it: make it fail, see what has passed, wait until nothing is in
//! flight, and replace all that it holds.

use std::sync::Arc;
use std::time::Duration;

use super::Imd;
use crate::access::ServerState;
use crate::clock::running;
use crate::lab::{Event, Fault, FaultGuard, Faults, Journal, Mark, Unknowable};
use crate::reset::{Confirmed, ResetError};
use crate::session::SessionManager;
use crate::store::{SaveError, Snapshot};

/// How long nothing may happen before a stack counts as settled, in real time.
const LOOK: Duration = Duration::from_millis(1);

/// What was waited for was not seen.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{}", told(self))]
pub struct NotSeen {
    /// How long it was waited for, in real time; 0 where it was not worth waiting.
    pub within: Duration,
    /// How many events were looked at.
    pub passed: u64,
    /// Why it was not waited for, if it was not.
    pub unknowable: Option<Unknowable>,
}

fn told(not_seen: &NotSeen) -> String {
    let NotSeen {
        within,
        passed,
        unknowable,
    } = not_seen;
    match unknowable {
        Some(why) => format!("not waited for: {why}"),
        None => {
            let within = humantime::format_duration(*within);
            format!("not seen within {within}: {passed} other events have passed")
        }
    }
}

impl Imd {
    /// Puts a fault in force until the guard is dropped.
    ///
    /// # Panics
    ///
    /// When the rule can't be: what it says does not fit together, or its name is taken. [`Faults::inject`] says so with an
    /// error.
    #[allow(
        clippy::panic,
        reason = "a wrong rule is a mistake of the test that makes it"
    )]
    pub fn fault(&self, fault: Fault) -> FaultGuard {
        match self.faults().inject(fault) {
            Ok(guard) => guard,
            Err(error) => panic!("{error}"),
        }
    }

    /// The faults in force.
    pub fn faults(&self) -> &Arc<Faults> {
        self.stack.core.lab.faults()
    }

    /// What has passed.
    pub fn journal(&self) -> &Arc<Journal> {
        self.stack.core.lab.journal()
    }

    /// Takes a mark: what passes from now on comes after it. With [`Capture::Auto`](crate::lab::Capture::Auto) everything is
    /// recorded for [`MARKED`](crate::lab::MARKED) from now on, so that [`wait_for`](Self::wait_for) finds it.
    pub fn mark(&self) -> Mark {
        self.journal().mark()
    }

    /// Waits for an event from `mark` on, also one that has passed already. `within` is real time.
    ///
    /// # Errors
    ///
    /// [`NotSeen`]. It comes at once when the event is not there and may have passed unrecorded, when nothing is recorded
    /// at all, and when the mark lies beyond the journal, since another `imd` has given it out.
    pub async fn wait_for(
        &self,
        mark: Mark,
        is_meant: impl Fn(&Event) -> bool,
        within: Duration,
    ) -> Result<Event, NotSeen> {
        let reader = self.journal().read_for(mark, &is_meant);
        let mut reader = reader.map_err(|why| NotSeen {
            within: Duration::ZERO,
            passed: 0,
            unknowable: Some(why),
        })?;
        let mut passed = 0;
        let seen = async {
            loop {
                let event = reader.next().await;
                if is_meant(&event) {
                    return event;
                }
                passed += 1;
            }
        };
        let seen = running::timeout(within, seen).await;
        seen.map_err(|_| NotSeen {
            within,
            passed,
            unknowable: None,
        })
    }

    /// Waits until nothing is in flight: every frame that has come is answered, what it stored is stored, and what was to
    /// be written has left, notifies included.
    ///
    /// What a client has sent is seen when it has come. While a fault holds something back, or a peer does not take what
    /// is written to it, this waits. What a paused access server holds is not waited for.
    pub async fn settled(&self) {
        loop {
            self.at_rest().await;
            let frames = self.frames();
            // No event says that there is nothing in a socket. So the runtime gets time to look at them.
            tokio::time::sleep(LOOK).await;
            if self.is_at_rest() && self.frames() == frames {
                return;
            }
        }
    }

    /// Makes the stack as new, while it runs: users, groups, inboxes, presence, faults, journal and counts are gone, every
    /// session is ended, every access server of now serves, the registry tells what is so, and the users, groups and faults
    /// of the config are back. The listeners stay. What is committed while this runs is before it and gone, or after it.
    ///
    /// Time goes on, and so do the numbers of sessions and events, and ids. Tokens that were issued stay good: the key that
    /// signs them belongs to the store and not to what is in it.
    ///
    /// # Errors
    ///
    /// [`ResetError`]. Where the store keeps what it holds, this is refused: see [`reset_durable`](Self::reset_durable).
    pub async fn reset(&self) -> Result<(), ResetError> {
        self.reset.reset(Confirmed::No).await
    }

    /// The same also where the store keeps what it holds: all of it is gone for good.
    ///
    /// # Errors
    ///
    /// [`ResetError`]
    pub async fn reset_durable(&self) -> Result<(), ResetError> {
        self.reset.reset(Confirmed::Yes).await
    }

    /// Everything that the store holds at this moment, to be [loaded](Self::load) here or elsewhere.
    ///
    /// # Errors
    ///
    /// When it is more than [`SNAPSHOT_LIMIT`](crate::store::SNAPSHOT_LIMIT), or the store has failed.
    pub async fn snapshot(&self) -> Result<Snapshot, SaveError> {
        self.stack.core.snapshot().await
    }

    /// Replaces everything that the store holds by a snapshot, and ends every session: users, groups, messages, read marks
    /// and versions are those of the snapshot, and counting begins anew. Faults, journal, access servers and registry stay
    /// as they are.
    ///
    /// # Errors
    ///
    /// [`ResetError`]; the store is as it was then. Where it keeps what it holds, this is refused: see
    /// [`load_durable`](Self::load_durable).
    pub async fn load(&self, snapshot: Snapshot) -> Result<(), ResetError> {
        self.reset.load(snapshot, Confirmed::No).await
    }

    /// The same also where the store keeps what it holds: all of it is gone for good.
    ///
    /// # Errors
    ///
    /// [`ResetError`]
    pub async fn load_durable(&self, snapshot: Snapshot) -> Result<(), ResetError> {
        self.reset.load(snapshot, Confirmed::Yes).await
    }

    /// Waits until everything is at rest, as far as the runtime knows.
    async fn at_rest(&self) {
        while !self.is_at_rest() {
            for manager in self.serving() {
                manager.all_idle().await;
            }
            self.services().finished_commits().await;
        }
    }

    fn is_at_rest(&self) -> bool {
        let managers = self.serving();
        let mut sessions = managers.iter().flat_map(|manager| manager.sessions());
        self.services().unfinished_commits() == 0 && sessions.all(|session| session.is_idle())
    }

    /// The sessions of the gateway, and of each access server that is not paused.
    fn serving(&self) -> Vec<Arc<SessionManager>> {
        let servers = self.stack.access.all();
        let serving = servers
            .iter()
            .filter(|server| server.state() != ServerState::Paused);
        let gateway = Arc::clone(self.stack.gateway.session_manager());
        serving
            .map(|server| server.sessions())
            .chain([gateway])
            .collect()
    }

    /// How many frames have passed so far.
    fn frames(&self) -> u64 {
        self.stack.core.metrics.traffic().frames()
    }
}
