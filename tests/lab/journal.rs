//! The journal: frames and sessions are recorded, found again and waited for, within the bounds of its size.
//!
//! Proves `lab/journal`, in process and over `/v1/journal` and `/v1/wait`. Marks and streams are tested in `marks`.

use std::time::Duration;

use imd::lab::{Capture, Direction, EventKind, describe};
use imd::proto::{Cmd, ResLogin};

use crate::support::{
    Http, PATIENCE, Wire, access, ephemeral, gateway, login, ping, start, start_manual, user,
};

#[tokio::test]
async fn every_frame_is_recorded_with_its_session_user_and_server() {
    let imd = start_manual().await;
    let mut gateway = Wire::connect(gateway(&imd)).await;
    gateway.ask().await;
    let mut ann = user(&imd, 1).await;
    let mut bob = user(&imd, 2).await;
    assert_eq!(ann.p2p(2, "a", "hello").await.err_code, 0);
    bob.notified().await;
    bob.sync(0, 0).await;
    imd.settled().await;
    let recorded = |uid| {
        let frames = imd.journal().frames().uid(uid).collect();
        let recorded = frames
            .iter()
            .map(|event| (event.what.clone(), event.cmd.unwrap()));
        recorded.collect::<Vec<_>>()
    };
    let (came, went) = (
        EventKind::Frame(Direction::In),
        EventKind::Frame(Direction::Out),
    );
    // The login request itself has no user yet.
    assert_eq!(
        recorded(1),
        [
            (went.clone(), Cmd::Login),
            (came.clone(), Cmd::SendP2PMsg),
            (went.clone(), Cmd::SendP2PMsg),
        ]
    );
    assert_eq!(
        recorded(2),
        [
            (went.clone(), Cmd::Login),
            (went.clone(), Cmd::Notify),
            (came, Cmd::SyncMsg),
            (went, Cmd::SyncMsg),
        ]
    );
    let at_gateway = imd.journal().frames().server("gateway").collect();
    assert_eq!(at_gateway.len(), 2);
    let sessions: std::collections::HashSet<_> = imd
        .journal()
        .frames()
        .collect()
        .iter()
        .map(|e| e.session)
        .collect();
    assert_eq!(sessions.len(), 3);
}

#[tokio::test]
async fn frames_are_shown_with_the_names_of_the_contract_and_without_tokens() {
    let imd = start_manual().await;
    let mut ann = user(&imd, 1).await;
    ann.p2p(1, "an id", "a text").await;
    ann.notified().await;
    ann.sync(0, 0).await;
    imd.settled().await;
    let recorded: Vec<_> = imd
        .journal()
        .frames()
        .collect()
        .iter()
        .map(describe)
        .collect();
    let all = serde_json::to_string(&recorded).unwrap();
    assert!(!all.contains(&imd.token(1)), "{all}");
    assert_eq!(recorded[0]["frame"]["UID"], 1);
    assert_eq!(recorded[2]["frame"]["msg"], "a text");
    assert_eq!(
        (&recorded[2]["what"], &recorded[2]["cmd"]),
        (&"in".into(), &"SendP2PMsg".into())
    );
    let page = &recorded.last().unwrap()["frame"];
    assert_eq!(page["Msgs"][0]["msgID"], "an id");
    assert_eq!(
        (&page["currentID"], &page["totalID"]),
        (&1.into(), &1.into())
    );
}

#[tokio::test]
async fn a_wait_finds_events_from_a_mark_on() {
    let imd = start_manual().await;
    let mut ann = user(&imd, 1).await;
    let mut bob = user(&imd, 2).await;
    let mark = imd.journal().mark();
    let is_notify = |event: &imd::lab::Event| event.uid == Some(2) && event.cmd == Cmd::Notify;
    assert_eq!(ann.p2p(2, "a", "a").await.err_code, 0);
    bob.notified().await;
    // The frame has passed before the wait begins.
    let seen = imd.wait_for(mark, is_notify, PATIENCE).await.unwrap();
    assert_eq!(seen.what, EventKind::Frame(Direction::Out));
    let later = imd.journal().mark();
    let none = imd.wait_for(later, is_notify, Duration::ZERO).await;
    assert_eq!(none.unwrap_err().passed, 0);
}

#[tokio::test]
async fn the_journal_has_the_open_and_the_close_of_a_session() {
    let imd = start_manual().await;
    let mut ann = user(&imd, 1).await;
    ann.end().await;
    ann.finished().await;
    let is_closed = |event: &imd::lab::Event| event.what == EventKind::Closed("peer_closed");
    let mark = imd::lab::Mark(0);
    let closed = imd.wait_for(mark, is_closed, PATIENCE).await.unwrap();
    assert_eq!(closed.uid, Some(1));
    let opened = imd
        .wait_for(mark, |event| event.what == EventKind::Opened, PATIENCE)
        .await;
    assert_eq!(opened.unwrap().session, closed.session);
}

#[tokio::test]
async fn the_last_frame_of_a_server_is_recorded_before_the_close() {
    let imd = start_manual().await;
    let mut older = user(&imd, 1).await;
    let _newer = user(&imd, 1).await;
    older.error(Cmd::ErrServer, 93004).await;
    let is_closed = |event: &imd::lab::Event| matches!(event.what, EventKind::Closed(_));
    let mark = imd::lab::Mark(0);
    let closed = imd.wait_for(mark, is_closed, PATIENCE).await.unwrap();
    let last_frames = imd.journal().frames().cmd(Cmd::ErrServer).collect();
    assert_eq!(
        (last_frames.len(), last_frames[0].session),
        (1, closed.session)
    );
    assert!(last_frames[0].seq < closed.seq);
}

#[tokio::test]
async fn without_a_reader_nothing_is_recorded() {
    let mut config = ephemeral();
    config.journal.capture = Capture::Auto;
    let imd = start(config).await;
    let mut ann = user(&imd, 1).await;
    ann.ping().await;
    imd.settled().await;
    assert!(imd.journal().frames().collect().is_empty());
    let mut reader = imd.journal().read(imd.journal().mark());
    ann.ping().await;
    assert_eq!(reader.next().await.cmd, Some(Cmd::Ping));
}

#[tokio::test]
async fn a_reply_in_the_form_of_the_schema_is_shown_as_it_is() {
    let mut config = ephemeral();
    config.quirks.replies_as_schema = true;
    let imd = start(config).await;
    let mut wire = Wire::connect(access(&imd)).await;
    wire.send(&ping()).await;
    let _: ResLogin = wire.recv(Cmd::Ping).await;
    wire.send(&login(&imd, 1)).await;
    let _: ResLogin = wire.recv(Cmd::Login).await;
    imd.settled().await;
    let answers = imd.journal().frames().direction(Direction::Out).collect();
    let recorded = answers.iter().map(describe).map(|recorded| {
        let code = recorded["frame"]["errCode"].as_u64();
        (
            code,
            recorded["frame"]["errStr"].as_str().map(str::to_owned),
        )
    });
    let expected = [(93003, "not logged in"), (0, "ok")];
    let expected = expected.map(|(code, text)| (Some(code), Some(text.to_owned())));
    assert_eq!(recorded.collect::<Vec<_>>(), expected);
}

/// The number of followers is bounded, so that other requests find a free connection.
#[tokio::test]
async fn the_number_of_followers_is_bounded_and_the_api_answers_other_requests() {
    let imd = start_manual().await;
    let addr = imd.admin_addr().unwrap();
    let request =
        format!("GET /v1/journal HTTP/1.1\r\nhost: {addr}\r\naccept: text/event-stream\r\n\r\n");
    let mut followers = Vec::new();
    for n in 0..33 {
        let mut stream = Http::sent(addr, &request).await;
        let expected = if n < 32 { 200 } else { 503 };
        stream.expect(&format!("HTTP/1.1 {expected}")).await;
        followers.push(stream);
    }
    let (status, why) = crate::admin::call(&imd, "GET", "/v1/wait", serde_json::Value::Null).await;
    assert_eq!(status, 503);
    assert!(why["error"].as_str().unwrap().contains("32"), "{why}");
    crate::admin::get(&imd, "/v1/state").await;
}
