//! A whole stack inside a program: two users chat, one of them is offline at first, and the report says what became of
//! every message.
//!
//! ```sh
//! cargo run --example in_process
//! ```

use imd::client::Event;
use imd::{Client, Config, Imd};

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    // Free ports and a store in memory, so any number of stacks can run side by side.
    let imd = Imd::start(Config::ephemeral()).await?;
    println!("gateway on {}", imd.gateway_addr());

    // As every client does: ask the gateway, connect to the access server that it names, log in.
    let mut alice = Client::connect(imd.gateway_addr()).await?;
    alice.login(1, &imd.token(1)).await?;

    // Bob is offline, so the message waits in his inbox.
    alice.send_p2p(2, "are you there?").await?;

    let mut bob = Client::connect(imd.gateway_addr()).await?;
    bob.login(2, &imd.token(2)).await?;
    let Event::Notify { current, total } = bob.next_event().await? else {
        return Err("after a login with something unread comes a notify".into());
    };
    println!("bob has read up to {current}, there is something up to {total}");
    for message in bob.sync(current, 0).await?.messages {
        println!(
            "bob reads #{} from {}: {}",
            message.version, message.source, message.text
        );
        bob.accept(message.source, &message.msg_id).await?;
    }

    alice.next_event().await?;
    for entry in alice.sync(0, 0).await?.messages {
        println!(
            "alice reads #{}: {} by {}",
            entry.version,
            entry.kind.as_str(),
            entry.source
        );
    }

    println!("{}", imd.shutdown().await);
    Ok(())
}
