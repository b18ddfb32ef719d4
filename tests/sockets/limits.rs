//! `[limits]`: how many connections a stack accepts, and how many members a group has.
//!
//! Beyond the limit a connection waits in the queue of the system until another one is closed; it is not refused.

use crate::support::{Wire, access, ephemeral, post, start, user};

#[tokio::test]
async fn a_connection_beyond_the_limit_waits_for_a_place() {
    let mut config = ephemeral();
    config.limits.connections = 3;
    let imd = start(config).await;
    let mut first = user(&imd, 1).await;
    let _second = user(&imd, 2).await;
    let mut third = user(&imd, 3).await;
    let mut fourth = Wire::knock(access(&imd)).await;
    fourth.send(&crate::support::login(&imd, 4)).await;
    third.ping().await;
    assert!(!imd.is_online(4));
    first.end().await;
    first.finished().await;
    assert_eq!(fourth.error(imd::proto::Cmd::Login, 0).await, "ok");
}

#[tokio::test]
async fn the_http_api_answers_while_sessions_hold_every_place() {
    let mut config = ephemeral();
    config.limits.connections = 3;
    let imd = start(config).await;
    let mut users = Vec::new();
    for uid in 1..=3 {
        users.push(user(&imd, uid).await);
    }
    let (_, answer) = post(imd.user_api_addr(), "/x/user/register", "uid=4").await;
    assert_eq!(answer["code"], 0);
    let gid = crate::support::group_of(&imd, &[1, 2]).await;
    assert_eq!(users[0].group(gid, "m", "x").await.err_code, 0);
}

#[tokio::test]
async fn a_group_has_a_limit_of_members() {
    let mut config = ephemeral();
    config.limits.group_members = 2;
    let imd = start(config).await;
    let api = imd.group_api_addr();
    let gid = crate::support::group_of(&imd, &[1, 2]).await;
    let (_, full) = post(api, "/x/group/join", &format!("uid=3&gid={gid}")).await;
    assert_eq!(full["code"], 10001);
    assert_eq!(full["message"], "request err: the group is full");
    let (_, again) = post(api, "/x/group/join", &format!("uid=2&gid={gid}")).await;
    assert_eq!(again["code"], 0);
}
