//! Tests of `imd::config`: the defaults of every key of imd.toml, and the errors of a wrong file.
//!
//! An error names the file, the line and the key, and says what the key may be. How the program reports it is tested in
//! `program/config`.

use std::time::Duration;

use imd::config::{Config, ConfigError, SHIPPED};

fn error(toml: &str) -> String {
    match Config::from_toml(toml, "imd.toml") {
        Ok(config) => panic!("this was accepted: {config:?}"),
        Err(error) => error.to_string(),
    }
}

/// Returns the dotted keys of a TOML document. Those in an array of tables have no index.
fn keys(toml: &str) -> Vec<String> {
    fn walk(value: &toml::Value, path: &str, found: &mut Vec<String>) {
        match value {
            toml::Value::Table(table) => {
                for (key, value) in table {
                    walk(value, &format!("{path}.{key}"), found);
                }
            }
            toml::Value::Array(items) => items.iter().for_each(|item| walk(item, path, found)),
            _ => found.push(path.to_owned()),
        }
    }
    let mut found = Vec::new();
    walk(&toml.parse::<toml::Table>().unwrap().into(), "", &mut found);
    found.sort();
    found.dedup();
    found
}

#[test]
fn the_shipped_file_has_the_defaults_and_keeps_messages_in_a_folder() {
    let mut expected = Config::default();
    expected.store.path = Some("imd-data".into());
    assert_eq!(Config::from_toml(SHIPPED, "imd.toml").unwrap(), expected);
}

#[test]
fn the_shipped_file_has_every_key() {
    let mut every = Config::default();
    every.access.0[0].advertise = Some("im.example.org".into());
    every.store.path = Some("imd-data".into());
    every.admin.token = Some("a secret".to_owned().into());
    every.store.keep = Some(Duration::from_secs(30 * 24 * 3600));
    every.store.max_inbox = Some(100_000);
    every.tls.cert = Some("cert.pem".into());
    every.tls.key = Some("key.pem".into());
    every.tls.ca_dir = Some("ca".into());
    // Keys without a default are comments in the shipped file.
    let shipped = SHIPPED
        .replace("# advertise", "advertise")
        .replace("# token", "token")
        .replace("# keep", "keep")
        .replace("# max_inbox", "max_inbox")
        .replace("# cert", "cert")
        .replace("# key", "key")
        .replace("# ca_dir", "ca_dir");
    assert_eq!(keys(&shipped), keys(&every.to_toml().unwrap()));
}

#[test]
fn a_gateway_alone_needs_no_access_server() {
    use imd::config::Role;
    let config = Config::from_toml("access = []\nroles = [\"gateway\"]", "imd.toml").unwrap();
    assert!(config.has_role(Role::Gateway) && !config.has_role(Role::Access));
}

#[test]
fn an_empty_file_means_the_defaults() {
    assert_eq!(
        Config::from_toml("", "imd.toml").unwrap(),
        Config::default()
    );
}

#[test]
fn what_check_prints_reads_back_as_the_same_config() {
    let mut config = Config::default();
    config.access.resize(5);
    config.access.0[1].advertise = Some("10.0.0.1:99".into());
    config.session.idle = Duration::from_millis(90_500);
    config.store.path = Some("some/folder".into());
    config.store.keep = Some(Duration::from_secs(90));
    let printed = config.to_toml().unwrap();
    assert_eq!(Config::from_toml(&printed, "printed").unwrap(), config);
}

#[test]
fn errors_name_file_line_key_and_what_is_wrong() {
    let cases = [
        (
            "[session]\nidle = \"soon\"",
            "imd.toml:2: session.idle: \"soon\" is no duration",
        ),
        (
            "[session]\nidle = 60",
            "imd.toml:2: session.idle: invalid type: integer",
        ),
        (
            "[session]\nidle = \"0s\"",
            "imd.toml:2: session.idle: must be at least 1ms",
        ),
        (
            "\n[session]\n\nidel = \"60s\"",
            "imd.toml:4: session.idel: unknown field `idel`, expected",
        ),
        (
            "[sessions]\nidle = \"60s\"",
            "imd.toml:1: sessions: unknown field `sessions`",
        ),
        (
            "[gateway]\nlisten = \"localhost\"",
            "imd.toml:2: gateway.listen: \"localhost\" is no address",
        ),
        (
            "[gateway]\nstrategy = \"best\"",
            "imd.toml:2: gateway.strategy: unknown variant `best`",
        ),
        (
            "[registry]\nheartbeat = \"11s\"",
            "imd.toml:2: registry.heartbeat: must be less than",
        ),
        (
            "[registry]\nlease = \"2s\"",
            "imd.toml:1: registry.heartbeat: must be less than",
        ),
        ("roles = []", "imd.toml:1: roles: names none"),
        (
            "[tls]\ncert = \"cert.pem\"",
            "imd.toml:2: tls.cert: needs tls.key beside it",
        ),
        (
            "[tls]\nkey = \"key.pem\"",
            "imd.toml:2: tls.key: needs tls.cert beside it",
        ),
        (
            "[tls]\ncert = \"a\"\nkey = \"b\"\nlocal_ca = true",
            "imd.toml:4: tls.local_ca: issues a certificate, and tls.cert names another one",
        ),
        (
            "[tls]\nca_dir = \"ca\"",
            "imd.toml:2: tls.ca_dir: does nothing without tls.local_ca = true",
        ),
        (
            "[tls]\nplain = true",
            "imd.toml:2: tls.plain: does nothing without TLS",
        ),
        (
            "[tls]\ncert = \" \"\nkey = \"b\"",
            "imd.toml:2: tls.cert: \" \" is blank: name a file",
        ),
        (
            "seed = 1\nroles = [\"access\", \"access\"]",
            "imd.toml:2: roles: names one twice",
        ),
        (
            "roles = [\"gateways\"]",
            "imd.toml:1: roles.0: unknown variant `gateways`, expected `gateway` or `access`",
        ),
        (
            "access = []\nroles = [\"access\"]",
            "imd.toml:1: access: at least one [[access]] is needed",
        ),
        (
            "[idgen]\nmachine = 1024",
            "imd.toml:2: idgen.machine: 1024 is more than 1023",
        ),
        (
            "[limits]\nmessage = 65_500",
            "imd.toml:2: limits.message: 65500 and limits.msg_id 128 do not fit",
        ),
        (
            "[limits]\nconnections = 0",
            "imd.toml:2: limits.connections: 0 must be from 1",
        ),
        (
            "[limits]\nmessage = -1",
            "imd.toml:2: limits.message: invalid value: integer `-1`",
        ),
        ("access = []", "imd.toml:1: access: at least one"),
        (
            "[[access]]\nname = \"a\"\nlisten = \"127.0.0.1:1\"\n[[access]]\nname = \"a\"\nlisten = \"127.0.0.1:2\"",
            "imd.toml:5: access.1.name: \"a\" is there twice",
        ),
        (
            "[[access]]\nname = \"a\"\nlisten = \"127.0.0.1:10000\"",
            "imd.toml:3: access.0.listen: 127.0.0.1:10000 is also taken by gateway.listen",
        ),
        (
            "[[access]]\nname = \"a\"\nlisten = \"127.0.0.1:1\"\nadvertise = \"0.0.0.0\"",
            "imd.toml:4: access.0.advertise: \"0.0.0.0\" is no host",
        ),
        (
            "[[access]]\nname = \"a\"",
            "imd.toml:1: access.0: missing field `listen`",
        ),
        (
            "[gateway]\nlisten = \"127.0.0.1:7001\"",
            "imd.toml:2: gateway.listen: 127.0.0.1:7001 is also taken by http.group_listen",
        ),
        (
            "[http]\nuser_listen = \"0.0.0.0:10000\"",
            "imd.toml:2: http.user_listen: 0.0.0.0:10000 is also taken by gateway.listen",
        ),
        (
            "[gateway]\nlisten = \"[fe80::1]:10000\"",
            "imd.toml:2: gateway.listen: [fe80::1]:10000 is link-local and needs its zone",
        ),
        (
            "[limits]\nconnections = 2",
            "imd.toml:2: limits.connections: 2 is too few: at least 3",
        ),
        (
            "[quirks]\nsync_inclusiv = true",
            "imd.toml:2: quirks.sync_inclusiv: unknown field",
        ),
        (
            "[quirks]\nnotify_gap = 5",
            "imd.toml:2: quirks.notify_gap: invalid type: integer",
        ),
        (
            "[session]\nsecond_login = \"refuse\"\n[quirks]\nold_session_stays_open = true",
            "imd.toml:4: quirks.old_session_stays_open: means session.second_login = \"demote\"",
        ),
        (
            "[session]\nfirst_notify = \"200y\"",
            "imd.toml:2: session.first_notify: must be at most 100 years; 0s",
        ),
        (
            "[delivery]\npush = \"yes\"",
            "imd.toml:2: delivery.push: invalid type: string",
        ),
        ("[gateway\n", "imd.toml:1: "),
        (
            "[gateway]\nidle = \"5s\"\nidle = \"6s\"",
            "imd.toml:3: duplicate key: idle = \"6s\"",
        ),
    ];
    for (toml, expected) in cases {
        let error = error(toml);
        assert!(
            error.starts_with(expected),
            "for {toml:?}\nexpected {expected}\n     got {error}"
        );
    }
}

#[test]
fn a_size_is_a_number_of_bytes_or_a_text_with_a_unit() {
    let toml = "[limits]\nframe_before_login = \"2KiB\"\nmessage = \"16 KiB\"\nmsg_id = \"64\"\noutbound = \"1MiB\"\n\
        [store]\nbuffer = \"32MiB\"\nmin_free = \"1GB\"\nmemory_limit = \"4GiB\"\n\
        [http]\nbody = \"128KiB\"\n[journal]\nbytes = 4_096\n";
    let config = Config::from_toml(toml, "imd.toml").unwrap();
    let limits = &config.limits;
    assert_eq!((limits.frame_before_login, limits.message), (2_048, 16_384));
    assert_eq!((limits.msg_id, limits.outbound), (64, 1 << 20));
    let store = &config.store;
    assert_eq!((store.buffer, store.min_free), (32 << 20, 1_000_000_000));
    assert_eq!((store.memory_limit, config.http.body), (4 << 30, 128 << 10));
    assert_eq!(config.journal.bytes, 4_096);
    let printed = config.to_toml().unwrap();
    assert!(printed.contains("buffer = 33554432\n"), "{printed}");
    assert_eq!(Config::from_toml(&printed, "printed").unwrap(), config);
}

#[test]
fn an_invalid_size_is_reported_with_a_valid_form() {
    for (value, expected) in [
        (
            "\"16MX\"",
            "\"16MX\" is no size in bytes such as 65536 or \"64KiB\": write a number, and behind it B, KiB",
        ),
        (
            "\"\"",
            "\"\" is no size in bytes such as 65536 or \"64KiB\": write a number",
        ),
        (
            "\"1.5MiB\"",
            "\"1.5MiB\" is no size in bytes such as 65536 or \"64KiB\": write a whole number, with a smaller",
        ),
        (
            "1.5",
            "invalid type: floating point `1.5`, expected a number of bytes such as 65536 or \"64KiB\": write it as buffer",
        ),
        (
            "\"-1MiB\"",
            "\"-1MiB\" is no size in bytes such as 65536 or \"64KiB\": a size can't be negative",
        ),
        (
            "-1",
            "invalid value: integer `-1`, expected a number of bytes such as 65536",
        ),
        (
            "\"16EiB\"",
            "\"16EiB\" is no size in bytes such as 65536 or \"64KiB\": a size is less than 16EiB",
        ),
        ("\"2GiB\"", "2147483648 must be from 65536 to 1073741824"),
        (
            "true",
            "invalid type: boolean `true`, expected a number of bytes",
        ),
        ("16MiB", "imd.toml:2: "),
        ("16MiB # more", "write it as buffer = \"16MiB\""),
    ] {
        let error = error(&format!("[store]\nbuffer = {value}"));
        assert!(error.contains(expected), "{value}\n{expected}\n{error}");
        assert!(error.starts_with("imd.toml:2: "), "{error}");
    }
}

#[test]
fn a_listener_takes_a_name_of_this_machine_or_a_port_alone() {
    let toml = "[gateway]\nlisten = \"localhost:0\"\n[http]\nuser_listen = \":6001\"\n\
        [[access]]\nname = \"a\"\nlisten = \":0\"\n";
    let config = Config::from_toml(toml, "imd.toml").unwrap();
    assert_eq!(config.gateway.listen, "127.0.0.1:0".parse().unwrap());
    for (addr, port) in [
        (config.http.user_listen, 6001),
        (config.access.0[0].listen, 0),
    ] {
        assert!(addr.ip().is_unspecified(), "{addr}");
        assert_eq!(addr.port(), port);
    }
    let printed = config.to_toml().unwrap();
    assert_eq!(Config::from_toml(&printed, "printed").unwrap(), config);
    for (listen, why) in [
        ("localhost", "its port is missing (port 0 is any free port)"),
        ("*:10000", "all addresses are written as"),
        ("http://localhost:10000", "leave the scheme"),
        ("::1:10000", "an IPv6 address needs brackets"),
        ("localhost:x", "a port is a number from 0 to 65535"),
    ] {
        let error = error(&format!("[admin]\nlisten = \"{listen}\"\n"));
        let begin = format!("imd.toml:2: admin.listen: {listen:?} is no address such as ");
        assert!(error.starts_with(&begin) && error.contains(why), "{error}");
    }
}

/// A link-local address that no interface has stands for a name that belongs to another machine.
#[cfg(target_os = "linux")]
#[test]
fn a_listener_takes_no_name_of_another_machine() {
    let error = error("[gateway]\nlisten = \"[fe80::1:2:3:4%lo]:1\"\n");
    let why = "this machine has no address fe80::1:2:3:4: take one that it has";
    assert!(error.contains(why), "{error}");
}

#[test]
fn every_listener_follows_the_host_and_the_admin_api_only_with_a_token() {
    let host = imd::config::ListenHost::parse("0.0.0.0").unwrap();
    let mut config = Config::default();
    config.access.resize(2);
    config.with_websockets();
    config.listen_on(host);
    let servers = &config.access.0;
    let mut listeners = vec![
        config.gateway.listen,
        config.gateway.ws_listen.unwrap(),
        config.http.user_listen,
        config.http.group_listen,
    ];
    listeners.extend(servers.iter().map(|server| server.listen));
    listeners.extend(servers.iter().map(|server| server.ws_listen.unwrap()));
    assert!(listeners.iter().all(|addr| addr.ip().is_unspecified()));
    let ports: Vec<u16> = listeners.iter().map(|addr| addr.port()).collect();
    assert_eq!(
        ports,
        [10000, 10100, 6001, 7001, 11000, 11001, 11100, 11101]
    );
    assert_eq!(config.admin, Config::default().admin);
    config.validate().unwrap();
    config.admin.token = Some("secret".to_owned().into());
    config.listen_on(host);
    assert_eq!(config.admin.listen, "0.0.0.0:10090".parse().unwrap());
    config.validate().unwrap();
}

#[test]
fn a_missing_file_is_named_in_the_error() {
    let error = Config::from_file("no/such/imd.toml".as_ref()).unwrap_err();
    assert!(matches!(error, ConfigError::Unreadable { .. }));
    assert!(
        error.to_string().starts_with("no/such/imd.toml: "),
        "{error}"
    );
}

#[test]
fn a_file_that_is_no_text_is_reported_with_its_line() {
    let folder = tempfile::TempDir::new().unwrap();
    let file = folder.path().join("imd.toml");
    std::fs::write(&file, b"[gateway]\n# \xff\n").unwrap();
    let error = Config::from_file(&file).unwrap_err().to_string();
    assert_eq!(
        error,
        format!("{}:2: this is no UTF-8 text", file.display())
    );
}

#[test]
fn more_access_servers_take_the_next_names_and_ports() {
    let mut config = Config::default();
    config.access.resize(4);
    let last = &config.access.0[3];
    assert_eq!(
        (last.name.as_str(), last.listen.port()),
        ("access-4", 11003)
    );
    config.access.resize(1);
    assert_eq!(config.access.0.len(), 1);
    let mut free = Config::ephemeral();
    free.access.resize(5);
    assert!(free.access.0.iter().all(|server| server.listen.port() == 0));
    free.validate().unwrap();
}

#[test]
fn an_admin_api_that_others_can_reach_needs_a_token() {
    let open = error("[admin]\nlisten = \"0.0.0.0:10090\"\n");
    assert!(
        open.contains("admin.listen") && open.contains("set admin.token"),
        "{open}"
    );
    let empty = error("[admin]\ntoken = \"\"\n");
    assert!(empty.contains("admin.token"), "{empty}");
    for fine in [
        "listen = \"0.0.0.0:10090\"\ntoken = \"t\"",
        "listen = \"0.0.0.0:10090\"\nenabled = false",
        "listen = \"[::1]:10090\"",
    ] {
        Config::from_toml(&format!("[admin]\n{fine}\n"), "imd.toml").unwrap();
    }
}

#[test]
fn hosts_of_the_admin_api_are_hosts() {
    for fine in [
        "imd.test",
        "IMD.test:8080",
        "10.0.0.1",
        "::1",
        "[::1]:9",
        "0.0.0.0",
        "im_d",
    ] {
        Config::from_toml(&format!("[admin]\nhosts = [\"{fine}\"]\n"), "imd.toml").unwrap();
    }
    for bad in [
        "",
        " ",
        "*",
        "*.test",
        "http://imd.test",
        "imd.test/",
        "10.0.0.0/8",
        "imd.test:0",
        "imd.test:x",
        "a b",
        "imd.test:",
        "https://imd.test:1/x",
        "imd.test:70000",
        "[imd.test]",
        "me@imd.test",
    ] {
        let error = error(&format!("[admin]\nhosts = [\"imd.test\",\n\"{bad}\"]\n"));
        let expected = format!("imd.toml:3: admin.hosts.1: {bad:?} is no host or host:port: ");
        assert!(error.starts_with(&expected), "{bad}: {error}");
    }
}

#[test]
fn an_advertised_address_is_one_that_can_be_dialled() {
    let advertising = |host: &str| {
        format!("[[access]]\nname = \"a\"\nlisten = \"127.0.0.1:1\"\nadvertise = \"{host}\"\n")
    };
    for fine in [
        "im.example.org",
        "im.example.org:443",
        "10.0.0.1",
        "::1",
        "[::1]:9",
        "fe80::1%eth0",
    ] {
        Config::from_toml(&advertising(fine), "imd.toml").unwrap();
    }
    for bad in [
        "",
        " ",
        "a b:1",
        "a:0",
        "a:65536",
        "0.0.0.0",
        "[::]:1",
        "fe80::1",
        "http://a",
        &"a".repeat(70_000),
    ] {
        let error = error(&advertising(bad));
        assert!(
            error.starts_with("imd.toml:4: access.0.advertise: "),
            "{error}"
        );
        assert!(error.len() < 300, "{}", error.len());
    }
}

#[test]
fn an_origin_of_cors_is_written_as_browsers_write_it() {
    for (value, origins) in [
        ("[]", vec![]),
        ("\"*\"", vec!["*"]),
        ("[\"*\"]", vec!["*"]),
        ("\"http://localhost:5173\"", vec!["http://localhost:5173"]),
        (
            "[\"https://im.example\", \"capacitor://localhost\"]",
            vec!["https://im.example", "capacitor://localhost"],
        ),
    ] {
        let toml = format!("[http]\ncors_origins = {value}\n");
        let config = Config::from_toml(&toml, "imd.toml").unwrap();
        assert_eq!(config.http.cors_origins, origins);
        let printed = config.to_toml().unwrap();
        assert_eq!(Config::from_toml(&printed, "printed").unwrap(), config);
    }
    for (value, expected) in [
        (
            "[\"*\", \"http://h\"]",
            "http.cors_origins: \"*\" lets every origin in: leave the others out",
        ),
        (
            "[\"http://h\", \"http://h:5173/\"]",
            "http.cors_origins.1: \"http://h:5173/\" is no origin such as \"http://localhost:5173\": browsers write it as \"http://h:5173\"",
        ),
        (
            "[\"localhost:5173\"]",
            "http.cors_origins.0: \"localhost:5173\" is no origin such as \"http://localhost:5173\": its scheme is missing",
        ),
        (
            "7",
            "http.cors_origins: invalid type: integer `7`, expected a list of texts: write it as cors_origins = [\"http://",
        ),
    ] {
        let error = error(&format!("[http]\ncors_origins = {value}\n"));
        assert!(
            error.starts_with(&format!("imd.toml:2: {expected}")),
            "{error}"
        );
    }
}

#[test]
fn a_network_of_clients_is_told_a_host_that_can_be_dialled() {
    let told = |from: &str, host: &str| {
        format!("[[gateway.advertise_to]]\nfrom = \"{from}\"\nhost = \"{host}\"\n")
    };
    for (from, host) in [
        ("172.17.0.0/16", "host.docker.internal"),
        ("10.0.2.15", "10.0.2.2"),
        ("fd00::/8", "fd00::1"),
        ("0.0.0.0/0", "im.example:443"),
    ] {
        let config = Config::from_toml(&told(from, host), "imd.toml").unwrap();
        let printed = config.to_toml().unwrap();
        assert_eq!(Config::from_toml(&printed, "printed").unwrap(), config);
    }
    for (from, host, expected) in [
        (
            "docker0",
            "h",
            "imd.toml:2: gateway.advertise_to.0.from: \"docker0\" is no network such as",
        ),
        (
            "172.17.0.1/16",
            "h",
            "imd.toml:2: gateway.advertise_to.0.from: \"172.17.0.1/16\" is no network such as",
        ),
        (
            "10.0.0.0/8",
            "0.0.0.0",
            "imd.toml:3: gateway.advertise_to.0.host: \"0.0.0.0\" is no host or host:port: ",
        ),
        (
            "10.0.0.0/8",
            "http://h",
            "imd.toml:3: gateway.advertise_to.0.host: \"http://h\" is no host or host:port: ",
        ),
    ] {
        let error = error(&told(from, host));
        assert!(error.starts_with(expected), "{error}");
    }
    let twice = told("10.0.0.0/8", "a") + &told("10.0.0.0/8", "b");
    let expected = "imd.toml:5: gateway.advertise_to.1.from: 10.0.0.0/8 is there twice";
    assert!(error(&twice).starts_with(expected), "{}", error(&twice));
}

#[test]
fn a_token_is_never_printed_by_debug() {
    let config = Config::from_toml("[admin]\ntoken = \"hush\"\n", "imd.toml").unwrap();
    assert!(!format!("{config:?}").contains("hush"));
}

#[test]
fn wrong_users_and_groups_are_reported() {
    for (toml, why) in [
        ("[[user]]\nuid = 0\n", "user.uid"),
        (
            "[[user]]\nuid = 7\n[[user]]\nuid = 7\n",
            "7 stands there twice",
        ),
        ("[[group]]\ngid = -1\nmembers = [1]\n", "group.gid"),
        (
            "[[group]]\ngid = 5\nmembers = []\n",
            "a group has at least one",
        ),
        ("[[group]]\ngid = 5\nmembers = [0]\n", "0 is not positive"),
        (
            "[[group]]\ngid = 5\nmembers = [1, 2]\n[limits]\ngroup_members = 1\n",
            "limits.group_members is 1",
        ),
    ] {
        let error = error(toml);
        assert!(error.contains(why), "{toml}: {error}");
    }
}

#[test]
fn a_file_from_another_system_is_read_or_refused_as_such() {
    let folder = tempfile::TempDir::new().unwrap();
    let file = folder.path().join("imd.toml");
    let read = |bytes: Vec<u8>| {
        std::fs::write(&file, bytes).unwrap();
        Config::from_file(&file).map_err(|error| error.to_string())
    };
    let text = "[idgen]\r\nmachine = 3\r\n";
    for good in [text.to_owned(), format!("\u{feff}{text}")] {
        assert_eq!(read(good.into_bytes()).unwrap().idgen.machine, 3);
    }
    for bom in ["", "\u{feff}"] {
        let text = format!("{bom}{text}");
        let little = text.encode_utf16().flat_map(u16::to_le_bytes).collect();
        let big = text.encode_utf16().flat_map(u16::to_be_bytes).collect();
        for (bytes, name) in [(little, "little"), (big, "big")] {
            let error = read(bytes).unwrap_err();
            let says = format!("imd.toml:1: this is UTF-16 ({name}-endian) text");
            assert!(error.contains(&says), "{error}");
        }
    }
    let error = read(text.replace('\n', "").into_bytes()).unwrap_err();
    assert!(error.contains("CR alone"), "{error}");
}

#[test]
fn an_error_suggests_what_to_write() {
    for (toml, hint) in [
        ("[access]\nname = \"a\"", ":1: access: "),
        (
            "[access]\nname = \"a\"",
            "write [[access]], with two brackets",
        ),
        ("[user]\nuid = 1", "write [[user]]"),
        ("[group]\ngid = 1", "write [[group]]"),
        ("[fault]\nat = \"notify\"", "write [[fault]]"),
        ("access = 3", "write [[access]]"),
        (
            "[gateway.advertise_to]\nfrom = \"::1\"",
            "write [[gateway.advertise_to]], with two brackets",
        ),
        (
            "[[gateway.advertise_to]]\nfrom = \"::1\"",
            "write host = \"host.docker.internal\"",
        ),
        (
            "[[gateway.advertise_to]]\nfrom = 7",
            "write it as from = \"172.17.0.0/16\"",
        ),
        (
            "[[gateway]]\nrefresh = \"5s\"",
            "write [gateway], with one bracket",
        ),
        ("gateway = \"x\"", "write [gateway], and its keys below"),
        ("[gateway]\nrefresh = 5", "gateway.refresh: "),
        ("[gateway]\nrefresh = 5", "write it as refresh = \"5s\""),
        ("[gateway]\nrefresh = 5s", ":2: "),
        ("[gateway]\nrefresh = 5s", "write it as refresh = \"5s\""),
        ("gateway.refresh = 5s", "write it as refresh = \"5s\""),
        (
            "[gateway]\nlisten = 127.0.0.1:1",
            "write it as listen = \"127.0.0.1:10000\"",
        ),
        ("[store]\nkeep = 30", "write it as keep = \"30s\""),
        ("[gateway]\nlisten = 10000", "listen = \"127.0.0.1:10000\""),
        (
            "[[access]]\nname = 1\nlisten = \"127.0.0.1:0\"",
            "name = \"access-1\"",
        ),
        (
            "[[access]]\nname = \"a\"",
            "write listen = \"127.0.0.1:11000\"",
        ),
        (
            "[limits]\nconnections = \"9\"",
            "write it as connections = 9",
        ),
        ("[auth]\nauto_register = \"yes\"", "auto_register = true"),
        ("[admin]\nhosts = \"h\"", "hosts = [\"im.example.org\"]"),
        ("[[group]]\ngid = 1\nmembers = 7", "members = [7, 8]"),
        ("[[fault]]\nat = \"notify\"\ndelay = 2", "such as \"10s\""),
        ("[journal]\ncapture = true", "capture = \"auto\""),
        ("[gateway]\nrefesh = \"5s\"", "did you mean refresh?"),
        ("[gatway]\nrefresh = \"5s\"", "did you mean gateway?"),
        ("[gateway]\nstrategy = \"randm\"", "did you mean random?"),
        (
            "[session]\nrefresh = \"5s\"",
            "refresh belongs to [gateway]",
        ),
        ("keep = \"30d\"", "keep belongs to [store]"),
    ] {
        let error = error(toml);
        assert!(error.contains(hint), "{toml:?}\n{hint}\n{error}");
    }
    for secret in [
        "[[user]]\nuid = 1\npw = 8675309",
        "[[user]]\nuid = 1\npw = s8675309",
        "[admin]\ntoken = 8675309",
    ] {
        let error = error(secret);
        assert!(
            error.contains("write it as ") && !error.contains("8675309"),
            "{error}"
        );
    }
}

/// Returns each line with a key of the shipped file, with the dotted key as errors name it.
fn shipped_keys() -> Vec<(String, String)> {
    let mut table = String::new();
    let mut keys = Vec::new();
    for line in SHIPPED.lines() {
        // A key without a default is a comment, and only such a comment has no blank before "=".
        let line = line
            .strip_prefix("# ")
            .filter(|line| line.contains(" = "))
            .unwrap_or(line);
        if let Some(name) = line.strip_prefix('[') {
            table = name.trim_matches(['[', ']']).to_owned();
        } else if let Some((key, _)) = line.split_once(" = ")
            && key.chars().all(|c| c.is_ascii_lowercase() || c == '_')
        {
            keys.push((table.clone(), key.to_owned()));
        }
    }
    keys
}

/// Gives each key each kind of unusual value: the value is accepted, or the error is short and names the file, the line
/// and the key.
#[test]
fn every_key_takes_an_unusual_value_or_is_reported_with_its_line() {
    let long = format!("\"{}\"", "x".repeat(5_000));
    let deep = format!("{}{}", "[".repeat(60), "]".repeat(60));
    let odd = [
        "\"\"",
        "\" \"",
        "\"\\u0000\"",
        "\"x\"",
        "\"-1s\"",
        "\"0s\"",
        "\"99999999999999999999s\"",
        "\"127.0.0.1:65536\"",
        "-1",
        "1",
        "1.5",
        "nan",
        "9223372036854775807",
        "true",
        "[[]]",
        "{ x = 1 }",
        "1979-05-27",
        &long,
        &deep,
    ];
    let keys = shipped_keys();
    assert!(keys.len() > 40, "{keys:?}");
    let mut refused = 0;
    for (table, key) in &keys {
        for value in odd {
            let is_array = matches!(
                table.as_str(),
                "access" | "user" | "group" | "fault" | "gateway.advertise_to"
            );
            let (open, close) = if is_array { ("[[", "]]") } else { ("[", "]") };
            let toml = format!("# a comment\n\n{open}{table}{close}\n{key} = {value}\n");
            let Err(error) = Config::from_toml(&toml, "imd.toml") else {
                continue;
            };
            refused += 1;
            let error = error.to_string();
            let line = error
                .strip_prefix("imd.toml:")
                .and_then(|rest| rest.split(':').next());
            let line: usize = line
                .unwrap_or_else(|| panic!("{toml:.200}{error:.500}"))
                .parse()
                .unwrap();
            assert!(error.len() < 1_000, "{toml:.200}{error:.500}");
            // Another error may come first: a missing key of an array of tables, or two keys that exclude each other.
            assert!(
                (3..=4).contains(&line) && error.contains(table.as_str()),
                "{toml:.200}{error}"
            );
        }
    }
    assert!(refused > 500, "{refused}");
}

/// Files that are not valid for other reasons than a value.
#[test]
fn a_file_that_is_no_config_is_reported_with_its_line() {
    for (line, toml) in [
        (1, "\0"),
        (1, "]"),
        (1, "[]"),
        (1, "[[]]"),
        (1, "[gateway"),
        (1, "[gateway]]"),
        (1, "[gate way]"),
        (1, "gateway"),
        (1, "= 1"),
        (1, "gateway = "),
        (1, "gateway.refresh ="),
        (1, "{\"gateway\": {\"refresh\": \"5s\"}}"),
        (1, "gateway:\n  refresh: 5s\n"),
        (1, "<gateway refresh=\"5s\"/>"),
        (1, "#!/bin/sh\u{0}\n"),
        (2, "[gateway]\nrefresh"),
        (2, "[gateway]\nrefresh = \"5s"),
        (2, "[gateway]\nrefresh = '5s\n"),
        (2, "[gateway]\nrefresh = \"5s\" x\n"),
        (2, "[gateway]\nrefresh = \"\\q\"\n"),
        (2, "[gateway]\nrefresh : \"5s\"\n"),
        (2, "[gateway]\nRefresh = \"5s\"\n"),
        (2, "[gateway]\n\"\" = 1\n"),
        (2, "[gateway]\nrefresh.a = 1\n"),
        (2, "[gateway]\nrefresh\u{a0}= \"5s\"\n"),
        (3, "[gateway]\n[session]\n[gateway]\n"),
        (3, "[gateway]\nrefresh = \"5s\"\n[gateway.refresh]\n"),
        (2, "[gateway]\n[[gateway]]\n"),
        (1, "[Gateway]\n"),
        (1, "[\"gateway \"]\n"),
        (1, "[gateway.more]\n"),
        (1, "[[quirks]]\n"),
        (1, "[table.of.tables]\n"),
    ] {
        let error = error(toml);
        assert!(
            error.starts_with(&format!("imd.toml:{line}: ")),
            "{toml:?}: {error}"
        );
        assert!(
            error.len() < 1_000 && !error.contains('\0'),
            "{toml:?}: {error}"
        );
    }
    let deep = format!("a = {}", "[".repeat(100_000));
    assert!(error(&deep).len() < 1_000);
    let dotted = "a.".repeat(50_000) + "a = 1";
    assert!(error(&dotted).len() < 1_000);
}
