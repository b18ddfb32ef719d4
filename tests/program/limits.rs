//! A daemon with few open files, few places for connections, and more clients than places.
//!
//! A limit that is too small is refused at the start, with the number that is needed, and every place can be taken
//! without a lack of files.

use std::net::TcpStream;
use std::path::Path;

use imd::daemon::AccessAddress;
use imd::proto::Cmd;
use tempfile::TempDir;

use crate::process::{Daemon, Program, imd, socket_addr, write_config};
use crate::support::http::{Answer, request};
use crate::support::{Wire, ping, soon, until};

/// Runs the program with this limit of open files.
fn with_files(limit: u32, args: &[&str]) -> Program {
    Program::start_after(&format!("ulimit -n {limit}"), args)
}

/// Connects to the access servers in turn, and sends nothing.
fn idle(access: &[AccessAddress], count: usize) -> Vec<TcpStream> {
    let servers = access.iter().cycle().take(count);
    servers
        .map(|server| TcpStream::connect(&server.addr).unwrap())
        .collect()
}

/// Asks the stack whether it is ready.
async fn ready(daemon: &Daemon) -> Answer {
    let admin = daemon.addresses().admin.unwrap();
    request(socket_addr(&admin), "GET /readyz HTTP/1.0", "").await
}

/// Waits until `/readyz` answers with this status. It is asked again and again, because no event marks the change.
async fn wait_for_readiness(daemon: &Daemon, status: u16) {
    soon(async { while ready(daemon).await.status != status {} }).await;
}

#[test]
fn too_few_files_are_refused_with_the_number_that_is_needed() {
    let folder = TempDir::new().unwrap();
    let store = folder.path().join("store");
    let store = store.to_str().unwrap();
    for (limit, args) in [
        (40, &[][..]),
        (64, &["--access", "1"]),
        (128, &[]),
        (128, &["--access", "30"]),
        (160, &["--store", store]),
    ] {
        let why = with_files(limit, &[&["--any-port"], args].concat())
            .end()
            .failed(64);
        assert!(
            why.contains(&format!("the open-file limit is {limit}")),
            "{why}"
        );
        assert!(why.contains("ulimit -n"), "{why}");
        let needed = why.split("needs ").nth(1).unwrap();
        let needed: u32 = needed.split(' ').next().unwrap().parse().unwrap();
        assert!(!Path::new(store).exists(), "nothing was made");
        // The number in the error is enough.
        let args = [&["--any-port"], args].concat();
        let daemon = Daemon::start_with(&args, |args| with_files(needed, args));
        daemon
            .imd(&["send", "--from", "1", "--to", "2", "hello"])
            .ok();
        daemon.stop();
    }
}

#[test]
fn too_few_connections_are_refused_with_the_key() {
    let folder = TempDir::new().unwrap();
    for connections in [0, 1, 2] {
        let config = write_config(
            folder.path(),
            &format!("[limits]\nconnections = {connections}\n"),
        );
        let why = imd(&["--any-port", "--config", &config]).failed(64);
        assert!(why.contains("imd.toml:2: limits.connections: "), "{why}");
    }
}

#[test]
fn a_low_connection_limit_is_reported_at_the_start() {
    let folder = TempDir::new().unwrap();
    let config = write_config(folder.path(), "[limits]\nconnections = 3\n");
    let small = Daemon::start(&["--config", &config]);
    let cramped = Daemon::start_with(&["--any-port"], |args| with_files(140, args));
    for (mut daemon, why) in [
        (small, "limits.connections"),
        (cramped, "open-file limit is 140"),
    ] {
        let warning = daemon
            .banner
            .iter()
            .find(|line| line.starts_with("Places "));
        assert!(warning.unwrap().contains(why), "{:?}", daemon.banner);
        assert!(daemon.program.log_with("connections at most").contains(why));
        daemon
            .imd(&["send", "--from", "1", "--to", "2", "hello"])
            .ok();
        daemon.imd(&["register", "--uid", "1"]).ok();
        daemon.stop();
    }
    let roomy = Daemon::start_with(&["--any-port"], |args| with_files(512, args));
    assert!(!roomy.banner.iter().any(|line| line.starts_with("Places ")));
    roomy.stop();
}

#[tokio::test]
async fn with_every_place_taken_there_are_enough_files_and_the_http_api_answers() {
    let folder = TempDir::new().unwrap();
    let store = folder.path().join("store");
    for limit in [256, 300, 512] {
        let args = ["--any-port", "--store", store.to_str().unwrap()];
        let daemon = Daemon::start_with(&args, |args| with_files(limit, args));
        assert_eq!(ready(&daemon).await.status, 200);
        let addresses = daemon.addresses();
        let connections = idle(&addresses.access, 500);
        wait_for_readiness(&daemon, 503).await;
        let why = ready(&daemon).await;
        assert!(why.status == 503 && why.body.contains("every place is taken"));
        daemon.imd(&["ready"]).failed(1);
        let uid = limit.to_string();
        daemon.imd(&["register", "--uid", &uid]).ok();
        drop(connections);
        daemon
            .imd(&["send", "--from", "1", "--to", "2", "hello"])
            .ok();
        wait_for_readiness(&daemon, 200).await;
        daemon.program.signal("-TERM");
        let ended = daemon.program.end();
        assert!(!ended.err.contains("can't accept"), "{}", ended.err);
        ended.ok();
    }
}

#[cfg(target_os = "linux")]
#[tokio::test]
async fn a_thousand_clients_who_have_left_leave_no_open_file() {
    let daemon = Daemon::start(&[]);
    let files = || {
        let folder = format!("/proc/{}/fd", daemon.program.pid());
        std::fs::read_dir(folder).unwrap().count()
    };
    let addresses = daemon.addresses();
    let before = files();
    let mut connections = Vec::new();
    for server in addresses.access.iter().cycle().take(1_000) {
        let mut connection = Wire::connect(server.addr.parse().unwrap()).await;
        // A connection that was answered has been accepted.
        connection.send(&ping()).await;
        connection.error(Cmd::Ping, 93003).await;
        connections.push(connection);
    }
    assert_eq!(files(), before + 1_000);
    drop(connections);
    until(|| files() <= before).await;
    daemon.stop();
}
