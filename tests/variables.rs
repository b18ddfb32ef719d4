//! Tests of `imd::config::Variables` and `Sources`: environment variables as keys of the config, and where values come from.
//!
//! Nothing here reads the environment of the test. How the program does is tested in `program/environment`.

use std::collections::BTreeMap;
use std::ffi::OsString;

use imd::config::{Config, Provenance, SHIPPED, Sources, Variables};
use tempfile::TempDir;
use toml::{Table, Value};

/// Reads variables that are given as pairs of name and value.
fn variables(given: &[(&str, &str)]) -> Result<Variables, String> {
    let given = given
        .iter()
        .map(|(name, value)| ((*name).into(), (*value).into()));
    Variables::read(given, &["IMD_GATEWAY".to_owned()]).map_err(|error| error.to_string())
}

/// Returns the config of a file with variables over it.
fn config_over(toml: &str, given: &[(&str, &str)]) -> Result<Config, String> {
    sources(toml, given)?
        .config()
        .map_err(|error| error.to_string())
}

/// Returns the config of variables alone.
fn config(given: &[(&str, &str)]) -> Result<Config, String> {
    let sources = Sources::read(None, variables(given)?).unwrap();
    sources.config().map_err(|error| error.to_string())
}

/// Returns a file and variables. The file is named imd.toml in errors, after its folder.
fn sources(toml: &str, given: &[(&str, &str)]) -> Result<Sources, String> {
    let folder = TempDir::new().unwrap();
    let file = folder.path().join("imd.toml");
    std::fs::write(&file, toml).unwrap();
    Ok(Sources::read(Some(&file), variables(given)?).unwrap())
}

/// A table of the shipped imd.toml with all its keys, also those that are comments.
#[derive(Default)]
struct Block {
    /// The header, such as `[[access]]`; empty for the keys before the first one.
    header: String,
    keys: Table,
}

impl Block {
    /// Returns the dotted name of the table, with an index if it is one of an array.
    fn path(&self) -> String {
        let name = self.header.trim_matches(['[', ']']);
        match self.header.starts_with("[[") {
            true => format!("{name}.0"),
            false => name.to_owned(),
        }
    }

    /// Returns the block as the text of a file.
    fn text(&self) -> String {
        format!("{}\n{}", self.header, toml::to_string(&self.keys).unwrap())
    }
}

/// Returns the blocks of the shipped file, the first one of each name.
fn blocks() -> Vec<Block> {
    let mut blocks = vec![Block::default()];
    for line in SHIPPED.lines() {
        let line = line.strip_prefix("# ").unwrap_or(line);
        if line.starts_with('[') {
            let header = line.split('#').next().unwrap().trim().to_owned();
            blocks.push(Block {
                header,
                keys: Table::new(),
            });
        } else if line.split_once(" = ").is_some_and(|(key, _)| is_key(key)) {
            let key: Table = line.parse().unwrap();
            blocks.last_mut().unwrap().keys.extend(key);
        }
    }
    let mut seen = Vec::new();
    blocks.retain(|block| {
        let is_new = !seen.contains(&block.header);
        seen.push(block.header.clone());
        is_new
    });
    blocks
}

fn is_key(text: &str) -> bool {
    text.chars().all(|c| c.is_ascii_lowercase() || c == '_')
}

/// Returns the text of a variable for a value.
fn as_text(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Array(items) if items.is_empty() => "[]".to_owned(),
        Value::Array(items) => items.iter().map(as_text).collect::<Vec<_>>().join(","),
        other => other.to_string(),
    }
}

/// Returns another value of the same type and form.
fn changed(value: &Value) -> Value {
    match value {
        Value::Boolean(it) => Value::Boolean(!it),
        Value::Integer(it) => Value::Integer(it + 1),
        Value::Array(items) if items.is_empty() => Value::Array(vec!["x.example".into()]),
        Value::Array(items) => Value::Array(items[1..].to_vec()),
        Value::String(text) if humantime::parse_duration(text).is_ok() => "7s".into(),
        Value::String(text) if text.contains(':') => "127.0.0.1:9".into(),
        Value::String(text) => format!("{text}x").into(),
        other => other.clone(),
    }
}

/// A key of imd.toml without a variable fails here: add no list anywhere, since the names come from the model.
#[test]
fn every_key_of_the_shipped_file_has_a_variable() {
    let (mut keys, mut valid) = (0, 0);
    for block in blocks() {
        for (key, example) in &block.keys {
            let dotted = format!("{}.{key}", block.path());
            let dotted = dotted.trim_start_matches('.');
            let name = format!("IMD_{}", dotted.replace('.', "__").to_uppercase());
            for value in [example.clone(), changed(example)] {
                let block_keys = block.keys.clone();
                let with_keys = |keys| Block {
                    header: block.header.clone(),
                    keys,
                };
                let (mut without, mut with) = (block_keys.clone(), block_keys.clone());
                // Some tables can't be parsed without all of their keys.
                without.remove(key);
                if Config::from_toml(&with_keys(without.clone()).text(), "").is_err() {
                    without.clone_from(&block_keys);
                }
                with.insert(key.clone(), value.clone());
                let text = as_text(&value);
                let given = [(name.as_str(), text.as_str())];
                let sources = sources(&with_keys(without).text(), &given).unwrap();
                let origins = sources.provenances();
                assert_eq!(origins.of(dotted), &Provenance::Variable(name.clone()));

                let expected = Config::from_toml(&with_keys(with).text(), "imd.toml");
                match (sources.config(), expected) {
                    (Ok(found), Ok(expected)) => {
                        assert_eq!(found, expected, "{name}={text}");
                        valid += 1;
                    }
                    (Err(_), Err(_)) => {}
                    (found, expected) => panic!("{name}={text}: {found:?}\n{expected:?}"),
                }
            }
            keys += 1;
        }
    }
    assert!(
        keys > 65 && valid > 110,
        "{keys} keys, {valid} valid values"
    );
}

#[test]
fn a_value_has_the_form_of_its_key() {
    let set = |given: &[(&str, &str)]| config(given).unwrap();
    for yes in ["true", "TRUE", "yes", "on", "1"] {
        assert!(
            set(&[("IMD_QUIRKS__SYNC_INCLUSIVE", yes)])
                .quirks
                .sync_inclusive
        );
    }
    for no in ["false", "no", "Off", "0"] {
        assert!(!set(&[("IMD_ADMIN__ENABLED", no)]).admin.enabled);
    }
    for (text, bytes) in [
        ("64KiB", 65_536),
        ("70000", 70_000),
        ("16_777_216", 16_777_216),
    ] {
        assert_eq!(set(&[("IMD_STORE__BUFFER", text)]).store.buffer, bytes);
    }
    assert_eq!(
        set(&[("IMD_LIMITS__CONNECTIONS", "1_000")])
            .limits
            .connections,
        1_000
    );
    // A text is taken as it is, whatever it looks like.
    for text in [
        "true",
        "7",
        "\"x\"",
        "a b",
        "1979-05-27",
        "[1]",
        "a,b",
        "$x#y",
    ] {
        assert_eq!(set(&[("IMD_AUTH__SALT", text)]).auth.salt, text);
    }
    for list in [
        "a.example,b.example",
        "a.example, b.example,",
        r#"["a.example", "b.example"]"#,
    ] {
        assert_eq!(
            set(&[("IMD_HTTP__HOSTS", list)]).http.hosts,
            ["a.example", "b.example"]
        );
    }
    assert_eq!(
        set(&[("IMD_HTTP__HOSTS", "[::1]:9,h")]).http.hosts,
        ["[::1]:9", "h"]
    );
    let file = "[http]\nhosts = [\"a.example\"]\n";
    assert!(
        config_over(file, &[("IMD_HTTP__HOSTS", "[]")])
            .unwrap()
            .http
            .hosts
            .is_empty()
    );
    let found = config_over(file, &[("IMD_HTTP__HOSTS__1", "b.example")]).unwrap();
    assert_eq!(found.http.hosts, ["a.example", "b.example"]);
}

#[test]
fn an_index_names_a_table_of_an_array() {
    let found = config(&[
        ("IMD_ACCESS__0__LISTEN", "0.0.0.0:1"),
        ("IMD_ACCESS__3__LISTEN", "127.0.0.1:4"),
        ("IMD_ACCESS__3__NAME", "fourth"),
    ]);
    let servers = found.unwrap().access.0;
    let names: Vec<&str> = servers.iter().map(|server| server.name.as_str()).collect();
    assert_eq!(names, ["access-1", "access-2", "access-3", "fourth"]);
    assert_eq!(servers[0].listen, "0.0.0.0:1".parse().unwrap());

    // Tables are added in the order of their numbers, which is not that of the alphabet.
    let names: Vec<String> = (0..12)
        .map(|index| format!("IMD_USER__{index}__UID"))
        .collect();
    let uids: Vec<String> = (1..13).map(|uid| uid.to_string()).collect();
    let given: Vec<_> = names
        .iter()
        .zip(&uids)
        .map(|(n, u)| (n.as_str(), u.as_str()))
        .collect();
    let users = config(&given).unwrap().user;
    assert_eq!(
        users.iter().map(|user| user.uid).collect::<Vec<_>>(),
        Vec::from_iter(1..13)
    );

    let file = "[[group]]\ngid = 1\nmembers = [1]\n";
    let found = config_over(file, &[("IMD_GROUP__0__MEMBERS", "7,8")]).unwrap();
    assert_eq!(
        (found.group[0].gid, &*found.group[0].members),
        (1, &[7, 8][..])
    );
}

#[test]
fn a_variable_counts_more_than_the_file_and_an_empty_one_not_at_all() {
    let file = "[session]\nidle = \"7s\"\npresence = \"8s\"\n";
    let given = [
        ("IMD_SESSION__IDLE", "9s"),
        ("IMD_SESSION__PRESENCE", ""),
        ("IMD_NOTHING", ""),
    ];
    let found = config_over(file, &given).unwrap();
    assert_eq!(
        (
            found.session.idle.as_secs(),
            found.session.presence.as_secs()
        ),
        (9, 8)
    );
    // What is wrong in the file may be put right by a variable.
    let file = "[registry]\nlease = \"1s\"\n";
    assert!(config_over(file, &[]).is_err());
    config_over(file, &[("IMD_REGISTRY__HEARTBEAT", "500ms")]).unwrap();
}

#[test]
fn an_unknown_name_is_refused_with_the_most_similar_one() {
    for (name, nearest) in [
        ("IMD_SESSION_IDLE", "did you mean IMD_SESSION__IDLE?"),
        ("IMD_SESION__IDLE", "did you mean IMD_SESSION__IDLE?"),
        ("IMD_GATEWAY_LISTEN", "did you mean IMD_GATEWAY__LISTEN?"),
        ("IMD_GATWAY", "did you mean IMD_GATEWAY?"),
        (
            "IMD_ACCESS__2__LISTN",
            "did you mean IMD_ACCESS__2__LISTEN?",
        ),
        ("IMD_ACCESS_LISTEN", "did you mean IMD_ACCESS__0__LISTEN?"),
        (
            "IMD_ACCESS__X__LISTEN",
            "did you mean IMD_ACCESS__0__LISTEN?",
        ),
        ("IMD_session__idle", "did you mean IMD_SESSION__IDLE?"),
        ("IMD_SED", "did you mean IMD_SEED?"),
        ("IMD_", "did you mean "),
        ("IMD___", "did you mean "),
        ("IMD_SESSION", "set one of them, such as IMD_SESSION__"),
        ("IMD_ACCESS__1", "set one of them, such as IMD_ACCESS__0__"),
        ("IMD_USER", "set one of them, such as IMD_USER__0__"),
    ] {
        let error = variables(&[(name, "x")]).err().unwrap();
        assert!(error.starts_with(&format!("{name}: ")), "{error}");
        assert!(error.contains(nearest), "{error}");
    }
    for other in [
        "IMD_GATEWAY",
        "imd_seed",
        "IMDX",
        "PATH",
        "IMD_SERVICE_HOST",
    ] {
        variables(&[(other, "x")]).unwrap();
    }
}

#[test]
fn a_wrong_value_is_reported_with_its_variable_and_what_to_write() {
    for (name, value, says) in [
        (
            "IMD_SEED",
            "seven",
            "\"seven\" is no whole number, or too large: write IMD_SEED=0",
        ),
        (
            "IMD_SEED",
            "99999999999999999999",
            "is no whole number, or too large",
        ),
        (
            "IMD_SEED",
            "-1",
            "integer `-1`, expected u64: write IMD_SEED=0",
        ),
        (
            "IMD_SESSION__IDLE",
            "soon",
            "is no duration such as \"10s\"",
        ),
        ("IMD_SESSION__IDLE", "10", "write IMD_SESSION__IDLE=60s"),
        (
            "IMD_SESSION__IDLE",
            "\"10s\"",
            "the quotes are part of the value: leave them out",
        ),
        ("IMD_SESSION__IDLE", "0s", "must be at least 1ms"),
        (
            "IMD_ADMIN__ENABLED",
            "maybe",
            "neither true nor false: write IMD_ADMIN__ENABLED=true",
        ),
        ("IMD_GATEWAY__STRATEGY", "randm", "did you mean random?"),
        (
            "IMD_GATEWAY__LISTEN",
            "127.0.0.1:7001",
            "is also taken by http.group_listen",
        ),
        (
            "IMD_HTTP__GROUP_LISTEN",
            "127.0.0.1:10000",
            "is also taken by gateway.listen",
        ),
        ("IMD_ROLES", "gateways", "unknown variant `gateways`"),
        ("IMD_ROLES", "access,access", "names one twice"),
        ("IMD_HTTP__HOSTS", "a.example,b b", "is no host"),
        (
            "IMD_STORE__BUFFER",
            "16MX",
            "write IMD_STORE__BUFFER=16_777_216",
        ),
        (
            "IMD_GROUP__0__MEMBERS",
            "a",
            "write IMD_GROUP__0__MEMBERS=7,8",
        ),
        ("IMD_USER__0__UID", "0", "0 is not positive"),
        ("IMD_ACCESS__0__ADVERTISE", "0.0.0.0", "is no host"),
        (
            "IMD_ACCESS__9__NAME",
            "x",
            "the next one is number 3, not 9",
        ),
        ("IMD_FAULT__0__AT", "notify", "a fault does one thing"),
        ("IMD_ADMIN__TOKEN", "a b", "has a blank"),
    ] {
        let error = config(&[(name, value)]).expect_err(name);
        assert!(
            error.starts_with(&format!("{name}: ")),
            "{name}={value}: {error}"
        );
        assert!(error.contains(says), "{name}={value}: {error}");
        let error = config_over("[session]\npresence = \"7s\"\n", &[(name, value)]).unwrap_err();
        assert!(
            error.starts_with(&format!("{name}: ")),
            "{name}={value}: {error}"
        );
    }
    let error = config(&[("IMD_ACCESS__3__NAME", "x")]).unwrap_err();
    let says = "IMD_ACCESS__3__LISTEN: is not set, and access.3 needs it: write IMD_ACCESS__3__LISTEN=127.0.0.1:11000";
    assert_eq!(error, says);
    let error = config_over("[gateway]\nlisten = \"x\"\n", &[("IMD_SEED", "1")]).unwrap_err();
    assert!(error.contains("imd.toml:2: gateway.listen: "), "{error}");
}

#[cfg(unix)]
#[test]
fn a_value_that_is_no_text_is_reported_with_its_variable() {
    use std::os::unix::ffi::OsStringExt;
    let given = [(
        "IMD_AUTH__SALT".into(),
        OsString::from_vec(vec![b'x', 0xff]),
    )];
    let error = Variables::read(given, &[]).err().unwrap().to_string();
    assert_eq!(error, "IMD_AUTH__SALT: the value is no UTF-8 text");
}

#[test]
fn no_error_repeats_a_secret() {
    for name in ["IMD_ADMIN__TOKEN", "IMD_AUTH__SALT", "IMD_USER__0__PW"] {
        let given = [(name, "hush hush"), ("IMD_SESSION__IDLE", "soon")];
        let error = config(&given).unwrap_err();
        assert!(!error.contains("hush"), "{error}");
    }
    let error = config(&[("IMD_ADMIN__TOKEN", "hush hush")]).unwrap_err();
    assert!(!error.contains("hush"), "{error}");
}

#[test]
fn the_annotated_config_is_the_same_config_with_the_origin_of_each_value() {
    let file = "seed = 4\n\n[session]\nidle = \"7s\"\n[admin]\ntoken = \"shown\"\n[[user]]\nuid = 7\n\
        name = \"a\\nb # \\\"\"\n[[fault]]\nat = \"notify\"\nnth = 2\ndrop = true\n";
    let given = [
        ("IMD_SESSION__PRESENCE", "8s"),
        ("IMD_ROLES__1", "access"),
        ("IMD_USER__1__UID", "8"),
    ];
    let sources = sources(file, &given).unwrap();
    let mut origins = sources.provenances();
    let before = sources.config().unwrap();
    let mut after = before.clone();
    after.access.resize(4);
    let flag = Provenance::Flag("--access".into());
    origins.note_flag(&flag, &before, &after);
    let text = origins.annotate(&after).unwrap();
    assert_eq!(Config::from_toml(&text, "").unwrap(), after, "{text}");

    assert!(text.starts_with(&after.to_toml().unwrap()), "{text}");
    let origins: BTreeMap<&str, &str> = text
        .lines()
        .skip_while(|line| !line.starts_with("# Where the values come from."))
        .filter_map(|line| line.strip_prefix("# ")?.split_once("   "))
        .map(|(key, origin)| (key.trim(), origin.trim()))
        .collect();
    for (key, origin) in [
        ("seed", "imd.toml:1"),
        ("roles", "IMD_ROLES__1"),
        ("session.idle", "imd.toml:4"),
        ("session.presence", "IMD_SESSION__PRESENCE"),
        ("admin.token", "imd.toml:6"),
        ("access.3.name", "--access"),
        ("user.0.uid", "imd.toml:8"),
        ("user.1.uid", "IMD_USER__1__UID"),
        ("fault.0.after", "imd.toml:10"),
        ("fault.0.drop", "imd.toml:13"),
    ] {
        assert!(origins[key].ends_with(origin), "{key} in\n{text}");
    }
    for default in ["session.half_frame", "access.2.name", "user.1.name"] {
        assert!(!origins.contains_key(default), "{default} in\n{text}");
    }
    let sources = Sources::read(None, Variables::default()).unwrap();
    let text = sources.provenances().annotate(&Config::default()).unwrap();
    assert!(
        text.ends_with("\n\n# Every value is a default.\n"),
        "{text}"
    );
}

#[test]
fn the_annotated_config_has_no_secret_of_a_variable() {
    let given = [
        ("IMD_ADMIN__TOKEN", "hush"),
        ("IMD_AUTH__SALT", "hush"),
        ("IMD_USER__0__UID", "7"),
        ("IMD_USER__0__PW", "hush\nhush"),
    ];
    let sources = Sources::read(None, variables(&given).unwrap()).unwrap();
    let text = sources
        .provenances()
        .annotate(&sources.config().unwrap())
        .unwrap();
    assert!(!text.contains("hush"), "{text}");
    assert!(text.parse::<Table>().unwrap().contains_key("admin"));
    let hidden: BTreeMap<&str, &str> = text
        .lines()
        .filter_map(|line| line.split_once(" is not shown: it came from "))
        .collect();
    for (name, variable) in [("# token", "TOKEN"), ("# salt", "SALT"), ("# pw", "PW")] {
        assert!(hidden[name].ends_with(variable), "{text}");
    }
}
