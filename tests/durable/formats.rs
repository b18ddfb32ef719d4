//! Opens folders that earlier programs have made: they are brought to the present format, and hold what they held.
//!
//! `tests/fixtures/store/format-N` is a folder of format N, as a kill leaves it: with tables and a journal. Beside it,
//! `format-N.snapshot` is the snapshot of the program that made the folder. Both were made by [`make`], formats 1 and 2 by the
//! last program that had no newer format. Before the format changes, or another release of the engine is taken, a new pair has to
//! be made: the new program must open what the last one left. For that, name the folder to make in the environment:
//! `IMD_FIXTURE=tests/fixtures/store/format-N cargo test --test durable formats`.

use std::fs;
use std::path::{Path, PathBuf};

use imd::client::Event;
use imd::store::{Inspection, Snapshot};
use imd::{Client, Config, Imd};

use crate::fixture::{copy_into, crashed};

fn fixtures() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/store")
}

fn config(folder: &Path) -> Config {
    let mut config = Config::ephemeral().manual_clock();
    config.store.path = Some(folder.to_owned());
    config
}

async fn login(imd: &Imd, uid: i64) -> Client {
    let mut client = Client::connect(imd.gateway_addr()).await.unwrap();
    client.login(uid, &imd.token(uid)).await.unwrap();
    client
}

/// Returns the version, sender, id and text of each message in an inbox.
async fn inbox(client: &mut Client) -> Vec<(i64, i64, String, String)> {
    let page = client.sync(0, 0).await.unwrap();
    let messages = page.messages.into_iter();
    messages
        .map(|message| {
            (
                message.version,
                message.source,
                message.msg_id,
                message.text,
            )
        })
        .collect()
}

/// Opens a copy of the folder `made`, as the program does at its start, and compares it with the snapshot beside it.
async fn check(made: &Path) {
    let copy = tempfile::tempdir().unwrap();
    let folder = copy.path().join("data");
    copy_into(made, &folder).unwrap();

    let imd = Imd::start(config(&folder)).await.unwrap();
    let expected = Snapshot::open(&made.with_extension("snapshot")).unwrap();
    assert!(imd.snapshot().await.unwrap() == expected);

    // These are the contents of the snapshot.
    let mut bob = login(&imd, 2).await;
    let event = bob.next_event().await.unwrap();
    let Event::Notify { current, total } = event else {
        panic!("{event:?}");
    };
    assert_eq!(
        (current, total),
        (3, 6),
        "the read mark, and the newest version"
    );
    let row =
        |version, source, id: &str, text: &str| (version, source, id.to_owned(), text.to_owned());
    let inbox_of_bob = [
        row(3, 1, "third", "before the tables were written"),
        row(4, 3, "to all", "to the group"),
        row(5, 1, "fourth", "in the tables"),
        row(6, 1, "fifth", "in the journal"),
    ];
    assert_eq!(inbox(&mut bob).await, inbox_of_bob);
    let mut ann = login(&imd, 1).await;
    assert_eq!(inbox(&mut ann).await[1], row(2, 2, "third", ""), "an ack");

    // The ids of stored messages are remembered, also the id of a message that was removed.
    for id in ["first", "third", "fifth"] {
        ann.send_p2p_as(2, id, "again").await.unwrap();
    }
    assert_eq!(inbox(&mut bob).await, inbox_of_bob);
    // The folders of formats 1 and 2 have no message to user 9.
    let mut owner = login(&imd, 9).await;
    let stored = inbox(&mut owner).await;
    for (_, _, id, _) in &stored {
        ann.send_p2p_as(9, id, "again").await.unwrap();
    }
    assert_eq!(inbox(&mut owner).await, stored);
    ann.send_p2p_as(2, "sixth", "new").await.unwrap();
    assert_eq!(
        inbox(&mut bob).await.last(),
        Some(&row(7, 1, "sixth", "new"))
    );
    imd.shutdown().await;

    let format = |folder: &Path| fs::read_to_string(folder.join("format")).unwrap();
    assert_eq!(format(&folder), format(&fixtures().join("format-3")));
    assert_eq!(Inspection::open(&folder).unwrap().check().wrong, 0);
}

#[tokio::test]
async fn a_folder_of_format_1_is_upgraded_and_holds_everything() {
    let format = fs::read_to_string(fixtures().join("format-1/format")).unwrap();
    assert_eq!(format.trim_end(), "imd store, format 1");
    assert!(!fixtures().join("format-1/id").exists());
    check(&fixtures().join("format-1")).await;
}

#[tokio::test]
async fn a_folder_of_format_2_is_upgraded_and_holds_everything() {
    check(&fixtures().join("format-2")).await;
}

#[tokio::test]
async fn a_folder_of_format_3_holds_everything() {
    check(&fixtures().join("format-3")).await;
}

/// The folder is made in the same way as the fixtures, so that the next fixture can be made at any time.
#[tokio::test]
async fn a_folder_of_the_present_format_holds_everything() {
    let dir = tempfile::tempdir().unwrap();
    let made = dir.path().join("made");
    make(&made).await;
    check(&made).await;
    if let Some(to) = std::env::var_os("IMD_FIXTURE").map(PathBuf::from) {
        let _ = fs::remove_dir_all(&to);
        copy_into(&made, &to).unwrap();
        let snapshot = made.with_extension("snapshot");
        fs::copy(snapshot, to.with_extension("snapshot")).unwrap();
    }
}

/// Makes a folder at `to`, and its snapshot beside it. This uses nothing that changes from one version of the crate to the
/// next, so that an older program can run it too.
async fn make(to: &Path) {
    let made = tempfile::tempdir().unwrap();
    let folder = made.path().join("data");

    let mut first = config(&folder);
    first.store.max_inbox = Some(3);
    let imd = Imd::start(first).await.unwrap();
    imd.register(1, "ann", "a secret").await.unwrap();
    imd.register(2, "bob", "").await.unwrap();
    let group = imd.create_group(1, "team", &[2, 3]).await.unwrap();
    imd.create_group(9, "alone", &[]).await.unwrap();
    let (mut ann, mut bob, mut eve) = (
        login(&imd, 1).await,
        login(&imd, 2).await,
        login(&imd, 3).await,
    );
    ann.send_p2p(9, "with an id of the server").await.unwrap();
    ann.send_p2p_as(2, "first", "removed").await.unwrap();
    ann.send_p2p_as(2, "second", "removed").await.unwrap();
    ann.send_p2p_as(2, "third", "before the tables were written")
        .await
        .unwrap();
    eve.send_group_as(group, "to all", "to the group")
        .await
        .unwrap();
    bob.accept(1, "third").await.unwrap();
    ann.send_p2p_as(2, "fourth", "in the tables").await.unwrap();
    while inbox(&mut bob).await.len() > 3 {
        // The store is cleaned once a minute.
        imd.clock().advance(std::time::Duration::from_secs(1)).await;
        for client in [&mut ann, &mut bob, &mut eve] {
            client.ping().await.unwrap();
        }
    }
    bob.sync(3, 0).await.unwrap();
    imd.shutdown().await;
    Inspection::compact(&folder).unwrap();

    let imd = Imd::start(config(&folder)).await.unwrap();
    login(&imd, 1)
        .await
        .send_p2p_as(2, "fifth", "in the journal")
        .await
        .unwrap();
    let snapshot = imd.snapshot().await.unwrap();
    // A shutdown would write the journal into tables, and the fixture must have a journal.
    let killed = crashed(&folder);
    imd.shutdown().await;
    copy_into(killed.path(), to).unwrap();
    // No machine has this id: wherever the folder is opened, the machine was started again in between.
    fs::write(to.join("boot"), "00000000-0000-0000-0000-000000000000\n").unwrap();
    snapshot.save(&to.with_extension("snapshot")).unwrap();
}
