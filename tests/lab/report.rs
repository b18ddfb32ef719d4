//! The report of a stack: what became of the messages, by inbox, and what was refused for which reason.
//!
//! Proves `service/report` and `service/audit`, in process and over `/v1/report`.

use imd::lab::{Fault, Site};
use imd::proto::{Cmd, Code};
use imd::service::{InboxReport, RefusalCount};
use serde_json::json;

use crate::admin::get;
use crate::support::{Wire, access, ephemeral, group_of, login, start, start_manual, user};

fn refused(cmd: Cmd, code: Code, count: u64, reason: &str) -> RefusalCount {
    RefusalCount {
        cmd,
        code,
        count,
        reason: reason.into(),
    }
}

#[tokio::test]
async fn each_inbox_is_reported_and_each_refusal_with_its_reason() {
    for path in [None, Some(tempfile::tempdir().unwrap())] {
        let mut config = ephemeral();
        config.store.path = path.as_ref().map(|folder| folder.path().join("data"));
        let imd = start(config).await;
        let group = group_of(&imd, &[1, 2]).await;
        let mut ann = user(&imd, 1).await;
        ann.p2p(3, "a", "x").await;
        ann.group(group, "b", "x").await;
        ann.answer::<imd::proto::ResNotify>(Cmd::Notify).await;
        let page = ann.sync(0, 0).await;
        assert_eq!(page.current_id, 1);
        // Four refusals: two messages to a group that does not exist, one to no user, and an ack of a message that does
        // not exist.
        for id in ["c", "d"] {
            assert_eq!(ann.group(7, id, "x").await.err_code, 95001);
        }
        assert_eq!(ann.p2p(-1, "e", "x").await.err_code, 10001);
        assert_eq!(ann.accept(2, "never").await.err_code, 91001);

        let summary = imd.report();
        let inbox = |uid, stored, delivered| InboxReport {
            uid,
            stored,
            delivered,
            pending: stored - delivered,
            removed: 0,
        };
        assert_eq!(
            summary.inboxes,
            [inbox(1, 1, 1), inbox(2, 1, 0), inbox(3, 1, 0)]
        );
        assert_eq!(summary.inbox(1), Some(&inbox(1, 1, 1)));
        assert_eq!(
            (
                summary.stored,
                summary.delivered,
                summary.pending,
                summary.refused
            ),
            (3, 1, 2, 3)
        );
        let bad = "request err: targetUID -1 is not positive";
        assert_eq!(
            summary.refusals,
            [
                refused(Cmd::SendP2PMsg, Code::RequestErr, 1, bad),
                refused(Cmd::AcceptP2PMsgAck, Code::NoDataFound, 1, "no data found"),
                refused(Cmd::SendGroupMsg, Code::NoSuchGroup, 2, "no such group"),
            ]
        );
        // Inboxes with messages that were not delivered come first.
        assert_eq!(
            summary.lines(),
            [
                "stored 3   delivered 1   pending 2   refused 3",
                "inbox of 2: stored 1   delivered 0   pending 1",
                "inbox of 3: stored 1   delivered 0   pending 1",
                "inbox of 1: stored 1   delivered 1   pending 0",
                &format!("refused 1 SendP2PMsg with 10001: {bad}"),
                "refused 1 AcceptP2PMsgAck with 91001: no data found",
                "refused 2 SendGroupMsg with 95001: no such group",
            ]
        );
        let over_http = get(&imd, "/v1/report").await;
        assert_eq!(over_http["inboxes"][1]["pending"], 1);
        assert_eq!(
            over_http["refusals"][1],
            json!({ "cmd": "AcceptP2PMsgAck", "code": 91001, "count": 1, "reason": "no data found" })
        );
    }
}

#[tokio::test]
async fn refused_logins_and_pages_are_reported_too() {
    let imd = start_manual().await;
    let mut wire = Wire::connect(access(&imd)).await;
    let mut wrong = login(&imd, 1);
    wrong.token = "wrong".into();
    wire.send(&wrong).await;
    wire.error(Cmd::Login, 93002).await;
    assert_eq!(wire.sync(0, 0).await.err_code, 93003);
    wire.login(&imd, 1).await;
    let _fault = imd.fault(Fault::at(Site::StoreRead).error(Code::ServerError));
    assert_eq!(wire.sync(0, 0).await.err_code, 90001);
    assert_eq!(
        imd.report().refusals,
        [
            refused(Cmd::Login, Code::CalcTokenFailed, 1, "calc token failed"),
            refused(Cmd::SyncMsg, Code::ServerError, 1, "server error (a fault)"),
            refused(Cmd::SyncMsg, Code::NotLoggedIn, 1, "not logged in"),
        ]
    );
    // These requests were not messages, and are not counted as refused ones.
    assert_eq!(imd.report().refused, 0);
}

#[tokio::test]
async fn refusals_by_a_fault_are_reported_as_such() {
    let imd = start_manual().await;
    let mut wire = Wire::connect(access(&imd)).await;
    let at_login = Fault::at(Site::AccessLogin).error(Code::CalcTokenFailed);
    let _login = imd.fault(at_login.times(1));
    wire.send(&login(&imd, 1)).await;
    // The client is not told that a fault did it.
    assert_eq!(wire.error(Cmd::Login, 93002).await, "calc token failed");
    wire.login(&imd, 1).await;
    let at = |site| Fault::at(site).cmd(Cmd::SendP2PMsg).times(1);
    let _request = imd.fault(at(Site::AccessRequest).error(Code::TooManyRequests));
    let refusal = wire.p2p(2, "a", "x").await;
    assert_eq!(
        (refusal.err_code, refusal.err_str.as_str()),
        (93006, "too many requests")
    );
    let _store = imd.fault(Fault::at(Site::StoreWrite).error(Code::ServerError));
    assert_eq!(wire.p2p(2, "b", "x").await.err_code, 90001);
    let summary = imd.report();
    assert_eq!((summary.stored, summary.refused), (0, 2));
    let by = |cmd, code: Code| refused(cmd, code, 1, &format!("{} (a fault)", code.text()));
    assert_eq!(
        summary.refusals,
        [
            by(Cmd::Login, Code::CalcTokenFailed),
            by(Cmd::SendP2PMsg, Code::ServerError),
            by(Cmd::SendP2PMsg, Code::TooManyRequests),
        ]
    );
}
