//! The examples of the lab, which developers of clients copy: each is run as it stands, with the program alone.
//!
//! A script whose interpreter is not installed fails its test, because a skipped test would look like one that has
//! passed.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::process::Program;

fn binary() -> &'static Path {
    Path::new(env!("CARGO_BIN_EXE_imd"))
}

/// Fails the test if the interpreter is missing. A test that was skipped would look like one that has passed.
fn expect_installed(interpreter: &str) {
    let known = Command::new(interpreter).arg("--help").output();
    assert!(
        known.is_ok(),
        "the tests of the examples need {interpreter}: install it, or leave them out with `cargo test -- --skip \
         examples::` ({known:?})"
    );
}

/// Runs a script beside a private stack, with `imd` on the path. Returns the last line that it prints.
fn beside_a_stack(interpreter: &str, script: &str) -> String {
    expect_installed(interpreter);
    let script = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("examples")
        .join(script);
    let path = std::env::var_os("PATH").unwrap_or_default();
    let folder = binary().parent().unwrap().to_owned();
    let path = std::env::join_paths([folder].into_iter().chain(std::env::split_paths(&path)));
    let mut command = Command::new(binary());
    command.args(["exec", "--", interpreter]).arg(script);
    command.env("PATH", path.unwrap()).env_remove("RUST_LOG");
    Program::run(command).end().ok().pop().unwrap()
}

#[test]
fn the_shell_script_works() {
    let printed = beside_a_stack("sh", "lab.sh");
    assert!(printed.starts_with("it is there once: {"), "{printed}");
}

#[test]
fn the_python_script_works() {
    let printed = beside_a_stack("python3", "lab.py");
    assert_eq!(printed, "both are there once: ['first', 'second']");
}

#[test]
fn the_scripts_tell_how_to_run_them() {
    for (interpreter, script) in [("sh", "lab.sh"), ("python3", "lab.py")] {
        let path: PathBuf = [env!("CARGO_MANIFEST_DIR"), "examples", script]
            .iter()
            .collect();
        expect_installed(interpreter);
        let mut command = Command::new(interpreter);
        command.arg(path).env_remove("IMD_ADMIN");
        let ended = Program::run(command).end();
        assert!(
            ended.code != Some(0) && ended.err.contains("imd exec -- "),
            "{}",
            ended.err
        );
    }
}

#[test]
fn the_rust_example_works() {
    let example = binary().parent().unwrap().join("examples").join("lab");
    assert!(
        example.exists(),
        "no {}: cargo test builds it, or cargo build --example lab",
        example.display()
    );
    let out = Program::run(Command::new(example)).end().ok();
    assert!(out[0].starts_with("bob was told, on access-"), "{out:?}");
    assert!(out[1].starts_with("stored 1   delivered 1"), "{out:?}");
}
