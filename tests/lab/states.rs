//! The states of an access server: what can be done to it in which state, and which names it may have.
//!
//! A change that the state does not allow is refused with the state, and changes nothing. Proves `access/state`.

use std::sync::Arc;

use imd::Imd;
use imd::access::{AccessServer, ServerState, WrongState};
use imd::lab::Site;
use serde_json::{Value, json};

use crate::admin::{call, get};
use crate::servers::server;
use crate::support::{ephemeral, soon, start, start_manual, user};

const CHANGES: [&str; 5] = ["pause", "resume", "stop", "kill", "restart"];

/// Brings access-1 into this state.
async fn server_in_state(imd: &Imd, state: ServerState) -> Arc<AccessServer> {
    let access = server(imd, "access-1");
    soon(access.restart()).await.unwrap();
    match state {
        ServerState::Running => {}
        ServerState::Paused => access.pause().await,
        ServerState::Stopped => soon(access.stop()).await,
        ServerState::Killed => soon(access.kill()).await,
    }
    assert_eq!(access.state(), state);
    access
}

/// Returns the state after a change; `None` if the change is refused in this state.
fn state_after(state: ServerState, change: &str) -> Option<ServerState> {
    match (state, change) {
        (_, "restart") => Some(ServerState::Running),
        (ServerState::Running, "pause") => Some(ServerState::Paused),
        (ServerState::Paused, "resume") => Some(ServerState::Running),
        (ServerState::Running | ServerState::Paused, "stop") => Some(ServerState::Stopped),
        (ServerState::Running | ServerState::Paused, "kill") => Some(ServerState::Killed),
        _ => None,
    }
}

const STATES: [ServerState; 4] = [
    ServerState::Running,
    ServerState::Paused,
    ServerState::Stopped,
    ServerState::Killed,
];

#[tokio::test]
async fn a_change_that_the_state_does_not_allow_is_refused_and_changes_nothing() {
    let imd = start_manual().await;
    for state in STATES {
        for change in CHANGES {
            let access = server_in_state(&imd, state).await;
            let path = format!("/v1/access/access-1/{change}");
            let (status, answer) = call(&imd, "POST", &path, Value::Null).await;
            let Some(next) = state_after(state, change) else {
                assert_eq!(status, 409, "{change} when {}", state.name());
                let why = answer["error"].as_str().unwrap();
                let is = format!("access server access-1 is {}: {change} needs", state.name());
                assert!(why.starts_with(&is), "{why}");
                assert_eq!(access.state(), state);
                continue;
            };
            assert_eq!(
                (status, &answer["state"]),
                (200, &json!(next.name())),
                "{change}"
            );
            assert_eq!(access.state(), next);
        }
    }
}

#[tokio::test]
async fn changes_in_process_follow_the_same_states() {
    let imd = start_manual().await;
    for state in STATES {
        for change in CHANGES {
            if change == "restart" || state_after(state, change).is_some() {
                continue;
            }
            let access = server_in_state(&imd, state).await;
            let tried = match change {
                "pause" => access.try_pause().await,
                "resume" => access.try_resume().await,
                "stop" => access.try_stop().await,
                _ => access.try_kill().await,
            };
            let WrongState {
                state: reported,
                what,
                ..
            } = tried.unwrap_err();
            assert_eq!((reported, what), (state, change));
            match change {
                "pause" => access.pause().await,
                "resume" => access.resume().await,
                "stop" => soon(access.stop()).await,
                _ => soon(access.kill()).await,
            }
            assert_eq!(access.state(), state);
        }
    }
}

#[tokio::test]
async fn one_of_two_concurrent_changes_is_made() {
    let imd = start_manual().await;
    let mut ann = user(&imd, 1).await;
    let kill = || call(&imd, "POST", "/v1/access/access-1/kill", Value::Null);
    let (one, other) = soon(async { tokio::join!(kill(), kill()) }).await;
    let mut statuses = [one.0, other.0];
    statuses.sort_unstable();
    assert_eq!(statuses, [200, 409]);
    ann.reset().await;
}

/// Returns names that are reserved, can't be a segment of a path, or are too long.
fn bad_names() -> Vec<String> {
    let mut names: Vec<String> = [
        "", " ", "a b", "a/b", ".", "..", ".hidden", "-x", "gateway", "Gateway", "GATEWAY", "a\n",
        "ä", "%2e",
    ]
    .map(str::to_owned)
    .into();
    names.extend(Site::ALL.map(|site| site.name().to_owned()));
    names.push("x".repeat(65));
    names
}

#[tokio::test]
async fn reserved_and_invalid_names_are_refused() {
    let imd = start_manual().await;
    for name in bad_names() {
        let (status, answer) = call(&imd, "POST", "/v1/access", json!({ "name": name })).await;
        assert_eq!(status, 400, "{name:?}: {answer}");
        let why = imd.add_access(&name).await.unwrap_err().to_string();
        assert!(why.contains(&format!("{name:?}")), "{why}");
        let mut config = ephemeral();
        config.access.0[1].name = name.clone();
        let why = config.validate().unwrap_err().to_string();
        assert!(
            why.contains("access.1.name") && why.contains(&format!("{name:?}")),
            "{why}"
        );
    }
    assert_eq!(imd.access_servers().len(), 3);
    let (status, _) = call(&imd, "POST", "/v1/access", json!({ "name": "access-1" })).await;
    assert_eq!(status, 409);
    let mut config = ephemeral();
    config.access.0[1].name = "x".repeat(64);
    config.access.0[2].name = "0.gateway_2".to_owned();
    let imd = start(config).await;
    assert_eq!(
        get(&imd, "/v1/state").await["access"][2]["name"],
        "0.gateway_2"
    );
}
