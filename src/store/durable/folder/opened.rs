//! What opening an engine and creating one return.

use super::super::engine::Engine;
use super::super::mark::Mark;
use super::super::record::StateRecord;

/// An engine that was opened and found to hold everything.
#[derive(Debug)]
pub struct OpenEngine {
    /// The engine.
    pub engine: Engine,
    /// The file that notes how far its commits have come.
    pub mark: Mark,
    /// The state after its last commit.
    pub state: StateRecord,
}
