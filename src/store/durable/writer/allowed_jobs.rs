//! Which jobs the free space on the disk allows.
//!
//! Serves the writer: `free_space` decides, and `collect` refuses the jobs that are not allowed. With less free space,
//! never more jobs are allowed.

use super::job::Job;

/// The jobs that are done at the moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AllowedJobs {
    /// All jobs.
    All,
    /// Read marks, which are small, and removals, which make the space that a compaction gives back.
    MarksAndRemovals,
    /// Removals alone.
    Removals,
    /// No job that writes.
    Nothing,
}

impl AllowedJobs {
    /// Returns the jobs that are allowed on a disk with `free` bytes, of which `floor` should stay free. The last
    /// eighth of the floor is kept for compactions, without which a removal gives no space back.
    pub fn of(free: u64, floor: u64) -> Self {
        if free < floor / 8 {
            AllowedJobs::Nothing
        } else if free < floor / 2 {
            AllowedJobs::Removals
        } else if free < floor {
            AllowedJobs::MarksAndRemovals
        } else {
            AllowedJobs::All
        }
    }

    /// Returns whether a commit may store read marks.
    pub fn includes_marks(self) -> bool {
        matches!(self, AllowedJobs::All | AllowedJobs::MarksAndRemovals)
    }

    /// Returns whether a job may be done. Jobs that change no record by
    /// themselves always may, and those that are never part of a commit.
    pub fn includes(self, job: &Job) -> bool {
        match job {
            Job::Commit { .. } => self == AllowedJobs::All,
            Job::Trim { .. } | Job::Expire { .. } => self != AllowedJobs::Nothing,
            Job::StoreMarks | Job::Replace { .. } | Job::Reclaim | Job::Close { .. } => true,
        }
    }
}
