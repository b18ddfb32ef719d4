//! Takes the pictures in docs/screenshots: `IMD_SCREENSHOTS=../../docs/screenshots cargo test -- --ignored`.

use std::path::PathBuf;

use browser::{Look, look_at_console, user};
use imd::lab::{Fault, Site};
use imd::proto::Cmd;
use imd::{Client, Config};

/// Rounds of traffic, enough for the charts to have something to show.
const ROUNDS: usize = 150;
/// How many times the page is drawn in each round.
const FRAMES: usize = 9;

async fn shoot(dark: bool, folder: PathBuf) {
    let look = Look {
        dark,
        size: (1200, 840),
        ..Look::default()
    };
    let config = Config::ephemeral();
    look_at_console(look, config, async |page, imd| {
        let shot = |name: &str| folder.join(format!("{name}.png"));
        let mut people: Vec<Client> = Vec::new();
        for uid in [321, 654, 777] {
            people.push(user(imd, uid).await);
        }
        let mut far = Client::connect_to(imd.access_servers()[2].addr()).await.unwrap();
        far.login(888, &imd.token(888)).await.unwrap();
        let slow = Fault::at(Site::AccessReply).cmd(Cmd::Ping).named("slow-pings").delay(std::time::Duration::from_millis(1));
        let _slow = imd.fault(slow);
        let _lost = imd.fault(Fault::at(Site::Notify).uid(777).named("lost-notifies").probability(0.2).drop_it());
        page.go("stack").await;
        for round in 0..ROUNDS {
            // Other users do other things.
            for (index, client) in people.iter_mut().enumerate() {
                if round % (index + 2) == 0 {
                    client.send_p2p(888, &format!("message {round}: does it arrive?")).await.unwrap();
                }
            }
            far.send_p2p(654, "it does").await.unwrap();
            far.ping().await.unwrap();
            far.sync(i64::try_from(round).unwrap(), 0).await.unwrap();
            let _ = imd::client::ask_gateway(imd.gateway_addr()).await;
            page.count(".dot").await;
            // The charts go by the time of the browser, so a round has to take some of it.
            for _ in 0..FRAMES {
                page.next_frame().await;
            }
        }
        page.shoot(&shot(if dark { "stack-dark" } else { "stack" })).await;
        if dark {
            return;
        }
        page.resize((1280, 600)).await;
        page.go("wire").await;
        page.run("[...document.querySelectorAll('.row[data-what=in] .cmd')].findLast((one) => one.textContent === 'SendP2PMsg').click()", &[]).await;
        page.sees("#wire-details .hex").await;
        page.shoot(&shot("wire")).await;
        page.resize((1200, 840)).await;
        page.go("users/888").await;
        page.sees("#entries .entry").await;
        page.shoot(&shot("users")).await;
        page.go("faults").await;
        page.click("[data-preset=reply-lost]").await;
        page.fill("[name=uid]", "654").await;
        page.run("scrollTo(0, 0)", &[]).await;
        page.shoot(&shot("faults")).await;
        page.go("help").await;
        page.sees("#tab-2").await;
        page.click("#tab-2").await;
        page.run("scrollTo(0, 0)", &[]).await;
        page.shoot(&shot("help")).await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "writes pictures, and takes a minute for it"]
async fn they_are_taken() {
    let folder =
        PathBuf::from(std::env::var_os("IMD_SCREENSHOTS").expect("IMD_SCREENSHOTS, a folder"));
    for dark in [false, true] {
        shoot(dark, folder.clone()).await;
    }
}
