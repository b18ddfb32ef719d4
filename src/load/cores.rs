//! Which cores a server has, and which the load.
//!
//! Serves `imd bench` and `examples/side_by_side`. A server and a load that share cores take time from each other, and the
//! system divides it anew in each run. With cores of their own, the figure is the server's, and comes out again.

/// The cores of a server that runs beside its load, and those of the load.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CoreSplit {
    /// One core.
    pub server: Vec<usize>,
    /// All others.
    pub load: Vec<usize>,
}

impl CoreSplit {
    /// Splits the cores that the calling thread may run on. Returns `None` where they are fewer than two, or the system does
    /// not tell them.
    pub fn of_this_thread() -> Option<CoreSplit> {
        CoreSplit::of(&allowed())
    }

    fn of(cores: &[usize]) -> Option<CoreSplit> {
        let (first, others) = cores.split_first()?;
        (!others.is_empty()).then(|| CoreSplit {
            server: vec![*first],
            load: others.to_vec(),
        })
    }
}

/// Returns the numbers of the cores that the calling thread may run on; none where the system does not tell them.
#[cfg(target_os = "linux")]
fn allowed() -> Vec<usize> {
    use nix::sched::{CpuSet, sched_getaffinity};
    let Ok(set) = sched_getaffinity(nix::unistd::Pid::from_raw(0)) else {
        return Vec::new();
    };
    let is_allowed = |core: &usize| set.is_set(*core).unwrap_or_default();
    (0..CpuSet::count()).filter(is_allowed).collect()
}

/// Only Linux is asked.
#[cfg(not(target_os = "linux"))]
fn allowed() -> Vec<usize> {
    Vec::new()
}

/// Lets the calling thread run on these cores only, and with it the threads and processes that it starts from now on. Returns
/// whether the system has done so.
#[cfg(target_os = "linux")]
pub fn pin(cores: &[usize]) -> bool {
    use nix::sched::{CpuSet, sched_setaffinity};
    let mut set = CpuSet::new();
    cores.iter().all(|core| set.set(*core).is_ok())
        && sched_setaffinity(nix::unistd::Pid::from_raw(0), &set).is_ok()
}

/// Only Linux pins threads here.
#[cfg(not(target_os = "linux"))]
pub fn pin(_cores: &[usize]) -> bool {
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_server_has_one_core_and_the_load_all_others() {
        let split = CoreSplit::of(&[2, 3, 7]).unwrap();
        assert_eq!((split.server, split.load), (vec![2], vec![3, 7]));
        assert_eq!(CoreSplit::of(&[4]), None);
        assert_eq!(CoreSplit::of(&[]), None);
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn a_pinned_thread_and_those_it_starts_run_on_these_cores_only() {
        let pinned = std::thread::spawn(|| {
            let last = *allowed().last().unwrap();
            assert!(pin(&[last]));
            let started = std::thread::spawn(allowed).join().unwrap();
            (last, allowed(), started)
        });
        let (last, own, started) = pinned.join().unwrap();
        assert_eq!((own, started), (vec![last], vec![last]));
        assert!(!pin(&[usize::MAX]), "there is no such core");
    }
}
