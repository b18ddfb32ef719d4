//! `imd check`, `imd token` and `--config`: the effective config, and errors that name the file, the line and the key.
//!
//! The keys themselves are tested in `tests/config.rs`, without a process.

use crate::process::{Daemon, Program, imd, write_config};
use imd::Config;
use tempfile::TempDir;

#[test]
fn check_prints_the_effective_config() {
    let printed = imd(&["check"]).ok().join("\n");
    assert_eq!(Config::from_toml(&printed, "").unwrap(), Config::default());

    let folder = TempDir::new().unwrap();
    let text = "[session]\nidle = \"90s\"\n[[access]]\nname = \"one\"\nlisten = \"127.0.0.1:0\"\nadvertise = \"h:9\"\n";
    let file = write_config(folder.path(), text);
    let printed = imd(&["check", "--config", &file]).ok().join("\n");
    assert_eq!(
        Config::from_toml(&printed, "").unwrap(),
        Config::from_toml(text, "").unwrap()
    );
}

#[test]
fn quirks_are_checked_and_logged() {
    let folder = TempDir::new().unwrap();
    let text = "[quirks]\nsync_inclusive = true\nreplies_as_schema = true\n";
    let file = write_config(folder.path(), text);
    let printed = imd(&["check", "--config", &file]).ok();
    assert!(printed.contains(&"sync_inclusive = true".to_owned()));

    let start = |args: &[&str]| {
        let mut daemon = Daemon::start_with(&[&["--any-port"], args].concat(), |args| {
            Program::start_logging(args, "info")
        });
        // The log about quirks is written before the one about the stop.
        daemon.program.signal("-TERM");
        daemon.program.log_with("stopping");
        daemon.program.end().err
    };
    let log = start(&["--config", &file]);
    let line = log.lines().find(|line| line.contains("quirks"));
    let line = line.expect("a line about quirks");
    assert!(line.contains("INFO"), "{line}");
    assert!(line.contains("sync_inclusive, replies_as_schema"), "{line}");
    assert!(!start(&[]).contains("quirks"));
}

#[test]
fn a_bad_config_names_file_line_and_key() {
    let cases = [
        ("[gateway]\n\nlisen = \"x\"\n", ":3: ", "lisen"),
        ("[session]\nidle = 5\n", ":2: ", "session.idle"),
        ("[session]\n\n\nidle = \"5x\"\n", ":4: ", "session.idle"),
        ("[idgen]\nmachine = 1024\n", ":2: ", "idgen.machine"),
        ("[gateway]\nlisten = \"here\"\n", ":2: ", "gateway.listen"),
        ("[gateway\n", ":1: ", ""),
    ];
    let folder = TempDir::new().unwrap();
    for (text, line, key) in cases {
        let file = write_config(folder.path(), text);
        for args in [&["check", "--config", &file][..], &["--config", &file]] {
            let ended = imd(args);
            assert!(ended.out.is_empty(), "{:?}", ended.out);
            let error = ended.failed(64);
            for part in [file.as_str(), line, key] {
                assert!(error.contains(part), "{text:?}: no {part:?} in: {error}");
            }
        }
    }
    let missing = imd(&["check", "--config", "/no/such.toml"]).failed(64);
    assert!(missing.contains("/no/such.toml"), "{missing}");
}

#[test]
fn a_file_without_an_end_is_refused_as_config() {
    for args in [
        &["check", "--config", "/dev/zero"][..],
        &["--config", "/dev/zero"],
    ] {
        let error = imd(args).failed(64);
        assert!(error.contains("/dev/zero: it has more than"), "{error}");
    }
}

#[test]
fn a_token_that_no_header_can_hold_is_refused() {
    let folder = TempDir::new().unwrap();
    for token in ["", " ", "a b", "\\t", "\\u00A0", "g\u{fc}te", "x\\r\\ny: z"] {
        let text = format!("[admin]\nlisten = \"0.0.0.0:0\"\ntoken = \"{token}\"\n");
        let file = write_config(folder.path(), &text);
        let error = imd(&["check", "--config", &file]).failed(64);
        assert!(error.contains(":3: admin.token: "), "{token:?}: {error}");
    }
}

#[test]
fn the_token_is_the_one_that_existing_clients_compute() {
    let token = imd(&["token", "321"]).ok();
    assert_eq!(token, ["69338d7366e3a53668cbd23dfedee4cd"]);
    let folder = TempDir::new().unwrap();
    let file = write_config(folder.path(), "[auth]\nsalt = \"other\"\n");
    let other = imd(&["token", "321", "--config", &file]).ok();
    assert_ne!(token, other);
}
