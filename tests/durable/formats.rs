//! Opens folders that earlier programs have made: they are brought to the present format, and hold what they held.
//!
//! `tests/fixtures/store/format-N` is a folder of format N, as a kill leaves it: with tables and a journal. Beside it,
//! `format-N.snapshot` is what the program that made the folder said of its contents. Both were made by
//! [`make_a_folder_of_the_present_format`], format 1 by the last program that had no newer one. Before the format changes, or
//! another release of the engine is taken, another folder has to be made: the new program must open what the last one left.

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

/// The version, sender, id and text of each message that an inbox still has.
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

/// Opens a copy of a fixture, as the program does at its start.
async fn check_fixture(name: &str) {
    let copy = tempfile::tempdir().unwrap();
    let folder = copy.path().join("data");
    copy_into(&fixtures().join(name), &folder).unwrap();

    let imd = Imd::start(config(&folder)).await.unwrap();
    let expected = Snapshot::open(&fixtures().join(format!("{name}.snapshot"))).unwrap();
    assert!(imd.snapshot().await.unwrap() == expected, "{name}");

    // The snapshot says it too. Here it stands in words.
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

    // The ids are known, also that of a message which was removed.
    for id in ["first", "third", "fifth"] {
        ann.send_p2p_as(2, id, "again").await.unwrap();
    }
    assert_eq!(inbox(&mut bob).await, inbox_of_bob);
    ann.send_p2p_as(2, "sixth", "new").await.unwrap();
    assert_eq!(
        inbox(&mut bob).await.last(),
        Some(&row(7, 1, "sixth", "new"))
    );
    imd.shutdown().await;

    let format = fs::read_to_string(folder.join("format")).unwrap();
    assert_eq!(
        format,
        fs::read_to_string(fixtures().join("format-2/format")).unwrap()
    );
    let inspection = Inspection::open(&folder).unwrap();
    assert_eq!(inspection.check().wrong, 0, "{name}");
}

#[tokio::test]
async fn a_folder_of_format_1_is_upgraded_and_holds_everything() {
    let format = fs::read_to_string(fixtures().join("format-1/format")).unwrap();
    assert_eq!(format.trim_end(), "imd store, format 1");
    assert!(!fixtures().join("format-1/id").exists());
    check_fixture("format-1").await;
}

#[tokio::test]
async fn a_folder_of_format_2_holds_everything() {
    check_fixture("format-2").await;
}

/// Makes a folder and its snapshot in the folder that the environment names as `IMD_FIXTURE`. It uses nothing that changes
/// from one version of the crate to the next, so that an older program can run it too.
#[tokio::test]
#[ignore = "makes a fixture; it is no test"]
async fn make_a_folder_of_the_present_format() {
    let to = PathBuf::from(std::env::var_os("IMD_FIXTURE").unwrap());
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
    // A stop would write the journal into tables.
    let killed = crashed(&folder);
    imd.shutdown().await;
    let _ = fs::remove_dir_all(&to);
    copy_into(killed.path(), &to).unwrap();
    // No machine has this id: wherever the fixture is opened, the machine was started again in between.
    fs::write(to.join("boot"), "00000000-0000-0000-0000-000000000000\n").unwrap();
    snapshot.save(&to.with_extension("snapshot")).unwrap();
}
