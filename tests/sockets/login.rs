//! Command 20001: which tokens are accepted, and to which user they bind the session.
//!
//! There are two kinds of tokens: the salted one, which existing clients compute, and the signed one, which the HTTP
//! API issues for a day. Second logins of a user are tested in `takeover`.

use imd::proto::Cmd;

use crate::support::{
    Wire, access, ephemeral, login, login_with_token, post, start, start_manual, user,
};

#[tokio::test]
async fn the_salted_token_logs_in() {
    let imd = start(ephemeral()).await;
    let mut wire = Wire::connect(access(&imd)).await;
    // md5("321" + salt), as an existing client sends it.
    wire.send(&login_with_token(321, "69338d7366e3a53668cbd23dfedee4cd"))
        .await;
    assert_eq!(wire.error(Cmd::Login, 0).await, "ok");
    assert!(imd.is_online(321));
}

#[tokio::test]
async fn a_refused_login_leaves_the_session_open_and_unbound() {
    let imd = start(ephemeral()).await;
    let mut wire = Wire::connect(access(&imd)).await;
    let of_another = imd.token(8);
    let mut nearly = imd.token(7);
    let last = if nearly.pop() == Some('0') { '1' } else { '0' };
    nearly.push(last);
    for (request, code) in [
        (login_with_token(7, ""), 93001),
        (login_with_token(0, &imd.token(0)), 93001),
        (login_with_token(-7, &imd.token(-7)), 93001),
        (login_with_token(7, "wrong"), 93002),
        (login_with_token(7, &of_another), 93002),
        (login_with_token(7, &nearly), 93002),
        (login_with_token(7, &imd.token(7).to_uppercase()), 93002),
    ] {
        wire.send(&request).await;
        wire.error(Cmd::Login, code).await;
    }
    assert!(!imd.is_online(7));
    wire.send(&crate::support::ping()).await;
    wire.error(Cmd::Ping, 93003).await;
    wire.login(&imd, 7).await;
    assert!(imd.is_online(7));
}

#[tokio::test]
async fn a_second_login_of_the_same_user_is_answered_0_and_of_another_93005() {
    let imd = start(ephemeral()).await;
    let mut wire = user(&imd, 7).await;
    wire.login(&imd, 7).await;
    wire.send(&login(&imd, 8)).await;
    assert_eq!(
        wire.error(Cmd::Login, 93005).await,
        "uid does not match the login"
    );
    assert!(!imd.is_online(8));
    // After the login, a UID of 0 stands for the user of the session, in every command.
    wire.send(&login_with_token(0, &imd.token(7))).await;
    assert_eq!(wire.error(Cmd::Login, 0).await, "ok");
    wire.send(&login_with_token(7, "wrong")).await;
    wire.error(Cmd::Login, 93002).await;
    wire.ping().await;
}

#[tokio::test]
async fn only_registered_users_log_in_without_auto_register() {
    let mut config = ephemeral();
    config.auth.auto_register = false;
    let imd = start(config).await;
    let mut wire = Wire::connect(access(&imd)).await;
    wire.send(&login(&imd, 7)).await;
    assert_eq!(wire.error(Cmd::Login, 94002).await, "no such user");
    let (_, answer) = post(imd.user_api_addr(), "/x/user/register", "uid=7&name=a&pw=b").await;
    assert_eq!(answer["code"], 0);
    wire.login(&imd, 7).await;
    let refused = wire.p2p(9, "m", "hello").await;
    assert_eq!(
        refused.err_code, 94002,
        "the receiver has to be registered too"
    );
    let (_, group) = post(imd.group_api_addr(), "/x/group/create", "uid=9").await;
    assert_eq!(group["code"], 94002);
}

#[tokio::test]
async fn a_token_of_the_http_api_logs_its_user_in_for_a_day() {
    let imd = start_manual().await;
    let api = imd.user_api_addr();
    post(api, "/x/user/register", "uid=7&name=ann&pw=secret").await;
    let (_, answer) = post(api, "/x/user/auth", "uid=7&pw=secret").await;
    let token = answer["data"]["token"].as_str().unwrap().to_owned();
    let mut wire = Wire::connect(access(&imd)).await;
    wire.send(&login_with_token(8, &token)).await;
    wire.error(Cmd::Login, 93002).await;
    wire.send(&login_with_token(7, &token)).await;
    assert_eq!(wire.error(Cmd::Login, 0).await, "ok");
}

#[tokio::test]
async fn a_token_of_the_http_api_runs_out() {
    let mut config = ephemeral().manual_clock();
    config.auth.token_lifetime = std::time::Duration::from_secs(60);
    let imd = start(config).await;
    let api = imd.user_api_addr();
    post(api, "/x/user/register", "uid=7&pw=").await;
    let (_, answer) = post(api, "/x/user/auth", "uid=7&pw=").await;
    let token = answer["data"]["token"].as_str().unwrap().to_owned();
    let mut wire = Wire::connect(access(&imd)).await;
    imd.clock()
        .advance(std::time::Duration::from_secs(60))
        .await;
    wire.send(&login_with_token(7, &token)).await;
    wire.error(Cmd::Login, 93002).await;
}

/// Forged tokens are sent before the login and after it. None of them binds the session to a user, and the connection
/// stays usable.
#[tokio::test]
async fn thousands_of_forged_tokens_are_refused_one_by_one() {
    let imd = start(ephemeral()).await;
    let (_, answer) = post(imd.user_api_addr(), "/x/user/auth", "uid=7").await;
    let issued = answer["data"]["token"].as_str().unwrap().to_owned();
    let mut forged = Vec::new();
    for token in [&issued, &imd.token(7)] {
        for at in 0..token.len() {
            let (head, tail) = token.split_at(at);
            let others = "0123456789abcdef.".chars().map(String::from);
            let others = others.filter(|other| !tail.starts_with(other.as_str()));
            forged.extend(others.map(|other| format!("{head}{other}{}", &tail[1..])));
            forged.push(format!("{head}0{tail}"));
            forged.push(format!("{head}{}", &tail[1..]));
        }
        forged.push(format!("{token}0"));
    }
    // The digit that replaces another one may be the same digit: then the token is not forged.
    forged.retain(|token| *token != issued && *token != imd.token(7));
    assert!(forged.len() > 2_000);
    let requests: Vec<_> = forged
        .iter()
        .map(|token| login_with_token(7, token))
        .collect();
    let mut wire = Wire::connect(access(&imd)).await;
    for is_bound in [false, true] {
        for requests in requests.chunks(200) {
            wire.send_all(requests).await;
            for request in requests {
                let text = wire.error(Cmd::Login, 93002).await;
                assert_eq!(text, "calc token failed", "{}", request.token);
            }
        }
        assert_eq!(imd.is_online(7), is_bound);
        wire.send(&login_with_token(7, &issued)).await;
        wire.error(Cmd::Login, 0).await;
    }
}
