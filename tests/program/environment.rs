//! Environment variables: those of the config's keys and of the daemon's flags, and those that tell a client command where
//! its stack is.
//!
//! The forms of values are tested in `tests/variables.rs`, without a process.

use std::collections::BTreeSet;

use imd::Config;
use tempfile::TempDir;

use crate::process::{Daemon, Ended, Program, commands, imd, write_config};

/// Runs the program to its end with these variables.
fn with(variables: &[(&str, &str)], args: &[&str]) -> Ended {
    Program::start_with_variables(args, variables).end()
}

/// Returns the value of a key that `imd check` prints, and its origin.
fn checked(variables: &[(&str, &str)], args: &[&str], key: &str) -> Option<(String, String)> {
    let printed = with(variables, &[&["check"], args].concat()).ok();
    let config: toml::Table = printed.join("\n").parse().unwrap();
    let (section, name) = key.split_once('.').unwrap();
    let value = config[section].get(name)?;
    let is_listed = |line: &&String| line.starts_with(&format!("# {key} "));
    let origin = match printed.iter().find(is_listed) {
        Some(line) => line.rsplit("   ").next().unwrap(),
        None => "default",
    };
    Some((value.to_string(), origin.to_owned()))
}

#[test]
fn flags_count_more_than_variables_and_variables_more_than_the_file() {
    let folder = TempDir::new().unwrap();
    let file = write_config(
        folder.path(),
        "[store]\npath = \"of-file\"\nbuffer = 70_000\n",
    );
    let of_key = ("IMD_STORE__PATH", "of-key");
    let of_flag = ("IMD_STORE", "of-variable");
    let memory = ("IMD_MEMORY", "true");
    let config = ["--config", &file];
    for (variables, flags, value, origin) in [
        (&[][..], &[][..], Some("of-file"), "imd.toml:2"),
        (&[of_key], &[], Some("of-key"), "IMD_STORE__PATH"),
        (&[of_key, of_flag], &[], Some("of-variable"), "IMD_STORE"),
        (
            &[of_key, of_flag],
            &["--store", "of-flag"],
            Some("of-flag"),
            "--store",
        ),
        (
            &[memory],
            &["--store", "of-flag"],
            Some("of-flag"),
            "--store",
        ),
        (&[of_key, of_flag], &["--memory"], None, ""),
        (&[of_key, memory], &[], None, ""),
        (
            &[of_key, ("IMD_MEMORY", "false")],
            &[],
            Some("of-key"),
            "IMD_STORE__PATH",
        ),
        (
            &[of_key, ("IMD_MEMORY", "")],
            &[],
            Some("of-key"),
            "IMD_STORE__PATH",
        ),
        (
            &[("IMD_STORE__PATH", "")],
            &[],
            Some("of-file"),
            "imd.toml:2",
        ),
    ] {
        let found = checked(variables, &[&config, flags].concat(), "store.path");
        match (value, found) {
            (Some(value), Some((found, from))) => {
                assert_eq!(found, format!("\"{value}\""), "{variables:?} {flags:?}");
                assert!(from.ends_with(origin), "{variables:?} {flags:?}: {from}");
            }
            (None, None) => {}
            (value, found) => panic!("{variables:?} {flags:?}: {found:?} instead of {value:?}"),
        }
    }
    let (value, origin) = checked(&[("IMD_CONFIG", &file)], &[], "store.buffer").unwrap();
    assert!(
        value == "70000" && origin.ends_with("imd.toml:3"),
        "{value} {origin}"
    );
    let (_, origin) = checked(&[], &[], "store.buffer").unwrap();
    assert_eq!(origin, "default");
    let printed = with(&[("IMD_ACCESS", "5")], &["check"]).ok().join("\n");
    assert!(
        printed.contains("# access.4.name     IMD_ACCESS"),
        "{printed}"
    );
}

#[test]
fn what_check_prints_is_the_same_config_for_every_source() {
    let variables = [
        ("IMD_SESSION__IDLE", "90s"),
        ("IMD_HTTP__HOSTS", "a.example,b.example"),
        ("IMD_ACCESS__0__LISTEN", "0.0.0.0:11000"),
        ("IMD_ANY_PORT", "1"),
    ];
    let printed = with(&variables, &["check", "--advertise", "h", "--manual-clock"]).ok();
    let config = Config::from_toml(&printed.join("\n"), "").unwrap();
    assert_eq!(config.session.idle.as_secs(), 90);
    assert_eq!(config.http.hosts, ["a.example", "b.example"]);
    assert_eq!(config.access.0[0].listen, "0.0.0.0:0".parse().unwrap());
    assert_eq!(config.access.0[2].advertise.as_deref(), Some("h"));
    assert_eq!(config, config.clone().manual_clock());
}

#[test]
fn a_daemon_is_configured_by_variables_alone() {
    let folder = TempDir::new().unwrap();
    let file = folder.path().join("addr.json");
    let variables = [
        ("IMD_ANY_PORT", "yes"),
        ("IMD_ADDR_FILE", file.to_str().unwrap()),
        ("IMD_ACCESS__0__NAME", "first"),
        ("IMD_ACCESS", "1"),
        ("IMD_ADMIN__TOKEN", "canary-token"),
        ("IMD_AUTH__SALT", "canary-salt"),
        ("IMD_LOG_FORMAT", "json"),
        ("RUST_LOG", "trace"),
    ];
    let mut program = Program::start_with_variables(&[], &variables);
    let banner = program.line_with("Access");
    assert!(
        banner.contains("first 127.0.0.1:") && !banner.contains("access-2"),
        "{banner}"
    );
    program.line_with("Ready in");

    // In the environment of its daemon, a command has the salt and the token of it.
    let of_config = &variables[4..6];
    let addr_file = ["--addr-file", file.to_str().unwrap()];
    let run =
        |args: &[&str], variables: &[(&str, &str)]| with(variables, &[args, &addr_file].concat());
    run(&["send", "--from", "1", "--to", "2", "x"], of_config).ok();
    run(&["send", "--from", "1", "--to", "2", "x"], &[]).failed(1);
    run(&["state"], of_config).ok();
    let refused = run(&["state"], &[]);
    assert_ne!(refused.code, Some(0));

    program.signal("-TERM");
    let log = program.end().err;
    assert!(log.lines().all(|line| line.starts_with('{')), "{log}");
    for secret in ["canary-token", "canary-salt"] {
        assert!(!log.contains(secret), "{secret} in {log}");
    }
}

#[test]
fn an_unknown_variable_is_refused_by_every_command() {
    for args in [
        &[][..],
        &["check"],
        &["token", "1"],
        &[
            "send",
            "--from",
            "1",
            "--to",
            "2",
            "x",
            "--gateway",
            "127.0.0.1:1",
        ],
        &["state", "--admin", "127.0.0.1:1"],
        &["store", "check", "/no/such/folder"],
        &["exec", "--", "true"],
        &["bench", "gateway", "--addr", "127.0.0.1:1"],
    ] {
        let error = with(&[("IMD_SESSION_IDLE", "5s")], args).failed(64);
        let says =
            "imd: IMD_SESSION_IDLE: imd knows no such variable: did you mean IMD_SESSION__IDLE?";
        assert!(error.starts_with(says), "{args:?}: {error}");
    }
    let known = [
        ("IMD_GATEWAY", "h:1"),
        ("IMD_USER_API", "h:1"),
        ("IMD_GROUP_API", "h:1"),
        ("IMD_ADMIN", "h:1"),
        ("IMD_SALT", "x"),
        ("IMD_PORT_10000_TCP_ADDR", "10.0.0.1"),
        ("IMD_NOTHING", ""),
    ];
    with(&known, &["check"]).ok();
    with(&[("IMD_NOTHING", "x")], &["--help"]).ok();
    // Of a variable's own mistakes, the error names the variable.
    for (name, value, says) in [
        ("IMD_SESSION__IDLE", "soon", "write IMD_SESSION__IDLE=60s"),
        ("IMD_ACCESS", "0", "0 is not in 1..=1000"),
        ("IMD_ACCESS", "x", "invalid value 'x'"),
        ("IMD_MEMORY", "maybe", "invalid value 'maybe'"),
        ("IMD_LOG_FORMAT", "xml", "possible values: pretty, json"),
        ("IMD_CONFIG", "/no/such.toml", "/no/such.toml: No such file"),
        ("IMD_ADVERTISE", "h:1", "give a name or an IP address alone"),
        ("IMD_ADVERTISE", "a b", "IMD_ADVERTISE=a b"),
        ("IMD_ADDR_FILE", "/", "IMD_ADDR_FILE /: "),
        ("IMD_ADMIN__LISTEN", "0.0.0.0:0", "set admin.token"),
    ] {
        let error = with(&[(name, value)], &["--any-port"]).failed(64);
        let is_named = error.contains(name);
        assert!(is_named && error.contains(says), "{name}={value}: {error}");
    }
    let both = [("IMD_MEMORY", "1"), ("IMD_STORE", "x")];
    let error = with(&both, &["check"]).failed(64);
    assert!(
        error.contains("IMD_MEMORY") && error.contains("IMD_STORE"),
        "{error}"
    );
    // A command that is not the daemon does not look at the daemon's flags.
    with(&[("IMD_ACCESS", "x"), both[0], both[1]], &["token", "1"]).ok();
}

#[test]
fn a_start_that_fails_names_the_variable_that_is_to_blame() {
    let folder = TempDir::new().unwrap();
    let other = Daemon::start(&[]);
    let taken = other.addresses().gateway;
    let wrong = folder.path().join("no/folder");
    let wrong = wrong.to_str().unwrap();
    let flags = ["--any-port"];
    for (name, value, flags) in [
        ("IMD_GATEWAY__LISTEN", taken.as_str(), &[][..]),
        ("IMD_STORE__PATH", wrong, &flags),
        ("IMD_STORE", wrong, &flags),
    ] {
        let free = [
            ("IMD_HTTP__USER_LISTEN", "127.0.0.1:0"),
            ("IMD_HTTP__GROUP_LISTEN", "127.0.0.1:0"),
            ("IMD_ADMIN__ENABLED", "false"),
            ("IMD_ACCESS__0__LISTEN", "127.0.0.1:0"),
            ("IMD_ACCESS", "1"),
            (name, value),
        ];
        let error = with(&free, flags).failed(64);
        assert!(error.contains(&format!("imd: {name}")), "{name}: {error}");
    }
}

#[test]
fn the_help_of_the_daemon_names_the_variables_and_not_their_values() {
    let set = [("IMD_STORE", "canary")];
    let help = with(&set, &["--help"]).ok().join("\n");
    for name in [
        "IMD_CONFIG",
        "IMD_ANY_PORT",
        "IMD_STORE",
        "IMD_MEMORY",
        "IMD_LOG_FORMAT",
    ] {
        assert!(help.contains(&format!("[env: {name}]")), "{name} in {help}");
    }
    assert!(!help.contains("canary"), "{help}");
}

/// Command lines that succeed with a stack which only the environment names. Words in capitals are files.
const CLIENTS: [&str; 40] = [
    "wait --since 1 --cmd SendP2PMsg",
    "token 1",
    "register --uid 1",
    "group create --uid 1",
    "group join --uid 2 --gid 50",
    "group quit --uid 2 --gid 50",
    "send --from 1 --to 2 hello",
    "sync --uid 2",
    "chat --uid 1",
    "bench gateway --users=2 --count=4 --json",
    "bench connect --users=2 --count=4 --json",
    "bench p2p --users=2 --count=4 --json",
    "bench group --users=2 --count=4 --json",
    "bench idle --users=2 --for=100ms --json",
    "bench sync --users=2 --fill=5 --count=2 --json",
    "replay RECORD",
    "replay RECORD --pw=",
    "access ls",
    "access add one-more",
    "access pause one-more",
    "access resume one-more",
    "access stop one-more",
    "access restart one-more",
    "access kill one-more",
    "fault add --name kept --at notify --drop --uid 99",
    "fault ls",
    "fault rm kept",
    "clock show",
    "clock skew 1s",
    "state",
    "demo --print",
    "users",
    "groups",
    "inboxes 2",
    "sessions",
    "mark",
    "snapshot save SNAPSHOT",
    "snapshot load SNAPSHOT --yes",
    "ready",
    "reset --yes",
];

/// Commands that run until something passes.
const FOLLOWING: [&str; 2] = ["tail --json", "record --count 6 --to RECORD"];

#[test]
fn every_client_command_finds_its_stack_by_the_environment_alone() {
    let folder = TempDir::new().unwrap();
    let path = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    let config =
        "[auth]\nsalt = \"mine\"\n[[group]]\ngid = 50\nmembers = [1]\n[clock]\nkind = \"manual\"\n";
    let daemon = Daemon::start(&["--config", &write_config(folder.path(), config)]);
    let addresses = daemon.addresses();
    let variables = [
        ("IMD_GATEWAY", addresses.gateway.as_str()),
        ("IMD_USER_API", &addresses.user_api),
        ("IMD_GROUP_API", &addresses.group_api),
        ("IMD_ADMIN", addresses.admin.as_deref().unwrap()),
        ("IMD_SALT", "mine"),
    ];
    let start = |line: &str| {
        let line = line
            .replace("RECORD", &path("record"))
            .replace("SNAPSHOT", &path("snapshot"));
        let args: Vec<&str> = line.split(' ').collect();
        Program::start_with_variables(&args, &variables)
    };
    for line in FOLLOWING {
        let mut following = start(line);
        following.wait_until_it_handles_signals();
        daemon.until_recording(true);
        start("send --from 1 --to 2 hello").end().ok();
        match line.starts_with("tail") {
            true => drop(following.line_with("SendP2PMsg")),
            false => drop(following.end().ok()),
        }
    }
    for line in CLIENTS {
        let ended = start(line).end();
        assert_eq!(
            ended.code,
            Some(0),
            "{line}: {}\n{:?}",
            ended.err,
            ended.out
        );
        if line.starts_with("bench") {
            let report: serde_json::Value = serde_json::from_str(&ended.out[0]).unwrap();
            assert_eq!(report["addr"], addresses.gateway.as_str(), "{line}");
        }
        if line == "token 1" {
            assert_eq!(
                ended.out,
                imd(&["token", "1", "--config", &path("imd.toml")]).ok()
            );
        }
    }
    start("clock advance 1s").end().ok();

    let tested = CLIENTS.iter().chain(&FOLLOWING);
    let tested = tested.filter_map(|line| line.split(' ').next());
    let others = ["ca", "check", "store", "exec"];
    let known: BTreeSet<String> = tested.chain(others).map(str::to_owned).collect();
    let commands = commands();
    let untested: Vec<_> = commands.difference(&known).collect();
    assert!(
        untested.is_empty(),
        "{untested:?}: does it find its stack by the environment?"
    );
}

#[test]
fn a_private_benchmark_is_asked_for_by_its_flags() {
    let daemon = Daemon::start(&[]);
    let gateway = daemon.addresses().gateway;
    let folder = TempDir::new().unwrap();
    let config = write_config(folder.path(), "[auth]\nsalt = \"mine\"\n");
    let variables = [("IMD_GATEWAY", gateway.as_str())];
    let args = ["bench", "--users=2", "--count=4", "--json"];
    for flags in [&["--share-cores"][..], &["--config", &config]] {
        let out = with(&variables, &[&args, flags].concat()).ok();
        let report: serde_json::Value = serde_json::from_str(&out[0]).unwrap();
        assert_eq!(report["addr"], serde_json::Value::Null, "{flags:?}");
    }
    // The private stack has the config of the environment, and the load generator too.
    let variables = [("IMD_CONFIG", config.as_str()), ("IMD_ACCESS", "1")];
    with(&variables, &args).ok();
    with(&[("IMD_AUTH__SALT", "mine")], &args).ok();
    let error = imd(&["bench", "group", "--group-api", "127.0.0.1:1"]).failed(64);
    assert!(error.contains("give its --addr"), "{error}");
}

#[test]
fn a_command_takes_the_config_of_the_environment_below_its_flags() {
    let daemon = Daemon::start(&[]);
    let addresses = daemon.addresses();
    let folder = TempDir::new().unwrap();
    let text = format!("[gateway]\nlisten = \"{}\"\n", addresses.gateway);
    let config = write_config(folder.path(), &text);
    let send = ["send", "--from", "1", "--to", "2", "x"];
    let of_config = ("IMD_CONFIG", config.as_str());
    let of_key = ("IMD_GATEWAY__LISTEN", addresses.gateway.as_str());
    let nowhere = ("IMD_GATEWAY", "127.0.0.1:1");
    with(&[of_config], &send).ok();
    with(&[of_key], &send).ok();
    with(&[of_config, of_key, nowhere], &send).failed(1);
    with(&[nowhere], &[&send[..], &["--config", &config]].concat()).ok();
    with(
        &[nowhere],
        &[&send[..], &["--gateway", &addresses.gateway]].concat(),
    )
    .ok();
    let admin = addresses.admin.unwrap();
    let of_key = ("IMD_ADMIN__LISTEN", admin.trim_start_matches("http://"));
    with(&[of_key], &["ready"]).ok();
}
