//! What a test does with a stack beside using it: make it fail, and see what has passed.

use std::sync::Arc;
use std::time::Duration;

use super::Imd;
use crate::access::State;
use crate::lab::{Event, Fault, FaultGuard, Faults, Journal, Mark};

/// Between two looks at whether everything is at rest. Real time: the sockets have to be looked at meanwhile.
const LOOK: Duration = Duration::from_millis(1);

/// What was waited for was not seen in time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not seen within {}: {passed} other events have passed", humantime::format_duration(*.within))]
pub struct NotSeen {
    /// How long it was waited for, in real time.
    pub within: Duration,
    /// How many events were looked at.
    pub passed: u64,
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
        self.lab.faults()
    }

    /// What has passed.
    pub fn journal(&self) -> &Arc<Journal> {
        self.lab.journal()
    }

    /// Waits for an event from `mark` on, also one that has passed already. `within` is real time.
    ///
    /// # Errors
    ///
    /// [`NotSeen`], also where nothing is recorded.
    pub async fn wait_for(
        &self,
        mark: Mark,
        is_meant: impl Fn(&Event) -> bool,
        within: Duration,
    ) -> Result<Event, NotSeen> {
        let mut reader = self.journal().read(mark);
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
        let seen = tokio::time::timeout(within, seen).await;
        seen.map_err(|_| NotSeen { within, passed })
    }

    /// Waits until nothing is in flight: every frame that has come is answered, what it stored is stored, and what was to
    /// be written has left, notifies included.
    ///
    /// What a client has sent is seen when it has come. While a fault holds something back, or a peer does not take what
    /// is written to it, this waits. What a paused access server holds is not waited for.
    pub async fn settled(&self) {
        let mut frames = None;
        loop {
            let now = self.is_at_rest().then(|| self.metrics.traffic().frames());
            if now.is_some() && now == frames {
                return;
            }
            frames = now;
            tokio::time::sleep(LOOK).await;
        }
    }

    fn is_at_rest(&self) -> bool {
        let access = self.access.all();
        let serving = access
            .iter()
            .filter(|server| server.state() != State::Paused);
        let managers = serving.map(|server| server.sessions());
        let mut managers = managers.chain([Arc::clone(&self.gateway)]);
        managers.all(|manager| manager.sessions().all(|session| session.is_at_rest()))
    }
}
