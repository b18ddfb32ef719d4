//! The methods of [`Imd`] with which a test controls a running stack: it injects faults, reads the journal, waits until
//! nothing is in flight, and replaces the contents.
//!
//! Serves tests in Rust. The admin API offers the same to other languages, over the same parts and not over these methods.

use std::sync::Arc;
use std::time::Duration;

use super::Imd;
use crate::access::ServerState;
use crate::clock::running;
use crate::lab::{Event, Fault, FaultGuard, Faults, Journal, Mark, Unknowable};
use crate::reset::{Confirmed, ResetError};
use crate::session::SessionManager;
use crate::store::{SaveError, Snapshot};

/// How long no frame may pass before a stack counts as settled, in real time.
const QUIET_TIME: Duration = Duration::from_millis(1);

/// The event that a test waited for did not pass.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{}", message(self))]
pub struct NotSeen {
    /// How long the test waited, in real time; 0 if `unknowable` says why waiting was useless.
    pub within: Duration,
    /// How many other events passed meanwhile.
    pub passed: u64,
    /// Why the journal can't tell whether the event has passed, if it can't.
    pub unknowable: Option<Unknowable>,
}

fn message(not_seen: &NotSeen) -> String {
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
    /// When the rule is not valid, or its name is taken. [`Faults::inject`] returns an error in its place.
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

    /// Returns the faults in force.
    pub fn faults(&self) -> &Arc<Faults> {
        self.stack.core.lab.faults()
    }

    /// Returns the journal of the frames, connections and faults that have passed.
    pub fn journal(&self) -> &Arc<Journal> {
        self.stack.core.lab.journal()
    }

    /// Returns a mark of this moment in the journal: every event from now on comes after it. With
    /// [`Capture::Auto`](crate::lab::Capture::Auto), all events are recorded for [`MARKED`](crate::lab::MARKED) from now on,
    /// so that [`wait_for`](Self::wait_for) finds them.
    pub fn mark(&self) -> Mark {
        self.journal().mark()
    }

    /// Waits for the first event after `mark` for which `is_meant` returns true. The event may have passed already. `within`
    /// is real time.
    ///
    /// # Errors
    ///
    /// [`NotSeen`]. It is returned at once, without a wait, when the event is not in the journal and may have passed
    /// unrecorded, when nothing is recorded at all, and when another `imd` has given out the mark.
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

    /// Waits until nothing is in flight: every frame that has arrived is answered, its messages are stored, and all replies
    /// and notifies have been written to their sockets.
    ///
    /// This also waits while a fault delays or throttles a frame, while a client does not read what is written to it, and for
    /// the notify that comes some time after a login (`session.first_notify`), unless a page makes it needless. It does not
    /// wait for a frame that `reorder` holds until the next one: only the client can send that one. The sessions of a paused
    /// access server are not waited for. A frame that a client has sent and that has not arrived is not seen.
    pub async fn settled(&self) {
        loop {
            self.at_rest().await;
            let frames = self.frames();
            // No event reports that a socket is empty, so the runtime gets some time to read what has arrived.
            tokio::time::sleep(QUIET_TIME).await;
            if self.is_at_rest() && self.frames() == frames {
                return;
            }
        }
    }

    /// Resets the running stack to what it was after its start.
    ///
    /// Users, groups, inboxes, presence, faults, journal and counts are discarded, and every session is closed. All access
    /// servers serve afterwards, the added ones included, and the registry is no longer made to mislead the gateway. The
    /// users, groups and faults of the config are created again. The listeners stay open. A commit that runs at the same
    /// time belongs either to what is discarded or to the new contents, as a whole.
    ///
    /// The clock goes on, and so do the ids and the numbers of sessions and events. Tokens that were issued remain valid,
    /// since the key that signs them is not part of the contents.
    ///
    /// # Errors
    ///
    /// [`ResetError`]. A store in a folder refuses this: see [`reset_durable`](Self::reset_durable).
    pub async fn reset(&self) -> Result<(), ResetError> {
        self.reset.reset(Confirmed::No).await
    }

    /// Does what [`reset`](Self::reset) does, also to a store in a folder, whose contents are lost for good.
    ///
    /// # Errors
    ///
    /// [`ResetError`]
    pub async fn reset_durable(&self) -> Result<(), ResetError> {
        self.reset.reset(Confirmed::Yes).await
    }

    /// Returns everything that the store holds at this moment, to be [loaded](Self::load) into this or another stack.
    ///
    /// # Errors
    ///
    /// [`SaveError`], when the contents exceed [`SNAPSHOT_LIMIT`](crate::store::SNAPSHOT_LIMIT), or the store has failed.
    pub async fn snapshot(&self) -> Result<Snapshot, SaveError> {
        self.stack.core.snapshot().await
    }

    /// Replaces everything that the store holds by a snapshot, and ends every session: users, groups, messages, read marks
    /// and versions are those of the snapshot, and counting begins anew. Faults, journal, access servers and registry stay
    /// as they are.
    ///
    /// # Errors
    ///
    /// [`ResetError`]; the store is as it was then, unless it has failed. A store in a folder refuses this: see
    /// [`load_durable`](Self::load_durable).
    pub async fn load(&self, snapshot: Snapshot) -> Result<(), ResetError> {
        self.reset.load(snapshot, Confirmed::No).await
    }

    /// Does what [`load`](Self::load) does, also to a store in a folder, whose contents are lost for good.
    ///
    /// # Errors
    ///
    /// [`ResetError`]
    pub async fn load_durable(&self, snapshot: Snapshot) -> Result<(), ResetError> {
        self.reset.load(snapshot, Confirmed::Yes).await
    }

    /// Waits until no session that is served has anything to do and no commit is in progress. Bytes that lie unread in a
    /// socket are not seen.
    async fn at_rest(&self) {
        while !self.is_at_rest() {
            for manager in self.serving() {
                manager.all_settled().await;
            }
            self.services().finished_commits().await;
        }
    }

    fn is_at_rest(&self) -> bool {
        let managers = self.serving();
        let mut sessions = managers.iter().flat_map(|manager| manager.sessions());
        self.services().unfinished_commits() == 0 && sessions.all(|session| session.is_settled())
    }

    /// Returns the session managers of the gateway and of each access server that is not paused.
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

    /// Returns how many frames have been received and sent so far.
    fn frames(&self) -> u64 {
        self.stack.core.metrics.traffic().frames()
    }
}
