//! Which jobs the free space on the disk allows.

use super::job::Job;

/// The jobs that are done at the moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AllowedJobs {
    /// All jobs.
    All,
    /// Read marks, which are small, and removals, which give space in the end.
    MarksAndRemovals,
    /// Removals alone.
    Removals,
    /// No job that writes.
    Nothing,
}

impl AllowedJobs {
    /// Returns the jobs that are allowed on a disk with `free` bytes, of which `floor` should stay free. The last of them are for
    /// compactions, without which a removal gives no space.
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

    /// Returns whether a job is done. Jobs that are no part of a commit always are.
    pub fn includes(self, job: &Job) -> bool {
        match job {
            Job::Commit { .. } => self == AllowedJobs::All,
            Job::Read { .. } => matches!(self, AllowedJobs::All | AllowedJobs::MarksAndRemovals),
            Job::Trim { .. } | Job::Expire { .. } => self != AllowedJobs::Nothing,
            Job::Replace { .. } | Job::Reclaim | Job::Close { .. } => true,
        }
    }
}
