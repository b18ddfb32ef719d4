//! Faults in calls of the store and of the id generator: `store.write`, `store.read` and `idgen.next`.
//!
//! No frame passes at these sites: the fault changes the result of a call, so several requests of one read can meet it
//! at once.

use std::time::Duration;

use imd::lab::{EventKind, Fault, Site};
use imd::proto::{Cmd, Code, ResSendP2pMsg};
use serde_json::{Value, json};

use crate::admin::call;
use crate::support::{
    Wire, ephemeral, p2p, post, start_manual, sync, user, user_with_mail, versions,
};
use crate::wait_for_hit;

const SECOND: Duration = Duration::from_secs(1);

#[tokio::test]
async fn a_message_that_can_not_be_stored_is_refused_and_not_notified() {
    let imd = start_manual().await;
    let mut ann = user(&imd, 1).await;
    let mut bob = user(&imd, 2).await;
    let fault = imd.fault(
        Fault::at(Site::StoreWrite)
            .uid(1)
            .times(1)
            .error(Code::ServerError),
    );
    let refused = ann.p2p(2, "a", "a").await;
    assert_eq!((refused.err_code, refused.msg_id.as_str()), (90001, "a"));
    assert_eq!(ann.p2p(2, "a", "a").await.err_code, 0);
    assert_eq!(bob.notified().await, (0, 1));
    assert_eq!(fault.hits(), 1);
    let report = imd.report();
    assert_eq!((report.stored, report.refused), (1, 1));
}

#[tokio::test]
async fn a_slow_store_delays_the_reply_and_the_notify() {
    let imd = start_manual().await;
    let mut ann = user(&imd, 1).await;
    let mut bob = user(&imd, 2).await;
    let fault = imd.fault(Fault::at(Site::StoreWrite).times(1).delay(SECOND));
    ann.send(&p2p(2, "a", "a")).await;
    wait_for_hit(&imd, &fault).await;
    ann.hears_nothing(&imd).await;
    bob.hears_nothing(&imd).await;
    assert_eq!(imd.report().stored, 0);
    imd.clock().advance(SECOND).await;
    let reply: ResSendP2pMsg = ann.recv(Cmd::SendP2PMsg).await;
    assert_eq!(reply.err_code, 0);
    assert_eq!(bob.notified().await, (0, 1));
}

#[tokio::test]
async fn a_store_that_drops_writes_is_detected_by_a_look_at_the_inbox() {
    let imd = start_manual().await;
    let mut ann = user(&imd, 1).await;
    let _fault = imd.fault(Fault::at(Site::StoreWrite).times(1).drop_it());
    assert_eq!(ann.p2p(2, "a", "a").await.err_code, 0);
    assert_eq!(ann.p2p(2, "b", "b").await.err_code, 0);
    let mut bob = user_with_mail(&imd, 2, (0, 1)).await;
    assert_eq!(crate::support::texts(&bob.sync(0, 0).await.msgs), ["b"]);
}

#[tokio::test]
async fn faults_of_the_store_apply_to_the_http_api() {
    let imd = start_manual().await;
    let fault = imd.fault(
        Fault::at(Site::StoreWrite)
            .times(1)
            .error(Code::ServerError),
    );
    let register = || post(imd.user_api_addr(), "/x/user/register", "uid=1&pw=x");
    assert_eq!(register().await.1["code"], 90001);
    assert_eq!(register().await.1["code"], 0);
    assert_eq!(fault.hits(), 1);
}

/// Sends every request over HTTP that writes a user, a group or a membership, all for user 7. Returns the answers.
async fn written_over_http(imd: &imd::Imd, gid: i64) -> Vec<(&'static str, Value)> {
    let (users, groups) = (imd.user_api_addr(), imd.group_api_addr());
    let mut answers = Vec::new();
    for (addr, path, form) in [
        (users, "/x/user/register", "uid=7&pw=x".to_owned()),
        (groups, "/x/group/create", "uid=7&name=n".to_owned()),
        (groups, "/x/group/join", format!("uid=7&gid={gid}")),
        (groups, "/x/group/quit", format!("uid=7&gid={gid}")),
    ] {
        let (_, answer) = post(addr, path, &form).await;
        answers.push((path, answer));
    }
    answers
}

#[tokio::test]
async fn the_code_of_a_fault_answers_every_write_and_the_store_has_not_failed() {
    let imd = start_manual().await;
    let gid = crate::support::group_of(&imd, &[1]).await;
    for code in [Code::RequestErr, Code::NoSuchGroup, Code::UserExists] {
        let fault = imd.fault(Fault::at(Site::StoreWrite).uid(7).error(code));
        for (path, answer) in written_over_http(&imd, gid).await {
            let (number, text) = (code.number(), code.text());
            assert_eq!(
                (&answer["code"], &answer["message"]),
                (&json!(number), &json!(text)),
                "{path}"
            );
        }
        assert_eq!(fault.hits(), 4);
        let users = json!({ "uid": 7, "name": "n" });
        let groups = json!({ "owner": 7, "members": [8] });
        let message = json!({ "from": 7, "to": 8, "text": "x" });
        for (path, body) in [
            ("/v1/users", users),
            ("/v1/groups", groups),
            ("/v1/messages", message),
        ] {
            let (status, answer) = call(&imd, "POST", path, body).await;
            assert_eq!(answer["error"], code.text(), "{path}");
            assert!((400..500).contains(&status), "{path}: {status}");
        }
        assert_eq!(fault.hits(), 7);
        // The fault names one user, so others are not concerned.
        let (_, other) = post(imd.group_api_addr(), "/x/group/create", "uid=9&name=n").await;
        assert_eq!((&other["code"], fault.hits()), (&json!(0), 7));
    }
    // None of the writes was stored, and the store works.
    for (path, answer) in written_over_http(&imd, gid).await {
        assert_eq!(answer["code"], 0, "{path}");
    }
}

#[tokio::test]
async fn a_write_over_http_that_is_dropped_is_answered_as_stored_and_is_not() {
    let imd = start_manual().await;
    let gid = crate::support::group_of(&imd, &[1]).await;
    let fault = imd.fault(Fault::at(Site::StoreWrite).uid(7).drop_it());
    for (path, answer) in written_over_http(&imd, gid).await {
        assert_eq!(answer["code"], 0, "{path}");
    }
    assert_eq!(fault.hits(), 4);
    let users = crate::admin::get(&imd, "/v1/users").await;
    assert_eq!(users["users"], json!([]));
    let groups = crate::admin::get(&imd, "/v1/groups").await;
    let groups = groups["groups"].as_array().unwrap();
    assert_eq!((groups.len(), &groups[0]["members"]), (1, &json!([1])));
}

#[tokio::test]
async fn a_fault_of_the_config_applies_to_requests_and_not_to_fixtures() {
    let toml = r#"
[[user]]
uid = 7
[[group]]
gid = 50
members = [7, 8]
[[fault]]
at = "store.write"
name = "full"
error = 90001
"#;
    let mut config = imd::Config::from_toml(toml, "imd.toml").unwrap();
    config.any_port();
    let imd = crate::support::start(config).await;
    assert_eq!(imd.faults().list()[0].hits, 0);
    imd.reset().await.unwrap();
    let groups = crate::admin::get(&imd, "/v1/groups").await;
    assert_eq!(groups["groups"][0]["members"], json!([7, 8]));
    assert_eq!(imd.faults().list()[0].hits, 0);
    let (_, refused) = post(imd.user_api_addr(), "/x/user/register", "uid=9&pw=x").await;
    assert_eq!(refused["code"], 90001);
}

#[tokio::test]
async fn a_fault_for_a_user_matches_messages_of_a_session_without_login() {
    let mut config = ephemeral().manual_clock();
    config.quirks.login_not_required = true;
    let imd = crate::support::start(config).await;
    let _fault = imd.fault(Fault::at(Site::StoreWrite).uid(7).error(Code::NoDataFound));
    let mut nobody = Wire::connect(crate::support::access(&imd)).await;
    for (source, code) in [(7, 91001), (8, 0)] {
        let mut message = p2p(2, "a", "a");
        message.source_uid = source;
        nobody.send(&message).await;
        let answer: ResSendP2pMsg = nobody.recv(Cmd::SendP2PMsg).await;
        assert_eq!(answer.err_code, code);
    }
}

/// Logs Ann and Bob in. Bob has been notified of three messages from her.
async fn three_to_bob(imd: &imd::Imd) -> (Wire, Wire) {
    let mut ann = user(imd, 1).await;
    for id in ["a", "b", "c"] {
        assert_eq!(ann.p2p(2, id, id).await.err_code, 0);
    }
    let mut bob = user(imd, 2).await;
    assert_eq!(bob.notified().await, (0, 3));
    (ann, bob)
}

#[tokio::test]
async fn a_page_is_refused_stale_or_has_a_gap() {
    let imd = start_manual().await;
    let (_ann, mut bob) = three_to_bob(&imd).await;
    let at = || Fault::at(Site::StoreRead).uid(2).times(1);
    let _fault = imd.fault(at().error(Code::ServerError));
    let refused = bob.sync(0, 0).await;
    assert_eq!((refused.err_code, refused.current_id), (90001, 0));

    let _fault = imd.fault(at().stale());
    let stale = bob.sync(1, 0).await;
    assert_eq!(
        (versions(&stale), stale.current_id, stale.total_id),
        (vec![], 1, 1)
    );

    let _fault = imd.fault(at().gap());
    let gap = bob.sync(0, 0).await;
    assert_eq!((versions(&gap), gap.current_id), (vec![2, 3], 3));

    let fault = imd.fault(at().delay(SECOND));
    bob.send(&sync(0, 0)).await;
    wait_for_hit(&imd, &fault).await;
    bob.hears_nothing(&imd).await;
    imd.clock().advance(SECOND).await;
    let late: imd::proto::ResSyncMsg = bob.recv(Cmd::SyncMsg).await;
    assert_eq!(versions(&late), [1, 2, 3]);
}

#[tokio::test]
async fn ids_repeat_or_step_back() {
    let imd = start_manual().await;
    let mut ann = user(&imd, 1).await;
    let id = |reply: ResSendP2pMsg| reply.msg_id.parse::<i64>().unwrap();
    let first = id(ann.p2p(2, "", "first").await);
    let twice = imd.fault(Fault::at(Site::IdgenNext).times(1).duplicate());
    assert_eq!(id(ann.p2p(2, "", "lost").await), first);
    // The message has the same sender and the same id, so it counts as the same message.
    assert_eq!((twice.hits(), imd.report().stored), (1, 1));
    let _back = imd.fault(Fault::at(Site::IdgenNext).times(1).stale());
    let back = id(ann.p2p(2, "", "back").await);
    assert_eq!((first >> 22) - (back >> 22), 3_600_000);
    assert!(id(ann.p2p(2, "", "next").await) > first);
}

#[tokio::test]
async fn hits_at_sites_without_frames_are_recorded() {
    let imd = start_manual().await;
    let mut ann = user(&imd, 1).await;
    let mark = imd.journal().mark();
    let _fault = imd.fault(
        Fault::at(Site::StoreWrite)
            .named("w")
            .error(Code::ServerError),
    );
    assert_eq!(ann.p2p(2, "a", "a").await.err_code, 90001);
    let met: Vec<_> = imd
        .journal()
        .since(mark)
        .into_iter()
        .filter(|event| event.what == EventKind::Fault("w".into(), "error"))
        .map(|event| (event.server.to_string(), event.uid))
        .collect();
    assert_eq!(met, [("store.write".to_owned(), Some(1))]);
}

#[tokio::test]
async fn the_report_counts_exactly_the_lost_messages() {
    let imd = start_manual().await;
    let (mut ann, mut bob) = three_to_bob(&imd).await;
    assert_eq!(versions(&bob.sync(0, 2).await), [1, 2]);
    assert_eq!(bob.notified().await, (2, 3));
    // The same request again is not counted as a repetition.
    assert_eq!(versions(&bob.sync(0, 2).await), [1, 2]);
    imd.report().assert_no_loss();

    let _lies = imd.fault(Fault::at(Site::StoreWrite).uid(1).drop_it());
    assert_eq!(ann.p2p(2, "d", "d").await.err_code, 0);
    let _gap = imd.fault(Fault::at(Site::StoreRead).uid(2).gap());
    assert_eq!(bob.notified().await, (2, 3));
    assert_eq!(versions(&bob.sync(0, 0).await), [2, 3]);
    let report = imd.shutdown().await;
    assert_eq!((report.lost, report.repeated, report.swapped), (2, 0, 0));
    assert!(report.to_string().ends_with("   lost 2"), "{report}");
    let panic_text = std::panic::catch_unwind(|| report.assert_no_loss()).unwrap_err();
    let panic_text = panic_text.downcast_ref::<String>().unwrap();
    assert!(panic_text.contains("lost 2"), "{panic_text}");
}

#[tokio::test]
async fn repetitions_by_a_quirk_are_reported() {
    let mut config = ephemeral();
    config.quirks.sync_inclusive = true;
    let imd = crate::support::start(config).await;
    let mut ann = user(&imd, 1).await;
    for id in ["a", "b"] {
        assert_eq!(ann.p2p(1, id, id).await.err_code, 0);
        ann.notified().await;
    }
    assert_eq!(versions(&ann.sync(1, 0).await), [1, 2]);
    assert_eq!(imd.report().repeated, 1);
}

#[tokio::test]
async fn a_shutdown_does_not_wait_for_a_delay() {
    let imd = start_manual().await;
    let mut ann = user(&imd, 1).await;
    let fault = imd.fault(Fault::at(Site::StoreWrite).delay(SECOND));
    ann.send(&p2p(2, "a", "a")).await;
    wait_for_hit(&imd, &fault).await;
    let report = imd.shutdown().await;
    assert_eq!((report.unfinished, report.stored), (0, 1));
}
