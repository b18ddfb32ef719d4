//! A client that hangs up while a fault holds something back for it is noticed at once, also when the clock stands
//! still.
//!
//! Otherwise its place would be taken until the fault ends. Proves `session/connection/hang_up`.

use std::time::Duration;

use imd::Imd;
use imd::lab::{Action, Fault, Site};
use imd::proto::{Cmd, ResSendP2pMsg};
use socket2::SockRef;

use crate::matrix::pass;
use crate::servers::{server, user_at};
use crate::support::{Wire, ephemeral, framed, p2p, ping, soon, start, start_manual, sync, until};
use crate::wait_for_hit;

const HOUR: Duration = Duration::from_secs(3_600);
const DELAY: Action = Action::Delay {
    by: HOUR,
    jitter: Duration::ZERO,
};

/// How a client ends its connection.
#[derive(Clone, Copy, Debug)]
enum HangUp {
    /// By a FIN.
    Closed,
    /// By a reset.
    Reset,
    /// By a FIN behind requests that the server has not read.
    Pipelined,
}

const GOINGS: [HangUp; 3] = [HangUp::Closed, HangUp::Reset, HangUp::Pipelined];

async fn leave(mut wire: Wire, how: HangUp) {
    match how {
        HangUp::Closed => {}
        HangUp::Reset => SockRef::from(wire.out.as_ref())
            .set_linger(Some(Duration::ZERO))
            .unwrap(),
        // The requests are longer than one read.
        HangUp::Pipelined => {
            for n in 0..200 {
                wire.send(&p2p(9, &n.to_string(), &"x".repeat(200))).await;
            }
        }
    }
    drop(wire);
}

/// Waits until the stack has no more than this number of sessions.
async fn wait_until_sessions_are(imd: &Imd, sessions: usize) {
    until(|| imd.room().taken <= sessions).await;
    assert_eq!(imd.room().taken, sessions);
}

/// Returns every site with each action that holds something back there for a client.
fn holding() -> Vec<(Site, Action)> {
    let all = [DELAY, Action::Throttle(1), Action::Reorder];
    let pairs = Site::ALL
        .into_iter()
        .flat_map(|at| all.map(|action| (at, action)));
    let pairs = pairs.filter(|(at, action)| at.allows(action));
    pairs.filter(|(at, _)| *at != Site::RegistryLease).collect()
}

#[tokio::test]
async fn a_client_that_hangs_up_is_noticed_while_a_fault_holds_something_at_any_site() {
    let holding = holding();
    assert_eq!(holding.len(), 8 + 3 + 4, "delay, throttle, reorder");
    for (at, action) in holding {
        for how in GOINGS {
            let imd = start_manual().await;
            let mut ann = user_at(&imd, "access-1", 1).await;
            let mut bob = user_at(&imd, "access-2", 2).await;
            let fault = imd.fault(Fault::at(at).times(1).doing(action));
            let other = pass(&imd, at, &mut ann, &mut bob).await;
            wait_for_hit(&imd, &fault).await;
            let held = match (at, other) {
                (_, Some(other)) => {
                    leave(other, how).await;
                    2
                }
                (Site::Notify, None) | (_, None) => {
                    leave(ann, how).await;
                    ann = user_at(&imd, "access-2", 5).await;
                    2
                }
            };
            wait_until_sessions_are(&imd, held).await;
            assert_eq!(imd.faults().list().len(), 1);
            drop((ann, bob));
        }
    }
}

/// Requests that a client has sent before it hung up are done as without the fault. A client that ends only its writing
/// side gets its replies.
#[tokio::test]
async fn a_fault_loses_nothing_of_a_client_that_hangs_up() {
    for at in [Site::AccessRequest, Site::AccessReply, Site::StoreWrite] {
        let imd = start_manual().await;
        let mut bob = user_at(&imd, "access-2", 2).await;
        let mut ann = user_at(&imd, "access-1", 1).await;
        let fault = imd.fault(Fault::at(at).uid(1).doing(DELAY));
        ann.send(&p2p(2, "a", "x")).await;
        wait_for_hit(&imd, &fault).await;
        ann.send(&p2p(2, "b", "x")).await;
        ann.send(&p2p(2, "c", "x")).await;
        ann.end().await;
        for id in ["a", "b", "c"] {
            let answer: ResSendP2pMsg = ann.recv(Cmd::SendP2PMsg).await;
            assert_eq!((answer.err_code, answer.msg_id.as_str()), (0, id));
        }
        ann.finished().await;
        soon(async { while bob.notified().await != (0, 3) {} }).await;
        assert_eq!(imd.report().stored, 3);
        assert!(!imd.is_online(1));
    }
}

#[tokio::test]
async fn many_clients_that_hang_up_under_a_fault_give_up_their_places() {
    let mut config = ephemeral().manual_clock();
    config.limits.connections = 16;
    let imd = start(config).await;
    let _fault = imd.fault(Fault::at(Site::AccessReply).cmd(Cmd::Ping).doing(DELAY));
    for uid in 1..=100 {
        let mut wire = user_at(&imd, "access-1", uid).await;
        wire.send(&ping()).await;
    }
    wait_until_sessions_are(&imd, 0).await;
}

#[tokio::test]
async fn a_client_that_hangs_up_while_a_server_is_paused_is_noticed_at_the_resume() {
    let imd = start_manual().await;
    let mut ann = user_at(&imd, "access-1", 1).await;
    let mut bob = user_at(&imd, "access-1", 2).await;
    let fault = imd.fault(Fault::at(Site::AccessReply).uid(1).doing(DELAY));
    ann.send(&ping()).await;
    wait_for_hit(&imd, &fault).await;
    server(&imd, "access-1").pause().await;
    bob.send(&ping()).await;
    drop((ann, bob));
    server(&imd, "access-1").resume().await;
    wait_until_sessions_are(&imd, 0).await;
}

/// The rule is put in force after the request was read.
#[tokio::test]
async fn a_client_that_hangs_up_is_noticed_under_a_rule_that_was_added_later() {
    let mut config = ephemeral().manual_clock();
    config.journal.capture = imd::lab::Capture::Off;
    let (imd, store) = crate::support::gated_store::start_gated(config).await;
    let mut ann = user_at(&imd, "access-1", 1).await;
    store.commit.hold();
    let mut bytes = framed(&p2p(2, "a", "x"));
    bytes.extend_from_slice(&framed(&sync(0, 0)));
    ann.raw(&bytes).await;
    store.commit.arrived().await;
    let fault = imd.fault(Fault::at(Site::StoreRead).doing(DELAY));
    store.commit.open();
    store.commit.let_through(1);
    until(|| fault.hits() > 0).await;
    drop(ann);
    wait_until_sessions_are(&imd, 0).await;
}

/// A client that is still there is not closed by a deadline while the fault holds its reply back.
#[tokio::test]
async fn a_live_client_that_a_fault_holds_misses_no_deadline() {
    let imd = start_manual().await;
    let mut ann = user_at(&imd, "access-1", 1).await;
    let fault = imd.fault(Fault::at(Site::AccessReply).cmd(Cmd::Ping).doing(DELAY));
    ann.send(&ping()).await;
    wait_for_hit(&imd, &fault).await;
    imd.clock().advance(HOUR - Duration::from_secs(1)).await;
    ann.hears_nothing(&imd).await;
    imd.clock().advance(Duration::from_secs(1)).await;
    ann.error(Cmd::Ping, 0).await;
}
