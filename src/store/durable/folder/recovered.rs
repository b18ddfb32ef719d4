//! The result of opening an engine, and of creating one.
//!
//! Serves `recover` and `create`. The type is below both, so that neither has to import the other one for it.

use super::super::checkpoint::CheckpointFile;
use super::super::engine::Engine;
use super::super::record::StateRecord;

/// An engine that was opened and found to hold everything.
#[derive(Debug)]
pub struct RecoveredEngine {
    pub engine: Engine,
    /// The file that notes how far its commits have come.
    pub checkpoint_file: CheckpointFile,
    /// The state after its last commit.
    pub state: StateRecord,
}
