//! What a session may do before its login: commands that need one are answered 93003, and the connection stays usable.
//!
//! Also: which commands a gateway and an access server know, and that a refusal echoes the ids of its request.

use imd::proto::{
    Cmd, Reply, ReqLogout, ResAcceptP2pMsgAck, ResLogout, ResSendGroupMsg, ResSendP2pMsg,
    ResSyncMsg,
};

use crate::support::{Wire, access, ephemeral, gateway, p2p, ping, start, sync};

#[tokio::test]
async fn every_command_before_the_login_is_refused_by_its_own_reply_with_its_ids() {
    let imd = start(ephemeral()).await;
    let mut wire = Wire::connect(access(&imd)).await;
    const TEXT: &str = "not logged in";

    wire.send(&ping()).await;
    assert_eq!(wire.error(Cmd::Ping, 93003).await, TEXT);

    let reply = wire.p2p(2, "m", "x").await;
    assert_eq!((reply.err_code, reply.err_str.as_str()), (93003, TEXT));
    assert_eq!((reply.target_uid, reply.msg_id.as_str()), (2, "m"));

    let reply = wire.group(5, "g", "x").await;
    assert_eq!(
        (reply.err_code, reply.group_id, reply.msg_id.as_str()),
        (93003, 5, "g")
    );

    let reply = wire.accept(1, "m").await;
    assert_eq!((reply.err_code, reply.err_str.as_str()), (93003, TEXT));

    let reply = wire.sync(42, 0).await;
    assert_eq!(
        (reply.err_code, reply.current_id),
        (93003, 42),
        "clients copy it from every reply"
    );

    wire.send(&ReqLogout {
        cmd: 20008,
        ..Default::default()
    })
    .await;
    let reply: ResLogout = wire.recv(Cmd::Logout).await;
    assert_eq!(reply.err_code, 93003);

    wire.login(&imd, 1).await;
    let report = imd.report();
    assert_eq!((report.stored, report.refused), (0, 2));
}

#[tokio::test]
async fn a_login_in_the_middle_of_a_read_counts_for_what_follows() {
    let imd = start(ephemeral()).await;
    let mut wire = Wire::connect(access(&imd)).await;
    let mut bytes = crate::support::framed(&p2p(2, "early", "x"));
    bytes.extend_from_slice(&crate::support::framed(&crate::support::login(&imd, 1)));
    bytes.extend_from_slice(&crate::support::framed(&p2p(2, "late", "x")));
    wire.raw(&bytes).await;
    let early: ResSendP2pMsg = wire.recv(Cmd::SendP2PMsg).await;
    assert_eq!(early.err_code, 93003);
    assert_eq!(wire.error(Cmd::Login, 0).await, "ok");
    let late: ResSendP2pMsg = wire.recv(Cmd::SendP2PMsg).await;
    assert_eq!(late.err_code, 0);
}

/// Each listener refuses the commands of the other one, and those that only a server sends, as unknown.
#[tokio::test]
async fn commands_are_known_only_where_they_belong() {
    let imd = start(ephemeral()).await;
    let mut at_access = Wire::connect(access(&imd)).await;
    let mut at_gateway = Wire::connect(gateway(&imd)).await;
    for cmd in [10001, 20007, 90001, 0, 12345] {
        at_access.send(&imd::proto::Base { cmd }).await;
        let text = at_access.error(Cmd::ErrServer, 10001).await;
        assert_eq!(text, format!("request err: unknown command {cmd}"));
    }
    for cmd in [20001, 20003, 20007, 90001, 0] {
        at_gateway.send(&imd::proto::Base { cmd }).await;
        at_gateway.error(Cmd::ErrServer, 10001).await;
    }
    assert_eq!(at_gateway.ask().await.err_code, 0);
}

/// Every type of reply can carry an error, and echoes the ids of its request all the same.
#[test]
fn an_error_keeps_the_ids() {
    use imd::proto::Code;
    let refuse = |reply: Reply| reply.with_code(Code::NotLoggedIn, "no");
    let Reply::P2p(reply) = refuse(Reply::p2p(0, 2, "m")) else {
        panic!()
    };
    let ids = ResSendP2pMsg {
        target_uid: 2,
        msg_id: "m".into(),
        ..Default::default()
    };
    assert_eq!(
        reply,
        ResSendP2pMsg {
            cmd: 20003,
            err_code: 93003,
            err_str: "no".into(),
            ..ids
        }
    );
    let Reply::Group(reply) = refuse(Reply::group(5, "g")) else {
        panic!()
    };
    let ids = ResSendGroupMsg {
        group_id: 5,
        msg_id: "g".into(),
        ..Default::default()
    };
    assert_eq!(
        reply,
        ResSendGroupMsg {
            cmd: 20005,
            err_code: 93003,
            err_str: "no".into(),
            ..ids
        }
    );
    let Reply::Sync(reply) = refuse(Reply::sync(&sync(9, 0))) else {
        panic!()
    };
    let ids = ResSyncMsg {
        current_id: 9,
        ..Default::default()
    };
    assert_eq!(
        reply,
        ResSyncMsg {
            cmd: 20006,
            err_code: 93003,
            err_str: "no".into(),
            ..ids
        }
    );
    let Reply::Ack(reply) = refuse(Reply::ack()) else {
        panic!()
    };
    let expected = ResAcceptP2pMsgAck {
        cmd: 20004,
        err_code: 93003,
        err_str: "no".into(),
        ..Default::default()
    };
    assert_eq!(reply, expected);
}
