//! `[[user]]` and `[[group]]` of the config: users and groups that exist from the start.
//!
//! They log in and send like registered ones, and are there again after a reset. Proves `service/fixtures`.

use imd::Config;

use crate::support::{for_this_run, post, start, user, user_with_mail};

const FIXTURES: &str = r#"
[auth]
auto_register = false
[[user]]
uid = 7
name = "ann"
pw = "a secret"
[[user]]
uid = 8
[[group]]
gid = 50
members = [7, 8]
"#;

fn config() -> Config {
    let mut config = Config::from_toml(FIXTURES, "imd.toml").unwrap();
    config.any_port();
    for_this_run(config)
}

#[tokio::test]
async fn fixture_users_log_in_and_send_to_their_groups() {
    let imd = start(config()).await;
    let auth = post(imd.user_api_addr(), "/x/user/auth", "uid=7&pw=a+secret").await;
    assert_eq!(auth.1["code"], 0);
    let mut ann = user(&imd, 7).await;
    let mut bob = user(&imd, 8).await;
    assert_eq!(ann.group(50, "a", "hello").await.err_code, 0);
    assert_eq!(bob.notified().await, (0, 1));
}

#[tokio::test]
async fn users_and_groups_that_the_store_has_already_stay_as_they_are() {
    let folder = tempfile::tempdir().unwrap();
    let mut config = config();
    config.store.path = Some(folder.path().join("data"));
    let imd = start(config.clone()).await;
    let mut ann = user(&imd, 7).await;
    assert_eq!(ann.group(50, "a", "hello").await.err_code, 0);
    imd.shutdown().await;
    let imd = start(config).await;
    let _ann = user_with_mail(&imd, 7, (0, 1)).await;
}

#[tokio::test]
async fn a_member_who_is_not_registered_is_reported() {
    let mut config = config();
    config.user.pop();
    let error = imd::Imd::start(config).await.unwrap_err();
    assert_eq!(error.to_string(), "[[group]] 50: 8 is not registered");
}
