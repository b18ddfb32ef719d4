//! What a rule holds back is released when the rule ends: at once, in order, and not before.
//!
//! At every site, and also when the clock stands still or the action goes on in parts. Proves `lab/hold`.

use std::time::Duration;

use futures_util::future::join_all;
use imd::Imd;
use imd::lab::{Action, Capture, Fault, FaultGuard, Site};
use imd::proto::{Cmd, ReqAccessServer, ResSelectAccessServerForClient, ResSendP2pMsg, ResSyncMsg};
use serde_json::{Value, json};

use crate::admin::call;
use crate::matrix::pass;
use crate::servers::user_at;
use crate::support::{
    Wire, access, ephemeral, gateway, login, p2p, ping, post, soon, start, start_manual, sync,
    texts, until, user,
};
use crate::wait_for_hit;

const HOUR: Duration = Duration::from_secs(3_600);

/// Returns every site with each action that takes time there, or waits for the next frame.
fn holding() -> Vec<(Site, Action)> {
    let delay = Action::Delay {
        by: HOUR,
        jitter: Duration::ZERO,
    };
    let all = [delay, Action::Reorder, Action::Throttle(1)];
    let pairs = Site::ALL
        .into_iter()
        .flat_map(|at| all.map(|action| (at, action)));
    pairs.filter(|(at, action)| at.allows(action)).collect()
}

/// How a rule ends.
#[derive(Clone, Copy, Debug)]
enum RuleEnd {
    Dropped,
    Removed,
    AllRemoved,
    RemovedOverHttp,
    AllRemovedOverHttp,
}

const ENDS: [RuleEnd; 5] = [
    RuleEnd::Dropped,
    RuleEnd::Removed,
    RuleEnd::AllRemoved,
    RuleEnd::RemovedOverHttp,
    RuleEnd::AllRemovedOverHttp,
];

async fn end_rule(imd: &Imd, fault: FaultGuard, how: RuleEnd) {
    let name = fault.name().to_owned();
    let over_http = match how {
        RuleEnd::Dropped => return drop(fault),
        RuleEnd::Removed => {
            fault.keep();
            assert!(imd.faults().remove(&name));
            return;
        }
        RuleEnd::AllRemoved => {
            imd.faults().clear();
            return drop(fault);
        }
        RuleEnd::RemovedOverHttp => format!("/v1/faults/{name}"),
        RuleEnd::AllRemovedOverHttp => "/v1/faults".to_owned(),
    };
    fault.keep();
    assert_eq!(call(imd, "DELETE", &over_http, Value::Null).await.0, 200);
}

/// Waits for the reply, notify or renewal that the site had held back.
async fn wait_for_held(imd: &Imd, at: Site, ann: &mut Wire, other: Option<Wire>) {
    match (at, other) {
        (Site::GatewayReply, Some(mut wire)) => {
            let answer: ResSelectAccessServerForClient = wire.recv(Cmd::ReqAccessServer).await;
            assert_eq!(answer.err_code, 0);
        }
        (Site::AccessAccept, Some(mut wire)) => wire.login(imd, 5).await,
        (Site::AccessLogin, Some(mut wire)) => {
            wire.error(Cmd::Login, 0).await;
        }
        (Site::AccessRequest | Site::AccessReply, _) => {
            ann.error(Cmd::Ping, 0).await;
        }
        (Site::Notify, _) => assert_eq!(ann.notified().await, (0, 1)),
        (Site::StoreWrite, _) => {
            let answer: ResSendP2pMsg = ann.recv(Cmd::SendP2PMsg).await;
            assert_eq!(answer.err_code, 0);
        }
        (Site::StoreRead, _) => {
            let page: ResSyncMsg = ann.recv(Cmd::SyncMsg).await;
            assert_eq!(page.err_code, 0);
        }
        (Site::RegistryLease, _) => {
            let lease = Duration::from_secs(10);
            let is_renewed = || {
                imd.registry()
                    .leases()
                    .iter()
                    .all(|(_, left)| *left == lease)
            };
            until(is_renewed).await;
        }
        (at, _) => panic!("nothing is held at {at}"),
    }
}

async fn is_released(at: Site, action: Action, how: RuleEnd) {
    let imd = start_manual().await;
    let mut ann = user_at(&imd, "access-1", 1).await;
    let mut bob = user_at(&imd, "access-2", 2).await;
    let fault = imd.fault(Fault::at(at).doing(action));
    let mut other = pass(&imd, at, &mut ann, &mut bob).await;
    wait_for_hit(&imd, &fault).await;
    if at != Site::RegistryLease {
        ann.hears_nothing(&imd).await;
    }
    if let Some(other) = &mut other {
        other.hears_nothing(&imd).await;
    }
    end_rule(&imd, fault, how).await;
    wait_for_held(&imd, at, &mut ann, other).await;
    soon(imd.settled()).await;
    assert!(imd.faults().list().is_empty());
    ann.ping().await;
}

#[tokio::test]
async fn the_end_of_a_rule_releases_what_it_holds_at_every_site_while_the_clock_stands_still() {
    let holding = holding();
    assert_eq!(holding.len(), 9 + 4 + 3, "delay, reorder, throttle");
    for how in ENDS {
        let all = holding
            .iter()
            .map(|(at, action)| is_released(*at, *action, how));
        join_all(all).await;
    }
}

#[tokio::test]
async fn released_frames_keep_their_order() {
    let imd = start_manual().await;
    for at in [Site::AccessRequest, Site::AccessReply] {
        let delay = Action::Delay {
            by: HOUR,
            jitter: Duration::ZERO,
        };
        for action in [delay, Action::Reorder] {
            let mut ann = user(&imd, 1).await;
            let fault = imd.fault(Fault::at(at).uid(1).nth(2).doing(action));
            ann.send(&p2p(2, "a", "a")).await;
            ann.send(&p2p(2, "b", "b")).await;
            let first: ResSendP2pMsg = ann.recv(Cmd::SendP2PMsg).await;
            wait_for_hit(&imd, &fault).await;
            drop(fault);
            ann.send(&p2p(2, "c", "c")).await;
            let second: ResSendP2pMsg = ann.recv(Cmd::SendP2PMsg).await;
            let third: ResSendP2pMsg = ann.recv(Cmd::SendP2PMsg).await;
            let ids = [&first, &second, &third].map(|answer| answer.msg_id.as_str());
            assert_eq!(ids, ["a", "b", "c"], "{at}");
            imd.journal().clear();
        }
    }
}

#[tokio::test]
async fn a_held_frame_is_released_without_a_journal() {
    let mut config = ephemeral().manual_clock();
    config.journal.capture = Capture::Off;
    let imd = start(config).await;
    for at in [Site::AccessRequest, Site::AccessReply] {
        let mut ann = user(&imd, 1).await;
        let fault = imd.fault(Fault::at(at).cmd(Cmd::SendP2PMsg).reorder());
        ann.send(&p2p(2, at.name(), "a")).await;
        imd.settled().await;
        assert_eq!(fault.hits(), 1);
        drop(fault);
        let late: ResSendP2pMsg = ann.recv(Cmd::SendP2PMsg).await;
        assert_eq!(late.msg_id, at.name());
    }
    assert_eq!(imd.report().stored, 2);
}

#[tokio::test]
async fn the_end_of_a_rule_releases_only_what_that_rule_holds() {
    let imd = start_manual().await;
    let mut ann = user(&imd, 1).await;
    let mut bob = user(&imd, 2).await;
    for at in [
        Site::AccessRequest,
        Site::AccessReply,
        Site::StoreWrite,
        Site::StoreRead,
    ] {
        let of_ann = imd.fault(Fault::at(at).uid(1).delay(HOUR));
        let of_bob = imd.fault(Fault::at(at).uid(2).delay(HOUR));
        for wire in [&mut ann, &mut bob] {
            match at {
                Site::StoreRead => wire.send(&sync(0, 0)).await,
                _ => wire.send(&p2p(3, at.name(), "a")).await,
            }
        }
        wait_for_hit(&imd, &of_ann).await;
        wait_for_hit(&imd, &of_bob).await;
        drop(of_ann);
        ann.frame().await;
        bob.hears_nothing(&imd).await;
        drop(of_bob);
        bob.frame().await;
        imd.journal().clear();
    }
}

#[tokio::test]
async fn a_frame_that_waits_for_a_delayed_one_is_released_before_it() {
    let imd = start_manual().await;
    for at in [Site::AccessRequest, Site::AccessReply] {
        let mut ann = user(&imd, 1).await;
        let first = imd.fault(Fault::at(at).cmd(Cmd::SendP2PMsg).uid(1).reorder());
        let second = imd.fault(Fault::at(at).cmd(Cmd::Ping).uid(1).delay(HOUR));
        ann.send(&p2p(2, at.name(), "a")).await;
        wait_for_hit(&imd, &first).await;
        ann.send(&ping()).await;
        wait_for_hit(&imd, &second).await;
        ann.hears_nothing(&imd).await;
        drop(first);
        let answer: ResSendP2pMsg = ann.recv(Cmd::SendP2PMsg).await;
        assert_eq!(answer.msg_id, at.name());
        ann.hears_nothing(&imd).await;
        drop(second);
        ann.error(Cmd::Ping, 0).await;
        imd.journal().clear();
    }
}

#[tokio::test]
async fn a_rule_that_is_used_up_keeps_holding_its_frames() {
    let imd = start_manual().await;
    let second = Duration::from_secs(1);
    for fault in [
        Fault::at(Site::AccessReply).uid(1).delay(HOUR).times(1),
        Fault::at(Site::AccessReply)
            .uid(1)
            .delay(HOUR)
            .lasting(second),
    ] {
        let mut ann = user(&imd, 1).await;
        let login_of_two = user(&imd, 2).await;
        let fault = imd.fault(fault);
        ann.send(&ping()).await;
        wait_for_hit(&imd, &fault).await;
        imd.clock().advance(2 * second).await;
        ann.hears_nothing(&imd).await;
        imd.clock().advance(HOUR).await;
        ann.error(Cmd::Ping, 0).await;
        drop(login_of_two);
        drop(fault);
        imd.journal().clear();
    }
}

#[tokio::test]
async fn a_rule_that_replaces_another_releases_the_frames_of_that_one() {
    let imd = start_manual().await;
    let mut ann = user(&imd, 1).await;
    let fault = || Fault::at(Site::AccessReply).named("slow").delay(HOUR);
    let old = imd.fault(fault());
    ann.send(&ping()).await;
    wait_for_hit(&imd, &old).await;
    old.keep();
    assert!(imd.faults().remove("slow"));
    let new = imd.fault(fault().cmd(Cmd::SendP2PMsg));
    ann.error(Cmd::Ping, 0).await;
    ann.send(&p2p(2, "a", "a")).await;
    imd.journal().clear();
    until(|| new.hits() != 0).await;
    ann.hears_nothing(&imd).await;
    drop(new);
    let answer: ResSendP2pMsg = ann.recv(Cmd::SendP2PMsg).await;
    assert_eq!(answer.msg_id, "a");
}

#[tokio::test]
async fn requests_over_http_are_released_too() {
    let imd = start_manual().await;
    let form = async |what: &'static str| {
        let addr = match what {
            "/x/user/register" => imd.user_api_addr(),
            _ => imd.group_api_addr(),
        };
        post(addr, what, "uid=7&pw=x&name=n&gid=1").await.1["code"].clone()
    };
    let message = || {
        let message = json!({ "from": 3, "to": 4, "text": "hello" });
        call(&imd, "POST", "/v1/messages", message)
    };
    let fault = imd.fault(Fault::at(Site::StoreWrite).delay(HOUR));
    let ended = async {
        until(|| fault.hits() >= 3).await;
        drop(fault);
    };
    let (registered, created, sent, ()) = soon(async {
        tokio::join!(
            form("/x/user/register"),
            form("/x/group/create"),
            message(),
            ended
        )
    })
    .await;
    assert_eq!((registered, created), (json!(0), json!(0)));
    assert_eq!(sent.0, 201);
}

#[tokio::test]
async fn the_rest_of_a_throttled_frame_is_written_at_once() {
    let imd = start_manual().await;
    let mut ann = user(&imd, 1).await;
    assert_eq!(ann.p2p(1, "a", &"x".repeat(5_000)).await.err_code, 0);
    ann.notified().await;
    let fault = imd.fault(Fault::at(Site::AccessReply).throttle(100));
    ann.send(&sync(0, 0)).await;
    ann.send(&ping()).await;
    wait_for_hit(&imd, &fault).await;
    imd.clock().advance(Duration::from_secs(3)).await;
    ann.hears_nothing(&imd).await;
    drop(fault);
    let page: ResSyncMsg = ann.recv(Cmd::SyncMsg).await;
    assert_eq!(texts(&page.msgs)[0].len(), 5_000);
    ann.error(Cmd::Ping, 0).await;
}

/// The held requests are answered before the sessions are told of the reset, and the reset waits for no delay.
#[tokio::test]
async fn a_reset_releases_what_is_held_in_order() {
    for (at, action) in holding() {
        let imd = start_manual().await;
        let mut ann = user_at(&imd, "access-1", 1).await;
        let mut bob = user_at(&imd, "access-2", 2).await;
        let fault = imd.fault(Fault::at(at).doing(action));
        let other = pass(&imd, at, &mut ann, &mut bob).await;
        wait_for_hit(&imd, &fault).await;
        soon(imd.reset()).await.unwrap();
        match at {
            Site::AccessRequest | Site::AccessReply => {
                ann.error(Cmd::Ping, 0).await;
            }
            Site::StoreWrite => {
                ann.recv::<ResSendP2pMsg>(Cmd::SendP2PMsg).await;
            }
            Site::StoreRead => {
                ann.recv::<ResSyncMsg>(Cmd::SyncMsg).await;
            }
            Site::GatewayReply => {
                let mut asking = other.unwrap();
                asking
                    .recv::<ResSelectAccessServerForClient>(Cmd::ReqAccessServer)
                    .await;
                asking.error(Cmd::ErrServer, 90001).await;
                asking.finished().await;
            }
            _ => {}
        }
        if at != Site::Notify {
            ann.error(Cmd::ErrServer, 90001).await;
            ann.finished().await;
        }
        // After the reset, the stack serves again.
        user(&imd, 1).await.ping().await;
        let mut asking = Wire::connect(gateway(&imd)).await;
        asking
            .send(&ReqAccessServer {
                cmd: 10001,
                ..Default::default()
            })
            .await;
        asking
            .recv::<ResSelectAccessServerForClient>(Cmd::ReqAccessServer)
            .await;
    }
}

#[tokio::test]
async fn a_held_login_is_completed_when_its_rule_ends() {
    let imd = start_manual().await;
    let fault = imd.fault(Fault::at(Site::AccessLogin).uid(1).delay(HOUR));
    let mut ann = Wire::connect(access(&imd)).await;
    ann.send(&login(&imd, 1)).await;
    wait_for_hit(&imd, &fault).await;
    assert!(!imd.is_online(1));
    drop(fault);
    ann.error(Cmd::Login, 0).await;
    assert!(imd.is_online(1));
}
