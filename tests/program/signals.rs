//! Signals to a daemon: which ones end it, what a second one means, and how long the end takes.
//!
//! Also: signals that were ignored at the start, as under `nohup`, and a process that was stopped for a while.

use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use imd::proto::{Cmd, ResSyncMsg};
use tempfile::TempDir;

use crate::process::{DEADLINE, Daemon, Program, socket_addr, until, write_config};
use crate::support::{Http, Wire, framed, ping, sync};

/// Starts a daemon whose shutdown has to wait for a request that does not end.
async fn stuck(grace: &str) -> (Daemon, Http, TempDir) {
    let folder = TempDir::new().unwrap();
    let config = write_config(folder.path(), &format!("[shutdown]\ngrace = \"{grace}\"\n"));
    let daemon = Daemon::start_with(&["--any-port", "--config", &config], |args| {
        Program::start_logging(args, "info")
    });
    let user_api = daemon.addresses().user_api;
    let head = "POST /x/user/register HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\nExpect: 100-continue\r\n\r\n";
    let mut stuck = Http::sent(socket_addr(&user_api), head).await;
    // The server answers so when it has begun to read the request.
    stuck.expect("HTTP/1.1 100").await;
    (daemon, stuck, folder)
}

#[tokio::test]
async fn signals_that_come_together_are_one_shutdown() {
    for pair in [["-INT", "-INT"], ["-INT", "-TERM"], ["-TERM", "-HUP"]] {
        let (daemon, _stuck, _folder) = stuck("300ms").await;
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

#[tokio::test]
async fn a_signal_that_comes_half_a_second_after_the_first_hurries_the_end() {
    let (mut daemon, _stuck, _folder) = stuck("1h").await;
    let first = Instant::now();
    daemon.program.signal("-TERM");
    while !daemon.program.ends_within(Duration::from_millis(10)) {
        assert!(first.elapsed() < DEADLINE);
        daemon.program.signal("-TERM");
    }
    assert!(first.elapsed() >= Duration::from_millis(500));
    assert!(!daemon.addr_file().exists());
    assert!(daemon.program.end().failed(1).contains("second signal"));
}

/// Runs the program as the child of a shell that ignores these signals.
fn ignoring(signals: &str, args: &[&str]) -> Program {
    Program::start_after(&format!("trap '' {signals}"), args)
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
    // A program that one of the signals had ended would not get the SIGTERM.
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
    until("it does not start", || file.exists());
    let kill = |signal: &str| {
        let kill = Command::new("kill").args([signal, &pid]).status().unwrap();
        assert!(kill.success());
    };
    // A background job of a script also ignores the SIGINT of the terminal.
    kill("-HUP");
    kill("-INT");
    let ready = ["ready", "--addr-file", file.to_str().unwrap()];
    crate::process::imd(&ready).ok();
    kill("-TERM");
    assert_eq!(shell.line_with("code"), "code 0");
}

#[tokio::test]
async fn no_deadline_passes_while_the_process_is_stopped_and_all_pass_afterwards() {
    let folder = TempDir::new().unwrap();
    let config = "[registry]\nlease = \"2s\"\nheartbeat = \"500ms\"\n[gateway]\nrefresh = \"500ms\"\n\
        [session]\nhalf_frame = \"2s\"\nlogin_deadline = \"2s\"\n";
    let config = write_config(folder.path(), config);
    let daemon = Daemon::start(&["--config", &config]);
    let addresses = daemon.addresses();
    let ask_gateway = async || {
        let mut gateway = Wire::connect(addresses.gateway.parse().unwrap()).await;
        gateway.ask().await.addr
    };
    assert!(ask_gateway().await.starts_with("127.0.0.1:"));
    let mut half = Wire::connect(addresses.access[0].addr.parse().unwrap()).await;
    let frame = framed(&sync(0, 0));
    let (begin, end) = frame.split_at(frame.len() - 1);
    half.raw(begin).await;
    daemon.program.signal("-STOP");
    // A real delay, because a stopped process can't tell anything: it is longer than every deadline of the config.
    thread::sleep(Duration::from_secs(3));
    daemon.program.signal("-CONT");
    assert!(ask_gateway().await.starts_with("127.0.0.1:"));
    half.raw(end).await;
    let refused: ResSyncMsg = half.recv(Cmd::SyncMsg).await;
    assert_eq!(refused.err_code, 93003);
    // After the process was continued, the deadline of the login runs out.
    half.finished().await;
    daemon.program.signal("-TERM");
    daemon.program.end().ok();
}

/// Connects to each access server, and waits for the reply to a ping, which shows that the connection was accepted.
async fn answered(daemon: &Daemon) -> Vec<Wire> {
    let mut clients = Vec::new();
    for server in daemon.addresses().access {
        let mut client = Wire::connect(server.addr.parse().unwrap()).await;
        client.send(&ping()).await;
        client.error(Cmd::Ping, 93003).await;
        clients.push(client);
    }
    clients
}

#[tokio::test]
async fn one_signal_ends_a_daemon_with_paused_servers_long_before_the_grace_period_is_over() {
    let folder = TempDir::new().unwrap();
    let config = write_config(folder.path(), "[shutdown]\ngrace = \"1h\"\n");
    let daemon = Daemon::start(&["--config", &config]);
    let mut clients = answered(&daemon).await;
    for server in daemon.addresses().access {
        daemon.imd(&["access", "pause", &server.name]).ok();
    }
    for client in &mut clients {
        // A whole frame, and a half one behind it.
        client.raw(&[&framed(&ping())[..], &[0]].concat()).await;
    }
    assert!(daemon.stop().starts_with("Stopped.  stored 0"));
    for mut client in clients {
        let rest = client.rest().await;
        let rest = String::from_utf8_lossy(&rest);
        assert!(rest.contains("shutting down"), "{rest:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn one_signal_ends_a_daemon_whose_clients_do_not_read_when_the_grace_period_is_over() {
    let folder = TempDir::new().unwrap();
    let config = write_config(folder.path(), "[shutdown]\ngrace = \"300ms\"\n");
    let daemon = Daemon::start(&["--config", &config]);
    let writers: Vec<_> = answered(&daemon)
        .await
        .into_iter()
        .map(|mut client| {
            let pings = framed(&ping()).repeat(10_000);
            // The client does not read its replies, and is cut off when the grace period ends.
            tokio::spawn(async move { while client.try_raw(&pings).await {} })
        })
        .collect();
    // Other clients are served meanwhile.
    daemon.imd(&["send", "--from", "1", "--to", "2", "x"]).ok();
    assert!(daemon.stop().starts_with("Stopped.  stored 1"));
    for writer in writers {
        writer.await.unwrap();
    }
}
