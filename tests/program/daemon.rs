//! The daemon, `imd` without a command: its banner, its file of addresses, its flags, its log, and its end.
//!
//! Read this file first for how the program is used. Files in the place of its file of addresses are tested in `files`,
//! and signals in `signals`.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::process::Command;

use imd::config::ListenHost;
use tempfile::TempDir;

use crate::process::{Daemon, Program, address_on_the_network, imd, socket_addr, write_config};
use crate::support::post;

#[test]
fn the_banner_has_the_address_of_every_listener() {
    let daemon = Daemon::start(&[]);
    let addresses = daemon.addresses();
    let access: Vec<String> = addresses
        .access
        .iter()
        .map(|server| format!("{} {}", server.name, server.addr))
        .collect();
    assert_eq!(
        daemon.banner[..3],
        [
            format!("imd {}   store memory", env!("CARGO_PKG_VERSION")),
            format!("Gateway    {}", addresses.gateway),
            format!("Access     {}", access.join("   ")),
        ]
    );
    assert!(daemon.banner[3].starts_with(&format!("User API   {}   ", addresses.user_api)));
    let rest = format!(
        "   Group API {}   Admin {}",
        addresses.group_api,
        addresses.admin.unwrap()
    );
    assert!(daemon.banner[3].ends_with(&rest));
    let ready = daemon.banner[4].strip_prefix("Ready in ").unwrap();
    let (ms, rest) = ready.split_once(' ').unwrap();
    assert!(ms.parse::<u32>().is_ok(), "{ready}");
    assert_eq!(rest, "ms. For development: public token salt, no TLS.");
}

#[test]
fn the_banner_calls_only_the_public_salt_public() {
    let folder = TempDir::new().unwrap();
    let config = write_config(folder.path(), "[auth]\nsalt = \"mine\"\n");
    let daemon = Daemon::start(&["--config", &config]);
    assert!(daemon.banner[4].ends_with(" ms. For development: no TLS."));
    // A client that logs in needs the same salt.
    daemon
        .imd(&["send", "--from", "1", "--to", "2", "x", "--config", &config])
        .ok();
    let refused = daemon.imd(&["send", "--from", "1", "--to", "2", "x"]);
    assert!(refused.failed(1).contains("93002"));
}

#[test]
fn the_addresses_file_is_one_line_of_json_and_is_gone_after_a_clean_stop() {
    let daemon = Daemon::start(&["--access", "1"]);
    let text = std::fs::read_to_string(daemon.addr_file()).unwrap();
    let a = daemon.addresses();
    let expected = format!(
        "{{\"gateway\":\"{}\",\"access\":[{{\"name\":\"access-1\",\"addr\":\"{}\"}}],\"user_api\":\"{}\",\"group_api\":\"{}\",\"admin\":\"{}\"}}\n",
        a.gateway,
        a.access[0].addr,
        a.user_api,
        a.group_api,
        a.admin.unwrap()
    );
    assert_eq!(text, expected);
    let files = std::fs::read_dir(daemon.folder.path()).unwrap().count();
    assert_eq!(files, 1, "nothing temporary is left beside it");
    let file = daemon.addr_file();
    daemon.program.signal("-TERM");
    let Daemon {
        program, folder, ..
    } = daemon;
    program.end().ok();
    assert!(!file.exists());
    drop(folder);
}

#[test]
fn an_addresses_file_that_cannot_be_written_is_an_error_and_leaves_nothing() {
    let folder = TempDir::new().unwrap();
    let taken = folder.path().join("folder");
    std::fs::create_dir(&taken).unwrap();
    let error = imd(&["--any-port", "--addr-file", taken.to_str().unwrap()]).failed(64);
    assert!(error.contains("--addr-file"), "{error}");
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);
    let missing = folder.path().join("no/addr.json");
    imd(&["--any-port", "--addr-file", missing.to_str().unwrap()]).failed(64);
}

#[test]
fn sigterm_sigint_and_sighup_stop_it_with_a_report() {
    let daemon = Daemon::start(&[]);
    daemon
        .imd(&["send", "--from", "1", "--to", "2", "one"])
        .ok();
    daemon.imd(&["sync", "--uid", "2"]).ok();
    daemon
        .imd(&["send", "--from", "1", "--to", "2", "two"])
        .ok();
    assert_eq!(
        daemon.stop(),
        "Stopped.  stored 2   delivered 1   pending 1   refused 0"
    );

    for signal in ["-INT", "-HUP"] {
        let daemon = Daemon::start(&[]);
        daemon.program.signal(signal);
        let out = daemon.program.end().ok();
        assert!(
            out[5].starts_with("Stopped.  stored 0"),
            "{signal}: {out:?}"
        );
    }
}

#[test]
fn a_port_in_use_names_the_key_and_the_way_out() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let addr = taken.local_addr().unwrap();
    let folder = TempDir::new().unwrap();
    let config = format!(
        "[gateway]\nlisten = \"127.0.0.1:0\"\n[http]\nuser_listen = \"127.0.0.1:0\"\ngroup_listen = \"127.0.0.1:0\"\n\
         [[access]]\nname = \"a\"\nlisten = \"{addr}\"\n"
    );
    let config = write_config(folder.path(), &config);
    let error = imd(&["--config", &config]).failed(64);
    for part in ["access.0.listen", &addr.to_string(), "--any-port"] {
        assert!(error.contains(part), "no {part} in: {error}");
    }
}

#[test]
fn access_servers_and_their_host_come_from_flags() {
    let daemon = Daemon::start(&["--access", "5", "--advertise", "localhost"]);
    let addresses = daemon.addresses();
    assert_eq!(addresses.access.len(), 5);
    assert!(
        addresses
            .access
            .iter()
            .all(|a| a.addr.starts_with("localhost:"))
    );
    assert!(
        daemon.banner[2].contains("access-5 127.0.0.1:"),
        "the banner has what listens"
    );
    daemon.imd(&["send", "--from", "1", "--to", "2", "x"]).ok();
}

/// Returns the first lines of the banner without the ports.
fn hosts_of(daemon: &Daemon) -> String {
    let digits = |c: char| c.is_ascii_digit();
    let lines = daemon.banner[1..4].join(" ");
    let words = lines
        .split_whitespace()
        .map(|word| match word.rsplit_once(':') {
            Some((host, port)) if port.chars().all(digits) => host.trim_start_matches("http://"),
            _ => word,
        });
    words.collect::<Vec<_>>().join(" ")
}

#[test]
fn every_listener_but_that_of_the_admin_api_follows_host() {
    let mut hosts = vec![("0.0.0.0", "0.0.0.0"), ("localhost", "127.0.0.1")];
    if ListenHost::any().at(0).is_ipv6() {
        hosts.push(("::", "[::]"));
    }
    let folder = TempDir::new().unwrap();
    let with_token = write_config(folder.path(), "[admin]\ntoken = \"secret\"\n");
    for (host, shown) in hosts {
        for (config, admin) in [(None, "127.0.0.1"), (Some(&*with_token), shown)] {
            let mut args = vec!["--access", "1", "--host", host];
            args.extend(config.into_iter().flat_map(|config| ["--config", config]));
            let daemon = Daemon::start(&args);
            let expected = format!(
                "Gateway {shown} Access access-1 {shown} User API {shown} Group API {shown} Admin {admin}"
            );
            assert_eq!(hosts_of(&daemon), expected);
            daemon.imd(&["send", "--from", "1", "--to", "2", "x"]).ok();
            // Clients of both families come in by `::`.
            let port = socket_addr(&daemon.addresses().user_api).port();
            TcpStream::connect(("127.0.0.1", port)).unwrap();
            if host == "::" {
                TcpStream::connect(("::1", port)).unwrap();
            }
        }
    }
}

#[test]
fn a_stack_on_all_addresses_shows_those_by_which_other_machines_reach_it() {
    let folder = TempDir::new().unwrap();
    let config = write_config(folder.path(), "[admin]\ntoken = \"secret\"\n");
    let mut daemon = Daemon::start(&["--config", &config, "--host", "0.0.0.0"]);
    while !daemon.banner.last().unwrap().starts_with("Ready in ") {
        daemon.banner.push(daemon.program.line());
    }
    let added = &daemon.banner[4..daemon.banner.len() - 1];
    let addresses = daemon.addresses();
    let port = |url: &str| socket_addr(url).port();
    let admin = port(&addresses.admin.unwrap());
    match address_on_the_network() {
        Some(ip) => {
            let gateway = format!("{ip}:{}", port(&addresses.gateway));
            let console = format!("http://{ip}:{admin}");
            assert_eq!(added.len(), 2, "no code outside of a terminal: {added:?}");
            assert!(added[0].starts_with("On the LAN ") && added[0].contains(&gateway));
            assert!(added[1].starts_with("Console    ") && added[1].contains(&console));
        }
        None => assert_eq!(added, [""; 0]),
    }
}

#[test]
fn the_console_is_asked_by_the_address_of_the_machine_where_it_listens_on_all() {
    let folder = TempDir::new().unwrap();
    let config = write_config(folder.path(), "[admin]\ntoken = \"secret\"\n");
    let daemon = Daemon::start(&["--config", &config, "--host", "0.0.0.0"]);
    let admin = socket_addr(&daemon.addresses().admin.unwrap());
    let status = |host: &str| {
        let mut stream = TcpStream::connect(admin).unwrap();
        let request = format!("GET / HTTP/1.1\r\nhost: {host}\r\nconnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        answer.split(' ').nth(1).unwrap().to_owned()
    };
    for (host, expected) in [
        ("192.168.1.9:10090", "200"),
        ("[fd00::1]:10090", "200"),
        ("imd:10090", "200"),
        ("evil.example:10090", "403"),
    ] {
        assert_eq!(status(host), expected, "{host}");
    }
}

async fn register(user_api: SocketAddr, uid: i64) -> serde_json::Value {
    let form = format!("uid={uid}&pw=secret");
    post(user_api, "/x/user/register", &form).await.1
}

#[tokio::test]
async fn hashing_many_passwords_takes_the_memory_of_four() {
    // A password has to be hashed within `http.timeout`. On a busy machine, forty take longer than its default.
    let folder = TempDir::new().unwrap();
    let config = write_config(folder.path(), "[http]\ntimeout = \"1h\"\n");
    let daemon = Daemon::start(&["--config", &config]);
    let pid = daemon.program.pid();
    let user_api = daemon.addresses().user_api;
    let user_api = socket_addr(&user_api);
    // All requests are sent before the first answer is read.
    let calls = (1..=40).map(|uid| tokio::spawn(register(user_api, uid)));
    let calls: Vec<_> = calls.collect();
    for call in calls {
        assert_eq!(call.await.unwrap()["code"], 0);
    }
    // Only Linux tells how much memory a process has used at most.
    if let Ok(status) = std::fs::read_to_string(format!("/proc/{pid}/status")) {
        let line = status
            .lines()
            .find(|line| line.starts_with("VmHWM:"))
            .unwrap();
        let peak_kib: usize = line.split_whitespace().nth(1).unwrap().parse().unwrap();
        assert!(
            peak_kib < 200 * 1024,
            "{peak_kib} KiB for four computations of 19 MiB"
        );
    }
}

#[test]
fn bad_flags_exit_with_64() {
    let cases: [(&[&str], &str); 15] = [
        (&["--bogus"], "--bogus"),
        (&["bogus"], "bogus"),
        (&["--access", "0"], "--access"),
        (&["--access", "1001"], "--access"),
        (&["--log-format", "xml"], "--log-format"),
        (&["--advertise", "h:1"], "without scheme and port"),
        (&["--advertise", "0.0.0.0"], "--advertise 0.0.0.0"),
        (&["--host", ""], "--host: \"\" is no host to listen on"),
        (&["--host", "*"], "0.0.0.0"),
        (
            &["--host", "::1:10000:x"],
            "--host: \"::1:10000:x\" is no host",
        ),
        (&["--host", "0.0.0.0:1"], "give it without a port"),
        (
            &["--host", "203.0.113.7"],
            "this machine has no address 203.0.113.7",
        ),
        (&["--any-port", "token", "1"], "--any-port before a command"),
        (&["send", "--from", "1", "x"], "--to"),
        (&["sync", "--uid", "0"], "--uid"),
    ];
    for (args, part) in cases {
        let error = imd(args).failed(64);
        assert!(error.contains(part), "{args:?}: no {part} in: {error}");
    }
    let error = Program::start_logging(&["token", "1"], "a=b=c")
        .end()
        .failed(64);
    assert!(error.contains("RUST_LOG"), "{error}");
}

/// Sends a request to the user API as a browser does for a page of this origin, and returns the status.
fn asked_by_a_page(daemon: &Daemon, origin: &str) -> String {
    let api = socket_addr(&daemon.addresses().user_api);
    let mut stream = TcpStream::connect(api).unwrap();
    let request = format!(
        "POST /x/user/auth?uid=7 HTTP/1.1\r\nhost: {api}\r\norigin: {origin}\r\nsec-fetch-site: cross-site\r\n\
         connection: close\r\ncontent-length: 0\r\n\r\n"
    );
    stream.write_all(request.as_bytes()).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer.split(' ').nth(1).unwrap().to_owned()
}

#[test]
fn a_refused_origin_is_logged_once_with_the_key_that_lets_it_in() {
    let daemon = Daemon::start(&[]);
    for origin in ["http://localhost:5173", "http://localhost:5173", "null"] {
        assert_eq!(asked_by_a_page(&daemon, origin), "403");
    }
    daemon.program.signal("-TERM");
    let log = daemon.program.end().err;
    for (origin, listed) in [
        ("http://localhost:5173", "http://localhost:5173"),
        ("null", "*"),
    ] {
        let advice = format!("add \"{listed}\" to http.cors_origins in the config");
        let lines = log.lines().filter(|line| line.contains(&advice));
        let lines: Vec<_> = lines.collect();
        assert_eq!(lines.len(), 1, "{log}");
        assert!(lines[0].contains(&format!("origin=\"{origin}\"")), "{log}");
    }
    // The advice is followed.
    let folder = TempDir::new().unwrap();
    let config = "[http]\ncors_origins = [\"http://localhost:5173\"]\n";
    let config = write_config(folder.path(), config);
    let daemon = Daemon::start(&["--config", &config]);
    assert_eq!(asked_by_a_page(&daemon, "http://localhost:5173"), "200");
    assert_eq!(asked_by_a_page(&daemon, "http://localhost:5174"), "403");
}

#[test]
fn help_and_version_are_no_errors() {
    assert_eq!(
        imd(&["--version"]).ok(),
        [format!("imd {}", env!("CARGO_PKG_VERSION"))]
    );
    assert!(imd(&["--help"]).ok().iter().any(|l| l.contains("chat")));
}

#[test]
fn logs_go_to_stderr_as_json_when_asked() {
    let mut daemon = Daemon::start_with(&["--any-port", "--log-format", "json"], |args| {
        Program::start_logging(args, "imd=debug")
    });
    daemon.imd(&["send", "--from", "1", "--to", "2", "x"]).ok();
    let line = daemon.program.log_with("logged in");
    let log: serde_json::Value = serde_json::from_str(&line).unwrap();
    assert_eq!(log["level"], "DEBUG");
    assert_eq!(log["fields"]["uid"], 1);
    daemon.program.signal("-TERM");
    let ended = daemon.program.end();
    assert_eq!(
        ended.out.len(),
        6,
        "the banner and the report: {:?}",
        ended.out
    );
}

#[test]
fn a_closed_stdout_is_no_panic() {
    let script = "exec 3>&1; \"$0\" check | head -n 1 >&3; \"$0\" --help | true";
    let mut command = Command::new("sh");
    command.args(["-c", script, env!("CARGO_BIN_EXE_imd")]);
    let ended = Program::run(command).end();
    assert_eq!(ended.err, "");

    let daemon = Daemon::start(&[]);
    for _ in 0..20 {
        daemon.imd(&["send", "--from", "1", "--to", "2", "x"]).ok();
    }
    let mut command = Command::new("sh");
    let script = "\"$0\" sync --uid 2 --addr-file \"$1\" | head -n 1";
    let (bin, file) = (env!("CARGO_BIN_EXE_imd"), daemon.addr_file());
    command.args(["-c", script, bin]).arg(file);
    let ended = Program::run(command).end();
    assert_eq!((ended.out.len(), ended.err.as_str()), (1, ""));
}
