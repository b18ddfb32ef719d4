//! Reclaiming: how a store on a disk gives the space of removed records back to the disk.
//!
//! The types of this module are the answer of [`StoreAdmin::reclaim`](super::StoreAdmin::reclaim). The writer of the
//! durable store fills them in; the admin API shows them in its state, in `/readyz` and in the metrics.

/// The progress of giving space back.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Reclaim {
    /// The step that is in progress.
    pub doing: Doing,
    /// How many bytes can be given back, as last estimated. The estimate is made after each cleaning, and whenever free
    /// space becomes short.
    pub reclaimable: u64,
    /// How many bytes were given back since the store was opened.
    pub reclaimed: u64,
}

/// A step of giving space back.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Doing {
    /// Too little can be given back to be worth the effort.
    #[default]
    Idle,
    /// The table in memory is being written, so that its journal can be deleted.
    Sealing,
    /// Tables are being compacted, without the removed records.
    Compacting,
    /// Space can't be given back now: a compaction would need more space than there is or has failed, or the engine is
    /// poisoned.
    Waiting,
}

impl Doing {
    /// All steps, for metrics that have a value for each.
    pub const ALL: [Doing; 4] = [
        Doing::Idle,
        Doing::Sealing,
        Doing::Compacting,
        Doing::Waiting,
    ];

    /// Returns the name of the step in `/readyz`, in metrics and in the log.
    pub fn as_str(self) -> &'static str {
        match self {
            Doing::Idle => "idle",
            Doing::Sealing => "sealing",
            Doing::Compacting => "compacting",
            Doing::Waiting => "waiting",
        }
    }
}
