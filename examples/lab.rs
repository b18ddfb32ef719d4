//! A client meets what it can't meet on command anywhere else: its reply is lost, then its server dies while the gateway
//! still hands out the dead one. In the end every message is there once.
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
    // Time stands until it is moved, and chance is the same in every run.
    let imd = Imd::start(Config::ephemeral().manual_clock().seed(42)).await?;
    let mut bob = log_in(&imd, 2).await?;

    // Exactly the next reply to Alice is lost: her message is stored, and she does not know.
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

    // She sends it again under the same id, as a good client does.
    let mut alice = log_in(&imd, 1).await?;
    alice.send_p2p_as(2, "an id", "are you there?").await?;

    // Bob was told, and finds it once. Looked for from the mark: it may have passed already.
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

    // His server dies. Its lease is still there, so clients are still sent to it, until the lease has run out.
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
