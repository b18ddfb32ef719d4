//! Faults in frames of a client: `access.accept`, `access.login` and `access.request`.
//!
//! Each action on a request, and what was stored or not. The faults in frames of the server are in `replies`.

use std::time::Duration;

use imd::lab::{Direction, Fault, Site};
use imd::proto::{Cmd, Code, ResSendP2pMsg};

use crate::support::{
    Wire, access, addr_of, framed, login, p2p, ping, soon, start_manual, user, user_with_mail,
};
use crate::wait_for_hit;

const SECOND: Duration = Duration::from_secs(1);

#[tokio::test]
async fn an_accepted_connection_is_dropped_reset_or_left_alone() {
    let imd = start_manual().await;
    let at = || Fault::at(Site::AccessAccept).times(1);
    let fault = imd.fault(at().drop_it());
    Wire::connect(access(&imd)).await.cut_off().await;
    assert_eq!(fault.hits(), 1);

    let _fault = imd.fault(at().reset());
    Wire::connect(access(&imd)).await.reset().await;

    let fault = imd.fault(at().half_open());
    let mut half = Wire::connect(access(&imd)).await;
    wait_for_hit(&imd, &fault).await;
    half.send(&login(&imd, 1)).await;
    // The next client is served, while the first one gets no reply.
    user(&imd, 2).await.ping().await;
    half.hears_nothing(&imd).await;

    let fault = imd.fault(at().delay(SECOND));
    let mut late = Wire::connect(access(&imd)).await;
    wait_for_hit(&imd, &fault).await;
    late.send(&login(&imd, 3)).await;
    late.hears_nothing(&imd).await;
    imd.clock().advance(SECOND).await;
    late.error(Cmd::Login, 0).await;
}

#[tokio::test]
async fn accepting_fails_at_the_server_that_was_named() {
    let imd = start_manual().await;
    let _fault = imd.fault(Fault::at(Site::AccessAccept).access("access-2").drop_it());
    user(&imd, 1).await.ping().await;
    let second = addr_of(&imd.access_servers()[1]);
    Wire::connect(second).await.cut_off().await;
}

#[tokio::test]
async fn a_login_is_refused_lost_or_late() {
    let imd = start_manual().await;
    let at = || Fault::at(Site::AccessLogin).times(1);
    let mut ann = Wire::connect(access(&imd)).await;
    let _fault = imd.fault(at().error(Code::CalcTokenFailed));
    ann.send(&login(&imd, 1)).await;
    ann.error(Cmd::Login, 93002).await;
    assert!(!imd.is_online(1));

    let fault = imd.fault(at().drop_it());
    ann.send(&login(&imd, 1)).await;
    wait_for_hit(&imd, &fault).await;
    assert!(!imd.is_online(1));

    let fault = imd.fault(at().delay(SECOND));
    ann.send(&login(&imd, 1)).await;
    wait_for_hit(&imd, &fault).await;
    assert!(!imd.is_online(1));
    imd.clock().advance(SECOND).await;
    ann.error(Cmd::Login, 0).await;
    assert!(imd.is_online(1));

    let _fault = imd.fault(at().reset());
    let mut bob = Wire::connect(access(&imd)).await;
    bob.send(&login(&imd, 2)).await;
    bob.reset().await;

    let fault = imd.fault(at().half_open());
    let mut eve = Wire::connect(access(&imd)).await;
    eve.send(&login(&imd, 3)).await;
    wait_for_hit(&imd, &fault).await;
    eve.hears_nothing(&imd).await;
}

#[tokio::test]
async fn a_request_that_is_lost_changes_nothing() {
    let imd = start_manual().await;
    let mut ann = user(&imd, 1).await;
    let fault = imd.fault(
        Fault::at(Site::AccessRequest)
            .cmd(Cmd::SendP2PMsg)
            .direction(Direction::In)
            .nth(2),
    );
    let frames = [p2p(2, "a", "a"), p2p(2, "b", "b"), p2p(2, "c", "c")];
    ann.send_all(&frames).await;
    for id in ["a", "c"] {
        let reply: ResSendP2pMsg = ann.recv(Cmd::SendP2PMsg).await;
        assert_eq!((reply.err_code, reply.msg_id.as_str()), (0, id));
    }
    assert_eq!(fault.hits(), 1);
    assert_eq!(imd.report().stored, 2);
}

#[tokio::test]
async fn a_request_comes_twice_and_is_stored_once() {
    let imd = start_manual().await;
    let mut ann = user(&imd, 1).await;
    let _fault = imd.fault(Fault::at(Site::AccessRequest).duplicate().times(1));
    assert_eq!(ann.p2p(2, "a", "a").await.err_code, 0);
    let again: ResSendP2pMsg = ann.recv(Cmd::SendP2PMsg).await;
    assert_eq!((again.err_code, again.msg_id.as_str()), (0, "a"));
    assert_eq!(imd.report().stored, 1);
}

#[tokio::test]
async fn a_request_overtakes_the_one_before_it() {
    let imd = start_manual().await;
    let mut ann = user(&imd, 1).await;
    let _fault = imd.fault(Fault::at(Site::AccessRequest).uid(1).reorder().times(1));
    // The two frames may also come with two reads.
    ann.send(&p2p(2, "a", "a")).await;
    imd.settled().await;
    ann.send(&p2p(2, "b", "b")).await;
    for id in ["b", "a"] {
        let reply: ResSendP2pMsg = ann.recv(Cmd::SendP2PMsg).await;
        assert_eq!(reply.msg_id, id);
    }
    let mut bob = user_with_mail(&imd, 2, (0, 2)).await;
    let page = bob.sync(0, 0).await;
    assert_eq!(crate::support::texts(&page.msgs), ["b", "a"]);
}

#[tokio::test]
async fn a_request_is_refused_with_any_code_and_not_carried_out() {
    let imd = start_manual().await;
    let mut ann = user(&imd, 1).await;
    let fault = imd.fault(
        Fault::at(Site::AccessRequest)
            .cmd(Cmd::SendP2PMsg)
            .error(Code::TooManyRequests)
            .nth(2),
    );
    ann.send_all(&[p2p(2, "a", "a"), p2p(2, "b", "b"), p2p(2, "c", "c")])
        .await;
    for (id, code) in [("a", 0), ("b", 93006), ("c", 0)] {
        let reply: ResSendP2pMsg = ann.recv(Cmd::SendP2PMsg).await;
        assert_eq!((reply.msg_id.as_str(), reply.err_code), (id, code));
    }
    assert_eq!((fault.hits(), imd.report().stored), (1, 2));
}

#[tokio::test]
async fn a_late_request_holds_up_those_behind_it_and_not_those_before_it() {
    let imd = start_manual().await;
    let mut ann = user(&imd, 1).await;
    let mut bob = user(&imd, 2).await;
    let _fault = imd.fault(
        Fault::at(Site::AccessRequest)
            .cmd(Cmd::SendP2PMsg)
            .delay(SECOND)
            .nth(2),
    );
    ann.send_all(&[p2p(2, "a", "a"), p2p(2, "b", "b"), p2p(2, "c", "c")])
        .await;
    let first: ResSendP2pMsg = ann.recv(Cmd::SendP2PMsg).await;
    assert_eq!(first.msg_id, "a");
    assert_eq!(bob.notified().await, (0, 1));
    assert_eq!(imd.report().stored, 1);
    imd.clock().advance(SECOND).await;
    for id in ["b", "c"] {
        let reply: ResSendP2pMsg = ann.recv(Cmd::SendP2PMsg).await;
        assert_eq!(reply.msg_id, id);
    }
    assert_eq!(bob.notified().await.1, 3);
}

#[tokio::test]
async fn a_request_resets_its_connection_or_leaves_it_half_open() {
    let imd = start_manual().await;
    let mut ann = user(&imd, 1).await;
    let mut bob = user(&imd, 2).await;
    let at = || Fault::at(Site::AccessRequest).cmd(Cmd::Ping);
    let _reset = imd.fault(at().uid(1).reset());
    let fault = imd.fault(at().uid(2).half_open());
    ann.send(&ping()).await;
    ann.reset().await;
    bob.send(&ping()).await;
    wait_for_hit(&imd, &fault).await;
    // It is still the session of its user, who is told nothing.
    let mut eve = user(&imd, 3).await;
    assert_eq!(eve.p2p(2, "a", "a").await.err_code, 0);
    bob.hears_nothing(&imd).await;
    soon(imd.shutdown()).await;
}

#[tokio::test]
async fn a_fault_ends_with_its_guard() {
    let imd = start_manual().await;
    let mut ann = user(&imd, 1).await;
    let fault = imd.fault(Fault::at(Site::AccessRequest).error(Code::ServerError));
    ann.send(&ping()).await;
    ann.error(Cmd::Ping, 90001).await;
    drop(fault);
    ann.raw(&framed(&ping())).await;
    ann.error(Cmd::Ping, 0).await;
    assert!(imd.faults().list().is_empty());
}

#[tokio::test]
async fn a_fault_for_a_user_matches_logins_of_that_user() {
    let imd = start_manual().await;
    let login_of_1 = Fault::at(Site::AccessLogin).uid(1);
    let fault = imd.fault(login_of_1.error(Code::CalcTokenFailed));
    user(&imd, 2).await.ping().await;
    let mut ann = Wire::connect(access(&imd)).await;
    ann.send(&login(&imd, 1)).await;
    ann.error(Cmd::Login, 93002).await;
    assert_eq!(fault.hits(), 1);
}
