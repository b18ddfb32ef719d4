//! Faults in frames of the server: `gateway.reply`, `access.reply` and `notify`.
//!
//! Each action on a reply, and what a client can still rely on after it. The faults in frames of a client are in
//! `requests`.

use std::time::Duration;

use imd::lab::{Fault, Site};
use imd::proto::{Cmd, Code, ResSendP2pMsg};

use crate::support::{
    Wire, access, gateway, p2p, ping, start_manual, sync, texts, user, user_with_mail, versions,
};
use crate::wait_for_hit;

const SECOND: Duration = Duration::from_secs(1);

fn reply() -> Fault {
    Fault::at(Site::AccessReply).cmd(Cmd::SendP2PMsg)
}

#[tokio::test]
async fn a_message_whose_reply_is_lost_is_stored_and_may_be_sent_again() {
    let imd = start_manual().await;
    let mut ann = user(&imd, 1).await;
    let mut bob = user(&imd, 2).await;
    let fault = imd.fault(reply().uid(1).times(1).drop_it());
    ann.send(&p2p(2, "a", "hello")).await;
    assert_eq!(bob.notified().await, (0, 1));
    // The first reply is lost, so this one answers the second try.
    let again = ann.p2p(2, "a", "hello").await;
    assert_eq!((again.err_code, again.msg_id.as_str()), (0, "a"));
    assert_eq!(texts(&bob.sync(0, 0).await.msgs), ["hello"]);
    assert_eq!((fault.hits(), imd.report().stored), (1, 1));
}

#[tokio::test]
async fn a_reply_comes_twice() {
    let imd = start_manual().await;
    let mut ann = user(&imd, 1).await;
    let _fault = imd.fault(reply().times(1).duplicate());
    assert_eq!(ann.p2p(2, "a", "a").await.msg_id, "a");
    let again: ResSendP2pMsg = ann.recv(Cmd::SendP2PMsg).await;
    assert_eq!(again.msg_id, "a");
    ann.ping().await;
}

#[tokio::test]
async fn a_reply_is_overtaken_by_the_next_frame() {
    let imd = start_manual().await;
    let mut ann = user(&imd, 1).await;
    let _fault = imd.fault(reply().times(1).reorder());
    ann.send(&p2p(2, "a", "a")).await;
    imd.settled().await;
    ann.ping().await;
    let late: ResSendP2pMsg = ann.recv(Cmd::SendP2PMsg).await;
    assert_eq!(late.msg_id, "a");
}

#[tokio::test]
async fn a_notify_overtakes_the_reply_to_its_message() {
    let imd = start_manual().await;
    let mut ann = user(&imd, 1).await;
    let _fault = imd.fault(reply().times(1).reorder());
    // Ann sends to herself, so she gets the reply and the notify.
    ann.send(&p2p(1, "a", "a")).await;
    assert_eq!(ann.notified().await, (0, 1));
    let late: ResSendP2pMsg = ann.recv(Cmd::SendP2PMsg).await;
    assert_eq!((late.err_code, late.msg_id.as_str()), (0, "a"));
}

#[tokio::test]
async fn a_late_reply_holds_up_the_frames_behind_it_and_no_other_session() {
    let imd = start_manual().await;
    let mut ann = user(&imd, 1).await;
    let mut bob = user(&imd, 2).await;
    let fault = imd.fault(reply().times(1).delay(SECOND));
    ann.send(&p2p(2, "a", "a")).await;
    ann.send(&ping()).await;
    assert_eq!(bob.notified().await, (0, 1));
    wait_for_hit(&imd, &fault).await;
    ann.hears_nothing(&imd).await;
    imd.clock().advance(SECOND).await;
    let late: ResSendP2pMsg = ann.recv(Cmd::SendP2PMsg).await;
    assert_eq!(late.msg_id, "a");
    ann.error(Cmd::Ping, 0).await;
}

#[tokio::test]
async fn a_reply_has_an_error_although_the_request_was_carried_out() {
    let imd = start_manual().await;
    let mut ann = user(&imd, 1).await;
    let _fault = imd.fault(reply().times(1).error(Code::ServerError));
    let reply = ann.p2p(2, "a", "a").await;
    assert_eq!((reply.err_code, reply.msg_id.as_str()), (90001, "a"));
    assert_eq!(imd.report().stored, 1);
}

#[tokio::test]
async fn a_page_that_is_refused_moves_no_reader() {
    let imd = start_manual().await;
    let mut ann = user(&imd, 1).await;
    for id in ["a", "b"] {
        assert_eq!(ann.p2p(2, id, id).await.err_code, 0);
    }
    let mut bob = user_with_mail(&imd, 2, (0, 2)).await;
    let _fault = imd.fault(
        Fault::at(Site::AccessReply)
            .cmd(Cmd::SyncMsg)
            .times(1)
            .error(Code::ServerError),
    );
    let refused = bob.sync(1, 0).await;
    assert_eq!((refused.err_code, refused.current_id), (90001, 1));
    assert!(refused.msgs.is_empty());
    assert_eq!(versions(&bob.sync(refused.current_id, 0).await), [2]);
}

#[tokio::test]
async fn after_a_lost_or_refused_page_a_notify_has_the_true_read_position() {
    let imd = start_manual().await;
    let mut ann = user(&imd, 1).await;
    let mut bob = user(&imd, 2).await;
    for (id, total) in [("a", 1), ("b", 2), ("c", 3)] {
        assert_eq!(ann.p2p(2, id, id).await.err_code, 0);
        assert_eq!(bob.notified().await, (0, total));
    }
    assert_eq!(versions(&bob.sync(0, 1).await), [1]);
    assert_eq!(bob.notified().await, (1, 3));
    let at = || {
        Fault::at(Site::AccessReply)
            .cmd(Cmd::SyncMsg)
            .uid(2)
            .times(1)
    };
    // Existing clients copy this number into their next request.
    let _fault = imd.fault(at().drop_it());
    bob.send(&sync(1, 1)).await;
    assert_eq!(bob.notified().await, (1, 3));
    let _fault = imd.fault(at().error(Code::ServerError));
    assert_eq!(bob.sync(1, 1).await.err_code, 90001);
    assert_eq!(bob.notified().await, (1, 3));
    // Each page reads everything, so the next notify comes with the next message.
    let fault = imd.fault(at().drop_it());
    bob.send(&sync(1, 0)).await;
    imd.settled().await;
    assert_eq!(fault.hits(), 1);
    bob.hears_nothing(&imd).await;
    assert_eq!(ann.p2p(2, "d", "d").await.err_code, 0);
    assert_eq!(bob.notified().await, (1, 4));
    assert_eq!(versions(&bob.sync(1, 0).await), [2, 3, 4]);
    assert_eq!(ann.p2p(2, "e", "e").await.err_code, 0);
    assert_eq!(bob.notified().await, (4, 5));
}

#[tokio::test]
async fn a_reply_breaks_its_connection() {
    let imd = start_manual().await;
    let at = |uid| Fault::at(Site::AccessReply).cmd(Cmd::Ping).uid(uid);
    let _reset = imd.fault(at(1).reset());
    let _cut = imd.fault(at(2).truncate());
    let _half = imd.fault(at(3).half_open());
    let mut ann = user(&imd, 1).await;
    ann.send(&ping()).await;
    ann.reset().await;
    let mut bob = user(&imd, 2).await;
    bob.send(&ping()).await;
    let left = bob.rest().await;
    assert!(!left.is_empty() && left.len() < 11, "{left:02x?}");
    let mut eve = user(&imd, 3).await;
    eve.send(&ping()).await;
    eve.hears_nothing(&imd).await;
    // Other users are served.
    user(&imd, 4).await.ping().await;
}

#[tokio::test]
async fn a_reply_trickles_in() {
    let imd = start_manual().await;
    let mut ann = user(&imd, 1).await;
    let slice = imd.fault(Fault::at(Site::AccessReply).cmd(Cmd::Ping).slice(1));
    for _ in 0..3 {
        ann.ping().await;
    }
    assert_eq!(slice.hits(), 3);
    drop(slice);
    // The reply to a ping has 11 bytes with its length, of which ten are sent in the first second.
    let fault = imd.fault(Fault::at(Site::AccessReply).cmd(Cmd::Ping).throttle(10));
    ann.send(&ping()).await;
    wait_for_hit(&imd, &fault).await;
    ann.hears_nothing(&imd).await;
    imd.clock().advance(SECOND).await;
    imd.clock().advance(SECOND).await;
    ann.error(Cmd::Ping, 0).await;
}

#[tokio::test]
async fn a_notify_is_lost_late_or_twice() {
    let imd = start_manual().await;
    let mut ann = user(&imd, 1).await;
    let mut bob = user(&imd, 2).await;
    let at = || Fault::at(Site::Notify).uid(2).times(1);
    let fault = imd.fault(at().drop_it());
    assert_eq!(ann.p2p(2, "a", "a").await.err_code, 0);
    imd.settled().await;
    assert_eq!(fault.hits(), 1);
    // The next notify covers both messages.
    let _fault = imd.fault(at().duplicate());
    assert_eq!(ann.p2p(2, "b", "b").await.err_code, 0);
    assert_eq!(bob.notified().await, (0, 2));
    assert_eq!(bob.notified().await, (0, 2));
    let fault = imd.fault(at().delay(SECOND));
    assert_eq!(ann.p2p(2, "c", "c").await.err_code, 0);
    wait_for_hit(&imd, &fault).await;
    bob.hears_nothing(&imd).await;
    imd.clock().advance(SECOND).await;
    assert_eq!(bob.notified().await, (0, 3));
}

#[tokio::test]
async fn a_notify_announces_a_message_that_does_not_exist() {
    let imd = start_manual().await;
    let mut ann = user(&imd, 1).await;
    let mut bob = user(&imd, 2).await;
    let _fault = imd.fault(Fault::at(Site::Notify).gap().times(1));
    assert_eq!(ann.p2p(2, "a", "a").await.err_code, 0);
    assert_eq!(bob.notified().await, (0, 2));
    let page = bob.sync(0, 0).await;
    assert_eq!((versions(&page), page.total_id), (vec![1], 1));
}

#[tokio::test]
async fn a_notify_comes_after_the_next_frame() {
    let imd = start_manual().await;
    let mut ann = user(&imd, 1).await;
    let mut bob = user(&imd, 2).await;
    let _fault = imd.fault(Fault::at(Site::Notify).reorder().times(1));
    assert_eq!(ann.p2p(2, "a", "a").await.err_code, 0);
    imd.settled().await;
    bob.ping().await;
    assert_eq!(bob.notified().await, (0, 1));
}

#[tokio::test]
async fn a_notify_breaks_its_connection() {
    let imd = start_manual().await;
    let mut ann = user(&imd, 1).await;
    let mut wires = Vec::new();
    for (uid, fault) in [
        (2, Fault::at(Site::Notify).reset()),
        (3, Fault::at(Site::Notify).truncate()),
        (4, Fault::at(Site::Notify).half_open()),
        (5, Fault::at(Site::Notify).slice(2)),
        (6, Fault::at(Site::Notify).throttle(10)),
    ] {
        let guard = imd.fault(fault.uid(uid));
        wires.push((user(&imd, uid).await, guard));
        assert_eq!(ann.p2p(uid, "a", "a").await.err_code, 0);
    }
    let mut wires = wires.into_iter();
    let (mut reset, _one) = wires.next().unwrap();
    reset.reset().await;
    let (mut cut, _two) = wires.next().unwrap();
    assert!(!cut.rest().await.is_empty());
    let (mut half, _three) = wires.next().unwrap();
    half.hears_nothing(&imd).await;
    let (mut sliced, _four) = wires.next().unwrap();
    assert_eq!(sliced.notified().await, (0, 1));
    let (mut throttled, fault) = wires.next().unwrap();
    wait_for_hit(&imd, &fault).await;
    throttled.hears_nothing(&imd).await;
    imd.clock().advance(3 * SECOND).await;
    assert_eq!(throttled.notified().await, (0, 1));
}

#[tokio::test]
async fn the_gateways_answer_fails_in_every_way() {
    let imd = start_manual().await;
    let mut wire = Wire::connect(gateway(&imd)).await;
    let at = || Fault::at(Site::GatewayReply).times(1);
    let good = wire.ask().await.addr;
    assert!(!good.is_empty());

    let _fault = imd.fault(at().error(Code::NoAccessServer));
    let reply = wire.ask().await;
    assert_eq!((reply.err_code, reply.addr.as_str()), (92001, ""));

    let _fault = imd.fault(at().duplicate());
    wire.ask().await;
    // The second reply answers this request.
    wire.ask().await;
    let more: imd::proto::ResSelectAccessServerForClient = wire.recv(Cmd::ReqAccessServer).await;
    assert_eq!(more.err_code, 0);

    let _fault = imd.fault(at().slice(3));
    assert_eq!(wire.ask().await.err_code, 0);

    let _fault = imd.fault(at().drop_it());
    let ask = imd::proto::ReqAccessServer {
        cmd: 10001,
        ..Default::default()
    };
    wire.send(&ask).await;
    imd.settled().await;
    wire.hears_nothing(&imd).await;

    let fault = imd.fault(at().delay(SECOND));
    wire.send(&ask).await;
    wait_for_hit(&imd, &fault).await;
    wire.hears_nothing(&imd).await;
    imd.clock().advance(SECOND).await;
    let _: imd::proto::ResSelectAccessServerForClient = wire.recv(Cmd::ReqAccessServer).await;

    let _fault = imd.fault(at().reorder());
    wire.send(&ask).await;
    imd.settled().await;
    wire.hears_nothing(&imd).await;
    wire.ask().await;
    let _: imd::proto::ResSelectAccessServerForClient = wire.recv(Cmd::ReqAccessServer).await;

    let fault = imd.fault(at().throttle(1_000));
    wire.send(&ask).await;
    wait_for_hit(&imd, &fault).await;
    imd.clock().advance(SECOND).await;
    let _: imd::proto::ResSelectAccessServerForClient = wire.recv(Cmd::ReqAccessServer).await;

    let _fault = imd.fault(at().truncate());
    wire.send(&ask).await;
    assert!(!wire.rest().await.is_empty());

    for fault in [at().reset(), at().half_open()] {
        let is_reset = fault == at().reset();
        let _fault = imd.fault(fault);
        let mut wire = Wire::connect(gateway(&imd)).await;
        wire.send(&ask).await;
        if is_reset {
            wire.reset().await;
        } else {
            wire.hears_nothing(&imd).await;
        }
    }
    user(&imd, 1).await.ping().await;
    assert!(access(&imd).port() > 0);
}

#[tokio::test]
async fn replies_that_match_no_rule_are_written_before_their_session_closes() {
    let imd = start_manual().await;
    let _other = imd.fault(Fault::at(Site::Notify).uid(999));
    let mut ann = user(&imd, 1).await;
    let logout = imd::proto::ReqLogout {
        cmd: 20008,
        ..Default::default()
    };
    ann.send(&logout).await;
    let reply: imd::proto::ResLogout = ann.recv(Cmd::Logout).await;
    assert_eq!(reply.err_code, 0);
    ann.finished().await;
    let mut long = Wire::connect(access(&imd)).await;
    long.raw(&[0xff, 0xff]).await;
    long.error(Cmd::ErrServer, 10001).await;
    long.finished().await;
}

#[tokio::test]
async fn a_frame_that_is_partly_written_is_completed_before_the_last_frame() {
    let imd = start_manual().await;
    let mut ann = user(&imd, 1).await;
    let fault = imd.fault(Fault::at(Site::AccessReply).cmd(Cmd::Ping).throttle(10));
    ann.send(&ping()).await;
    wait_for_hit(&imd, &fault).await;
    imd.clock().advance(SECOND / 2).await;
    imd.access("access-1").unwrap().stop().await;
    ann.error(Cmd::Ping, 0).await;
    ann.error(Cmd::ErrServer, 90001).await;
    ann.finished().await;
}

#[tokio::test]
async fn a_truncated_reply_ends_with_a_fin_also_when_more_requests_came() {
    let imd = start_manual().await;
    let mut ann = user(&imd, 1).await;
    let _fault = imd.fault(Fault::at(Site::AccessReply).cmd(Cmd::Ping).truncate());
    ann.send_all(&[ping(), ping(), ping()]).await;
    assert_eq!(ann.rest().await.len(), 5, "half of a frame, and no more");
    let mut bob = user(&imd, 2).await;
    let _drop = imd.fault(Fault::at(Site::AccessAccept).drop_it());
    let mut none = Wire::connect(access(&imd)).await;
    none.cut_off().await;
    bob.end().await;
}
