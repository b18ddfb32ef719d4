//! Failures that a client can't bring about on command elsewhere: a reply is lost, then a server dies while the gateway
//! still hands out its address. In the end every message is stored once.
//!
//! ```sh
//! cargo run --example lab
//! ```

use std::error::Error;
use std::time::Duration;

use imd::client::ClientError;
use imd::lab::{Fault, Site};
use imd::proto::Cmd;
use imd::{Client, Config, Imd};

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    // Time moves only when the program moves it, and random choices are the same in every run.
    let imd = Imd::start(Config::ephemeral().manual_clock().seed(42)).await?;
    let mut bob = log_in(&imd, 2).await?;

    // Exactly the next reply to Alice is lost: her message is stored, but she does not know.
    let lost = imd.fault(
        Fault::at(Site::AccessReply)
            .cmd(Cmd::SendP2PMsg)
            .uid(1)
            .times(1)
            .drop_it(),
    );
    let mark = imd.mark();
    let mut alice = log_in(&imd, 1).await?;
    alice.set_timeout(Duration::from_millis(200));
    let unsure = alice.send_p2p_as(2, "an id", "are you there?").await;
    assert!(matches!(unsure, Err(ClientError::Timeout)));
    assert_eq!(lost.hits(), 1);

    // She sends the message again under the same id, as a client should.
    let mut alice = log_in(&imd, 1).await?;
    alice.send_p2p_as(2, "an id", "are you there?").await?;

    // Bob was notified, and finds the message once. The wait begins at the mark, because the notify may have passed
    // already.
    let told = imd
        .wait_for(
            mark,
            |event| event.uid == Some(2) && event.cmd == Cmd::Notify,
            Duration::from_secs(5),
        )
        .await?;
    println!("bob was told, on {}", told.server);
    let page = bob.sync(0, 0).await?;
    assert_eq!(page.messages.len(), 1);

    // Bob's server dies. The gateway hands out its address until its lease has run out.
    let server = imd.access(&told.server).ok_or("bob's server has a name")?;
    server.kill().await;
    assert!(bob.ping().await.is_err());
    imd.clock().advance(Duration::from_secs(15)).await;
    let mut bob = log_in(&imd, 2).await?;
    assert_ne!(bob.peer(), server.addr());
    assert!(bob.sync(page.current, 0).await?.messages.is_empty());

    let report = imd.shutdown().await;
    println!("{report}");
    report.assert_no_loss();
    assert_eq!((report.stored, report.delivered), (1, 1));
    Ok(())
}

async fn log_in(imd: &Imd, uid: i64) -> Result<Client, ClientError> {
    let mut client = Client::connect(imd.gateway_addr()).await?;
    client.login(uid, &imd.token(uid)).await?;
    Ok(client)
}
