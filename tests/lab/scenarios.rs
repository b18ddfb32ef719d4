//! What can go wrong between a client and the stack, as the developer of the client would try it. Each test ends with
//! the ledger of messages.

use std::time::Duration;

use imd::Imd;
use imd::client::{Client, ClientError, Event};
use imd::lab::{Fault, Site};
use imd::proto::{Cmd, Code};

use crate::support::{PATIENCE, ephemeral, soon, start, start_manual};
use crate::wait_for_hit;

const SECOND: Duration = Duration::from_secs(1);

/// Logs a client in on the access server that the gateway names.
async fn client(imd: &Imd, uid: i64) -> Client {
    let mut client = Client::connect(imd.gateway_addr()).await.unwrap();
    client.login(uid, &imd.token(uid)).await.unwrap();
    client
}

/// Logs a client in on this access server.
async fn at(imd: &Imd, access: &str, uid: i64) -> Client {
    let addr = imd.access(access).unwrap().addr();
    let mut client = Client::connect_to(addr).await.unwrap();
    client.login(uid, &imd.token(uid)).await.unwrap();
    client
}

/// Reads all texts of an inbox behind `after`, and returns them with the last version.
async fn read(client: &mut Client, after: i64) -> (Vec<String>, i64) {
    let (mut texts, mut current) = (Vec::new(), after);
    loop {
        let page = client.sync(current, 0).await.unwrap();
        texts.extend(page.messages.into_iter().map(|message| message.text));
        current = page.current;
        if current >= page.total {
            return (texts, current);
        }
    }
}

/// Shuts the stack down, and checks that the message was stored once.
async fn ends_with_one_stored(imd: Imd) {
    let report = imd.shutdown().await;
    report.assert_no_loss();
    assert_eq!(report.stored, 1);
}

async fn notified(client: &mut Client) -> Event {
    soon(client.next_event()).await.unwrap()
}

#[tokio::test]
async fn the_gateway_hands_out_a_dead_server_until_its_lease_is_over() {
    let imd = start_manual().await;
    for name in ["access-1", "access-2"] {
        imd.access(name).unwrap().kill().await;
    }
    let alive = imd.access("access-3").unwrap().addr();
    let mut dead = 0;
    for _ in 0..30 {
        match Client::connect(imd.gateway_addr()).await {
            Ok(client) => assert_eq!(client.peer(), alive),
            Err(_) => dead += 1,
        }
    }
    assert!(dead > 0, "30 tries met none of two dead servers of three");
    imd.clock().advance(15 * SECOND).await;
    for _ in 0..10 {
        let mut client = client(&imd, 1).await;
        assert_eq!(client.peer(), alive);
        client.ping().await.unwrap();
    }
    imd.shutdown().await.assert_no_loss();
}

#[tokio::test]
async fn a_client_dials_an_address_where_nobody_listens() {
    let imd = start_manual().await;
    for name in ["access-1", "access-2", "access-3"] {
        imd.registry().advertise(name, "127.0.0.1:1").unwrap();
    }
    imd.clock().advance(5 * SECOND).await;
    assert!(Client::connect(imd.gateway_addr()).await.is_err());
    for name in ["access-1", "access-2", "access-3"] {
        imd.registry().advertise_itself(name);
    }
    imd.clock().advance(5 * SECOND).await;
    client(&imd, 1).await.ping().await.unwrap();
    imd.shutdown().await.assert_no_loss();
}

#[tokio::test]
async fn a_reply_is_lost_and_the_message_is_sent_again() {
    let imd = start_manual().await;
    let mut ann = client(&imd, 1).await;
    ann.set_timeout(Duration::from_millis(50));
    let fault = imd.fault(
        Fault::at(Site::AccessReply)
            .cmd(Cmd::SendP2PMsg)
            .uid(1)
            .times(1)
            .drop_it(),
    );
    assert!(ann.send_p2p_as(2, "once", "hello").await.is_err());
    wait_for_hit(&imd, &fault).await;
    // The client can't know whether the message was stored, so it sends it again under the same id, on a new
    // connection.
    let mut ann = client(&imd, 1).await;
    ann.send_p2p_as(2, "once", "hello").await.unwrap();
    let mut bob = client(&imd, 2).await;
    assert_eq!(read(&mut bob, 0).await.0, ["hello"]);
    let report = imd.shutdown().await;
    report.assert_no_loss();
    assert_eq!((report.stored, report.delivered), (1, 1));
}

#[tokio::test]
async fn a_request_is_lost_and_only_the_second_try_is_stored() {
    let imd = start_manual().await;
    let mut ann = client(&imd, 1).await;
    ann.set_timeout(Duration::from_millis(50));
    let at = Fault::at(Site::AccessRequest).cmd(Cmd::SendP2PMsg).uid(1);
    let fault = imd.fault(at.times(1).drop_it());
    assert!(ann.send_p2p_as(2, "once", "hello").await.is_err());
    wait_for_hit(&imd, &fault).await;
    assert_eq!(imd.report().stored, 0);
    let mut ann = client(&imd, 1).await;
    ann.send_p2p_as(2, "once", "hello").await.unwrap();
    ends_with_one_stored(imd).await;
}

#[tokio::test]
async fn a_lost_notify_is_made_up_for_by_the_next() {
    let imd = start_manual().await;
    let mut ann = client(&imd, 1).await;
    let mut bob = client(&imd, 2).await;
    let fault = imd.fault(Fault::at(Site::Notify).uid(2).times(1).drop_it());
    ann.send_p2p(2, "first").await.unwrap();
    wait_for_hit(&imd, &fault).await;
    ann.send_p2p(2, "second").await.unwrap();
    notified(&mut bob).await;
    assert_eq!(read(&mut bob, 0).await.0, ["first", "second"]);
    imd.shutdown().await.assert_no_loss();
}

#[tokio::test]
async fn a_notify_comes_before_its_message_can_be_read() {
    let mut config = ephemeral().manual_clock();
    config.quirks.notify_before_store = true;
    config.quirks.notify_gap = 2 * SECOND;
    let imd = start(config).await;
    let mut ann = client(&imd, 1).await;
    let mut bob = client(&imd, 2).await;
    let (sent, first) = tokio::join!(ann.send_p2p(2, "hello"), async {
        notified(&mut bob).await;
        // The notify came early: nothing is stored yet.
        let first = read(&mut bob, 0).await;
        imd.clock().advance(2 * SECOND).await;
        first
    });
    sent.unwrap();
    assert_eq!(first, (vec![], 0));
    assert_eq!(read(&mut bob, 0).await.0, ["hello"]);
    imd.shutdown().await.assert_no_loss();
}

#[tokio::test]
async fn a_takeover_in_the_middle_of_a_send() {
    let imd = start_manual().await;
    let mut old = client(&imd, 1).await;
    let fault = imd.fault(Fault::at(Site::StoreWrite).uid(1).times(1).delay(SECOND));
    let (sent, new) = tokio::join!(old.send_p2p_as(2, "once", "hello"), async {
        wait_for_hit(&imd, &fault).await;
        let new = client(&imd, 1).await;
        imd.clock().advance(SECOND).await;
        new
    });
    // Whatever the old session was told, the client can send the message again on the new one.
    let mut new = new;
    new.send_p2p_as(2, "once", "hello").await.unwrap();
    let report = imd.shutdown().await;
    report.assert_no_loss();
    assert_eq!(report.stored, 1, "{sent:?}");
}

#[tokio::test]
async fn an_access_server_dies_in_the_middle_of_a_sync() {
    let imd = start_manual().await;
    let mut ann = at(&imd, "access-2", 1).await;
    for n in 0..20 {
        ann.send_p2p(2, &n.to_string()).await.unwrap();
    }
    let mut bob = at(&imd, "access-1", 2).await;
    let first = bob.sync(0, 5).await.unwrap();
    assert_eq!(first.current, 5);
    let fault = imd.fault(Fault::at(Site::StoreRead).uid(2).times(1).delay(SECOND));
    let access = imd.access("access-1").unwrap();
    let (synced, ()) = tokio::join!(bob.sync(5, 5), async {
        wait_for_hit(&imd, &fault).await;
        access.kill().await;
    });
    assert!(synced.is_err());
    // The client goes on where the last page ended, on another server.
    let mut bob = at(&imd, "access-3", 2).await;
    let (texts, end) = read(&mut bob, first.current).await;
    assert_eq!((texts.len(), texts[0].as_str(), end), (15, "5", 20));
    imd.shutdown().await.assert_no_loss();
}

#[tokio::test]
async fn an_access_server_dies_with_a_send_under_way() {
    let imd = start_manual().await;
    let mut ann = at(&imd, "access-1", 1).await;
    let fault = imd.fault(
        Fault::at(Site::AccessReply)
            .cmd(Cmd::SendP2PMsg)
            .delay(SECOND),
    );
    let access = imd.access("access-1").unwrap();
    let (sent, ()) = tokio::join!(ann.send_p2p_as(2, "once", "hello"), async {
        wait_for_hit(&imd, &fault).await;
        access.kill().await;
    });
    assert!(sent.is_err());
    drop(fault);
    let mut ann = at(&imd, "access-2", 1).await;
    ann.send_p2p_as(2, "once", "hello").await.unwrap();
    ends_with_one_stored(imd).await;
}

#[tokio::test]
async fn a_lease_runs_out_under_a_frozen_registry() {
    let imd = start_manual().await;
    let dead = imd.access("access-1").unwrap();
    imd.registry().freeze();
    dead.kill().await;
    imd.clock().advance(60 * SECOND).await;
    let mut handed_out = false;
    for _ in 0..60 {
        let addr = imd::client::ask_gateway(imd.gateway_addr()).await.unwrap();
        handed_out |= addr == dead.addr().to_string();
    }
    assert!(handed_out, "a frozen registry still lists it");
    imd.registry().thaw();
    imd.clock().advance(5 * SECOND).await;
    for _ in 0..20 {
        let addr = imd::client::ask_gateway(imd.gateway_addr()).await.unwrap();
        assert_ne!(addr, dead.addr().to_string());
    }
    imd.shutdown().await.assert_no_loss();
}

#[tokio::test]
async fn the_clock_goes_back_by_an_hour() {
    let imd = start_manual().await;
    let mut ann = client(&imd, 1).await;
    let before = ann.send_p2p_as(2, "", "before").await.unwrap();
    imd.clock().skew(-3_600_000).unwrap();
    let after = ann.send_p2p_as(2, "", "after").await.unwrap();
    let id = |sent: &imd::client::Sent| sent.msg_id.parse::<i64>().unwrap();
    assert!(id(&after) > id(&before), "ids go on");
    assert!(imd.is_online(1), "presence does not notice");
    let mut bob = client(&imd, 2).await;
    assert_eq!(read(&mut bob, 0).await.0, ["before", "after"]);
    imd.shutdown().await.assert_no_loss();
}

#[tokio::test]
async fn a_slow_reader_gets_one_notify_for_all_messages_that_came_meanwhile() {
    let imd = start_manual().await;
    let mut ann = client(&imd, 1).await;
    let mut bob = client(&imd, 2).await;
    let fault = imd.fault(Fault::at(Site::Notify).uid(2).times(1).delay(SECOND));
    for n in 0..50 {
        ann.send_p2p(2, &n.to_string()).await.unwrap();
    }
    wait_for_hit(&imd, &fault).await;
    imd.clock().advance(SECOND).await;
    notified(&mut bob).await;
    let (texts, end) = read(&mut bob, 0).await;
    assert_eq!((texts.len(), end), (50, 50));
    let report = imd.shutdown().await;
    report.assert_no_loss();
    assert_eq!(report.delivered, 50);
}

#[tokio::test]
async fn a_client_leaves_a_hanging_server_for_another() {
    let imd = start_manual().await;
    let mut ann = at(&imd, "access-1", 1).await;
    imd.access("access-1").unwrap().pause().await;
    ann.set_timeout(Duration::from_millis(50));
    assert!(ann.send_p2p_as(2, "once", "hello").await.is_err());
    let mut ann = at(&imd, "access-2", 1).await;
    ann.send_p2p_as(2, "once", "hello").await.unwrap();
    // The requests that the paused server has received are done after the resume, and the message is the same one.
    imd.access("access-1").unwrap().resume().await;
    imd.settled().await;
    ends_with_one_stored(imd).await;
}

#[tokio::test]
async fn a_server_that_stops_says_so_and_its_clients_go_elsewhere() {
    let imd = start_manual().await;
    let mut ann = client(&imd, 2).await;
    let mut bob = at(&imd, "access-1", 1).await;
    imd.access("access-1").unwrap().stop().await;
    let received = soon(bob.next_event()).await;
    assert!(
        matches!(received, Err(ClientError::Refused { .. })),
        "{received:?}"
    );
    if ann.peer() == imd.access("access-1").unwrap().addr() {
        ann = at(&imd, "access-2", 2).await;
    }
    ann.send_p2p(1, "are you there?").await.unwrap();
    let mut bob = at(&imd, "access-3", 1).await;
    assert_eq!(read(&mut bob, 0).await.0, ["are you there?"]);
    imd.shutdown().await.assert_no_loss();
}

#[tokio::test]
async fn a_full_store_refuses_and_takes_it_later() {
    let imd = start_manual().await;
    let mut ann = client(&imd, 1).await;
    let fault = imd.fault(Fault::at(Site::StoreWrite).error(Code::ServerError));
    let refused = ann.send_p2p_as(2, "once", "hello").await;
    assert!(
        matches!(refused, Err(ClientError::Refused { code: 90001, .. })),
        "{refused:?}"
    );
    drop(fault);
    ann.send_p2p_as(2, "once", "hello").await.unwrap();
    let report = imd.shutdown().await;
    report.assert_no_loss();
    assert_eq!((report.stored, report.refused), (1, 1));
}

#[tokio::test]
async fn a_store_that_lies_is_caught_by_the_ledger() {
    let imd = start_manual().await;
    let mut ann = client(&imd, 1).await;
    let _fault = imd.fault(Fault::at(Site::StoreWrite).times(1).drop_it());
    ann.send_p2p(2, "hello").await.unwrap();
    let report = imd.shutdown().await;
    assert_eq!((report.stored, report.lost), (0, 1));
    assert!(std::panic::catch_unwind(|| report.assert_no_loss()).is_err());
}

#[tokio::test]
async fn a_page_with_a_gap_is_caught_by_the_client_and_the_ledger() {
    let imd = start_manual().await;
    let mut ann = client(&imd, 1).await;
    for text in ["a", "b", "c"] {
        ann.send_p2p(2, text).await.unwrap();
    }
    let mut bob = client(&imd, 2).await;
    let fault = imd.fault(Fault::at(Site::StoreRead).uid(2).times(1).gap());
    let page = bob.sync(0, 0).await.unwrap();
    assert_eq!((page.messages[0].version, fault.hits()), (2, 1));
    // A client that sees the gap asks again from where it was.
    assert_eq!(read(&mut bob, 0).await.0, ["a", "b", "c"]);
    assert_eq!(imd.shutdown().await.lost, 1);
}

#[tokio::test]
async fn connecting_fails_a_few_times_and_then_works() {
    let imd = start_manual().await;
    let fault = imd.fault(Fault::at(Site::AccessAccept).times(3).reset());
    let mut tries = 0;
    let mut ann = loop {
        tries += 1;
        let client = Client::connect(imd.gateway_addr()).await;
        let Ok(mut client) = client else { continue };
        if client.login(1, &imd.token(1)).await.is_ok() {
            break client;
        }
    };
    assert_eq!((tries, fault.hits()), (4, 3));
    ann.send_p2p(2, "at last").await.unwrap();
    imd.shutdown().await.assert_no_loss();
}

#[tokio::test]
async fn a_line_that_delivers_a_byte_at_a_time() {
    let imd = start_manual().await;
    let mut ann = client(&imd, 1).await;
    let _fault = imd.fault(Fault::at(Site::AccessReply).slice(1));
    for n in 0..5 {
        ann.send_p2p(1, &n.to_string()).await.unwrap();
    }
    assert_eq!(read(&mut ann, 0).await.0.len(), 5);
    imd.shutdown().await.assert_no_loss();
}

#[tokio::test]
async fn an_answer_is_cut_and_the_connection_with_it() {
    let imd = start_manual().await;
    let mut ann = client(&imd, 1).await;
    let at = Fault::at(Site::AccessReply).cmd(Cmd::SendP2PMsg);
    let _fault = imd.fault(at.times(1).truncate());
    assert!(ann.send_p2p_as(2, "once", "hello").await.is_err());
    let mut ann = client(&imd, 1).await;
    ann.send_p2p_as(2, "once", "hello").await.unwrap();
    ends_with_one_stored(imd).await;
}

#[tokio::test]
async fn presence_runs_out_without_a_ping_and_notifies_go_on() {
    let imd = start_manual().await;
    let mut ann = client(&imd, 1).await;
    let mut bob = client(&imd, 2).await;
    imd.clock().advance(15 * SECOND).await;
    assert!(!imd.is_online(2));
    ann.send_p2p(2, "still there?").await.unwrap();
    notified(&mut bob).await;
    assert_eq!(read(&mut bob, 0).await.0, ["still there?"]);
    let seen = |event: &imd::lab::Event| event.uid == Some(2) && event.cmd == Cmd::Notify;
    imd.wait_for(imd::lab::Mark(0), seen, PATIENCE)
        .await
        .unwrap();
    imd.shutdown().await.assert_no_loss();
}
