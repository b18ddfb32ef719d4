//! Rules of faults: which ones are valid, and what a rule counts as a hit.
//!
//! A rule is checked alike whether it comes from Rust, HTTP, imd.toml or the command line. What each action does is
//! tested in `requests`, `replies`, `leases` and `services`.

use std::time::Duration;

use imd::Config;
use imd::lab::{Action, Direction, Fault, Site};
use imd::proto::{Cmd, Code, ResNotify, ResSendP2pMsg};
use serde_json::{Value, json};

use crate::admin::call;
use crate::servers::server;
use crate::support::{
    Wire, access, ephemeral, framed, gateway, group_of, p2p, ping, soon, start, start_manual, user,
    versions,
};
use crate::wait_for_hit;

/// Returns a valid value for the key of an action.
fn valid_value(action: &str) -> Value {
    match action {
        "delay" => json!("1s"),
        "error" => json!(90001),
        "throttle" | "slice" => json!(5),
        _ => json!(true),
    }
}

/// Every key that is a filter.
const FILTERS: [&str; 5] = ["uid", "access", "session", "cmd", "direction"];

fn matching_value(at: Site, filter: &str) -> Value {
    let direction = at.direction().unwrap_or(Direction::In);
    match filter {
        "uid" | "session" => json!(7),
        "access" => json!("access-1"),
        "cmd" => json!(at.cmds().first().unwrap_or(&Cmd::Ping).name()),
        _ => json!(direction),
    }
}

/// Returns the columns of docs/lab.md that list the filters and the commands of a site.
fn documented(at: Site) -> (Vec<String>, Vec<String>) {
    let doc = include_str!("../../docs/lab.md");
    let table = doc
        .lines()
        .skip_while(|line| !line.starts_with("| site | keys |"));
    let row = format!("| `{at}` |");
    let row = table.into_iter().find(|line| line.starts_with(&row));
    let cells: Vec<&str> = row.unwrap().split('|').map(str::trim).collect();
    let list = |cell: &str| {
        let words = cell.split(", ").filter(|word| !word.is_empty());
        words
            .map(|word| word.trim_matches('`').to_owned())
            .collect()
    };
    (list(cells[2]), list(cells[3]))
}

#[tokio::test]
async fn a_rule_has_the_filters_of_its_site_and_no_others() {
    let imd = start_manual().await;
    for at in Site::ALL {
        let (filters, cmds) = documented(at);
        assert_eq!(filters, at.filters(), "{at}");
        let names: Vec<&str> = at.cmds().iter().map(|cmd| cmd.name()).collect();
        assert_eq!(cmds, names, "{at}");
        for filter in FILTERS {
            let action = at.actions()[0];
            let mut rule = json!({ "at": at, "name": "r" });
            rule[action] = valid_value(action);
            rule[filter] = matching_value(at, filter);
            let (status, answer) = call(&imd, "POST", "/v1/faults", rule.clone()).await;
            if at.filters().contains(&filter) {
                assert_eq!(status, 201, "{rule}: {answer}");
                imd.faults().clear();
                continue;
            }
            assert_eq!(status, 400, "{rule}");
            let why = answer["error"].as_str().unwrap();
            assert!(
                why.starts_with(&format!("{filter} means nothing with {at}: ")),
                "{why}"
            );
            assert!(at.filters().iter().all(|fits| why.contains(fits)), "{why}");
        }
        for cmd in Cmd::ALL.into_iter().filter(|_| at.has_frames()) {
            let can = imd.faults().inject(Fault::at(at).cmd(cmd)).map(drop);
            assert_eq!(can.is_ok(), at.cmds().contains(&cmd), "{at} {cmd}");
            if let Err(why) = can {
                let why = why.to_string();
                let fits = names.join(", ");
                assert_eq!(why, format!("cmd: {cmd} never passes {at}: {fits} does"));
            }
        }
        if let Some(passes) = at.direction() {
            let (other, said) = match passes {
                Direction::In => (Direction::Out, "direction: out never passes"),
                Direction::Out => (Direction::In, "direction: in never passes"),
            };
            let refused = imd.faults().inject(Fault::at(at).direction(other));
            let why = refused.map(drop).unwrap_err().to_string();
            assert!(why.starts_with(said), "{why}");
        }
    }
    let stale = Fault::at(Site::GatewayReply).cmd(Cmd::ErrServer).stale();
    let why = stale.check().unwrap_err().to_string();
    assert_eq!(
        why,
        "cmd: ErrServer never passes gateway.reply: ReqAccessServer does"
    );
    assert!(imd.faults().list().is_empty());
}

#[tokio::test]
async fn a_rule_may_name_only_an_existing_access_server() {
    let imd = start_manual().await;
    let fault = |name: &str| Fault::at(Site::Notify).access(name);
    let refused = imd.faults().inject(fault("acess-1")).map(drop).unwrap_err();
    assert_eq!(
        refused.to_string(),
        "access: there is no access server \"acess-1\": there are access-1, access-2, access-3 \
         (did you mean \"access-1\"?)"
    );
    let rule = json!({ "at": "notify", "drop": true, "access": "gateway" });
    let (status, answer) = call(&imd, "POST", "/v1/faults", rule).await;
    assert_eq!(status, 400);
    let why = answer["error"].as_str().unwrap();
    assert!(
        why.ends_with("there are access-1, access-2, access-3"),
        "{why}"
    );
    // A server that is added later can be named once it exists, and from then on in every state.
    assert!(imd.faults().inject(fault("late")).is_err());
    imd.add_access("late").await.unwrap();
    server(&imd, "late").kill().await;
    imd.faults().inject(fault("late")).unwrap().keep();
    soon(imd.reset()).await.unwrap();
    imd.faults().inject(fault("late")).unwrap().keep();

    let toml = "[[fault]]\nat = \"notify\"\naccess = \"acess-2\"\ndrop = true\n";
    let why = Config::from_toml(toml, "imd.toml").unwrap_err().to_string();
    assert!(why.contains("did you mean \"access-2\"?"), "{why}");
}

/// Returns each key with a value that is out of its bounds, and a part of the error.
fn out_of_bounds() -> Vec<(&'static str, Value, &'static str)> {
    let count = "must be a whole number from 1 to 9007199254740991";
    let mut all = vec![
        ("probability", json!(0), "must be more than 0 and at most 1"),
        (
            "probability",
            json!(-0.5),
            "must be more than 0 and at most 1",
        ),
        (
            "probability",
            json!(1.0001),
            "must be more than 0 and at most 1",
        ),
        (
            "probability",
            json!("NaN"),
            "must be more than 0 and at most 1",
        ),
        (
            "probability",
            json!("inf"),
            "must be more than 0 and at most 1",
        ),
        (
            "probability",
            json!("-inf"),
            "must be more than 0 and at most 1",
        ),
        (
            "probability",
            json!("half"),
            "must be more than 0 and at most 1",
        ),
        (
            "after",
            json!(-1),
            "must be a whole number from 0 to 9007199254740991",
        ),
        (
            "uid",
            json!(0),
            "must be a whole number from 1 to 9223372036854775807",
        ),
        (
            "uid",
            json!(-1),
            "must be a whole number from 1 to 9223372036854775807",
        ),
        (
            "uid",
            json!("9223372036854775808"),
            "from 1 to 9223372036854775807",
        ),
        ("slice", json!(0), "must be a whole number from 1 to 65536"),
        (
            "slice",
            json!(65_537),
            "must be a whole number from 1 to 65536",
        ),
        (
            "error",
            json!(0),
            "must be an error code of the contract: 10001, 90001",
        ),
        ("error", json!(-1), "must be an error code of the contract"),
        (
            "error",
            json!(4_294_967_296_u64),
            "must be an error code of the contract",
        ),
        (
            "error",
            json!("server error"),
            "must be an error code of the contract",
        ),
    ];
    for key in ["times", "nth", "session", "throttle"] {
        for value in [
            json!(0),
            json!(-1),
            json!(1.5),
            json!(1_u64 << 53),
            json!("many"),
        ] {
            all.push((key, value, count));
        }
    }
    for key in ["delay", "jitter", "for"] {
        for (value, why) in [
            (json!("0s"), "must be more than 0s and at most 365 days"),
            (json!("366d"), "must be more than 0s and at most 365 days"),
            (json!("-1s"), "must be a duration such as"),
            (json!("soon"), "at most 365 days"),
            (json!("99999999999999999999y"), "at most 365 days"),
            (json!(5), "must be a duration such as \"10s\""),
        ] {
            // A jitter of 0 is valid, and means none.
            if (key, &value) != ("jitter", &json!("0s")) {
                all.push((key, value, why));
            }
        }
    }
    all
}

/// Returns a rule with this key, at a site and with an action that allow it.
fn with(key: &str, value: &Value) -> Value {
    let mut rule = json!({ "at": "access.reply" });
    match key {
        "delay" | "error" | "throttle" | "slice" => {}
        "jitter" => rule["delay"] = json!("1s"),
        _ => rule["drop"] = json!(true),
    }
    rule[key] = value.clone();
    rule
}

#[tokio::test]
async fn the_bounds_of_every_number_are_the_same_by_http_and_toml_and_are_in_the_error() {
    let imd = start_manual().await;
    for (key, value, why) in out_of_bounds() {
        let rule = with(key, &value);
        let (status, answer) = call(&imd, "POST", "/v1/faults", rule.clone()).await;
        let by_http = answer["error"].as_str().unwrap_or_default().to_owned();
        assert_eq!(status, 400, "{rule}");
        assert!(
            by_http.starts_with(key) && by_http.contains(why),
            "{rule}: {by_http}"
        );
        // The integers of TOML end at 2^63.
        let rule: toml::Table = serde_json::from_value(rule).unwrap();
        let config = toml::Table::from_iter([("fault".to_owned(), vec![rule].into())]);
        let by_toml = Config::from_toml(&config.to_string(), "imd.toml");
        let by_toml = by_toml.unwrap_err().to_string();
        assert!(by_toml.contains(&by_http), "{by_toml}");
    }
    for chance in ["nan", "inf", "-inf", "1.5", "-0.0"] {
        let toml = format!("[[fault]]\nat = \"notify\"\ndrop = true\nprobability = {chance}\n");
        let why = Config::from_toml(&toml, "imd.toml")
            .unwrap_err()
            .to_string();
        assert!(why.contains("must be more than 0 and at most 1"), "{why}");
    }
    assert!(imd.faults().list().is_empty());
}

#[test]
fn the_bounds_of_every_number_hold_in_process_too() {
    let at = || Fault::at(Site::AccessReply);
    let (none, year) = (Duration::ZERO, Duration::from_secs(365 * 24 * 3600));
    let second = Duration::from_secs(1);
    for (fault, why) in [
        (at().probability(f64::NAN), "probability: NaN must be"),
        (at().probability(f64::INFINITY), "probability: inf must be"),
        (
            at().probability(f64::NEG_INFINITY),
            "probability: -inf must be",
        ),
        (at().probability(0.0), "probability: 0 must be"),
        (at().times(0), "times: 0 must be"),
        (at().times(u64::MAX), "times: 18446744073709551615 must be"),
        (at().nth(0), "times: 0 must be"),
        (at().after(u64::MAX), "after: 18446744073709551615 must be"),
        (at().uid(i64::MIN), "uid: -9223372036854775808 must be"),
        (at().session(0), "session: 0 must be"),
        (at().delay(none), "delay: 0s must be"),
        (at().delay(Duration::MAX), "delay: "),
        (at().jitter(second, Duration::MAX), "jitter: "),
        (at().lasting(none), "for: 0s must be"),
        (at().lasting(year + second), "for: 11months 30days"),
        (
            at().throttle(u64::MAX),
            "throttle: 18446744073709551615 must be",
        ),
        (
            at().slice(usize::MAX),
            "slice: 18446744073709551615 must be",
        ),
        (at().error(Code::Ok), "error: 0 must be an error code"),
        (at().named("x".repeat(129)), "name: "),
        (at().named("a\nb"), "name: "),
    ] {
        let refusal = fault.check().unwrap_err().to_string();
        assert!(refusal.starts_with(why), "{refusal}");
    }
    for fault in [
        at().probability(f64::MIN_POSITIVE),
        at().probability(1.0),
        at().times(1),
        at().after((1 << 53) - 1),
        at().uid(i64::MAX),
        at().delay(year),
        at().jitter(none, second),
        at().lasting(year),
        at().throttle(1),
        at().slice(65_536),
    ] {
        assert_eq!(fault.check(), Ok(()));
    }
}

#[test]
fn a_slice_is_shorter_than_the_longest_frame_of_its_site() {
    let longest = ResNotify {
        cmd: Cmd::Notify.number(),
        err_str: "ok".into(),
        current_id: i64::MAX - 1,
        total_id: i64::MAX,
        ..ResNotify::default()
    };
    let longest = framed(&longest).len();
    let cut_at = |bytes| Fault::at(Site::Notify).slice(bytes).check();
    assert_eq!(cut_at(longest - 1), Ok(()));
    let never = cut_at(longest).unwrap_err().to_string();
    let why = "slice: 30 must be a whole number from 1 to 29";
    assert_eq!(never, why, "no notify is longer than {longest} bytes");
}

/// Sends pings, and returns the code of each reply.
async fn codes(wire: &mut Wire, pings: usize) -> Vec<u32> {
    let mut codes = Vec::new();
    for _ in 0..pings {
        wire.send(&ping()).await;
        codes.push(wire.recv::<imd::proto::Error>(Cmd::Ping).await.err_code);
    }
    codes
}

#[tokio::test]
async fn each_rule_counts_every_matching_frame_whatever_earlier_rules_did() {
    let imd = start_manual().await;
    let mut ann = user(&imd, 1).await;
    let refuses = |code| Fault::at(Site::AccessRequest).cmd(Cmd::Ping).error(code);
    let (one, two) = (Code::ServerError, Code::NoDataFound);
    for (rules, expected) in [
        (
            [refuses(one).nth(2), refuses(two).nth(3)],
            [0, 90001, 91001, 0, 0],
        ),
        (
            [refuses(one).nth(3), refuses(two).nth(2)],
            [0, 91001, 90001, 0, 0],
        ),
        (
            [refuses(one).times(2), refuses(two).nth(3)],
            [90001, 90001, 91001, 0, 0],
        ),
        // A frame that another rule has acted on is no hit of this rule, which keeps its number of times.
        (
            [refuses(one).nth(1), refuses(two).times(1)],
            [90001, 91001, 0, 0, 0],
        ),
        (
            [refuses(one).times(1), refuses(two).after(2)],
            [90001, 0, 91001, 91001, 91001],
        ),
    ] {
        let guards = rules.map(|rule| imd.fault(rule));
        assert_eq!(codes(&mut ann, 5).await, expected);
        let hits: u64 = guards.iter().map(|guard| guard.hits()).sum();
        assert_eq!(
            hits,
            expected.iter().filter(|code| **code != 0).count() as u64
        );
    }
}

#[tokio::test]
async fn a_login_counts_as_a_request_although_a_rule_for_logins_has_acted_on_it() {
    let imd = start_manual().await;
    let _login = imd.fault(Fault::at(Site::AccessLogin).error(Code::CalcTokenFailed));
    let second = imd.fault(
        Fault::at(Site::AccessRequest)
            .nth(2)
            .error(Code::NoDataFound),
    );
    let mut ann = Wire::connect(access(&imd)).await;
    ann.send(&crate::support::login(&imd, 1)).await;
    ann.error(Cmd::Login, 93002).await;
    ann.send(&ping()).await;
    ann.error(Cmd::Ping, 91001).await;
    assert_eq!(second.hits(), 1);
}

/// Returns the codes of pings that a rule refuses by chance, beside another rule that takes every second one.
async fn by_chance(rival: bool) -> Vec<u32> {
    let mut config = ephemeral().manual_clock();
    config.seed = 9;
    let imd = start(config).await;
    let mut ann = user(&imd, 1).await;
    let refuses = |code| Fault::at(Site::AccessRequest).cmd(Cmd::Ping).error(code);
    let mut guards = Vec::new();
    for n in (1..=40).step_by(2).filter(|_| rival) {
        guards.push(imd.fault(refuses(Code::NoDataFound).nth(n)));
    }
    let chance = refuses(Code::ServerError).named("chance").probability(0.5);
    guards.push(imd.fault(chance));
    codes(&mut ann, 40).await
}

#[tokio::test]
async fn hits_by_chance_depend_on_no_other_rule() {
    let (alone, beside) = (by_chance(false).await, by_chance(true).await);
    assert!(alone.contains(&0) && alone.contains(&90001));
    for (n, (alone, beside)) in alone.into_iter().zip(beside).enumerate() {
        let expected = if n % 2 == 0 { 91001 } else { alone };
        assert_eq!(beside, expected, "ping {}", n + 1);
    }
}

#[tokio::test]
async fn a_rule_that_changes_nothing_counts_no_hit() {
    let imd = start_manual().await;
    let mut ann = user(&imd, 1).await;
    let mut asking = Wire::connect(gateway(&imd)).await;

    // No page has entries yet, and no address has left the list.
    let gap = imd.fault(Fault::at(Site::StoreRead).times(1).gap());
    let stale = imd.fault(Fault::at(Site::StoreRead).times(1).stale());
    let gone = imd.fault(Fault::at(Site::GatewayReply).times(1).stale());
    let again = imd.fault(Fault::at(Site::IdgenNext).times(1).duplicate());
    assert!(versions(&ann.sync(0, 0).await).is_empty());
    asking.ask().await;
    let first = ann.p2p(1, "", "the first id").await.msg_id;
    for rule in [&gap, &stale, &gone, &again] {
        assert_eq!(rule.hits(), 0, "{rule:?}");
    }

    // From here on, each rule has something to act on.
    assert_eq!(ann.notified().await, (0, 1));
    assert_eq!(ann.p2p(1, "", "no second").await.msg_id, first);
    assert_eq!(ann.p2p(1, "b", "b").await.err_code, 0);
    assert_eq!(ann.notified().await, (0, 2));
    assert_eq!(versions(&ann.sync(0, 0).await), [2], "a gap");
    assert!(versions(&ann.sync(0, 0).await).is_empty(), "stale");
    let dead = server(&imd, "access-2").addr().to_string();
    server(&imd, "access-2").stop().await;
    soon(imd.clock().advance(Duration::from_secs(5))).await;
    assert_eq!(asking.ask().await.addr, dead);
    for rule in [&gap, &stale, &gone, &again] {
        assert_eq!(rule.hits(), 1, "{rule:?}");
    }
}

#[tokio::test]
async fn a_frame_that_an_action_leaves_unchanged_is_no_hit() {
    let imd = start_manual().await;
    let mut ann = user(&imd, 1).await;
    // The reply to a ping has 11 bytes with its length.
    let slice = imd.fault(Fault::at(Site::AccessReply).cmd(Cmd::Ping).slice(11));
    ann.ping().await;
    assert_eq!(slice.hits(), 0);
    drop(slice);
    // The request is refused anyway, and with this code.
    let refused = imd.fault(Fault::at(Site::AccessRequest).error(Code::NoDataFound));
    ann.raw(&[0, 2, 8, 7]).await;
    ann.error(Cmd::ErrServer, 10001).await;
    assert_eq!(refused.hits(), 0);
    drop(refused);
    let same = imd.fault(Fault::at(Site::AccessReply).error(Code::NotAMember));
    let gid = group_of(&imd, &[2]).await;
    assert_eq!(ann.group(gid, "a", "a").await.err_code, 95002);
    assert_eq!(same.hits(), 0);
    drop(same);
    // A sync that names another user reads no page.
    let read = imd.fault(Fault::at(Site::StoreRead).error(Code::NoDataFound));
    let mut of_two = crate::support::sync(0, 0);
    of_two.uid = 2;
    ann.send(&of_two).await;
    let answer: imd::proto::ResSyncMsg = ann.recv(Cmd::SyncMsg).await;
    assert_eq!((answer.err_code, read.hits()), (93005, 0));
}

#[tokio::test]
async fn the_frame_that_overtakes_is_not_held_itself() {
    let imd = start_manual().await;
    for at in [Site::AccessRequest, Site::AccessReply] {
        let mut ann = user(&imd, 1).await;
        let fault = imd.fault(Fault::at(at).cmd(Cmd::SendP2PMsg).reorder());
        let ids = ["a", "b", "c", "d"];
        for id in ids {
            ann.raw(&framed(&p2p(2, id, id))).await;
        }
        let mut came = Vec::new();
        for _ in ids {
            came.push(ann.recv::<ResSendP2pMsg>(Cmd::SendP2PMsg).await.msg_id);
        }
        assert_eq!(came, ["b", "a", "d", "c"], "{at}");
        assert_eq!(fault.hits(), 2);
    }
}

#[tokio::test]
async fn a_gateway_without_a_server_names_the_last_one_when_it_is_stale() {
    let imd = start_manual().await;
    for server in imd.access_servers() {
        server.stop().await;
    }
    soon(imd.clock().advance(Duration::from_secs(5))).await;
    let mut asking = Wire::connect(gateway(&imd)).await;
    assert_eq!(asking.ask().await.err_code, 92001);
    let stale = imd.fault(Fault::at(Site::GatewayReply).stale());
    let answer = asking.ask().await;
    assert_eq!((answer.err_code, answer.err_str.as_str()), (0, "ok"));
    assert!(
        imd.access_servers()
            .iter()
            .any(|one| one.addr().to_string() == answer.addr)
    );
    assert_eq!(stale.hits(), 1);
}

#[test]
fn a_gap_between_notify_and_store_needs_its_quirk() {
    let gap = |rest: &str| {
        let toml = format!("[quirks]\nnotify_gap = \"3s\"\n{rest}");
        Config::from_toml(&toml, "imd.toml").map_err(|error| error.to_string())
    };
    let why = gap("").unwrap_err();
    assert!(
        why.contains("quirks.notify_gap") && why.contains("quirks.notify_before_store = true"),
        "{why}"
    );
    assert!(gap("notify_before_store = true").is_ok());
}

#[tokio::test]
async fn the_menu_lists_the_actions_and_filters_of_each_site() {
    let imd = start_manual().await;
    let menu = crate::admin::get(&imd, "/v1/menu").await;
    for site in menu["sites"].as_array().unwrap() {
        let at = Site::named(site["name"].as_str().unwrap()).unwrap();
        assert_eq!(site["filters"], json!(at.filters()));
        let cmds: Vec<&str> = at.cmds().iter().map(|cmd| cmd.name()).collect();
        assert_eq!(site["cmds"], json!(cmds));
    }
}

/// A rule with every key acts on a frame that matches all of its filters.
#[tokio::test]
async fn a_rule_with_every_key_fires() {
    let imd = start_manual().await;
    let mut ann = user(&imd, 1).await;
    let session = server(&imd, "access-1").sessions();
    let session = session.sessions().next().unwrap().id().0;
    for (at, cmd) in [
        (Site::AccessRequest, Cmd::Ping),
        (Site::AccessReply, Cmd::Ping),
    ] {
        let fault = Fault::at(at)
            .uid(1)
            .access("access-1")
            .session(session)
            .cmd(cmd)
            .direction(at.direction().unwrap())
            .probability(1.0)
            .lasting(Duration::from_secs(60))
            .nth(1)
            .doing(Action::Error(Code::NoDataFound));
        let fault = imd.fault(fault);
        ann.send(&ping()).await;
        ann.error(Cmd::Ping, 91001).await;
        wait_for_hit(&imd, &fault).await;
    }
}
