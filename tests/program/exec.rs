//! `imd exec`: a command beside a private stack.

use std::fs;

use tempfile::TempDir;

use crate::process::{Daemon, imd, write_config};

const IMD: &str = env!("CARGO_BIN_EXE_imd");

#[test]
fn every_client_command_inside_finds_the_private_stack_and_its_salt() {
    let folder = TempDir::new().unwrap();
    let config = write_config(folder.path(), "[auth]\nsalt = \"mine\"\n");
    let script = format!(
        "set -e; {IMD} register --uid 1; gid=$({IMD} group create --uid 1 | tr -dc 0-9); \
         {IMD} group join --uid 2 --gid $gid; {IMD} group quit --uid 2 --gid $gid; \
         {IMD} send --from 1 --to 2 hello; {IMD} sync --uid 2; echo '/to 2 again' | {IMD} chat --uid 1; \
         {IMD} token 1; {IMD} ready; {IMD} fault ls; {IMD} clock show; {IMD} state; \
         {IMD} bench --addr $IMD_GATEWAY --users 2 --count 4 --json"
    );
    let out = imd(&["exec", "--config", &config, "--", "sh", "-c", &script]).ok();
    let out = out.join("\n");
    assert!(
        out.contains("\"text\":\"hello\"") && out.contains("to 2: stored"),
        "{out}"
    );
    let token = imd(&["token", "1", "--config", &config]).ok().remove(0);
    assert!(out.contains(&token), "{token} is not in: {out}");
}

#[test]
fn a_flag_counts_more_than_the_environment_of_exec() {
    let other = Daemon::start(&[]);
    let file = other.addr_file();
    let gateway = other.addresses().gateway;
    let config = write_config(
        other.folder.path(),
        &format!("[gateway]\nlisten = \"{gateway}\"\n"),
    );
    let script = format!(
        "set -e; {IMD} send --from 1 --to 2 a --addr-file $1; {IMD} send --from 1 --to 2 b --gateway $2; \
         {IMD} send --from 1 --to 2 c --config $3"
    );
    let file = file.to_str().unwrap();
    imd(&[
        "exec", "--", "sh", "-c", &script, "sh", file, &gateway, &config,
    ])
    .ok();
    assert!(fs::exists(file).unwrap());
    assert!(other.stop().starts_with("Stopped.  stored 3 "));
}
