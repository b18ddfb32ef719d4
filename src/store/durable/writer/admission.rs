//! Which jobs the room on the disk allows.

use super::job::Job;

/// The jobs that are done at the moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Admission {
    /// All jobs.
    All,
    /// Read marks, which are small, and removals, which give room in the end.
    Small,
    /// Removals alone.
    Removals,
    /// No job that writes.
    Nothing,
}

impl Admission {
    /// Returns the admission on a disk with `free` bytes, of which `floor` should stay free. The last of them are for
    /// compactions, without which a removal gives no room.
    pub fn of(free: u64, floor: u64) -> Self {
        if free < floor / 8 {
            Admission::Nothing
        } else if free < floor / 2 {
            Admission::Removals
        } else if free < floor {
            Admission::Small
        } else {
            Admission::All
        }
    }

    /// Returns whether a job is done. Jobs that are no part of a commit always are.
    pub fn admits(self, job: &Job) -> bool {
        match job {
            Job::Commit { .. } => self == Admission::All,
            Job::Read { .. } => matches!(self, Admission::All | Admission::Small),
            Job::Trim { .. } | Job::Expire { .. } => self != Admission::Nothing,
            Job::Replace { .. } | Job::Reclaim | Job::Close { .. } => true,
        }
    }
}
