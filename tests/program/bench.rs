//! `imd bench`: short runs with a fixed number of messages. Checks that the benchmark counts right and finds what is
//! wrong, not the figures that it measures.

use std::net::TcpStream;
use std::path::PathBuf;
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use imd::proto::{Base, Cmd, ResSyncMsg};
use prost::Message;
use serde_json::Value;
use tempfile::TempDir;

use crate::process::{Daemon, Ended, Program, imd};
use crate::proxy::behind_a_tampering_proxy;

/// Runs a benchmark that waits long enough for every frame, on a busy machine too.
fn bench(args: &[&str]) -> Ended {
    bench_with("--patience=60s", args)
}

fn bench_with(patience: &str, args: &[&str]) -> Ended {
    imd(&[&["bench", "--json", patience], args].concat())
}

fn report(out: &[String]) -> Value {
    assert_eq!(out.len(), 1, "{out:?}");
    serde_json::from_str(&out[0]).unwrap()
}

/// Checks that this number of messages was sent, acknowledged and delivered, and that every one arrived exactly once.
#[track_caller]
fn check(report: &Value, sent: u64, delivered: u64) {
    let counted = ["sent", "acknowledged", "delivered"].map(|name| report[name].as_u64().unwrap());
    assert_eq!(counted, [sent, sent, delivered], "{report}");
    assert_eq!(report["check"]["ok"], true, "{report}");
    assert_percentiles(&report["acknowledgement_us"]);
    assert!(report["sent_per_sec"].as_f64() > Some(0.0), "{report}");
}

#[track_caller]
fn assert_percentiles(latency: &Value) {
    let names = ["p50", "p90", "p99", "p99.9", "max"];
    let rising = names.map(|name| latency[name].as_f64().unwrap());
    assert!(rising[0] > 0.0 && rising.is_sorted(), "{latency}");
}

#[test]
fn the_gateway_answers_each_request_once() {
    let out = bench(&["gateway", "--users=3", "--outstanding=4", "--count=200"]).ok();
    let report = report(&out);
    check(&report, 200, 0);
    assert_eq!(
        (&report["kind"], &report["users"]),
        (&"gateway".into(), &3.into())
    );
    assert_eq!(
        (&report["outstanding"], &report["rate"]),
        (&4.into(), &Value::Null)
    );
    assert_eq!(report["delivery_us"], Value::Null);
}

#[test]
fn connections_come_and_go() {
    let out = bench(&["connect", "--users=3", "--count=40"]).ok();
    check(&report(&out), 40, 0);
    let out = bench(&["connect", "--users=3", "--count=40", "--rate=1000"]).ok();
    check(&report(&out), 40, 0);
}

#[test]
fn every_message_of_a_ring_arrives_once() {
    let out = bench(&[
        "p2p",
        "--pattern=ring",
        "--users=5",
        "--outstanding=3",
        "--count=300",
        "--threads=2",
    ])
    .ok();
    let report = report(&out);
    check(&report, 300, 300);
    assert_percentiles(&report["delivery_us"]);
    assert_eq!(report["generator"]["threads"], 2);
    if cfg!(target_os = "linux") {
        assert!(report["server"]["cores"].as_f64() > Some(0.0), "{report}");
        assert!(report["generator"]["busy"].as_f64() > Some(0.0), "{report}");
    }
}

#[test]
fn every_message_arrives_once_with_any_pattern_and_kind_of_id() {
    for pattern in ["random", "ring", "zipf", "pairs"] {
        for (until, ids) in [
            ("delivered", &["--no-msg-id"][..]),
            ("acknowledged", &[]),
            ("delivered", &[]),
        ] {
            let options = [
                &format!("--pattern={pattern}"),
                &format!("--until={until}"),
                "--users=7",
                "--outstanding=3",
                "--count=200",
                "--threads=2",
            ];
            let report = report(&bench(&[&options, ids].concat()).ok());
            check(&report, 200, 200);
            assert_eq!(report["pattern"], pattern);
            assert_eq!(report["until"], until);
            assert_eq!(report["gives_ids"], ids.is_empty());
        }
    }
    let out = bench(&["group", "--users=3", "--count=20", "--no-msg-id"]).ok();
    check(&report(&out), 20, 60);
}

#[test]
fn a_message_that_is_not_delivered_keeps_its_sender_waiting() {
    // The only user may have two messages outstanding. The page that has the first ones is lost, so it sends no others.
    let args = [
        "--users=1",
        "--outstanding=2",
        "--count=10",
        "--until=delivered",
    ];
    let lost = once(
        Cmd::SyncMsg,
        |frame| !ResSyncMsg::decode(frame).unwrap().msgs.is_empty(),
        |_| Vec::new(),
    );
    let wrong = tampered(SHORT, &args, lost);
    assert!(wrong.contains("2 acknowledged but missing"), "{wrong}");
}

#[test]
fn a_private_stack_has_a_core_of_its_own_where_there_are_two_unless_they_are_shared() {
    let cores = thread::available_parallelism().map_or(1, usize::from);
    let can_have_one = cfg!(target_os = "linux") && cores > 1;
    for (args, has_one) in [(&[][..], can_have_one), (&["--share-cores"], false)] {
        let args = [&["--users=3", "--rate=1000", "--count=30"], args].concat();
        let report = report(&bench(&args).ok());
        check(&report, 30, 30);
        assert_eq!(report["server"]["has_own_core"], has_one, "{report}");
    }
}

#[test]
fn one_user_writes_to_itself() {
    check(
        &report(&bench(&["--users=1", "--count=50", "--size=0"]).ok()),
        50,
        50,
    );
}

#[test]
fn every_message_to_a_group_arrives_at_every_member() {
    let out = bench(&["group", "--users=7", "--outstanding=2", "--count=30"]).ok();
    check(&report(&out), 30, 210);
    let out = bench(&[
        "group",
        "--users=3",
        "--rate=500",
        "--count=30",
        "--threads=2",
    ])
    .ok();
    check(&report(&out), 30, 90);
}

#[test]
fn a_schedule_reports_its_own_lateness() {
    let out = bench(&[
        "p2p",
        "--users=4",
        "--rate=2000",
        "--count=100",
        "--threads=3",
    ])
    .ok();
    let report = report(&out);
    check(&report, 100, 100);
    assert_eq!(
        (&report["outstanding"], &report["rate"]),
        (&Value::Null, &2000.0.into())
    );
    assert!(report["late_us"]["max"].as_f64() > Some(0.0), "{report}");
}

#[test]
fn idle_users_send_heartbeats_and_cost_memory() {
    let out = bench(&["idle", "--users=20", "--rate=500", "--count=40"]).ok();
    let report = report(&out);
    check(&report, 40, 0);
    let server = &report["server"];
    let known = [
        "resident_before",
        "resident_connected",
        "bytes_per_connection",
    ];
    for name in known {
        assert_eq!(
            server[name].is_number(),
            cfg!(target_os = "linux"),
            "{report}"
        );
    }
}

#[test]
fn inboxes_are_read_from_end_to_end() {
    let out = bench(&[
        "sync",
        "--users=2",
        "--outstanding=2",
        "--fill=3000",
        "--count=20",
    ])
    .ok();
    let report = report(&out);
    let delivered = report["delivered"].as_u64().unwrap();
    check(&report, 20, delivered);
    assert!(
        delivered >= 6000,
        "inboxes were read more than once: {report}"
    );
}

#[test]
fn a_private_stack_can_keep_everything_in_a_folder() {
    let folder = TempDir::new().unwrap();
    let data = folder.path().join("data");
    let data = data.to_str().unwrap();
    let out = bench(&["p2p", "--users=3", "--count=60", "--store", data]).ok();
    let report = report(&out);
    check(&report, 60, 60);
    assert_eq!(report["store"], data);
    let checked = imd(&["store", "check", data]).ok();
    assert!(
        checked[2].starts_with("inboxes 3   entries 60 "),
        "{checked:?}"
    );
}

#[test]
fn a_running_stack_is_used_again_and_again() {
    let daemon = Daemon::start(&[]);
    let addresses = daemon.addresses();
    let (gateway, api) = (addresses.gateway.as_str(), addresses.group_api.as_str());
    for _ in 0..2 {
        let out = bench(&["p2p", "--addr", gateway, "--users=3", "--count=30"]).ok();
        let report = report(&out);
        check(&report, 30, 30);
        assert_eq!(
            (&report["addr"], &report["server"]),
            (&gateway.into(), &Value::Null)
        );
        let group = [
            "group",
            "--addr",
            gateway,
            "--group-api",
            api,
            "--users=3",
            "--count=5",
        ];
        check(&self::report(&bench(&group).ok()), 5, 15);
    }
    assert!(daemon.stop().starts_with("Stopped.  stored 90"));
}

#[test]
fn without_json_a_summary_is_printed() {
    let out = imd(&["bench", "p2p", "--users=3", "--count=60", "--outstanding=2"]).ok();
    assert_eq!(
        out[0],
        "p2p: 3 users, 2 outstanding, 32 bytes, a private imd, store in memory"
    );
    assert_eq!(
        out[1],
        "Each message goes to a random other user, outstanding until delivered and acknowledged."
    );
    for row in ["sent  ", "acknowledged  ", "delivered  "] {
        let row = out.iter().find(|line| line.starts_with(row)).unwrap();
        assert_eq!(row.split_whitespace().nth(1), Some("60"), "{out:?}");
    }
    let last = out.last().unwrap();
    assert_eq!(last, "Every acknowledged message arrived exactly once.");
}

#[test]
fn flags_that_do_not_go_together_are_refused() {
    let refused: [(&[&str], &str); 13] = [
        (&["--rate=5", "--outstanding=2"], "cannot be used with"),
        (&["connect", "--outstanding=2"], "raise --users instead"),
        (&["group", "--addr", "127.0.0.1:1"], "--group-api"),
        (&["--users=1000000"], "the open-file limit"),
        (&["--for=0s"], "a time above 0"),
        (&["--for=2"], "such as 2s"),
        (&["--addr=127.0.0.1:1", "--store=x"], "cannot be used with"),
        (
            &["--addr=127.0.0.1:1", "--share-cores"],
            "cannot be used with",
        ),
        (&["group", "--pattern=ring"], "--pattern is for p2p"),
        (&["group", "--until=delivered"], "--until is for p2p"),
        (&["--rate=5", "--until=delivered"], "cannot be used with"),
        (&["idle", "--no-msg-id"], "for p2p and group"),
        (&["--no-msg-id", "--size=31"], "needs a --size of 32"),
    ];
    for (args, why) in refused {
        let error = bench(args).failed(64);
        assert!(error.contains(why), "{error}");
    }
    let nobody = bench(&["gateway", "--addr", "127.0.0.1:1"]).failed(1);
    assert!(
        nobody.contains("gateway 127.0.0.1:1: Connection refused"),
        "{nobody}"
    );
}

#[test]
fn a_signal_ends_it_and_leaves_nothing_behind() {
    let folder = TempDir::new().unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_imd"));
    command.args(["bench", "--for=600s", "--users=2"]);
    command.env("TMPDIR", folder.path()).env_remove("RUST_LOG");
    let program = Program::run(command);
    let gateway = gateway_of_private(&folder);
    program.signal("-TERM");
    assert!(program.end().failed(1).contains("stopped by a signal"));
    assert!(TcpStream::connect(gateway).is_err());
    assert_eq!(folder.path().read_dir().unwrap().count(), 0);
}

/// Waits until the private stack has written its addresses, and returns that of the gateway.
fn gateway_of_private(folder: &TempDir) -> String {
    let until = Instant::now() + Duration::from_secs(120);
    while Instant::now() < until {
        let inside = folder.path().read_dir().unwrap().flatten();
        let files = inside.map(|folder| folder.path().join("addr.json"));
        let texts: Vec<String> = files
            .flat_map(|file: PathBuf| std::fs::read_to_string(file))
            .collect();
        if let [text] = texts.as_slice() {
            let addresses: Value = serde_json::from_str(text).unwrap();
            return addresses["gateway"].as_str().unwrap().to_owned();
        }
        thread::yield_now();
    }
    panic!("no private stack was started");
}

/// For runs that lose a frame: the benchmark waits for the lost frame as long as this, so it is not much more than a
/// busy machine needs for the others.
const SHORT: &str = "--patience=5s";

/// For runs that lose no frame, and end when all have arrived.
const LONG: &str = "--patience=60s";

/// Runs a benchmark on a stack some of whose frames are tampered with. Returns what the benchmark says is wrong.
fn tampered(
    patience: &str,
    args: &[&str],
    tamper: impl Fn(&[u8]) -> Vec<Vec<u8>> + Send + Sync + 'static,
) -> String {
    let (_proxy, daemon) = behind_a_tampering_proxy(tamper);
    let gateway = daemon.addresses().gateway;
    let ended = bench_with(patience, &[args, &["--addr", &gateway]].concat());
    let report = report(&ended.out);
    assert_eq!(report["check"]["ok"], false, "{report}");
    ended.failed(1)
}

/// Tampers once, with the first frame of this command for which `wanted` is true.
fn once(
    cmd: Cmd,
    wanted: impl Fn(&[u8]) -> bool,
    change: impl Fn(&[u8]) -> Vec<Vec<u8>>,
) -> impl Fn(&[u8]) -> Vec<Vec<u8>> {
    let done = AtomicBool::new(false);
    move |frame| {
        let is_it = Base::decode(frame).unwrap().cmd == cmd.number() && wanted(frame);
        if is_it && !done.swap(true, Ordering::SeqCst) {
            change(frame)
        } else {
            vec![frame.to_vec()]
        }
    }
}

/// Changes the first page that has at least this many messages.
fn page(least: usize, change: impl Fn(&mut ResSyncMsg)) -> impl Fn(&[u8]) -> Vec<Vec<u8>> {
    let wanted = move |frame: &[u8]| ResSyncMsg::decode(frame).unwrap().msgs.len() >= least;
    once(Cmd::SyncMsg, wanted, move |frame| {
        let mut page = ResSyncMsg::decode(frame).unwrap();
        change(&mut page);
        vec![page.encode_to_vec()]
    })
}

const P2P: [&str; 4] = ["p2p", "--users=3", "--outstanding=2", "--count=40"];

#[test]
fn a_message_that_is_missing_is_noticed() {
    let wrong = tampered(SHORT, &P2P, page(1, |page| drop(page.msgs.remove(0))));
    assert!(wrong.contains("1 acknowledged but missing"), "{wrong}");
}

#[test]
fn a_message_that_comes_twice_is_noticed() {
    let twice = page(1, |page| page.msgs.push(page.msgs[0].clone()));
    let wrong = tampered(LONG, &P2P, twice);
    assert_eq!(wrong, "imd: 1 double");
}

#[test]
fn a_message_that_is_altered_is_noticed() {
    let wrong = tampered(SHORT, &P2P, page(1, |page| page.msgs[0].msg.push('!')));
    assert!(wrong.contains("1 altered"), "{wrong}");
}

#[test]
fn an_answer_that_is_missing_or_comes_twice_is_noticed() {
    let any = |_: &[u8]| true;
    let wrong = tampered(SHORT, &P2P, once(Cmd::SendP2PMsg, any, |_| Vec::new()));
    assert!(wrong.contains("1 not answered"), "{wrong}");
    let twice = |frame: &[u8]| vec![frame.to_vec(), frame.to_vec()];
    let wrong = tampered(LONG, &P2P, once(Cmd::SendP2PMsg, any, twice));
    assert!(
        wrong.contains("1 answered without being asked, or twice"),
        "{wrong}"
    );
}

#[test]
fn a_page_that_leaves_something_out_is_noticed() {
    let args = ["sync", "--users=1", "--fill=50", "--count=3"];
    let wrong = tampered(LONG, &args, page(3, |page| drop(page.msgs.remove(1))));
    assert_eq!(wrong, "imd: 1 left out of a page");
}

#[test]
fn a_connection_that_is_lost_ends_the_run() {
    let garbage = |_: &[u8]| vec![b"\x08\x91\xbf\x05\x10\x01\x1a\x03bye".to_vec()];
    let wrong = tampered(LONG, &P2P, once(Cmd::SendP2PMsg, |_| true, garbage));
    assert!(wrong.contains("lost: bye (1)"), "{wrong}");
}
