use std::net::TcpStream;
use std::process::Command;

use crate::process::{Daemon, Program};

#[test]
fn it_survives_having_no_files_left_and_accepts_again() {
    let mut daemon = Daemon::start_with(&["--any-port", "--access", "30"], |args| {
        let mut command = Command::new("sh");
        command
            .args(["-c", "ulimit -n 64; exec \"$0\" \"$@\""])
            .arg(env!("CARGO_BIN_EXE_imd"))
            .args(args)
            .env_remove("RUST_LOG");
        Program::run(command)
    });
    let access = daemon.addresses().access;
    let connections: Vec<TcpStream> = access
        .iter()
        .cycle()
        .take(90)
        .map(|server| TcpStream::connect(&server.addr).unwrap())
        .collect();
    // EMFILE: each listener holds a connection that waits for its place
    daemon.program.log_with("can't accept, trying again");
    assert!(daemon.program.is_running());
    drop(connections);
    daemon
        .imd(&["send", "--from", "1", "--to", "2", "still here"])
        .ok();
    assert!(daemon.imd(&["sync", "--uid", "2"]).ok()[0].contains("still here"));
    assert!(daemon.stop().starts_with("Stopped.  stored 1"));
}
