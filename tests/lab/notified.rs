//! Every message that is stored is notified, however the task of its sender ends. A message that is not stored is not
//! notified.

use std::time::Duration;

use imd::lab::{Fault, Site};
use imd::{Config, Imd};
use serde_json::json;
use socket2::SockRef;

use crate::admin::call;
use crate::servers::{server, user_at};
use crate::support::gated_store::start_gated;
use crate::support::{
    Http, Wire, ack, addr_of, ephemeral, framed, group_msg, group_of, p2p, soon, start, sync, until,
};
use crate::wait_for_hit;

/// How the task of a sender ends while its message is being stored.
#[derive(Clone, Copy, Debug)]
enum End {
    Killed,
    KilledAfterStop,
    Stopped,
    Restarted,
    HungUp,
    Closed,
    Reset,
    TakenOver,
}

const ENDS: [End; 8] = [
    End::Killed,
    End::KilledAfterStop,
    End::Stopped,
    End::Restarted,
    End::HungUp,
    End::Closed,
    End::Reset,
    End::TakenOver,
];

/// Returns a config whose servers have a short grace period.
fn hasty() -> Config {
    let mut config = ephemeral();
    config.shutdown.grace = Duration::from_millis(10);
    config
}

async fn end(imd: &Imd, mut sender: Wire, how: End) -> Option<Wire> {
    let one = server(imd, "access-1");
    let id = one.sessions().sessions().next().unwrap().id();
    let close = async |how: &str| {
        let path = format!("/v1/sessions/{id}?how={how}");
        assert_eq!(call(imd, "DELETE", &path, json!(null)).await.0, 200);
    };
    match how {
        End::Killed => one.kill().await,
        End::KilledAfterStop => {
            one.stop().await;
            one.kill().await;
        }
        End::Stopped => one.stop().await,
        End::Restarted => one.restart().await.unwrap(),
        End::HungUp => {
            sender.end().await;
            drop(sender);
            return None;
        }
        End::Closed => close("fin").await,
        End::Reset => close("rst").await,
        End::TakenOver => return Some(user_at(imd, "access-2", 1).await),
    }
    Some(sender)
}

#[tokio::test]
async fn a_stored_message_is_notified_however_its_senders_task_ends() {
    for how in ENDS {
        let (imd, store) = start_gated(hasty()).await;
        let team = group_of(&imd, &[3, 1]).await;
        let mut bob = user_at(&imd, "access-2", 2).await;
        let mut cid = user_at(&imd, "access-2", 3).await;
        bob.p2p(1, "earlier", "x").await;
        let mut ann = Wire::connect(addr_of(&server(&imd, "access-1"))).await;
        ann.login(&imd, 1).await;
        assert_eq!(ann.notified().await, (0, 1));
        store.committed.hold();
        let mut bytes = framed(&p2p(2, "m", "x"));
        bytes.extend_from_slice(&framed(&group_msg(team, "g", "x")));
        bytes.extend_from_slice(&framed(&ack(2, "earlier")));
        ann.raw(&bytes).await;
        store.committed.arrived().await;
        let _left = end(&imd, ann, how).await;
        store.committed.let_through(1);
        assert_eq!(bob.notified().await, (0, 2), "{how:?}");
        assert_eq!(cid.notified().await, (0, 1), "{how:?}");
        store.committed.open();
        soon(imd.settled()).await;
        bob.hears_nothing(&imd).await;
        cid.hears_nothing(&imd).await;
        let counted = call(&imd, "GET", "/v1/report", json!(null)).await.1;
        assert_eq!(counted["stored"], 1 + 2 + 2, "{how:?}");
    }
}

#[tokio::test]
async fn a_message_stored_before_a_panic_is_notified() {
    let (imd, store) = start_gated(ephemeral()).await;
    let mut bob = user_at(&imd, "access-2", 2).await;
    let mut ann = user_at(&imd, "access-1", 1).await;
    store.committed.hold();
    // The sync commits the first message; the second is stored after it.
    let mut bytes = framed(&p2p(2, "a", "x"));
    bytes.extend_from_slice(&framed(&sync(0, 0)));
    bytes.extend_from_slice(&framed(&p2p(2, "b", "x")));
    ann.raw(&bytes).await;
    store.committed.arrived().await;
    store.commit.panic();
    store.committed.let_through(1);
    assert_eq!(bob.notified().await, (0, 1));
    assert!(ann.try_frame().await.is_none());
}

/// A client that does not read holds up its own replies, but not the notifies to the receivers of its messages.
#[tokio::test]
async fn receivers_do_not_wait_for_a_sender_who_does_not_read() {
    let mut config = ephemeral().manual_clock();
    config.limits.outbound = 131_070;
    let imd = start(config).await;
    let mut bob = user_at(&imd, "access-2", 2).await;
    let mut ann = user_at(&imd, "access-1", 1).await;
    SockRef::from(ann.out.as_ref())
        .set_recv_buffer_size(4_096)
        .unwrap();
    ann.p2p(2, "first", "x").await;
    assert_eq!(bob.notified().await, (0, 1));
    // The replies are larger than the buffers of the sockets, so from some read on they are not taken.
    let id = "i".repeat(128);
    let mut sent = 1;
    let mut notifies = 1;
    let is_stuck = |imd: &Imd| {
        let manager = server(imd, "access-1").sessions();
        manager
            .sessions()
            .any(|session| session.queued() > 131_070 / 2)
    };
    while !is_stuck(&imd) {
        let mut bytes = bytes::BytesMut::new();
        for n in 0..100 {
            bytes.extend_from_slice(&framed(&p2p(2, &format!("{sent}-{n}-{}", &id[..100]), "x")));
        }
        sent += 100;
        let write = ann.raw(&bytes);
        let hear = async {
            while notifies < sent {
                notifies = bob.notified().await.1;
                if is_stuck(&imd) {
                    break;
                }
            }
        };
        tokio::join!(write, hear);
    }
    let stored = || i64::try_from(imd.report().stored).unwrap();
    while notifies < stored() {
        notifies = bob.notified().await.1;
    }
    assert_eq!(notifies, stored());
}

#[tokio::test]
async fn a_message_of_an_http_client_that_has_hung_up_is_notified() {
    let (imd, store) = start_gated(ephemeral()).await;
    let mut bob = user_at(&imd, "access-2", 2).await;
    store.committed.hold();
    let body = json!({ "from": 1, "to": 2, "msg_id": "m", "text": "x" }).to_string();
    let head = format!(
        "POST /v1/messages HTTP/1.1\r\nhost: {}\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
        imd.admin_addr().unwrap(),
        body.len()
    );
    let client = Http::sent(imd.admin_addr().unwrap(), head).await;
    store.committed.arrived().await;
    // The reset makes the server give up the request at once.
    SockRef::from(&client.stream)
        .set_linger(Some(Duration::ZERO))
        .unwrap();
    drop(client);
    store.committed.let_through(1);
    assert_eq!(bob.notified().await, (0, 1));
}

#[tokio::test]
async fn a_message_held_before_the_store_is_not_notified_when_its_server_is_killed() {
    let imd = start(ephemeral().manual_clock()).await;
    let mut bob = user_at(&imd, "access-2", 2).await;
    let mut ann = user_at(&imd, "access-1", 1).await;
    let fault = Fault::at(Site::StoreWrite).delay(Duration::from_secs(60));
    let fault = imd.fault(fault);
    ann.send(&p2p(2, "m", "x")).await;
    wait_for_hit(&imd, &fault).await;
    server(&imd, "access-1").kill().await;
    drop(fault);
    soon(imd.settled()).await;
    bob.hears_nothing(&imd).await;
    assert_eq!(imd.report().stored, 0);
    assert_eq!(bob.p2p(2, "own", "x").await.err_code, 0);
    assert_eq!(bob.notified().await, (0, 1));
}

#[tokio::test]
async fn a_reset_waits_for_the_commits_of_a_killed_server_and_no_client_is_notified() {
    let (imd, store) = start_gated(ephemeral()).await;
    let mut ann = user_at(&imd, "access-1", 1).await;
    store.committed.hold();
    ann.send(&p2p(2, "m", "x")).await;
    store.committed.arrived().await;
    server(&imd, "access-1").kill().await;
    store.committed.open();
    let (reset, ()) = tokio::join!(imd.reset(), async {
        tokio::task::yield_now().await;
        store.committed.let_through(1);
    });
    reset.unwrap();
    let mut bob = user_at(&imd, "access-2", 2).await;
    bob.hears_nothing(&imd).await;
    assert_eq!(imd.report().stored, 0);
}

/// The store is in a folder here. Wherever the kill strikes, a message that was stored is notified.
#[tokio::test]
async fn a_message_that_a_killed_server_has_stored_in_a_folder_is_notified() {
    let folder = tempfile::tempdir().unwrap();
    let mut config = ephemeral();
    config.store.path = Some(folder.path().join("data"));
    let imd = start(config).await;
    let mut bob = user_at(&imd, "access-2", 2).await;
    let mut notifies = 0;
    for round in 0..20 {
        let mut ann = user_at(&imd, "access-1", 1).await;
        ann.send(&p2p(2, &round.to_string(), "x")).await;
        // The message has been read, so the kill strikes while it is being stored, shortly before, or shortly after.
        let id = server(&imd, "access-1").sessions().sessions().next();
        let session = id.unwrap();
        until(|| !session.is_settled() || imd.report().stored != notifies).await;
        server(&imd, "access-1").kill().await;
        soon(imd.settled()).await;
        let stored = imd.report().stored;
        while notifies < stored {
            notifies = u64::try_from(bob.notified().await.1).unwrap();
        }
        assert_eq!(notifies, stored);
        server(&imd, "access-1").restart().await.unwrap();
    }
}
