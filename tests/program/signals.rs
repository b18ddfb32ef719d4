//! Signals: which of them end a process, and what two of them mean.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use crate::process::{DEADLINE, Daemon, Program, write_config};
use tempfile::TempDir;

/// A daemon with a request that never ends, which keeps its shutdown waiting.
fn stuck(grace: &str) -> (Daemon, TcpStream, TempDir) {
    let folder = TempDir::new().unwrap();
    let config = write_config(folder.path(), &format!("[shutdown]\ngrace = \"{grace}\"\n"));
    let daemon = Daemon::start_with(&["--any-port", "--config", &config], |args| {
        Program::start_logging(args, "info")
    });
    let user_api = daemon.addresses().user_api;
    let mut stuck = TcpStream::connect(user_api.strip_prefix("http://").unwrap()).unwrap();
    let head = b"POST /x/user/register HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\nExpect: 100-continue\r\n\r\n";
    stuck.write_all(head).unwrap();
    // the server's "100 Continue" says that it has begun
    stuck.read_exact(&mut [0; 12]).unwrap();
    (daemon, stuck, folder)
}

#[test]
fn signals_that_come_together_are_one_shutdown() {
    for pair in [["-INT", "-INT"], ["-INT", "-TERM"], ["-TERM", "-HUP"]] {
        let (daemon, _stuck, _folder) = stuck("300ms");
        for signal in pair {
            daemon.program.signal(signal);
        }
        let out = daemon.program.end().ok();
        assert!(
            out[5].starts_with("Stopped.  stored 0"),
            "{pair:?}: {out:?}"
        );
    }
}

#[test]
fn a_signal_that_comes_half_a_second_after_the_first_hurries_the_end() {
    let (mut daemon, _stuck, _folder) = stuck("1h");
    let first = Instant::now();
    while daemon.program.is_running() {
        daemon.program.signal("-TERM");
        assert!(first.elapsed() < DEADLINE);
        thread::sleep(Duration::from_millis(10));
    }
    assert!(first.elapsed() >= Duration::from_millis(500));
    assert!(!daemon.addr_file().exists());
    assert!(daemon.program.end().failed(1).contains("second signal"));
}

/// Runs the binary as a shell does that ignores these signals.
fn ignoring(signals: &str, args: &[&str]) -> Program {
    let mut command = Command::new("sh");
    command
        .args(["-c", &format!("trap '' {signals}; exec \"$0\" \"$@\"")])
        .arg(env!("CARGO_BIN_EXE_imd"))
        .args(args)
        .env_remove("RUST_LOG");
    Program::run(command)
}

#[cfg(target_os = "linux")]
#[test]
fn a_signal_that_was_ignored_at_the_start_stays_ignored() {
    let daemon = Daemon::start_with(&["--any-port"], |args| ignoring("HUP INT", args));
    let file = daemon.addr_file();
    let file = file.to_str().unwrap();
    let record = daemon.folder.path().join("a.rec");
    let commands: [&[&str]; 4] = [
        &["sync", "--uid", "2", "--follow"],
        &["tail"],
        &["record", "--to", record.to_str().unwrap()],
        &["chat", "--uid", "3"],
    ];
    let running = commands.map(|args| {
        let program = ignoring("HUP INT", &[args, &["--addr-file", file]].concat());
        program.wait_until_it_handles_signals();
        program
    });
    for signal in ["-HUP", "-INT", "-HUP"] {
        daemon.program.signal(signal);
        running.iter().for_each(|program| program.signal(signal));
    }
    daemon.imd(&["ready"]).ok();
    // Those that were ended would not wait for SIGTERM.
    for mut program in running {
        assert!(program.is_running());
        program.signal("-TERM");
        program.end().ok();
    }
    daemon.stop();
}

#[cfg(target_os = "linux")]
#[test]
fn nohup_and_a_background_job_of_a_script_keep_a_daemon_running() {
    let folder = TempDir::new().unwrap();
    let file = folder.path().join("addr.json");
    let script = "nohup \"$0\" --any-port --addr-file \"$1\" > /dev/null 2>&1 & echo $!; wait $!; echo code $?";
    let mut command = Command::new("sh");
    command
        .args(["-c", script, env!("CARGO_BIN_EXE_imd")])
        .arg(&file);
    let mut shell = Program::run(command);
    let pid = shell.line();
    let begun = Instant::now();
    while !file.exists() {
        assert!(begun.elapsed() < DEADLINE);
        thread::sleep(Duration::from_millis(5));
    }
    let kill = |signal: &str| {
        let kill = Command::new("kill").args([signal, &pid]).status().unwrap();
        assert!(kill.success());
    };
    // A job of a script ignores the terminal's SIGINT too.
    kill("-HUP");
    kill("-INT");
    let ready = ["ready", "--addr-file", file.to_str().unwrap()];
    crate::process::imd(&ready).ok();
    kill("-TERM");
    assert_eq!(shell.line_with("code"), "code 0");
}

/// Sends a frame and returns the message that answers it.
fn exchange(stream: &mut TcpStream, frame: &[u8]) -> Vec<u8> {
    stream.write_all(frame).unwrap();
    let mut header = [0; 2];
    stream.read_exact(&mut header).unwrap();
    let mut message = vec![0; usize::from(u16::from_be_bytes(header))];
    stream.read_exact(&mut message).unwrap();
    message
}

#[test]
fn nothing_runs_out_while_the_process_is_stopped_and_everything_does_after_that() {
    let folder = TempDir::new().unwrap();
    let config = "[registry]\nlease = \"2s\"\nheartbeat = \"500ms\"\n[gateway]\nrefresh = \"500ms\"\n\
        [session]\nhalf_frame = \"2s\"\nlogin_deadline = \"2s\"\n";
    let config = write_config(folder.path(), config);
    let daemon = Daemon::start(&["--config", &config]);
    let addresses = daemon.addresses();
    let connect = |addr: &str| {
        let stream = TcpStream::connect(addr).unwrap();
        stream.set_read_timeout(Some(DEADLINE)).unwrap();
        stream
    };
    let ask_gateway = || {
        let mut gateway = connect(&addresses.gateway);
        let answer = exchange(&mut gateway, &[0, 3, 0x08, 0x91, 0x4e]);
        String::from_utf8_lossy(&answer).into_owned()
    };
    assert!(ask_gateway().contains("127.0.0.1:"));
    let mut half = connect(&addresses.access[0].addr);
    // A sync without a login, up to its last byte.
    half.write_all(&[0, 4, 0x08, 0xa6, 0x9c]).unwrap();
    daemon.program.signal("-STOP");
    // All that is to run out would have.
    thread::sleep(Duration::from_secs(3));
    daemon.program.signal("-CONT");
    let answer = ask_gateway();
    assert!(answer.contains("127.0.0.1:"), "{answer:?}");
    let refused = exchange(&mut half, &[0x01]);
    assert!(refused.starts_with(&[0x08]), "{refused:?}");
    assert_eq!(half.read(&mut [0; 64]).unwrap(), 0, "the login's deadline");
    daemon.program.signal("-TERM");
    daemon.program.end().ok();
}

/// Connections that were answered once, on each access server.
fn answered(daemon: &Daemon) -> Vec<TcpStream> {
    let servers = daemon.addresses().access;
    let connect = |server: &imd::daemon::AccessAddress| {
        let mut stream = TcpStream::connect(&server.addr).unwrap();
        // An unknown command.
        stream.write_all(&[0, 2, 8, 7]).unwrap();
        stream.read_exact(&mut [0]).unwrap();
        stream
    };
    servers.iter().map(connect).collect()
}

#[test]
fn one_signal_ends_a_daemon_whose_servers_are_paused_long_before_the_grace_period_does() {
    let folder = TempDir::new().unwrap();
    let config = write_config(folder.path(), "[shutdown]\ngrace = \"1h\"\n");
    let daemon = Daemon::start(&["--config", &config]);
    let mut clients = answered(&daemon);
    for server in daemon.addresses().access {
        daemon.imd(&["access", "pause", &server.name]).ok();
    }
    for client in &mut clients {
        client.write_all(&[0, 2, 8, 7, 0]).unwrap();
    }
    assert!(daemon.stop().starts_with("Stopped.  stored 0"));
    for mut client in clients {
        let mut last = Vec::new();
        let _ = client.read_to_end(&mut last);
        let last = String::from_utf8_lossy(&last);
        assert!(last.contains("shutting down"), "{last:?}");
    }
}

#[test]
fn one_signal_ends_a_daemon_whose_clients_do_not_read_when_the_grace_period_does() {
    let folder = TempDir::new().unwrap();
    let config = write_config(folder.path(), "[shutdown]\ngrace = \"300ms\"\n");
    let daemon = Daemon::start(&["--config", &config]);
    let writers: Vec<_> = answered(&daemon)
        .into_iter()
        .map(|mut client| {
            thread::spawn(move || {
                // Until it is cut off: the answers to so many are never read.
                while client.write_all(&[0, 2, 8, 7].repeat(10_000)).is_ok() {}
            })
        })
        .collect();
    // Others are served meanwhile.
    daemon.imd(&["send", "--from", "1", "--to", "2", "x"]).ok();
    assert!(daemon.stop().starts_with("Stopped.  stored 1"));
    for writer in writers {
        writer.join().unwrap();
    }
}
