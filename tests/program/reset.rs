//! `imd reset` and `imd snapshot`: emptying a running stack, and filling it from a file.
//!
//! What a reset does to the stack is tested in `lab/reset`. Here is when a person is asked to confirm it, and what
//! becomes of the file.

use std::fs;

use serde_json::Value;
use tempfile::TempDir;

use crate::process::{Daemon, imd};

const SEND: [&str; 6] = ["send", "--from", "1", "--to", "2", "hello"];

fn stored(daemon: &Daemon) -> Value {
    let state = daemon.imd(&["state"]).ok().join("\n");
    let state: Value = serde_json::from_str(&state).unwrap();
    state["ledger"]["stored"].clone()
}

/// Returns how many messages the inbox of `uid` has.
fn inbox_length(daemon: &Daemon, uid: &str) -> usize {
    daemon.imd(&["sync", "--uid", uid]).ok().len()
}

#[test]
fn a_stack_in_memory_is_emptied_without_a_confirmation() {
    let daemon = Daemon::start(&[]);
    daemon.imd(&SEND).ok();
    assert_eq!(stored(&daemon), 1);
    daemon.imd(&["reset"]).ok();
    assert_eq!((stored(&daemon), inbox_length(&daemon, "2")), (0.into(), 0));
}

#[test]
fn a_folder_is_emptied_and_filled_with_a_confirmation() {
    let folder = TempDir::new().unwrap();
    let (store, file) = (
        folder.path().join("data"),
        folder.path().join("saved.jsonl"),
    );
    let file = file.to_str().unwrap();
    let daemon = Daemon::start(&["--store", store.to_str().unwrap()]);
    daemon.imd(&SEND).ok();
    daemon.imd(&["snapshot", "save", file]).ok();
    for args in [&["reset"][..], &["snapshot", "load", file]] {
        let refused = daemon.imd(args).failed(64);
        assert!(
            refused.contains("data") && refused.contains("give --yes"),
            "{refused}"
        );
    }
    assert_eq!(inbox_length(&daemon, "2"), 1);
    daemon.imd(&["reset", "--yes"]).ok();
    assert_eq!(inbox_length(&daemon, "2"), 0);
    daemon.imd(&["snapshot", "load", file, "--yes"]).ok();
    assert_eq!(inbox_length(&daemon, "2"), 1);

    // The snapshot of a folder is loaded into memory.
    let memory = Daemon::start(&[]);
    memory.imd(&["snapshot", "load", file]).ok();
    assert_eq!(inbox_length(&memory, "2"), 1);
}

#[test]
fn a_snapshot_file_is_private_and_complete_or_not_written() {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("saved.jsonl");
    let file = path.to_str().unwrap();
    let daemon = Daemon::start(&[]);
    daemon
        .imd(&["register", "--uid", "1", "--pw", "a secret"])
        .ok();
    fs::write(&path, "an older one").unwrap();
    let refused = daemon.imd(&["snapshot", "save", file]).failed(64);
    assert!(
        refused.contains("is there already") && refused.contains("--force"),
        "{refused}"
    );
    assert_eq!(fs::read_to_string(&path).unwrap(), "an older one");
    daemon.imd(&["snapshot", "save", file, "--force"]).ok();
    let saved = fs::read_to_string(&path).unwrap();
    assert!(
        saved.contains("argon2") && !saved.contains("a secret"),
        "{saved}"
    );
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        assert_eq!(
            fs::metadata(&path).unwrap().permissions().mode() & 0o777,
            0o600
        );
    }
    assert_eq!(
        fs::read_dir(folder.path()).unwrap().count(),
        1,
        "nothing is left beside it"
    );
    let nowhere = folder.path().join("none").join("saved.jsonl");
    let nowhere = daemon
        .imd(&["snapshot", "save", nowhere.to_str().unwrap()])
        .failed(64);
    assert!(nowhere.contains("saved.jsonl"), "{nowhere}");

    for (damaged, why) in [
        (
            saved.replace("argon2", "argon3"),
            "saved.jsonl, line 2: it is damaged",
        ),
        (saved[..saved.len() / 2].to_owned(), "saved.jsonl, line "),
        (
            saved.replace("\"format\":1", "\"format\":2"),
            "saved.jsonl, line 1",
        ),
    ] {
        fs::write(&path, damaged).unwrap();
        let refused = daemon.imd(&["snapshot", "load", file]).failed(64);
        assert!(refused.contains(why), "{refused}");
    }
    let missing = daemon
        .imd(&["snapshot", "load", "/no/such/file"])
        .failed(64);
    assert!(missing.contains("/no/such/file"), "{missing}");
    // The users are still there.
    let again = daemon.imd(&["register", "--uid", "1"]).failed(1);
    assert!(again.contains("94001"), "{again}");
}

#[test]
fn the_error_of_a_failed_command_tells_what_became_of_its_messages() {
    let program = env!("CARGO_BIN_EXE_imd");
    let script = format!(
        "{program} send --gateway $IMD_GATEWAY --from 1 --to 2 hello; \
         {program} send --gateway $IMD_GATEWAY --from 1 --group 5 hello; exit 3"
    );
    let error = imd(&["exec", "--", "sh", "-c", &script]).failed(3);
    for line in [
        "the command has failed. Its messages:",
        "  stored 1   delivered 0   pending 1   refused 1",
        "  inbox of 2: stored 1   delivered 0   pending 1",
        "  refused 1 SendGroupMsg with 95001: no such group",
    ] {
        assert!(
            error.lines().any(|l| l == format!("imd: {line}")),
            "{line}: {error}"
        );
    }
}
