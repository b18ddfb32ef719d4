//! Command 20005: a message to all members of a group, on all access servers.
//!
//! Also: who may send to a group, and what leaving it means. Groups are made and joined over HTTP, which `http` tests.

use imd::proto::{Cmd, ReqSendGroupMsg, ResSendGroupMsg};

use crate::support::{
    addr_of, ephemeral, group_msg, group_of, post, start, start_manual, texts, user,
};

#[tokio::test]
async fn a_group_message_reaches_every_member_and_the_sender() {
    let imd = start_manual().await;
    let gid = group_of(&imd, &[1, 2, 3]).await;
    let mut ann = user(&imd, 1).await;
    let mut bob = user(&imd, 2).await;
    let reply = ann.group(gid, "g-1", "hello all").await;
    let expected = ResSendGroupMsg {
        cmd: 20005,
        err_str: "ok".into(),
        group_id: gid,
        msg_id: "g-1".into(),
        ..Default::default()
    };
    assert_eq!(reply, expected);
    for (uid, wire) in [(1, &mut ann), (2, &mut bob)] {
        assert_eq!(wire.notified().await, (0, 1));
        let page = wire.sync(0, 0).await;
        let entry = &page.msgs[0];
        assert_eq!(
            (entry.source_uid, entry.target_uid, entry.group_id),
            (1, uid, gid)
        );
        assert_eq!(
            (entry.msg_type.as_str(), entry.msg.as_str()),
            ("group", "hello all")
        );
        assert_eq!(entry.increment_id, 1);
    }
    assert_eq!(imd.report().stored, 3, "the third one finds it later");
}

#[tokio::test]
async fn messages_to_unknown_groups_or_by_non_members_are_refused_and_not_stored() {
    let imd = start(ephemeral()).await;
    let gid = group_of(&imd, &[1, 2]).await;
    let mut eve = user(&imd, 9).await;
    let unknown = eve.group(gid + 1, "m", "x").await;
    assert_eq!(
        (unknown.err_code, unknown.err_str.as_str()),
        (95001, "no such group")
    );
    assert_eq!((unknown.group_id, unknown.msg_id.as_str()), (gid + 1, "m"));
    let stranger = eve.group(gid, "m", "x").await;
    assert_eq!(
        (stranger.err_code, stranger.err_str.as_str()),
        (95002, "not a member of the group")
    );
    assert_eq!(eve.group(0, "m", "x").await.err_code, 10001);
    assert_eq!(
        eve.group(gid, "m", &"x".repeat(32_769)).await.err_code,
        10001
    );
    eve.send(&ReqSendGroupMsg {
        source_uid: 1,
        ..group_msg(gid, "m", "x")
    })
    .await;
    let forged: ResSendGroupMsg = eve.recv(Cmd::SendGroupMsg).await;
    assert_eq!(forged.err_code, 93005);
    let report = imd.report();
    assert_eq!((report.stored, report.refused), (0, 5));
}

#[tokio::test]
async fn a_group_message_sent_again_is_stored_once() {
    let imd = start(ephemeral()).await;
    let gid = group_of(&imd, &[1, 2]).await;
    let mut ann = user(&imd, 1).await;
    assert_eq!(ann.group(gid, "m", "one").await.err_code, 0);
    let _ = ann.notified().await;
    assert_eq!(ann.group(gid, "m", "two").await.err_code, 0);
    assert_eq!(texts(&ann.sync(0, 0).await.msgs), ["one"]);
    assert_eq!(imd.report().stored, 2);
}

#[tokio::test]
async fn a_user_who_has_quit_a_group_neither_receives_nor_sends() {
    let imd = start(ephemeral()).await;
    let gid = group_of(&imd, &[1, 2]).await;
    let mut ann = user(&imd, 1).await;
    let mut bob = user(&imd, 2).await;
    let (_, quit) = post(
        imd.group_api_addr(),
        "/x/group/quit",
        &format!("uid=2&gid={gid}"),
    )
    .await;
    assert_eq!(quit["code"], 0);
    assert_eq!(ann.group(gid, "a", "without bob").await.err_code, 0);
    assert_eq!(bob.group(gid, "b", "still there?").await.err_code, 95002);
    assert!(bob.sync(0, 0).await.msgs.is_empty());
}

#[tokio::test]
async fn members_on_other_access_servers_are_notified_too() {
    let imd = start(ephemeral()).await;
    let gid = group_of(&imd, &[1, 2, 3]).await;
    let mut ann = user(&imd, 1).await;
    let mut others = Vec::new();
    for (uid, server) in [(2, 1), (3, 2)] {
        let addr = addr_of(&imd.access_servers()[server]);
        let mut wire = crate::support::Wire::connect(addr).await;
        wire.login(&imd, uid).await;
        others.push(wire);
    }
    assert_eq!(ann.group(gid, "m", "x").await.err_code, 0);
    for wire in &mut others {
        assert_eq!(wire.notified().await, (0, 1));
    }
}

/// The server gives a message without an id one only when it stores the message.
#[tokio::test]
async fn a_refused_message_without_an_id_is_answered_without_one() {
    let imd = start(ephemeral()).await;
    let mut ann = user(&imd, 1).await;
    let team = group_of(&imd, &[2]).await;
    for (group, code) in [(93, 95001), (team, 95002)] {
        let reply = ann.group(group, "", "x").await;
        assert_eq!((reply.err_code, reply.group_id), (code, group));
        assert_eq!(reply.msg_id, "");
        assert_eq!(ann.group(group, "an id", "x").await.msg_id, "an id");
    }
}
