//! The HTTP API of the stack: users on one port, groups on the other.
//!
//! Each path with its fields, its answers, and who may ask. Unusual forms are tested in `http_forms`, and HTTP as bytes
//! on a connection in `http_wire`.

use std::sync::Arc;

use imd::id::Uid;
use imd::proto::Cmd;
use imd::store::{MemoryStore, MessageStore, User, Write};
use imd::{Config, Imd};
use serde_json::json;

use crate::support::{Http, Wire, access, group_of, http, login_with_token, post, start, user};

#[tokio::test]
async fn register_and_auth() {
    let imd = start(Config::ephemeral()).await;
    let api = imd.user_api_addr();
    let (status, answer) = post(api, "/x/user/register", "uid=7&name=ann&pw=secret").await;
    assert_eq!((status, answer), (200, json!({"code": 0, "message": "ok"})));
    let (status, answer) = post(api, "/x/user/register", "uid=7&name=eve&pw=other").await;
    let exists = json!({"code": 94001, "message": "user is already exist"});
    assert_eq!((status, answer), (200, exists));
    let (_, answer) = post(api, "/x/user/auth", "uid=7&pw=other").await;
    let wrong = json!({"code": 94003, "message": "wrong password"});
    assert_eq!(answer, wrong, "there is no data, so no key for it");
    let (_, answer) = post(api, "/x/user/auth", "uid=7&pw=secret").await;
    assert_eq!(answer["code"], 0);
    assert!(
        answer["data"]["token"]
            .as_str()
            .unwrap()
            .starts_with("imd1.7.")
    );
}

#[tokio::test]
async fn an_unregistered_user_gets_a_token_unless_registration_is_required() {
    let imd = start(Config::ephemeral()).await;
    let (_, answer) = post(imd.user_api_addr(), "/x/user/auth", "uid=8&pw=any").await;
    let token = answer["data"]["token"].as_str().unwrap().to_owned();
    let mut wire = Wire::connect(access(&imd)).await;
    wire.send(&login_with_token(8, &token)).await;
    assert_eq!(wire.error(Cmd::Login, 0).await, "ok");
    // From the moment in which a user has a password, it is checked.
    let (_, answer) = post(imd.user_api_addr(), "/x/user/register", "uid=8&pw=a").await;
    assert_eq!(answer["code"], 0);
    let (_, answer) = post(imd.user_api_addr(), "/x/user/auth", "uid=8&pw=any").await;
    assert_eq!(answer["code"], 94003);

    let mut config = Config::ephemeral();
    config.auth.auto_register = false;
    let imd = start(config).await;
    let (_, answer) = post(imd.user_api_addr(), "/x/user/auth", "uid=8&pw=any").await;
    assert_eq!(answer, json!({"code": 94002, "message": "no such user"}));
}

/// To check a password against one of these hashes would take longer than the test may.
#[tokio::test]
async fn a_stored_hash_that_costs_too_much_is_not_checked() {
    let (salt, output) = ("A".repeat(22), "A".repeat(43));
    let hashes = [
        format!("$argon2id$v=19$m=4194304,t=50,p=1${salt}${output}"),
        format!("$argon2id$v=19$m=65536,t=4294967295,p=1${salt}${output}"),
        format!("$argon2d$v=19$m=4194304,t=50,p=1${salt}${output}"),
    ];
    let config = Config::ephemeral();
    let store = Arc::new(MemoryStore::new(1 << 26, (&config.store).into()));
    let users = hashes.iter().zip(1..).map(|(hash, uid)| Write::Register {
        uid: Uid(uid),
        user: User {
            name: "ann".into(),
            password_hash: hash.clone(),
        },
    });
    store.commit(users.collect()).await.unwrap();
    let imd = Imd::start_with_store(config, store).await.unwrap();
    for uid in 1..=hashes.len() {
        let auth = format!("uid={uid}&pw=secret");
        let (_, answer) = post(imd.user_api_addr(), "/x/user/auth", &auth).await;
        assert_eq!(answer, json!({"code": 90001, "message": "server error"}));
    }
}

#[tokio::test]
async fn a_web_page_whose_host_name_points_here_can_register_no_user() {
    let mut config = Config::ephemeral();
    config.http.hosts = vec!["im.example".into()];
    let imd = start(config).await;
    let same = ["origin: http://evil.example", "sec-fetch-site: same-origin"];
    for (api, path) in [
        (imd.user_api_addr(), "/x/user/register"),
        (imd.user_api_addr(), "/x/user/auth"),
        (imd.group_api_addr(), "/x/group/create"),
        (imd.group_api_addr(), "/x/nothing"),
    ] {
        let own = format!("origin: http://{api}");
        for (headers, lets_in) in [
            (vec!["host: evil.example"], false),
            ([&["host: evil.example"], &same[..]].concat(), false),
            (vec!["host: evil.example@127.0.0.1"], false),
            (vec!["host: 127.0.0.1:99999"], false),
            (vec!["host: 127.0.0.1", "host: 127.0.0.1"], false),
            (vec!["host: 127.0.0.1", same[0]], false),
            (vec!["host: 127.0.0.1", "sec-fetch-site: cross-site"], false),
            (vec!["host: im.example:6001"], true),
            (vec!["host: 10.1.2.3:6001"], true),
            (vec!["host: localhost"], true),
            (vec!["host: imd:6001"], true),
            (vec![&*format!("host: {api}"), &own], true),
        ] {
            let request = format!(
                "POST {path} HTTP/1.1\r\n{}\r\nconnection: close\r\n\
                 content-type: application/x-www-form-urlencoded\r\ncontent-length: 7\r\n\r\nuid=5&x",
                headers.join("\r\n")
            );
            let (status, answer) = http(api, request.as_bytes()).await;
            assert_eq!(status != 403, lets_in, "{path} {headers:?}: {answer}");
            if !lets_in {
                assert_eq!(answer["code"], 10001, "{answer}");
                let why = answer["message"].as_str().unwrap();
                assert!(why.contains("http.hosts"), "{why}");
            }
        }
    }
    let (status, _) = http(
        imd.user_api_addr(),
        b"POST /x/user/auth?uid=8 HTTP/1.0\r\n\r\n",
    )
    .await;
    assert_eq!(status, 200, "a client without a host is no browser");
}

#[tokio::test]
async fn a_body_without_the_content_type_of_a_form_has_no_fields() {
    let imd = start(Config::ephemeral()).await;
    let api = imd.group_api_addr();
    let multipart = "--b\r\ncontent-disposition: form-data; name=\"uid\"\r\n\r\n7\r\n--b--\r\n";
    for (kind, body, code) in [
        (
            "content-type: application/x-www-form-urlencoded; charset=utf-8",
            "uid=7",
            0,
        ),
        (
            "content-type: APPLICATION/X-WWW-FORM-URLENCODED",
            "uid=7",
            0,
        ),
        ("content-type: text/plain", "uid=7", 10001),
        ("content-type: application/json", r#"{"uid": 7}"#, 10001),
        (
            "content-type: multipart/form-data; boundary=b",
            multipart,
            10001,
        ),
        ("x-nothing: 1", "uid=7", 10001),
    ] {
        for (query, code) in [("", code), ("?uid=7", 0)] {
            let request = format!(
                "POST /x/group/create{query} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n{kind}\r\n\
                 content-length: {}\r\n\r\n{body}",
                body.len()
            );
            let (status, answer) = http(api, request.as_bytes()).await;
            assert_eq!(
                (status, &answer["code"]),
                (200, &json!(code)),
                "{kind} {query}: {answer}"
            );
        }
    }
}

#[tokio::test]
async fn one_of_many_concurrent_registrations_wins() {
    let imd = start(Config::ephemeral()).await;
    let api = imd.user_api_addr();
    let tries: Vec<_> = (0..8)
        .map(|n| {
            tokio::spawn(
                async move { post(api, "/x/user/register", &format!("uid=7&pw={n}")).await },
            )
        })
        .collect();
    let mut codes = Vec::new();
    for one in tries {
        codes.push(one.await.unwrap().1["code"].as_i64().unwrap());
    }
    codes.sort_unstable();
    assert_eq!(codes, [0, 94001, 94001, 94001, 94001, 94001, 94001, 94001]);
}

#[tokio::test]
async fn fields_may_be_in_the_query_and_the_body_takes_precedence() {
    let imd = start(Config::ephemeral()).await;
    let api = imd.user_api_addr();
    let (_, answer) = post(api, "/x/user/register?uid=7&pw=a%20b%26c", "").await;
    assert_eq!(answer["code"], 0);
    let (_, answer) = post(api, "/x/user/auth?uid=7&pw=wrong", "pw=a+b%26c").await;
    assert_eq!(answer["code"], 0);
}

#[tokio::test]
async fn a_missing_or_unreadable_id_is_a_bad_request() {
    let imd = start(Config::ephemeral()).await;
    let (users, groups) = (imd.user_api_addr(), imd.group_api_addr());
    for (api, path, form) in [
        (users, "/x/user/register", ""),
        (users, "/x/user/register", "uid=&pw=x"),
        (users, "/x/user/register", "uid=0"),
        (users, "/x/user/register", "uid=-1"),
        (users, "/x/user/auth", "uid=abc"),
        (users, "/x/user/auth", "uid=%208"),
        (users, "/x/user/auth", "uid=8+"),
        (groups, "/x/group/join", "uid=1&gid=%205"),
        (users, "/x/user/auth", "uid=99999999999999999999"),
        (groups, "/x/group/create", "name=x"),
        (groups, "/x/group/join", "uid=1"),
        (groups, "/x/group/join", "uid=1&gid=x"),
        (groups, "/x/group/quit", "gid=5"),
    ] {
        let (status, answer) = post(api, path, form).await;
        assert_eq!(
            (status, &answer["code"]),
            (200, &json!(10001)),
            "{path} {form}: {answer}"
        );
        assert!(
            answer["message"]
                .as_str()
                .unwrap()
                .starts_with("request err: ")
        );
    }
}

#[tokio::test]
async fn groups_are_created_joined_and_quit() {
    let imd = start(Config::ephemeral()).await;
    let api = imd.group_api_addr();
    let (_, created) = post(api, "/x/group/create", "uid=1&name=team").await;
    let gid = created["data"]["gid"].as_i64().unwrap();
    assert_eq!(created["data"]["gid_str"], gid.to_string());
    assert!(
        gid > 1 << 53,
        "a snowflake does not fit a JavaScript number"
    );
    for (form, code) in [
        (format!("uid=2&gid={gid}"), 0),
        (format!("uid=2&gid={gid}"), 0),
        (format!("uid=2&gid={}", gid + 1), 95001),
    ] {
        assert_eq!(post(api, "/x/group/join", &form).await.1["code"], code);
    }
    let mut bob = user(&imd, 2).await;
    assert_eq!(bob.group(gid, "m", "x").await.err_code, 0);
    for (form, code) in [
        (format!("uid=2&gid={gid}"), 0),
        (format!("uid=2&gid={gid}"), 0),
        (format!("uid=2&gid={}", gid + 1), 95001),
    ] {
        assert_eq!(post(api, "/x/group/quit", &form).await.1["code"], code);
    }
    assert_ne!(group_of(&imd, &[1]).await, gid);
}

#[tokio::test]
async fn wrong_methods_paths_and_sizes_have_their_status_and_a_json_body() {
    let imd = start(Config::ephemeral()).await;
    let api = imd.user_api_addr();
    let get = b"GET /x/user/register?uid=1 HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n";
    let (status, answer) = http(api, get).await;
    assert_eq!((status, &answer["code"]), (405, &json!(10001)));
    let (status, answer) = post(api, "/x/user/nothing", "uid=1").await;
    assert_eq!((status, &answer["code"]), (404, &json!(10001)));
    let (status, _) = post(api, "/x/group/create", "uid=1").await;
    assert_eq!(status, 404, "groups are on the other port");
    let (status, answer) = post(
        api,
        "/x/user/register",
        &format!("uid=1&name={}", "x".repeat(65_536)),
    )
    .await;
    assert_eq!((status, &answer["code"]), (413, &json!(10001)));
    let (_, answer) = post(
        api,
        "/x/user/register",
        &format!("uid=1&name={}", "x".repeat(65_500)),
    )
    .await;
    assert_eq!(answer["code"], 0);
}

#[tokio::test]
async fn a_body_that_does_not_arrive_is_answered_408() {
    let mut config = Config::ephemeral();
    config.http.timeout = std::time::Duration::from_secs(1);
    let imd = start(config).await;
    let head = "POST /x/user/register HTTP/1.1\r\nhost: x\r\ncontent-length: 100\r\n\r\nuid=";
    let answer = Http::sent(imd.user_api_addr(), head).await.answer().await;
    assert_eq!(
        (answer.status, &answer.json()["code"]),
        (408, &json!(10001))
    );
}

#[tokio::test]
async fn an_idle_kept_connection_gives_up_its_place() {
    let mut config = Config::ephemeral();
    config.http.timeout = std::time::Duration::from_secs(1);
    let imd = start(config).await;
    let kept = "POST /x/user/auth HTTP/1.1\r\nhost: x\r\ncontent-length: 0\r\n\r\n";
    let mut held = Vec::new();
    for request_start in ["", kept, "POST /x/us"] {
        held.push(Http::sent(imd.user_api_addr(), request_start).await);
    }
    for mut http in held {
        http.rest_or_reset().await;
    }
}
