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

#[cfg(target_os = "linux")]
#[test]
fn a_thousand_clients_who_have_left_leave_no_open_file() {
    use std::io::{Read, Write};
    use std::time::{Duration, Instant};

    let daemon = Daemon::start(&[]);
    let files = || {
        let folder = format!("/proc/{}/fd", daemon.program.pid());
        std::fs::read_dir(folder).unwrap().count()
    };
    let addresses = daemon.addresses();
    let before = files();
    let connections: Vec<TcpStream> = addresses
        .access
        .iter()
        .cycle()
        .take(1_000)
        .map(|server| {
            let mut connection = TcpStream::connect(&server.addr).unwrap();
            // Answered, so it was accepted: an unknown command.
            connection.write_all(&[0, 2, 8, 7]).unwrap();
            connection.read_exact(&mut [0]).unwrap();
            connection
        })
        .collect();
    assert_eq!(files(), before + 1_000);
    drop(connections);
    let begun = Instant::now();
    while files() > before {
        assert!(
            begun.elapsed() < Duration::from_secs(120),
            "{} are open",
            files()
        );
        std::thread::yield_now();
    }
    daemon.stop();
}
