//! The errors of commands that do not reach what they need: each names what is wrong, where, and what to do.
//!
//! Look here for a stack that is not running, a port of another program, and addresses that are none. Exit codes are
//! tested in `codes`.

use std::io::{Read, Write};
use std::net::TcpListener;
use std::process::Command;
use std::thread;

use imd::daemon::Addresses;
use tempfile::TempDir;

use crate::process::{Daemon, Program, imd, write_config};
use crate::support::ports::reserved;

/// A command that is a client, with the flag that names its server.
struct ClientCommand {
    args: Vec<String>,
    flag: &'static str,
    /// The name of the part of the stack that the command needs.
    wanted: &'static str,
}

fn command(flag: &'static str, wanted: &'static str, args: &str) -> ClientCommand {
    let args = args.split(' ').map(str::to_owned).collect();
    ClientCommand { args, flag, wanted }
}

/// Returns every command that is a client.
fn client_commands(record: &str, snapshot: &str) -> Vec<ClientCommand> {
    let gateway = |args: &str| command("--gateway", "the gateway", args);
    let user = |args: &str| command("--user-api", "the user API", args);
    let group = |args: &str| command("--group-api", "the group API", args);
    let admin = |args: &str| command("--admin", "the admin API", args);
    vec![
        gateway("send --from 1 --to 2 x"),
        gateway("sync --uid 1"),
        gateway("sync --uid 1 --follow"),
        gateway("chat --uid 1"),
        gateway(&format!("replay {record}")),
        command("--addr", "the gateway", "bench p2p --users=2 --count=2"),
        command("--addr", "the gateway", "bench gateway --users=2 --count=2"),
        command("--addr", "the gateway", "bench connect --users=2 --count=2"),
        user("register --uid 1"),
        group("group create --uid 1"),
        group("group join --uid 1 --gid 1"),
        group("group quit --uid 1 --gid 1"),
        admin("access ls"),
        admin("access kill access-1"),
        admin("access add access-9"),
        admin("fault add --at notify --drop"),
        admin("fault ls"),
        admin("fault rm --all"),
        admin("clock show"),
        admin("clock skew 1s"),
        admin("reset"),
        admin("snapshot save no-such-file.jsonl"),
        admin(&format!("snapshot load {snapshot}")),
        admin("state"),
        admin("users"),
        admin("groups"),
        admin("inboxes"),
        admin("inboxes 1"),
        admin("sessions"),
        admin("mark"),
        admin("wait --timeout 1ms"),
        admin("tail"),
        admin("record --to no-such-file.rec"),
        admin("ready"),
    ]
}

impl ClientCommand {
    /// Runs the command with the server at this address, and returns its error.
    #[track_caller]
    fn at(&self, place: &str, code: i32) -> String {
        let mut args: Vec<&str> = self.args.iter().map(String::as_str).collect();
        args.extend([self.flag, place]);
        imd(&args).failed(code)
    }
}

/// Returns a valid record and a valid snapshot, with the folder that holds them.
fn files() -> (TempDir, String, String) {
    let folder = TempDir::new().unwrap();
    let path = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    let (record, snapshot) = (path("a.rec"), path("a.jsonl"));
    let opened = r#"{"us":0,"session":1,"server":"access-1","what":"opened"}"#;
    let header = r#"{"format":"imd-record","version":1,"imd":"0.1.0"}"#;
    std::fs::write(&record, format!("{header}\n{opened}\n")).unwrap();
    let head = r#"{"imd_snapshot":{"format":1,"newest":0}}"#;
    std::fs::write(&snapshot, format!("{head}\n{{\"end\":{{\"lines\":1}}}}\n")).unwrap();
    (folder, record, snapshot)
}

#[test]
fn an_address_where_nothing_listens_is_reported_with_what_to_do() {
    let (_folder, record, snapshot) = files();
    let nowhere = reserved().to_string();
    for command in client_commands(&record, &snapshot) {
        let error = command.at(&nowhere, 1);
        for part in [&nowhere, "Nothing listens there", "start imd", command.flag] {
            assert!(
                error.contains(part),
                "{:?}: no {part} in: {error}",
                command.args
            );
        }
    }
}

/// Returns the name and the address of every part of a stack.
fn parts(addresses: &Addresses) -> Vec<(&'static str, String)> {
    let plain = |url: &str| url.strip_prefix("http://").unwrap().to_owned();
    vec![
        ("the gateway", addresses.gateway.clone()),
        ("an access server", addresses.access[0].addr.clone()),
        ("the user API", plain(&addresses.user_api)),
        ("the group API", plain(&addresses.group_api)),
        ("the admin API", plain(addresses.admin.as_ref().unwrap())),
    ]
}

#[test]
fn the_address_of_another_part_of_the_stack_is_reported_with_its_name() {
    let (_folder, record, snapshot) = files();
    let daemon = Daemon::start(&[]);
    for command in client_commands(&record, &snapshot) {
        for (name, addr) in parts(&daemon.addresses()) {
            if name == command.wanted {
                continue;
            }
            let error = command.at(&addr, 1);
            for part in [
                &addr,
                &format!("this is {name}"),
                command.wanted.trim_start_matches("the "),
                command.flag,
            ] {
                assert!(
                    error.contains(part),
                    "{:?}: no {part:?} in: {error}",
                    command.args
                );
            }
        }
    }
    let replay = [
        "replay",
        record.as_str(),
        "--access",
        &daemon.addresses().gateway,
    ];
    let error = imd(&replay).err;
    assert!(
        error.is_empty() || error.contains("this is the gateway"),
        "{error}"
    );
}

/// Starts a server that answers every connection with these bytes.
fn foreign_server(says: &'static [u8]) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let addr = listener.local_addr().unwrap().to_string();
    thread::spawn(move || {
        for mut stream in listener.incoming().map_while(Result::ok) {
            thread::spawn(move || {
                let _ = stream.read(&mut [0; 1024]);
                let _ = stream.write_all(says);
            });
        }
    });
    addr
}

#[test]
fn a_server_that_is_no_imd_is_reported_as_such() {
    let (_folder, record, snapshot) = files();
    let web =
        foreign_server(b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\nconnection: close\r\n\r\nhello");
    let json =
        foreign_server(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\nconnection: close\r\n\r\n{}");
    let ssh = foreign_server(b"SSH-2.0-OpenSSH_9.2\r\n");
    for command in client_commands(&record, &snapshot) {
        let error = command.at(&web, 1);
        assert!(
            error.contains(&web) && error.contains("not imd's"),
            "{:?}: {error}",
            command.args
        );
        let error = command.at(&ssh, 1);
        let says = ["not imd", "Is this the gateway of an imd?"];
        assert!(
            error.contains(&ssh) && says.iter().any(|part| error.contains(part)),
            "{:?}: {error}",
            command.args
        );
    }
    let error = imd(&["register", "--uid", "1", "--user-api", &json]).failed(1);
    assert!(error.contains("not imd's"), "{error}");
}

/// A stream as another server or a proxy may write it: with comments, with CRLF, cut at any byte.
#[test]
fn events_are_read_with_any_line_ends_and_gaps_are_reported() {
    let streaming = foreign_server(
        b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n\
          f\r\nretry: 1000\n\n:\n\r\n12\r\nid: 7\ndata: {\"seq\"\r\n\
          2d\r\n:7}\n\nevent: gap\r\ndata:{\"count\":2}\r\n\r\ndata:{}\n\r\n0\r\n\r\n",
    );
    let ended = imd(&["tail", "--json", "--admin", &streaming]);
    assert_eq!(ended.out, [r#"{"seq":7}"#, r#"{"count":2}"#, "{}"]);
    assert!(ended.failed(1).contains("the stack has ended"));
    let endless: &'static [u8] = Box::leak(
        [
            &b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n\r\ndata: "[..],
            &vec![b'x'; 17 << 20],
        ]
        .concat()
        .into_boxed_slice(),
    );
    let endless = foreign_server(endless);
    let error = imd(&["tail", "--admin", &endless]).failed(1);
    assert!(
        error.contains("/v1/journal: an event is too long"),
        "{error}"
    );
}

#[test]
fn an_invalid_address_is_reported_with_the_right_form() {
    let (_folder, record, snapshot) = files();
    for command in client_commands(&record, &snapshot) {
        let is_http = command.flag.ends_with("api") || command.flag == "--admin";
        for (wrong, says) in [
            ("127.0.0.1", "no port"),
            ("::1", "in brackets"),
            (":10000", "no host"),
            ("127.0.0.1:70000", "no port from 1 to 65535"),
            ("", "host:port"),
        ] {
            let error = command.at(wrong, 64);
            assert!(
                error.contains(command.flag) && error.contains(says),
                "{:?}: {error}",
                command.args
            );
        }
        for (wrong, says) in match is_http {
            true => [
                ("https://h:1/x", "host and port alone"),
                ("ftp://h:1", "no scheme"),
            ],
            false => [
                ("http://127.0.0.1:1", "write host:port"),
                ("tcp://h:1", "such as h:1"),
            ],
        } {
            let error = command.at(wrong, 64);
            assert!(
                error.contains(command.flag) && error.contains(says),
                "{:?}: {error}",
                command.args
            );
        }
    }
    for (args, flag) in [
        (&["sync", "--uid", "1"][..], "--gateway"),
        (&["register", "--uid", "1"], "--user-api"),
        (&["tail"], "--admin"),
    ] {
        let error = imd(&[args, &[flag, "no-such-host.invalid:1"]].concat()).failed(1);
        assert!(
            error.contains("Is the name of the host right?") && error.contains(flag),
            "{error}"
        );
    }
}

#[test]
fn an_invalid_address_is_reported_with_the_flag_or_variable_that_has_it() {
    for (variable, flag, args) in [
        ("IMD_GATEWAY", "--gateway", "send --from 1 --to 2 x"),
        ("IMD_USER_API", "--user-api", "register --uid 1"),
        ("IMD_GROUP_API", "--group-api", "group create --uid 1"),
        ("IMD_ADMIN", "--admin", "state"),
    ] {
        let run = |flags: &[&str]| {
            let mut command = Command::new(env!("CARGO_BIN_EXE_imd"));
            let args = args.split(' ').chain(flags.iter().copied());
            command
                .args(args)
                .env(variable, "nowhere")
                .env_remove("RUST_LOG");
            Program::run(command).end().failed(64)
        };
        let error = run(&[]);
        assert!(error.contains(&format!("{variable} nowhere: ")), "{error}");
        let error = run(&[flag, "elsewhere"]);
        assert!(error.contains(&format!("{flag} elsewhere: ")), "{error}");
    }
}

#[test]
fn an_api_is_found_without_its_scheme() {
    let daemon = Daemon::start(&[]);
    let plain = |url: &str| url.strip_prefix("http://").unwrap().to_owned();
    let addresses = daemon.addresses();
    imd(&[
        "ready",
        "--admin",
        &plain(addresses.admin.as_ref().unwrap()),
    ])
    .ok();
    imd(&[
        "register",
        "--uid",
        "1",
        "--user-api",
        &plain(&addresses.user_api),
    ])
    .ok();
    imd(&[
        "group",
        "create",
        "--uid",
        "1",
        "--group-api",
        &plain(&addresses.group_api),
    ])
    .ok();
}

#[test]
fn a_dead_access_server_is_not_taken_for_a_stack_that_is_not_running() {
    let daemon = Daemon::start(&["--access", "1"]);
    daemon.imd(&["access", "kill", "access-1"]).ok();
    let (_folder, record, _) = files();
    let addr = daemon.addresses().access[0].addr.clone();
    let gateway = daemon.addresses().gateway;
    for args in [
        &[
            "send",
            "--from",
            "1",
            "--to",
            "2",
            "x",
            "--gateway",
            &gateway,
        ][..],
        &["sync", "--uid", "1", "--gateway", &gateway],
        &["chat", "--uid", "1", "--gateway", &gateway],
        &["bench", "--users=2", "--count=2", "--addr", &gateway],
    ] {
        let error = imd(args).failed(1);
        for part in [
            &addr,
            "The gateway hands it out, but it is dead",
            "imd access ls",
        ] {
            assert!(error.contains(part), "{args:?}: no {part:?} in: {error}");
        }
        assert!(!error.contains("start imd"), "{error}");
    }
    let error = daemon.imd(&["replay", &record]).failed(1);
    assert!(
        error.contains(&addr) && error.contains("it is dead"),
        "{error}"
    );
}

#[test]
fn a_replay_without_a_server_reports_what_to_do_wherever_its_record_begins() {
    let (_folder, record, _) = files();
    let closed = reserved().to_string();
    let at_gateway = std::fs::read_to_string(&record)
        .unwrap()
        .replace("access-1", "gateway");
    for (text, flag, said) in [
        (&at_gateway, "--gateway", "start imd"),
        (
            &at_gateway.replace("gateway", "access-1"),
            "--gateway",
            "start imd",
        ),
        (
            &at_gateway.replace("gateway", "access-1"),
            "--access",
            "--access HOST:PORT",
        ),
    ] {
        std::fs::write(&record, text).unwrap();
        let error = imd(&["replay", &record, flag, &closed]).failed(1);
        for part in [&closed, said, "Nothing listens there"] {
            assert!(error.contains(part), "{flag}: no {part:?} in: {error}");
        }
    }
}

#[test]
fn a_refusal_names_the_request_and_not_the_address() {
    let folder = TempDir::new().unwrap();
    let config = write_config(folder.path(), "[limits]\ngroup_members = 3\n");
    let daemon = Daemon::start(&["--config", &config]);
    let addresses = daemon.addresses();
    let group = [
        "bench",
        "group",
        "--users=5",
        "--count=2",
        "--addr",
        &addresses.gateway,
    ];
    let error = imd(&[&group[..], &["--group-api", &addresses.group_api]].concat()).failed(1);
    for part in [
        "group of 5 users",
        "number 4",
        "--users",
        "limits.group_members",
    ] {
        assert!(error.contains(part), "no {part:?} in: {error}");
    }
    let private = imd(&[
        "bench",
        "group",
        "--users=5",
        "--count=2",
        "--config",
        &config,
    ])
    .failed(1);
    daemon.imd(&["register", "--uid", "1"]).ok();
    for error in [
        error,
        private,
        daemon.imd(&["register", "--uid", "1"]).failed(1),
        daemon
            .imd(&["group", "join", "--uid", "1", "--gid", "9"])
            .failed(1),
        daemon.imd(&["access", "kill", "nobody"]).failed(64),
        daemon.imd(&["fault", "rm", "nobody"]).failed(64),
    ] {
        assert!(
            !error.contains("http://") && !error.contains("/v1/"),
            "{error}"
        );
    }
}

#[test]
fn the_error_of_a_folder_in_use_names_only_flags_that_exist() {
    let folder = TempDir::new().unwrap();
    let data = folder.path().join("data").to_str().unwrap().to_owned();
    let _daemon = Daemon::start(&["--store", &data]);
    for command in ["check", "dump", "compact"] {
        let error = imd(&["store", command, &data]).failed(64);
        assert!(
            error.contains("in use by another imd: stop it first"),
            "{error}"
        );
        assert!(
            !error.contains("--store") && !error.contains("--memory"),
            "{error}"
        );
    }
}
