//! The real program, killed from outside.

use std::path::PathBuf;

use crate::torture::campaign::{Campaign, Report};
use crate::torture::kill::Kill;

/// Kills in a folder of its own, which stays when a promise was broken.
fn torture(kills: u64, kinds: &[Kill]) -> Report {
    let dir = tempfile::tempdir().unwrap().keep();
    let campaign = Campaign {
        binary: PathBuf::from(env!("CARGO_BIN_EXE_imd")),
        dir: dir.clone(),
        kills,
        seed: 7,
        kinds: kinds.to_vec(),
    };
    let report = campaign.run().unwrap_or_else(|broken| panic!("{broken}"));
    std::fs::remove_dir_all(dir).unwrap();
    report
}

#[test]
fn a_dozen_kills_under_load_lose_nothing() {
    let report = torture(12, &[Kill::AtRandom]);
    assert!(report.tally.acknowledged > 1_000, "{report}");
    assert!(report.tally.checked > 1_000, "{report}");
}

/// In this profile each step is slower than in a release, so that others happen between them.
#[test]
#[cfg(target_os = "linux")]
#[ignore = "needs strace; .ci/run runs it"]
fn a_kill_at_every_step_loses_nothing() {
    crate::torture::kill::check_strace().unwrap();
    let report = torture(3 * Kill::ALL.len() as u64, &Kill::ALL);
    for kill in Kill::ALL {
        let (all, _) = report.tally.kills.get(&kill).copied().unwrap_or_default();
        assert!(all >= 3, "{kill}: {report}");
    }
    assert!(report.tally.cut > 0, "{report}");
}
