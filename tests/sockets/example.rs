//! The crate as its users embed it: stacks in the process of a test, driven by `imd::Client`.
//!
//! Read this file for how to use the library. The other files of this suite send frames, to see what the client hides.

use imd::client::{ClientError, Event, MessageKind};
use imd::{Client, Imd};

use crate::support::{ephemeral, group_of, soon, start};

#[tokio::test(flavor = "multi_thread")]
async fn twenty_stacks_live_side_by_side() {
    let mut running = Vec::new();
    for n in 1..=20 {
        running.push(tokio::spawn(async move {
            let imd = Imd::start(ephemeral()).await.unwrap();
            let mut alice = Client::connect(imd.gateway_addr()).await.unwrap();
            alice.login(1, &imd.token(1)).await.unwrap();
            for m in 0..n {
                alice.send_p2p(2, &format!("{m}")).await.unwrap();
            }
            let report = imd.shutdown().await;
            assert_eq!(
                (report.stored, report.pending),
                (n, n),
                "each has a store of its own"
            );
        }));
    }
    for stack in running {
        soon(stack).await.unwrap();
    }
}

#[tokio::test]
async fn the_client_does_everything_that_the_contract_offers() {
    let imd = start(ephemeral()).await;
    let gid = group_of(&imd, &[1, 2]).await;
    let mut alice = Client::connect(imd.gateway_addr()).await.unwrap();
    let mut bob = Client::connect(imd.gateway_addr()).await.unwrap();
    let refused = alice.login(1, "wrong").await.unwrap_err();
    assert_eq!(
        (refused.code(), refused.to_string().as_str()),
        (Some(93002), "calc token failed (93002)")
    );
    alice.login(1, &imd.token(1)).await.unwrap();
    bob.login(2, &imd.token(2)).await.unwrap();
    alice.ping().await.unwrap();
    let sent = alice.send_p2p(2, "hello").await.unwrap();
    alice.send_p2p_as(2, &sent.msg_id, "hello").await.unwrap();
    alice.send_group(gid, "hello all").await.unwrap();

    // Notifies may be merged, but the last one names the newest version.
    while soon(bob.next_event()).await.unwrap()
        != (Event::Notify {
            current: 0,
            total: 2,
        })
    {}
    let page = bob.sync(0, 0).await.unwrap();
    assert_eq!((page.current, page.total), (2, 2));
    let kinds: Vec<_> = page
        .messages
        .iter()
        .map(|m| (m.version, m.kind.clone(), m.group))
        .collect();
    assert_eq!(
        kinds,
        [(1, MessageKind::P2p, 0), (2, MessageKind::Group, gid)]
    );
    assert_eq!(page.messages[0].text, "hello");
    bob.accept(1, &sent.msg_id).await.unwrap();
    while soon(alice.next_event()).await.unwrap()
        != (Event::Notify {
            current: 0,
            total: 2,
        })
    {}
    let page = alice.sync(1, 1).await.unwrap();
    assert_eq!(page.messages[0].kind, MessageKind::Ack);
    bob.logout().await.unwrap();
    assert!(!imd.is_online(2));
}

#[tokio::test]
async fn the_client_says_why_it_was_closed() {
    let imd = start(ephemeral()).await;
    let mut older = Client::connect(imd.gateway_addr()).await.unwrap();
    older.login(1, &imd.token(1)).await.unwrap();
    let mut newer = Client::connect(imd.gateway_addr()).await.unwrap();
    newer.login(1, &imd.token(1)).await.unwrap();
    assert_eq!(
        soon(older.next_event()).await.unwrap_err().code(),
        Some(93004)
    );
    assert!(matches!(
        older.ping().await,
        Err(ClientError::Closed | ClientError::Io(_))
    ));
    soon(imd.shutdown()).await;
    assert_eq!(
        soon(newer.next_event()).await.unwrap_err().code(),
        Some(90001)
    );
}

/// In the original stack, an absent UID does not stand for the user of the session.
#[tokio::test]
async fn the_client_names_its_uid_in_every_request() {
    use futures_util::{SinkExt, StreamExt};
    use imd::codec::FrameCodec;
    use imd::proto::*;
    use prost::Message;

    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let addr = listener.local_addr().unwrap();
    let server = tokio::spawn(async move {
        let (stream, _) = listener.accept().await.unwrap();
        let mut frames = tokio_util::codec::Framed::new(stream, FrameCodec);
        let mut uids = Vec::new();
        while let Some(Ok(frame)) = frames.next().await {
            let (uid, reply) = match Base::decode(frame.clone()).unwrap().cmd {
                20001 => (ReqLogin::decode(frame).unwrap().uid, Reply::login()),
                20002 => (ReqPing::decode(frame).unwrap().uid, Reply::ping()),
                20003 => {
                    let request = ReqSendP2pMsg::decode(frame).unwrap();
                    let uid = request.source_uid;
                    (uid, Reply::p2p(uid, request.target_uid, &request.msg_id))
                }
                20004 => {
                    let request = ReqAcceptP2pMsgAck::decode(frame).unwrap();
                    (request.target_uid, Reply::ack())
                }
                20005 => {
                    let request = ReqSendGroupMsg::decode(frame).unwrap();
                    let reply = Reply::group(request.group_id, &request.msg_id);
                    (request.source_uid, reply)
                }
                20006 => {
                    let request = ReqSyncMsg::decode(frame).unwrap();
                    (request.uid, Reply::sync(&request))
                }
                _ => (ReqLogout::decode(frame).unwrap().uid, Reply::logout()),
            };
            uids.push(uid);
            frames.send(&reply).await.unwrap();
        }
        uids
    });
    let mut client = Client::connect_to(addr).await.unwrap();
    client.login(321, "token").await.unwrap();
    client.ping().await.unwrap();
    client.send_p2p(654, "x").await.unwrap();
    client.accept(654, "m").await.unwrap();
    client.send_group(5, "x").await.unwrap();
    client.sync(0, 0).await.unwrap();
    client.logout().await.unwrap();
    assert_eq!(soon(server).await.unwrap(), [321; 7]);
}

#[tokio::test]
async fn users_and_groups_are_created_in_process() {
    use imd::{GroupError, RegisterError, Rejected};

    let mut config = ephemeral();
    config.auth.auto_register = false;
    config.limits.group_members = 3;
    let imd = start(config).await;
    for (uid, name) in [(1, "ann"), (2, "bob"), (3, "")] {
        imd.register(uid, name, "a secret").await.unwrap();
    }
    let refused = imd.register(1, "another", "").await;
    assert!(matches!(
        refused,
        Err(RegisterError::Rejected(Rejected::UserExists))
    ));
    let refused = imd.register(0, "nobody", "").await;
    assert!(matches!(refused, Err(RegisterError::BadUid(0))));

    let team = imd.create_group(1, "team", &[2, 1]).await.unwrap();
    let refused = imd.create_group(1, "team", &[9]).await;
    assert!(matches!(refused, Err(GroupError::NoSuchUser(9))));
    let refused = imd.create_group(1, "team", &[2, 3, 4]).await;
    assert!(matches!(
        refused,
        Err(GroupError::Rejected(Rejected::GroupFull))
    ));
    imd.join_group(3, team).await.unwrap();
    imd.join_group(3, team).await.unwrap();
    imd.quit_group(2, team).await.unwrap();
    imd.quit_group(2, team).await.unwrap();
    let refused = imd.join_group(3, team + 1).await;
    assert!(matches!(
        refused,
        Err(GroupError::Rejected(Rejected::NoSuchGroup))
    ));
    let refused = imd.quit_group(3, -1).await;
    assert!(matches!(refused, Err(GroupError::BadGid(-1))));

    // Clients see these users and this group.
    let mut ann = Client::connect(imd.gateway_addr()).await.unwrap();
    ann.login(1, &imd.token(1)).await.unwrap();
    ann.send_group(team, "hello").await.unwrap();
    assert_eq!(imd.report().stored, 2);
    let mut bob = Client::connect(imd.gateway_addr()).await.unwrap();
    bob.login(2, &imd.token(2)).await.unwrap();
    assert_eq!(
        bob.send_group(team, "x").await.unwrap_err().code(),
        Some(95002)
    );
}

#[tokio::test]
async fn the_client_reports_a_server_that_is_no_gateway() {
    let imd = start(ephemeral()).await;
    let apis = [imd.user_api_addr(), imd.group_api_addr()];
    for api in apis.into_iter().chain(imd.admin_addr()) {
        let error = soon(Client::connect(api)).await.unwrap_err();
        assert!(matches!(error, ClientError::Http), "{error}");
        let mut client = Client::connect_to(api).await.unwrap();
        let error = soon(client.login(1, "x")).await.unwrap_err();
        assert!(matches!(error, ClientError::Http), "{error}");
    }
    let access = imd.access_servers()[0].addr();
    let error = soon(Client::connect(access)).await.unwrap_err();
    assert!(
        error.to_string().contains("unknown command 10001"),
        "{error}"
    );
}
