//! The Notify after a login. It waits for `session.first_notify`, since existing clients ask for their inbox right after the
//! login's reply: with a Notify behind that reply, they would ask, and show everything, twice.
//!
//! Most tests here are on a manual clock, and wait so long that real time never ends the wait.

use std::time::Duration;

use imd::proto::{Cmd, Error, ResSyncMsg};
use imd::{Config, Imd};

use crate::support::{
    Wire, access, advance, ephemeral, framed, login, p2p, ping, raw_frame, soon, start, sync, user,
    versions,
};

/// The wait of the stack of [`start_with_mail`].
const WAIT: Duration = Duration::from_secs(3_600);

const MOMENT: Duration = Duration::from_millis(1);

/// Returns a config with a manual clock, on which the Notify after a login waits for [`WAIT`]. No session is closed meanwhile.
fn waiting() -> Config {
    let mut config = ephemeral().manual_clock();
    config.session.first_notify = WAIT;
    config.session.idle = 10 * WAIT;
    config
}

/// Starts a stack in which user 2 has this many unread messages.
async fn start_with_mail(config: Config, messages: usize) -> Imd {
    let imd = start(config).await;
    let mut ann = user(&imd, 1).await;
    for n in 0..messages {
        ann.p2p(2, &n.to_string(), "hello").await;
    }
    imd
}

/// The order of frames that a client of the original produces: it asks for its inbox as soon as it has the login's reply, and
/// asks again at every Notify from the `currentID` that it saw last.
#[tokio::test]
async fn a_client_that_syncs_right_after_its_login_gets_everything_once() {
    for config in [waiting(), ephemeral()] {
        let imd = start_with_mail(config, 40).await;
        let mut bob = user(&imd, 2).await;
        let page = bob.sync(0, 0).await;
        assert_eq!(versions(&page), (1..=40).collect::<Vec<_>>());
        // Past the end of the wait. On the real clock this takes as long.
        let wait = match imd.clock().is_manual() {
            true => WAIT,
            false => Duration::from_millis(300),
        };
        advance(&imd, wait).await;
        // A Notify would come before the reply.
        bob.ping().await;
        user(&imd, 1).await.p2p(2, "new", "hello").await;
        assert_eq!(bob.notified().await, (40, 41));
    }
}

#[tokio::test]
async fn a_client_that_does_not_sync_is_notified_at_the_end_of_the_wait() {
    let imd = start_with_mail(waiting(), 3).await;
    let mut bob = user(&imd, 2).await;
    advance(&imd, WAIT - MOMENT).await;
    bob.ping().await;
    bob.hears_nothing(&imd).await;
    advance(&imd, MOMENT).await;
    assert_eq!(bob.notified().await, (0, 3));
    advance(&imd, WAIT).await;
    bob.ping().await;
}

/// The waits of several sessions begin at different times, and an advance passes the ends of all.
#[tokio::test]
async fn each_login_has_a_wait_of_its_own() {
    let imd = start_with_mail(waiting(), 1).await;
    let mut ann = user(&imd, 1).await;
    ann.p2p(3, "a", "hello").await;
    let mut bob = user(&imd, 2).await;
    advance(&imd, WAIT / 2).await;
    let mut eve = user(&imd, 3).await;
    advance(&imd, WAIT / 2).await;
    assert_eq!(bob.notified().await, (0, 1));
    eve.ping().await;
    advance(&imd, WAIT / 2).await;
    assert_eq!(eve.notified().await, (0, 1));

    let mut bob = user(&imd, 2).await;
    advance(&imd, MOMENT).await;
    let mut eve = user(&imd, 3).await;
    advance(&imd, 3 * WAIT).await;
    assert_eq!(bob.notified().await, (0, 1));
    assert_eq!(eve.notified().await, (0, 1));
}

#[tokio::test]
async fn the_default_is_100_ms_of_the_clock_and_a_clock_that_stands_still_holds_nothing_up_for_longer()
 {
    assert_eq!(
        Config::default().session.first_notify,
        Duration::from_millis(100)
    );
    for config in [ephemeral(), ephemeral().manual_clock()] {
        let imd = start_with_mail(config, 2).await;
        let mut bob = user(&imd, 2).await;
        assert_eq!(bob.notified().await, (0, 2));
    }
}

#[tokio::test]
async fn a_message_during_the_wait_is_notified_at_once_and_together_with_the_others() {
    let imd = start_with_mail(waiting(), 3).await;
    let mut bob = user(&imd, 2).await;
    user(&imd, 1).await.p2p(2, "new", "hello").await;
    assert_eq!(bob.notified().await, (0, 4));
    advance(&imd, WAIT).await;
    bob.ping().await;
    bob.hears_nothing(&imd).await;
}

#[tokio::test]
async fn a_page_that_leaves_something_behind_is_followed_by_its_notify_at_once() {
    let imd = start_with_mail(waiting(), 3).await;
    let mut bob = user(&imd, 2).await;
    assert_eq!(versions(&bob.sync(0, 2).await), [1, 2]);
    assert_eq!(bob.notified().await, (2, 3));
    assert_eq!(versions(&bob.sync(2, 0).await), [3]);
    advance(&imd, WAIT).await;
    bob.ping().await;
}

#[tokio::test]
async fn without_a_wait_the_notify_is_right_behind_the_reply() {
    let mut config = waiting();
    config.session.first_notify = Duration::ZERO;
    let imd = start_with_mail(config, 3).await;
    let mut bob = Wire::connect(access(&imd)).await;
    // All three are one read, so that the replies are one write and the notify stands behind them.
    let mut requests = framed(&login(&imd, 2));
    requests.extend_from_slice(&framed(&ping()));
    requests.extend_from_slice(&raw_frame(b""));
    bob.raw(&requests).await;
    for cmd in [Cmd::Login, Cmd::Ping, Cmd::ErrServer] {
        let _: Error = bob.recv(cmd).await;
    }
    assert_eq!(bob.notified().await, (0, 3));
}

#[tokio::test]
async fn a_login_and_a_sync_in_one_read_are_answered_without_a_notify() {
    for wait in [WAIT, Duration::ZERO] {
        let mut config = waiting();
        config.session.first_notify = wait;
        let imd = start_with_mail(config, 3).await;
        let mut bob = Wire::connect(access(&imd)).await;
        let mut requests = framed(&login(&imd, 2));
        requests.extend_from_slice(&framed(&sync(0, 0)));
        bob.raw(&requests).await;
        assert_eq!(bob.error(Cmd::Login, 0).await, "ok");
        let page: ResSyncMsg = bob.recv(Cmd::SyncMsg).await;
        assert_eq!(page.current_id, 3);
        advance(&imd, WAIT).await;
        bob.ping().await;
    }
}

/// A session may log in the same user again: its notify waits, too.
#[tokio::test]
async fn a_second_login_on_the_session_waits_like_the_first() {
    let imd = start_with_mail(waiting(), 3).await;
    let mut bob = user(&imd, 2).await;
    bob.login(&imd, 2).await;
    advance(&imd, WAIT).await;
    assert_eq!(bob.notified().await, (0, 3));
    bob.ping().await;
    bob.login(&imd, 2).await;
    bob.ping().await;
    advance(&imd, WAIT).await;
    assert_eq!(bob.notified().await, (0, 3));
}

/// The older session has read nothing, and its wait ends with it. The newer one has its own.
#[tokio::test]
async fn a_session_that_is_taken_over_takes_its_wait_along() {
    let imd = start_with_mail(waiting(), 3).await;
    let mut older = user(&imd, 2).await;
    let mut newer = user(&imd, 2).await;
    older.error(Cmd::ErrServer, 93004).await;
    older.finished().await;
    advance(&imd, WAIT).await;
    assert_eq!(newer.notified().await, (0, 3));
}

#[tokio::test]
async fn a_login_without_unread_messages_is_followed_by_nothing() {
    let imd = start(waiting()).await;
    let mut bob = user(&imd, 2).await;
    advance(&imd, WAIT).await;
    bob.ping().await;
    bob.send(&p2p(2, "a", "to myself")).await;
    let _: imd::proto::ResSendP2pMsg = bob.recv(Cmd::SendP2PMsg).await;
    assert_eq!(bob.notified().await, (0, 1));
}

/// Neither a shutdown nor a kill waits for the end of a wait.
#[tokio::test]
async fn a_stack_ends_in_the_middle_of_a_wait() {
    let imd = start_with_mail(waiting(), 3).await;
    let mut bob = user(&imd, 2).await;
    let server = imd.access_servers().remove(0);
    soon(server.kill()).await;
    assert!(bob.try_frame().await.is_none());
    assert_eq!(server.sessions().tasks().unfinished(), 0);
    server.restart().await.unwrap();
    let mut bob = user(&imd, 2).await;
    advance(&imd, WAIT).await;
    assert_eq!(bob.notified().await, (0, 3));
    drop(user(&imd, 2).await);
    let report = soon(imd.shutdown()).await;
    assert_eq!(report.unfinished, 0);
}
