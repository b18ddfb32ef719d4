//! What a process takes of its machine, as the operating system tells it.
//!
//! Serves the metrics of the admin API, for this process, and `imd bench`, for the process that it loads.

use sysinfo::{Pid, Process, ProcessRefreshKind, ProcessesToUpdate, System};

/// Returns the memory of a process that is in RAM, in bytes; `None` where the system does not tell.
pub fn resident(pid: u32) -> Option<u64> {
    look(pid, |process| Some(process.memory()))
}

/// Returns how many files and sockets this process has open; `None` where the system does not tell.
pub fn open_files() -> Option<usize> {
    let open = look(std::process::id(), Process::open_files)?;
    // On Linux the files are counted in a folder of this process, which is itself open while it is read.
    Some(open.saturating_sub(cfg!(target_os = "linux").into()))
}

/// Reads a process anew, and returns one of its figures.
fn look<T>(pid: u32, figure: impl FnOnce(&Process) -> Option<T>) -> Option<T> {
    let pid = Pid::from_u32(pid);
    let mut system = System::new().ok()?;
    // The threads are left out, because there may be many.
    let wanted = ProcessRefreshKind::nothing().with_memory().without_tasks();
    system.refresh_processes_specifics(ProcessesToUpdate::Some(&[pid]), false, wanted);
    figure(system.process(pid)?)
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;

    #[test]
    fn a_process_that_runs_has_memory_and_files_and_another_has_none() {
        let resident_before = resident(std::process::id()).unwrap();
        let held = vec![1u8; 64 << 20];
        let resident_now = resident(std::process::id()).unwrap();
        assert!(resident_now > resident_before + (32 << 20));
        drop(held);
        let open_before = open_files().unwrap();
        let files: Vec<_> = (0..50).map(|_| std::fs::File::open("/dev/null")).collect();
        assert!(open_files().unwrap() >= open_before + 20);
        drop(files);
        assert_eq!(resident(u32::MAX), None);
    }
}
