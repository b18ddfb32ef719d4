//! `Imd::metrics`: frames, bytes and answers are counted by command.
//!
//! These are the counters of `imd::metrics` as a program reads them in process. How `/metrics` shows them is tested in
//! `lab/metrics`.

use imd::Imd;
use imd::metrics::Counted;
use imd::proto::{Cmd, ResSendP2pMsg, ResSyncMsg};

use crate::support::{
    Wire, addr_of, counted_bytes, gateway, login, p2p, ping, start_manual, sync, user,
};

fn counted(imd: &Imd, cmd: impl Into<Option<Cmd>>) -> Counted {
    let cmd = cmd.into();
    let all = imd.metrics().read();
    all.into_iter().find(|(of, _)| *of == cmd).unwrap().1
}

#[tokio::test]
async fn frames_bytes_and_answers_are_counted_by_command() {
    let imd = start_manual().await;
    let mut ann = user(&imd, 1).await;
    let mut bob = user(&imd, 2).await;
    let sends = [p2p(2, "m-1", "hello"), p2p(2, "m-2", "hello")];
    ann.send_all(&sends).await;
    let answer = ann.recv::<ResSendP2pMsg>(Cmd::SendP2PMsg).await;
    ann.recv::<ResSendP2pMsg>(Cmd::SendP2PMsg).await;
    bob.notified().await;
    let page = bob.sync(0, 0).await;
    ann.ping().await;

    let sent = counted(&imd, Cmd::SendP2PMsg);
    assert_eq!((sent.frames_in, sent.frames_out), (2, 2));
    assert_eq!(
        sent.bytes_in,
        counted_bytes(&sends[0]) + counted_bytes(&sends[1])
    );
    assert_eq!(sent.bytes_out, 2 * counted_bytes(&answer));
    assert_eq!(sent.answered.iter().sum::<u64>(), 2);
    let synced = counted(&imd, Cmd::SyncMsg);
    assert_eq!((synced.frames_in, synced.frames_out), (1, 1));
    assert_eq!(synced.bytes_in, counted_bytes(&sync(0, 0)));
    assert_eq!(synced.bytes_out, counted_bytes(&page));
    let logins = counted(&imd, Cmd::Login);
    assert_eq!((logins.frames_in, logins.frames_out), (2, 2));
    assert_eq!(logins.bytes_in, 2 * counted_bytes(&login(&imd, 1)));
    let notifies = counted(&imd, Cmd::Notify);
    assert_eq!(notifies.frames_in, 0);
    assert!((1..=2).contains(&notifies.frames_out));
    assert_eq!(notifies.answered.iter().sum::<u64>(), 0);
    let pings = counted(&imd, Cmd::Ping);
    assert_eq!(pings.bytes_in, counted_bytes(&ping()));
    assert_eq!(counted(&imd, None), Counted::default());
}

#[tokio::test]
async fn frames_without_a_known_command_are_counted_separately() {
    let imd = start_manual().await;
    let mut client = Wire::connect(gateway(&imd)).await;
    client.ask().await;
    client.raw(&[0, 2, 8, 7]).await;
    client.error(Cmd::ErrServer, 10001).await;
    let none = counted(&imd, None);
    assert_eq!((none.frames_in, none.bytes_in, none.frames_out), (1, 4, 0));
    assert_eq!(counted(&imd, Cmd::ErrServer).frames_out, 1);
    assert_eq!(counted(&imd, Cmd::ReqAccessServer).frames_in, 1);
}

#[tokio::test]
async fn frames_that_are_written_in_pieces_are_counted_once() {
    const PAGES: u64 = 100;
    let imd = start_manual().await;
    let mut ann = user(&imd, 1).await;
    for n in 0..4 {
        ann.p2p(2, &n.to_string(), &"x".repeat(10_000)).await;
    }
    let mut bob = Wire::connect(addr_of(&imd.access_servers()[0])).await;
    bob.login(&imd, 2).await;
    // The pages are larger than the buffers of the sockets, and the client has not read any of them yet.
    for _ in 0..PAGES {
        bob.send(&sync(0, 0)).await;
    }
    let mut received = 0;
    for _ in 0..PAGES {
        received += counted_bytes(&bob.answer::<ResSyncMsg>(Cmd::SyncMsg).await);
    }
    // The last page is counted after it was written, and before the session answers another request.
    bob.ping().await;
    let synced = counted(&imd, Cmd::SyncMsg);
    assert_eq!((synced.frames_in, synced.frames_out), (PAGES, PAGES));
    assert_eq!(synced.bytes_out, received);
}
