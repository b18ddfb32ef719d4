//! `/v1/users`, `/v1/groups` and `/v1/inboxes`: looking at the contents of the store over HTTP, and adding to them.
//!
//! Looking leaves no trace, and what is added goes the same way as a client's request.

use imd::lab::{Fault, Site};
use serde_json::{Value, json};

use crate::admin::{call, get, post};
use crate::support::{ephemeral, group_of, start, start_manual, texts, user, user_with_mail};

/// Returns a stack for each kind of store. The folder belongs to the second one, and is removed when it is dropped.
pub async fn both() -> Vec<(imd::Imd, Option<tempfile::TempDir>)> {
    let folder = tempfile::tempdir().unwrap();
    let mut durable = ephemeral().manual_clock();
    durable.store.path = Some(folder.path().join("data"));
    vec![
        (start_manual().await, None),
        (start(durable).await, Some(folder)),
    ]
}

#[tokio::test]
async fn users_are_registered_and_listed_with_their_sessions() {
    for (imd, _folder) in both().await {
        for uid in [7, 8] {
            let new = json!({ "uid": uid, "name": format!("user {uid}"), "pw": "a secret" });
            assert_eq!(post(&imd, "/v1/users", new).await["uid"], uid);
        }
        let session = user(&imd, 7).await;
        let _unregistered = user(&imd, 9).await;
        let listed = get(&imd, "/v1/users").await;
        let ann = json!({
            "uid": 7, "uid_str": "7", "registered": true, "name": "user 7", "online": true, "online_ms": 15_000,
            "access": "access-1", "session": listed["users"][0]["session"],
            "session_str": listed["users"][0]["session"].to_string(),
        });
        let bob = json!({
            "uid": 8, "uid_str": "8", "registered": true, "name": "user 8", "online": false, "online_ms": 0,
            "access": null, "session": null, "session_str": null,
        });
        assert_eq!((&listed["users"][0], &listed["users"][1]), (&ann, &bob));
        assert_eq!(listed["users"][2]["registered"], false);
        assert!(!listed.to_string().contains("argon2") && !listed.to_string().contains("secret"));
        let sessions = get(&imd, "/v1/sessions").await["sessions"].clone();
        let id = &listed["users"][0]["session"];
        assert!(
            sessions
                .as_array()
                .unwrap()
                .iter()
                .any(|s| &s["id"] == id && s["uid"] == 7)
        );

        let page = get(&imd, "/v1/users?after=7&limit=1").await;
        assert_eq!(
            (&page["users"][0]["uid"], &page["next"]),
            (&json!(8), &json!("8"))
        );
        assert_eq!(listed["next"], Value::Null);
        imd.clock()
            .advance(std::time::Duration::from_secs(15))
            .await;
        let listed = get(&imd, "/v1/users").await;
        // The user no longer counts as online, and is still connected.
        assert_eq!(
            (
                &listed["users"][0]["online"],
                &listed["users"][0]["session"]
            ),
            (&json!(false), id)
        );
        drop(session);

        for (body, status) in [
            (json!({ "uid": 7 }), 409),
            (json!({ "uid": 0 }), 400),
            (json!({ "name": "x" }), 400),
        ] {
            assert_eq!(call(&imd, "POST", "/v1/users", body).await.0, status);
        }
        for bad in ["limit=0", "limit=1001", "after=x", "who=1"] {
            let (status, _) = call(&imd, "GET", &format!("/v1/users?{bad}"), Value::Null).await;
            assert_eq!(status, 400, "{bad}");
        }
    }
}

#[tokio::test]
async fn groups_are_created_and_listed() {
    for (imd, _folder) in both().await {
        let first = group_of(&imd, &[1, 3, 2]).await;
        let new = json!({ "owner": 5, "name": "crew", "members": [6, 4] });
        let made = post(&imd, "/v1/groups", new).await;
        let listed = get(&imd, "/v1/groups").await;
        let group = |gid: i64, name: &str, owner: i64, members: &[i64]| {
            let gid_str = gid.to_string();
            let members_str: Vec<String> = members.iter().map(i64::to_string).collect();
            json!({
                "gid": gid, "gid_str": gid_str, "name": name, "owner": owner, "owner_str": owner.to_string(),
                "members": members, "members_str": members_str,
            })
        };
        let second = made["gid"].as_i64().unwrap();
        assert_eq!(
            listed["groups"],
            json!([
                group(first, "team", 1, &[1, 2, 3]),
                group(second, "crew", 5, &[4, 5, 6])
            ])
        );
        let rest = get(&imd, &format!("/v1/groups?after={first}")).await;
        assert_eq!(rest["groups"].as_array().unwrap().len(), 1);
        let (status, _) = call(&imd, "POST", "/v1/groups", json!({ "owner": -1 })).await;
        assert_eq!(status, 400);
    }
}

#[tokio::test]
async fn a_group_is_created_with_all_of_its_members_or_not_at_all() {
    let folder = tempfile::tempdir().unwrap();
    for path in [None, Some(folder.path().join("data"))] {
        let mut config = ephemeral().manual_clock();
        config.store.path = path;
        config.auth.auto_register = false;
        config.limits.group_members = 3;
        let imd = start(config).await;
        for uid in 1..=4 {
            post(&imd, "/v1/users", json!({ "uid": uid })).await;
        }
        let make = |members: Value| {
            let new = json!({ "owner": 1, "members": members });
            call(&imd, "POST", "/v1/groups", new)
        };
        for (members, status, says) in [
            (json!([2, 0]), 400, "uid 0 is not positive"),
            (json!([2, 9]), 404, "9 is not registered"),
            (json!([2, 3, 4]), 400, "full"),
        ] {
            let (got, why) = make(members).await;
            assert_eq!(got, status, "{why}");
            assert!(why["error"].as_str().unwrap().contains(says), "{why}");
        }
        let fault = Fault::at(Site::StoreWrite).error(imd::proto::Code::ServerError);
        let fault = imd.fault(fault.nth(2));
        // Creating a group with its members is one write.
        assert_eq!(make(json!([3, 1, 2, 2])).await.0, 201);
        assert_eq!(make(json!([4])).await.0, 500);
        drop(fault);
        let groups = get(&imd, "/v1/groups").await["groups"].clone();
        assert_eq!(groups.as_array().unwrap().len(), 1, "{groups}");
        assert_eq!(groups[0]["members"], json!([1, 2, 3]));
    }
}

#[tokio::test]
async fn an_inbox_is_listed_without_a_trace() {
    for (imd, _folder) in both().await {
        let mut ann = user(&imd, 1).await;
        for id in ["a", "b", "c"] {
            ann.p2p(2, id, &format!("text of {id}")).await;
        }
        let mut bob = user_with_mail(&imd, 2, (0, 3)).await;
        bob.sync(1, 1).await;
        let before = imd.report();
        let listed = get(&imd, "/v1/inboxes/2?limit=2").await;
        assert_eq!(
            (&listed["read"], &listed["total"], &listed["next"]),
            (&json!(1), &json!(3), &json!("2"))
        );
        let entry = &listed["entries"][0];
        assert_eq!(
            (
                &entry["version"],
                &entry["msgID"],
                &entry["msg"],
                &entry["sourceUID"],
                &entry["msgType"]
            ),
            (
                &json!(1),
                &json!("a"),
                &json!("text of a"),
                &json!(1),
                &json!("p2p")
            )
        );
        let rest = get(&imd, "/v1/inboxes/2?after=2").await;
        assert_eq!(
            (&rest["entries"][0]["msgID"], &rest["next"]),
            (&json!("c"), &Value::Null)
        );
        assert_eq!(imd.report(), before);
        assert_eq!(get(&imd, "/v1/inboxes/2").await["read"], 1);

        let nobody = get(&imd, "/v1/inboxes/99").await;
        assert_eq!(
            (&nobody["total"], &nobody["entries"]),
            (&json!(0), &json!([]))
        );
        assert_eq!(
            call(&imd, "GET", "/v1/inboxes/ann", Value::Null).await.0,
            400
        );
        let counted = json!({ "uid": 2, "uid_str": "2", "stored": 3, "delivered": 1, "pending": 2, "removed": 0 });
        let all = get(&imd, "/v1/inboxes").await;
        assert_eq!(all, json!({ "inboxes": [counted], "next": null }));
    }
}

#[tokio::test]
async fn a_message_sent_over_http_is_treated_like_that_of_a_client() {
    for (imd, _folder) in both().await {
        let mut bob = user(&imd, 2).await;
        let hello = json!({ "from": 1, "to": 2, "text": "hello", "msg_id": "a" });
        assert_eq!(
            post(&imd, "/v1/messages", hello.clone()).await["msg_id"],
            "a"
        );
        assert_eq!(bob.notified().await, (0, 1));
        // A message that is sent again is stored once.
        post(&imd, "/v1/messages", hello).await;
        let page = bob.sync(0, 0).await;
        assert_eq!(texts(&page.msgs), ["hello"]);
        assert_eq!((page.msgs[0].source_uid, page.total_id), (1, 1));

        let group = group_of(&imd, &[1, 2]).await;
        let sent = json!({ "from": 1, "group": group, "text": "to all" });
        let sent = post(&imd, "/v1/messages", sent).await;
        assert!(sent["msg_id"].as_str().unwrap().parse::<i64>().unwrap() > 0);
        assert_eq!(bob.notified().await, (1, 2));

        for (body, status) in [
            (json!({ "from": 3, "group": group, "text": "x" }), 409),
            (json!({ "from": 1, "group": 5, "text": "x" }), 404),
            (json!({ "from": 1, "to": -5, "text": "x" }), 400),
            (json!({ "from": 0, "to": 2, "text": "x" }), 400),
            (json!({ "from": 1, "text": "x" }), 400),
            (
                json!({ "from": 1, "to": 2, "group": group, "text": "x" }),
                400,
            ),
            (
                json!({ "from": 1, "to": 2, "text": "x".repeat(40_000) }),
                400,
            ),
        ] {
            let (got, why) = call(&imd, "POST", "/v1/messages", body).await;
            assert_eq!(got, status, "{why}");
            assert!(why["error"].is_string());
        }
        let fault = imd.fault(
            Fault::at(Site::StoreWrite)
                .uid(1)
                .error(imd::proto::Code::ServerError),
        );
        let (status, _) = call(&imd, "POST", "/v1/messages", json!({ "from": 1, "to": 2 })).await;
        assert_eq!((status, fault.hits()), (500, 1));
    }
}

/// Returns the owner and the members of each group that is listed.
async fn groups(imd: &imd::Imd) -> Vec<(Value, Value)> {
    let listed = get(imd, "/v1/groups").await;
    let groups = listed["groups"].as_array().unwrap().iter();
    let groups = groups.map(|group| (group["owner"].clone(), group["members"].clone()));
    groups.collect()
}

#[tokio::test]
async fn a_group_whose_id_is_taken_is_created_whole_or_not_at_all() {
    for (imd, _folder) in both().await {
        let first = post(&imd, "/v1/groups", json!({ "owner": 1, "members": [2, 3] })).await;
        let one = [(json!(1), json!([1, 2, 3]))];
        assert_eq!(groups(&imd).await, one);
        let twice = imd.fault(Fault::at(Site::IdgenNext).times(1).duplicate());
        let another = json!({ "owner": 7, "members": [8, 9] });
        let (status, why) = call(&imd, "POST", "/v1/groups", another.clone()).await;
        assert_eq!(status, 500, "{why}");
        assert!(
            why["error"].as_str().unwrap().contains("exists already"),
            "{why}"
        );
        assert_eq!(twice.hits(), 1);
        assert_eq!(groups(&imd).await, one);
        let made = post(&imd, "/v1/groups", another).await;
        assert!(made["gid"].as_i64() > first["gid"].as_i64());
        assert_eq!(groups(&imd).await[1..], [(json!(7), json!([7, 8, 9]))]);
    }
}

#[tokio::test]
async fn a_new_group_gets_no_id_of_an_existing_group() {
    let imd = start_manual().await;
    let first = group_of(&imd, &[1]).await;
    let mut config = ephemeral().manual_clock();
    // The ids that the stack would give out next, by the time of its clock.
    let taken = first..first + 3;
    config.group = taken
        .map(|gid| imd::config::Group {
            gid,
            name: "of the config".into(),
            members: vec![5],
        })
        .collect();
    let imd = start(config).await;
    let made = post(&imd, "/v1/groups", json!({ "owner": 7, "members": [8] })).await;
    let gid = made["gid"].as_i64().unwrap();
    assert!(gid >= first + 3, "{gid}");
    assert_eq!(groups(&imd).await.len(), 4);
}

#[tokio::test]
async fn a_group_that_does_not_fit_the_store_leaves_no_members() {
    let mut config = ephemeral().manual_clock();
    config.store.memory_limit = 1 << 16;
    let imd = start(config).await;
    let many: Vec<i64> = (1..=500).collect();
    for _ in 0..3 {
        let new = json!({ "owner": 1, "members": many });
        let (status, why) = call(&imd, "POST", "/v1/groups", new).await;
        assert_eq!(status, 500, "{why}");
        assert!(why["error"].as_str().unwrap().contains("full"), "{why}");
    }
    assert!(groups(&imd).await.is_empty());
    post(&imd, "/v1/groups", json!({ "owner": 1, "members": [2, 3] })).await;
    assert_eq!(groups(&imd).await, [(json!(1), json!([1, 2, 3]))]);
}

#[tokio::test]
async fn names_and_passwords_have_the_length_limits_of_the_http_api() {
    let mut config = ephemeral();
    config.http.body = 1_000;
    let imd = start(config).await;
    let (fits, long) = ("x".repeat(1_000), "x".repeat(1_001));
    for (path, body, field) in [
        ("/v1/users", json!({ "uid": 1, "name": long }), "name"),
        ("/v1/users", json!({ "uid": 1, "pw": long }), "pw"),
        ("/v1/groups", json!({ "owner": 1, "name": long }), "name"),
    ] {
        let (status, answer) = call(&imd, "POST", path, body).await;
        let why = answer["error"].as_str().unwrap();
        assert_eq!(status, 400, "{why}");
        let text = format!("{field} has 1001 bytes, at most 1000");
        assert!(why.contains(&text), "{why}");
    }
    assert_eq!(get(&imd, "/v1/users").await["users"], json!([]));
    let user = json!({ "uid": 1, "name": fits, "pw": fits });
    assert_eq!(call(&imd, "POST", "/v1/users", user).await.0, 201);
    let group = json!({ "owner": 1, "name": fits });
    assert_eq!(call(&imd, "POST", "/v1/groups", group).await.0, 201);
}
