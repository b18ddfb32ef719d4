//! The Notify after a login and the controls of a test: it counts as work that is not done, and a reset discards it.

use std::time::Duration;

use imd::lab::{Direction, Fault, Site};
use imd::proto::Cmd;
use imd::{Config, Imd};

use crate::support::{advance, ephemeral, soon, start, start_manual, user};

/// Returns a config with a manual clock, on which the Notify after a login waits for an hour. No session is closed meanwhile.
fn waiting() -> Config {
    let mut config = ephemeral().manual_clock();
    config.session.first_notify = Duration::from_secs(3_600);
    config.session.idle = Duration::from_secs(36_000);
    config
}

/// Stores a message for user 2, who is not logged in.
async fn leave_mail(imd: &Imd) {
    user(imd, 1).await.p2p(2, "a", "hello").await;
}

/// Returns how many notifies user 2 has been sent.
fn notifies(imd: &Imd) -> usize {
    let frames = imd.journal().frames().uid(2).cmd(Cmd::Notify);
    frames.direction(Direction::Out).collect().len()
}

#[tokio::test]
async fn a_stack_is_settled_only_after_the_first_notify_on_either_clock() {
    for imd in [start(ephemeral()).await, start_manual().await] {
        leave_mail(&imd).await;
        let _bob = user(&imd, 2).await;
        soon(imd.settled()).await;
        assert_eq!(notifies(&imd), 1);
    }
}

#[tokio::test]
async fn a_stack_is_settled_when_a_page_has_made_the_first_notify_needless() {
    let imd = start(waiting()).await;
    leave_mail(&imd).await;
    let mut bob = user(&imd, 2).await;
    bob.sync(0, 0).await;
    soon(imd.settled()).await;
    assert_eq!(notifies(&imd), 0);
}

#[tokio::test]
async fn a_reset_during_the_wait_leaves_nothing_behind() {
    let imd = start(waiting()).await;
    leave_mail(&imd).await;
    let mut bob = user(&imd, 2).await;
    soon(imd.reset()).await.unwrap();
    assert!(bob.error(Cmd::ErrServer, 90001).await.contains("reset"));
    bob.finished().await;
    let mut bob = user(&imd, 2).await;
    soon(imd.settled()).await;
    advance(&imd, Duration::from_secs(7_200)).await;
    assert_eq!(notifies(&imd), 0);
    bob.ping().await;
}

/// The page does not reach the client, so it is not what the notify was to wait for.
#[tokio::test]
async fn a_page_that_a_fault_drops_does_not_replace_the_first_notify() {
    let imd = start_manual().await;
    leave_mail(&imd).await;
    let mut bob = user(&imd, 2).await;
    let fault = Fault::at(Site::AccessReply).cmd(Cmd::SyncMsg).drop_it();
    let _fault = imd.fault(fault);
    bob.send(&crate::support::sync(0, 0)).await;
    assert_eq!(bob.notified().await, (0, 1));
}
