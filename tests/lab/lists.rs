//! Lists of the admin API come in parts, and ids of 64 bits are never rounded.
//!
//! JavaScript reads numbers as doubles, so every id is given as a number and as a text, and taken as either.

use imd::Imd;
use imd::lab::{Fault, Site};
use imd::proto::{Cmd, ResSendP2pMsg};
use serde_json::{Value, json};

use crate::admin::{call, get, post};
use crate::contents::both;
use crate::support::{p2p, start_manual, user};

/// Numbers around the largest that JavaScript can hold, and the largest of 64 bits.
const LARGE: [i64; 4] = [1 << 53, (1 << 53) + 1, i64::MAX - 1, i64::MAX];

/// Reads a list part by part, and checks that each part says whether there is more.
async fn in_parts(imd: &Imd, path: &str, what: &str, limit: usize) -> Vec<Value> {
    let mut all = Vec::new();
    let mut after = "0".to_owned();
    loop {
        let part = get(imd, &format!("{path}?limit={limit}&after={after}")).await;
        let items = part[what].as_array().unwrap();
        assert!(items.len() <= limit);
        all.extend(items.iter().cloned());
        match &part["next"] {
            Value::Null => return all,
            Value::String(next) => {
                assert_eq!(items.len(), limit, "{path} goes on, and was not full");
                assert_ne!(next, &after, "{path} stands still");
                after.clone_from(next);
            }
            other => panic!("next: {other}"),
        }
        // A part that says that there is more has a next one.
        let more = get(imd, &format!("{path}?limit=1&after={after}")).await;
        assert_eq!(more[what].as_array().unwrap().len(), 1, "{path} {limit}");
    }
}

async fn has(imd: &Imd, path: &str, what: &str, count: usize) {
    let whole = get(imd, &format!("{path}?limit=1000")).await;
    assert_eq!(whole["next"], Value::Null);
    assert_eq!(whole[what].as_array().unwrap().len(), count, "{path}");
    for limit in [1, 2, 3, 5, 6, 7, 1_000] {
        let parts = in_parts(imd, path, what, limit).await;
        assert_eq!(Value::from(parts), whole[what], "{path} by {limit}");
    }
}

#[tokio::test]
async fn the_last_part_of_a_list_says_that_it_is_the_last() {
    for (imd, _folder) in both().await {
        for (path, what) in [
            ("/v1/users", "users"),
            ("/v1/groups", "groups"),
            ("/v1/inboxes", "inboxes"),
            ("/v1/inboxes/1", "entries"),
        ] {
            has(&imd, path, what, 0).await;
        }
        // Users who are registered, connected, or both.
        for uid in [1, 2, 3, i64::MAX] {
            post(&imd, "/v1/users", json!({ "uid": uid })).await;
        }
        let _there = (
            user(&imd, 3).await,
            user(&imd, 4).await,
            user(&imd, 5).await,
        );
        has(&imd, "/v1/users", "users", 6).await;
        has(&imd, "/v1/sessions", "sessions", 3).await;
        for _ in 0..6 {
            post(&imd, "/v1/groups", json!({ "owner": 1 })).await;
        }
        has(&imd, "/v1/groups", "groups", 6).await;
        for uid in 1..=5 {
            post(&imd, "/v1/messages", json!({ "from": 9, "to": uid })).await;
        }
        post(&imd, "/v1/messages", json!({ "from": 9, "to": i64::MAX })).await;
        has(&imd, "/v1/inboxes", "inboxes", 6).await;
        for _ in 0..5 {
            post(&imd, "/v1/messages", json!({ "from": 9, "to": 1 })).await;
        }
        has(&imd, "/v1/inboxes/1", "entries", 6).await;
        let end = get(&imd, &format!("/v1/users?after={}", i64::MAX)).await;
        assert_eq!(end, json!({ "users": [], "next": null }));
    }
}

#[tokio::test]
async fn a_list_that_fits_one_part_is_one_part() {
    let imd = start_manual().await;
    for uid in 1..=1_000 {
        post(&imd, "/v1/messages", json!({ "from": 9, "to": uid })).await;
    }
    let whole = get(&imd, "/v1/inboxes?limit=1000").await;
    assert_eq!(whole["next"], Value::Null);
    post(&imd, "/v1/messages", json!({ "from": 9, "to": 1_001 })).await;
    let part = get(&imd, "/v1/inboxes?limit=1000").await;
    assert_eq!(part["next"], "1000");
    let usual = get(&imd, "/v1/inboxes").await;
    assert_eq!(usual["next"], "100");
}

#[tokio::test]
async fn faults_come_in_parts_in_the_order_in_which_they_were_added() {
    let imd = start_manual().await;
    let names = |listed: &Value| -> Vec<String> {
        let listed = listed.as_array().unwrap().iter();
        listed
            .map(|fault| fault["name"].as_str().unwrap().to_owned())
            .collect()
    };
    // Not in the order of the names, and with characters that a query has to escape.
    let added: Vec<_> = (0..=100).rev().map(|n| format!("a & {n}")).collect();
    for (n, name) in added.iter().enumerate() {
        if n == 100 {
            let all = get(&imd, "/v1/faults").await;
            assert_eq!(names(&all), added[..100], "all that there are");
        }
        imd.fault(Fault::at(Site::Notify).named(name)).keep();
    }
    assert_eq!(names(&get(&imd, "/v1/faults").await), added[..100]);
    assert_eq!(names(&get(&imd, "/v1/faults?limit=1000").await), added);
    for limit in [1, 50, 100, 101, 1_000] {
        let mut found = Vec::new();
        let mut path = format!("/v1/faults?limit={limit}");
        loop {
            let part = names(&get(&imd, &path).await);
            assert!(part.len() <= limit);
            let is_last = part.len() < limit;
            found.extend(part);
            if is_last {
                break;
            }
            let last = found.last().unwrap().replace('&', "%26").replace(' ', "+");
            path = format!("/v1/faults?limit={limit}&after={last}");
        }
        assert_eq!(found, added, "by {limit}");
    }
    for (query, refused) in [
        ("limit=0", 400),
        ("limit=1001", 400),
        ("limit=x", 400),
        ("since=1", 400),
        ("after=nobody", 404),
    ] {
        let path = format!("/v1/faults?{query}");
        let (status, _) = call(&imd, "GET", &path, Value::Null).await;
        assert_eq!(status, refused, "{query}");
    }
}

#[tokio::test]
async fn the_members_of_a_group_come_in_parts() {
    for (imd, _folder) in both().await {
        let make = async |members: i64| {
            let members: Vec<i64> = (2..=members).collect();
            let new = json!({ "owner": 1, "name": "team", "members": members });
            post(&imd, "/v1/groups", new).await["gid"].clone()
        };
        let (small, large) = (make(100).await, make(101).await);
        let listed = get(&imd, "/v1/groups").await["groups"].clone();
        let whole = get(&imd, &format!("/v1/groups/{small}")).await;
        assert_eq!(whole["members"].as_array().unwrap().len(), 100);
        // All members are in the list, so it says nothing of a next part.
        let keys = |group: &Value| {
            let keys = group.as_object().unwrap().keys();
            keys.map(String::from).collect::<Vec<_>>()
        };
        let mut without_next = keys(&whole);
        without_next.retain(|key| key != "next");
        assert_eq!(keys(&listed[0]), without_next);
        for key in without_next {
            assert_eq!(listed[0][&key], whole[&key], "{key}");
        }
        let path = format!("/v1/groups/{large}");
        assert_eq!(listed[1], get(&imd, &path).await);
        assert_eq!(listed[1]["next"], "100");
        let rest = get(&imd, &format!("{path}?after=100")).await;
        let (all, name) = (json!([101]), json!("team"));
        assert_eq!((&rest["members"], &rest["name"]), (&all, &name));
        assert_eq!(rest["next"], Value::Null);
        has(&imd, &path, "members", 101).await;
        for (path, refused) in [
            (format!("{path}?limit=0"), 400),
            (format!("{path}?limit=1001"), 400),
            (format!("{path}?after=x"), 400),
            ("/v1/groups/x".to_owned(), 400),
            ("/v1/groups/7".to_owned(), 404),
            (format!("/v1/groups/{}", i64::MIN), 404),
            (format!("/v1/groups/{}", i64::MAX), 404),
        ] {
            let (status, _) = call(&imd, "GET", &path, Value::Null).await;
            assert_eq!(status, refused, "{path}");
        }
    }
}

/// Adds a field with this number, as a JSON number or as text.
fn with(mut fields: Value, key: &str, number: i64, as_text: bool) -> Value {
    fields[key] = if as_text {
        number.to_string().into()
    } else {
        number.into()
    };
    fields
}

/// Checks that an object has an id under `key`, and beside it the same id as text.
fn is(object: &Value, key: &str, id: i64) {
    assert_eq!(object[key], id, "{object}");
    assert_eq!(object[format!("{key}_str")], id.to_string(), "{object}");
}

#[tokio::test]
async fn ids_of_any_size_are_given_as_numbers_and_texts_and_taken_as_both() {
    for as_text in [false, true] {
        let imd = start_manual().await;
        for uid in LARGE {
            let new = with(json!({}), "uid", uid, as_text);
            is(&post(&imd, "/v1/users", new).await, "uid", uid);
            is(
                &get(&imd, &format!("/v1/users/{uid}/token")).await,
                "uid",
                uid,
            );
        }
        let [a, b, c, d] = LARGE;
        let mut ann = user(&imd, b).await;
        let listed = in_parts(&imd, "/v1/users", "users", 1).await;
        for (user, uid) in listed.iter().zip(LARGE) {
            is(user, "uid", uid);
        }
        assert_eq!(
            listed[1]["session"].to_string(),
            listed[1]["session_str"].as_str().unwrap()
        );
        assert_eq!(listed.len(), 4);

        let members = if as_text {
            json!([b.to_string(), d.to_string()])
        } else {
            json!([b, d])
        };
        let new = with(json!({ "members": members }), "owner", c, as_text);
        let made = post(&imd, "/v1/groups", new).await;
        let gid = made["gid"].as_i64().unwrap();
        is(&made, "gid", gid);
        let group = get(&imd, "/v1/groups").await["groups"][0].clone();
        is(&group, "gid", gid);
        is(&group, "owner", c);
        assert_eq!(group["members"], json!([b, c, d]));
        let texts = [b, c, d].map(|uid| uid.to_string());
        assert_eq!(group["members_str"], json!(texts));

        let message = with(json!({}), "from", b, as_text);
        post(
            &imd,
            "/v1/messages",
            with(message.clone(), "to", a, as_text),
        )
        .await;
        post(&imd, "/v1/messages", with(message, "group", gid, as_text)).await;
        let inbox = get(&imd, &format!("/v1/inboxes/{a}")).await;
        is(&inbox, "uid", a);
        is(&inbox["entries"][0], "sourceUID", b);
        let inbox = get(&imd, &format!("/v1/inboxes/{d}")).await;
        assert_eq!(inbox["entries"][0]["groupID"], gid.to_string());
        assert_eq!(inbox["entries"][0]["groupID_str"], gid.to_string());
        let inboxes = in_parts(&imd, "/v1/inboxes", "inboxes", 1).await;
        for (inbox, uid) in inboxes.iter().zip(LARGE) {
            is(inbox, "uid", uid);
        }
        is(&get(&imd, "/v1/report").await["inboxes"][3], "uid", d);

        let mark = get(&imd, "/v1/mark").await["mark"].clone();
        ann.send(&p2p(d, "m", "hello")).await;
        // Notifies may come between.
        ann.answer::<ResSendP2pMsg>(Cmd::SendP2PMsg).await;
        let path = format!("/v1/wait?since={mark}&uid={b}&cmd=SendP2PMsg&what=in");
        let event = get(&imd, &path).await;
        is(&event, "uid", b);
        is(&event["frame"], "targetUID", d);
        // Rounded to a number of JavaScript, the two ids would be the same.
        let path = format!("/v1/wait?since={mark}&uid={a}&timeout=1ms");
        assert_eq!(call(&imd, "GET", &path, Value::Null).await.0, 408);
        let sessions = get(&imd, "/v1/sessions").await["sessions"].clone();
        is(&sessions[0], "uid", b);
        is(&sessions[0], "id", sessions[0]["id"].as_i64().unwrap());
    }
}

#[tokio::test]
async fn sessions_are_listed_by_server_and_by_user() {
    let imd = start_manual().await;
    let _there = (user(&imd, 3).await, user(&imd, 4).await);
    let all = get(&imd, "/v1/sessions").await;
    let all = all["sessions"].as_array().unwrap();
    assert_eq!(all.len(), 2);
    for session in all {
        let (server, uid) = (session["server"].as_str().unwrap(), &session["uid"]);
        let of_user = get(&imd, &format!("/v1/sessions?uid={uid}")).await;
        assert_eq!(of_user["sessions"], json!([session]));
        let path = format!("/v1/sessions?server={server}&uid={uid}");
        assert_eq!(get(&imd, &path).await["sessions"], json!([session]));
    }
    let of_gateway = get(&imd, "/v1/sessions?server=gateway").await;
    assert_eq!(of_gateway["sessions"], json!([]));
    for bad in ["limit=0", "limit=1001", "server=nobody", "uid=x", "since=1"] {
        let path = format!("/v1/sessions?{bad}");
        assert_eq!(call(&imd, "GET", &path, Value::Null).await.0, 400, "{bad}");
    }
}

#[tokio::test]
async fn invalid_ids_are_refused_in_paths_queries_and_bodies() {
    let imd = start_manual().await;
    for (text, in_json) in [
        ("%2B7", "+7"),
        ("%207", " 7"),
        ("7%20", "7 "),
        ("7.0", "7.0"),
        ("7e0", "7e0"),
        ("0x7", "0x7"),
        ("-", "-"),
        ("%D9%A7", "\u{667}"),
        ("99999999999999999999", "99999999999999999999"),
    ] {
        for (method, path) in [
            ("GET", format!("/v1/users/{text}/token")),
            ("GET", format!("/v1/inboxes/{text}")),
            ("GET", format!("/v1/inboxes/7?after={text}")),
            ("GET", format!("/v1/users?after={text}")),
            ("GET", format!("/v1/journal?uid={text}")),
            ("GET", format!("/v1/journal?since={text}")),
            ("GET", format!("/v1/wait?session={text}&timeout=1ms")),
            ("GET", format!("/v1/sessions?after={text}")),
            ("DELETE", format!("/v1/sessions/{text}")),
        ] {
            let (status, why) = call(&imd, method, &path, Value::Null).await;
            assert_eq!(status, 400, "{path}");
            assert!(
                why["error"].to_string().contains("64 bits"),
                "{path}: {why}"
            );
        }
        let new = json!({ "uid": in_json });
        assert_eq!(
            call(&imd, "POST", "/v1/users", new).await.0,
            400,
            "{in_json}"
        );
    }
}

#[tokio::test]
async fn a_fault_may_name_its_user_by_an_id_as_text() {
    let imd = start_manual().await;
    let [_, uid, ..] = LARGE;
    let fault = json!({ "name": "f", "at": "store.write", "uid": uid.to_string(), "error": 90001 });
    post(&imd, "/v1/faults", fault).await;
    for path in ["/v1/faults", "/v1/state"] {
        let shown = get(&imd, path).await;
        let listed = if shown.is_array() {
            &shown
        } else {
            &shown["faults"]
        };
        is(&listed[0], "uid", uid);
    }
    let send = |from: i64| {
        call(
            &imd,
            "POST",
            "/v1/messages",
            json!({ "from": from, "to": 1 }),
        )
    };
    assert_eq!(send(uid - 1).await.0, 201);
    assert_eq!(send(uid).await.0, 500);
}

#[tokio::test]
async fn numbers_of_any_size_in_frames_are_shown_exactly() {
    let imd = start_manual().await;
    let mut ann = user(&imd, 1).await;
    ann.sync(i64::MAX, 0).await;
    let seen = get(&imd, "/v1/wait?since=0&cmd=SyncMsg&what=in").await;
    assert_eq!(seen["frame"]["currentID_str"], i64::MAX.to_string());
    // A number that JavaScript can hold has no text beside it.
    ann.sync(0, 0).await;
    imd.settled().await;
    let shown = get(&imd, "/v1/journal?cmd=SyncMsg&what=in").await;
    let frame = shown["events"][1]["frame"].as_object().unwrap();
    assert!(!frame.contains_key("currentID_str"), "{frame:?}");
}
