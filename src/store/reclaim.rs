//! Reclaiming: how a store on a disk gives the space of removed records back to the disk.
//!
//! The types of this module are the answer of [`StoreAdmin::reclaim_progress`](super::StoreAdmin::reclaim_progress).
//! The writer of the durable store fills them in; the admin API shows them in `/readyz` and in the metrics.

/// The progress of giving space back.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ReclaimProgress {
    /// The step that is in progress.
    pub step: ReclaimStep,
    /// How many bytes can be given back, as last estimated. The estimate is made after each cleaning, and whenever free
    /// space becomes short.
    pub reclaimable: u64,
    /// How many bytes were given back since the store was opened.
    pub reclaimed: u64,
}

/// A step of giving space back.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum ReclaimStep {
    /// Too little can be given back to be worth the effort.
    #[default]
    Idle,
    /// The memtable is being flushed, or the engine is being opened anew, so that journals and the files of tables that
    /// are no longer in use can be deleted.
    Sealing,
    /// Tables are being compacted, without the removed records.
    Compacting,
    /// Space can't be given back now: a compaction would need more space than there is or has failed, or the engine is
    /// poisoned.
    Waiting,
}

impl ReclaimStep {
    /// All steps, for metrics that have a value for each.
    pub const ALL: [ReclaimStep; 4] = [
        ReclaimStep::Idle,
        ReclaimStep::Sealing,
        ReclaimStep::Compacting,
        ReclaimStep::Waiting,
    ];

    /// Returns the name of the step in `/readyz`, in metrics and in the log.
    pub fn as_str(self) -> &'static str {
        match self {
            ReclaimStep::Idle => "idle",
            ReclaimStep::Sealing => "sealing",
            ReclaimStep::Compacting => "compacting",
            ReclaimStep::Waiting => "waiting",
        }
    }
}
