/// The memory of a process that is in RAM, in bytes, where the system says it as Linux does.
pub fn resident(pid: u32) -> Option<u64> {
    in_status(&std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?)
}

fn in_status(status: &str) -> Option<u64> {
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("VmRSS:"))?;
    let kib: u64 = line.trim().strip_suffix("kB")?.trim_end().parse().ok()?;
    Some(kib * 1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_resident_memory_is_found() {
        let status = "Name:\timd\nVmHWM:\t    9000 kB\nVmRSS:\t    4321 kB\n";
        assert_eq!(in_status(status), Some(4321 * 1024));
        assert_eq!(in_status("Name:\timd\n"), None);
    }
}
