//! What a folder must be for the durable store to open it: complete, of a known format, and in use by no other process.
//!
//! A commit that a crash has cut short is cut off. A commit that was acknowledged and is missing makes the folder
//! damaged, and then it is left as it is. Proves `store/durable/folder`.

use std::fs;
use std::path::Path;

use imd::id::{GroupId, Uid};
use imd::store::{
    AccountStore, DurableStore, Inspection, MessageStore, OpenError, StoreAdmin, Write,
};

use crate::fixture::{crashed, files, journal, one, open, open_small, p2p};

/// Opens a folder that must be refused, and returns the error.
fn refusal(path: &Path) -> OpenError {
    open(path).map(drop).unwrap_err()
}

#[tokio::test]
async fn a_folder_is_open_in_one_store_at_a_time() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path()).unwrap();
    assert!(matches!(refusal(folder.path()), OpenError::InUse(_)));
    assert!(matches!(
        Inspection::open(folder.path()).map(drop),
        Err(OpenError::InUse(_))
    ));
    store.close().await.unwrap();
    // A closed store answers with errors, and a second close changes nothing.
    assert!(store.inbox_state(Uid(1)).await.is_err());
    assert!(store.commit(vec![p2p(1, 2, "a")]).await.is_err());
    store.close().await.unwrap();
    open(folder.path()).unwrap().close().await.unwrap();
}

#[test]
fn a_folder_that_is_no_store_is_left_alone() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("thesis.txt"), "years of work").unwrap();
    let refused = refusal(folder.path()).to_string();
    assert!(
        refused.contains("\"thesis.txt\"") && refused.contains("--memory"),
        "{refused}"
    );
    let missing = folder.path().join("a/b");
    let refused = refusal(&missing).to_string();
    assert!(
        refused.contains("No such file") && refused.contains("--store"),
        "{refused}"
    );
    let refused = Inspection::open(folder.path())
        .map(drop)
        .unwrap_err()
        .to_string();
    assert!(refused.contains("is no store of imd"), "{refused}");
    assert!(!folder.path().join("engine").exists());
}

#[tokio::test]
async fn files_of_systems_and_tools_in_a_folder_are_ignored() {
    let litter = [
        "lost+found/",
        ".gitkeep",
        ".gitignore",
        ".keep",
        ".DS_Store",
        "._data",
        "Thumbs.db",
        "desktop.ini",
        ".nfs0000000000000001",
        ".Trash-1000/",
        ".directory",
        "$RECYCLE.BIN/",
    ];
    let leave = |folder: &Path| {
        for name in litter {
            match name.strip_suffix('/') {
                Some(name) => fs::create_dir_all(folder.join(name)).unwrap(),
                None => fs::write(folder.join(name), "").unwrap(),
            }
        }
    };
    let folder = tempfile::tempdir().unwrap();
    leave(folder.path());
    let store = open_small(folder.path());
    for n in 0..500 {
        one(&store, p2p(1, 2, &n.to_string())).await.unwrap();
    }
    store.close().await.unwrap();
    // A file manager leaves its files in every folder that it shows.
    for within in [
        "",
        "engine",
        "engine/keyspaces",
        "engine/keyspaces/1",
        "engine/keyspaces/1/tables",
    ] {
        fs::write(folder.path().join(within).join(".DS_Store"), "").unwrap();
        fs::write(folder.path().join(within).join("._x"), "").unwrap();
    }
    let store = open(folder.path()).unwrap();
    assert_eq!(store.inbox_state(Uid(2)).await.unwrap().total, 500);
    store.close().await.unwrap();
    assert_eq!(Inspection::open(folder.path()).unwrap().check().wrong, 0);

    let foreign = tempfile::tempdir().unwrap();
    leave(foreign.path());
    fs::write(foreign.path().join("notes.txt"), "mine").unwrap();
    assert!(
        refusal(foreign.path())
            .to_string()
            .contains("\"notes.txt\"")
    );
    assert!(!foreign.path().join("engine").exists());
}

#[tokio::test]
async fn a_newer_format_is_refused_and_left_alone() {
    let folder = tempfile::tempdir().unwrap();
    open(folder.path()).unwrap().close().await.unwrap();
    fs::write(folder.path().join("format"), "imd store, format 7\n").unwrap();
    let before = files(folder.path());
    let refused = refusal(folder.path()).to_string();
    assert!(
        refused.contains("has format 7") && refused.contains("up to 3"),
        "{refused}"
    );
    assert_eq!(files(folder.path()), before);
}

#[tokio::test]
async fn a_store_whose_creation_was_interrupted_is_created_anew() {
    let folder = tempfile::tempdir().unwrap();
    open(folder.path()).unwrap().close().await.unwrap();
    // This is the state before the last step of a creation.
    fs::write(folder.path().join("making"), "").unwrap();
    fs::remove_file(folder.path().join("format")).unwrap();
    fs::remove_file(folder.path().join("mark")).unwrap();
    let store = open(folder.path()).unwrap();
    one(&store, p2p(1, 2, "a")).await.unwrap();
    assert!(!folder.path().join("making").exists());
}

#[tokio::test]
async fn a_store_killed_before_its_first_rename_is_created_anew() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("lock"), "").unwrap();
    fs::write(folder.path().join("making.new"), "").unwrap();
    let store = open(folder.path()).unwrap();
    one(&store, p2p(1, 2, "a")).await.unwrap();
    assert!(!folder.path().join("making.new").exists());

    let foreign = tempfile::tempdir().unwrap();
    fs::write(foreign.path().join("making.new"), "mine").unwrap();
    let refused = refusal(foreign.path()).to_string();
    assert!(refused.contains("\"making.new\""), "{refused}");
    let left = fs::read_to_string(foreign.path().join("making.new"));
    assert_eq!(left.unwrap(), "mine");
}

/// Otherwise each sync would also have to write the new length of the file.
#[tokio::test]
async fn in_a_new_store_the_journal_does_not_grow() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path()).unwrap();
    let length = || fs::metadata(journal(folder.path())).unwrap().len();
    let before = length();
    one(&store, p2p(1, 2, "a")).await.unwrap();
    assert_eq!(length(), before);
    // A crash leaves the journal with its reserved room, which [`crashed`] cuts off.
    let copy = crashed(folder.path());
    let file = fs::File::options().write(true).open(journal(copy.path()));
    file.unwrap().set_len(before).unwrap();
    let survivor = open(copy.path()).unwrap();
    one(&survivor, p2p(1, 2, "b")).await.unwrap();
    assert_eq!(survivor.inbox_state(Uid(2)).await.unwrap().total, 2);
    // A close writes everything into tables, and leaves the journal empty.
    store.close().await.unwrap();
    assert_eq!(length(), 0);
}

#[tokio::test]
async fn a_store_that_has_lost_a_file_is_refused_and_not_created_anew() {
    let folder = tempfile::tempdir().unwrap();
    let store = open_small(folder.path());
    for n in 0..500 {
        one(&store, p2p(1, 2, &n.to_string())).await.unwrap();
    }
    store.close().await.unwrap();
    let lists = ["engine/keyspaces/0/current", "engine/keyspaces/1/current"];
    for file in ["format", "mark"].into_iter().chain(lists) {
        let copy = crashed(folder.path());
        fs::remove_file(copy.path().join(file)).unwrap();
        let before = files(copy.path());
        let refused = refusal(copy.path()).to_string();
        assert!(
            refused.contains("is damaged") || refused.contains("is no store"),
            "{file}: {refused}"
        );
        assert_eq!(files(copy.path()), before, "without {file}");
    }
}

#[test]
fn a_foreign_folder_named_engine_is_left_alone() {
    let folder = tempfile::tempdir().unwrap();
    fs::create_dir(folder.path().join("engine")).unwrap();
    fs::write(folder.path().join("engine/thesis.txt"), "years of work").unwrap();
    assert!(matches!(
        refusal(folder.path()),
        OpenError::NotAStore { .. }
    ));
    assert_eq!(files(folder.path()).len(), 1);
}

#[tokio::test]
async fn unsynced_commits_may_be_missing_only_after_a_restart_of_the_machine() {
    let folder = tempfile::tempdir().unwrap();
    let config = imd::config::Store {
        sync: imd::config::SyncMode::Os,
        ..imd::config::Store::default()
    };
    let store = DurableStore::open(folder.path(), &config).unwrap();
    one(&store, p2p(1, 2, "a")).await.unwrap();
    let length = fs::read(journal(crashed(folder.path()).path()))
        .unwrap()
        .len();
    one(&store, p2p(1, 2, "b")).await.unwrap();
    let cut = crashed(folder.path());
    let whole = fs::read(journal(cut.path())).unwrap();
    fs::write(journal(cut.path()), &whole[..length]).unwrap();
    let before = files(cut.path());
    if cfg!(target_os = "linux") {
        assert!(matches!(refusal(cut.path()), OpenError::Damaged { .. }));
        assert_eq!(files(cut.path()), before);
    }
    // With another boot id the folder is opened after a restart of the machine.
    fs::write(cut.path().join("boot"), "another").unwrap();
    assert_eq!(
        open(cut.path())
            .unwrap()
            .inbox_state(Uid(2))
            .await
            .unwrap()
            .total,
        1
    );
}

#[tokio::test]
async fn a_torn_end_of_an_older_journal_is_cut_off_if_no_commit_is_missing() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path()).unwrap();
    one(&store, p2p(1, 2, "a")).await.unwrap();
    let copy = crashed(folder.path());
    let first = journal(copy.path());
    let mut bytes = fs::read(&first).unwrap();
    // These bytes are the beginning of a batch.
    bytes.extend([1, 5, 0, 0]);
    fs::write(&first, bytes).unwrap();
    fs::write(first.with_file_name("1.jnl"), "").unwrap();
    let store = open(copy.path()).unwrap();
    assert_eq!(store.inbox_state(Uid(2)).await.unwrap().total, 1);
    one(&store, p2p(1, 2, "b")).await.unwrap();
    assert_eq!(store.inbox_state(Uid(2)).await.unwrap().total, 2);
}

/// Returns copies of a folder after one commit and after two, as crashes would leave them, and the lengths of the journal in
/// both.
async fn two_commits() -> (tempfile::TempDir, tempfile::TempDir, usize, usize) {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path()).unwrap();
    one(&store, p2p(1, 2, "a")).await.unwrap();
    let one_commit = crashed(folder.path());
    one(&store, p2p(1, 2, "b")).await.unwrap();
    let both = crashed(folder.path());
    let length = |copy: &tempfile::TempDir| fs::read(journal(copy.path())).unwrap().len();
    let (before, after) = (length(&one_commit), length(&both));
    (one_commit, both, before, after)
}

#[tokio::test]
async fn an_incomplete_commit_is_cut_off() {
    let (one_commit, both, before, after) = two_commits().await;
    let whole = fs::read(journal(both.path())).unwrap();
    for length in (before + 1..after).step_by(7) {
        let copy = crashed(one_commit.path());
        // A part of the second commit, which was not acknowledged.
        fs::write(journal(copy.path()), &whole[..length]).unwrap();
        let store = open(copy.path()).unwrap();
        assert_eq!(
            store.inbox_state(Uid(2)).await.unwrap().total,
            1,
            "cut at {length}"
        );
        one(&store, p2p(1, 2, "b")).await.unwrap();
        assert_eq!(store.inbox_state(Uid(2)).await.unwrap().total, 2);
    }
}

#[tokio::test]
async fn a_group_that_a_crash_interrupts_has_all_its_members_or_does_not_exist() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path()).unwrap();
    one(&store, p2p(1, 2, "a")).await.unwrap();
    let before = crashed(folder.path());
    let make = Write::CreateGroup {
        group: GroupId(9),
        name: "team".into(),
        owner: Uid(1),
        members: (2..=5).map(Uid).collect(),
        made_at: 1,
    };
    one(&store, make).await.unwrap();
    let after = crashed(folder.path());
    let whole = fs::read(journal(after.path())).unwrap();
    let begin = fs::read(journal(before.path())).unwrap().len();
    for length in (begin..whole.len()).step_by(11).chain([whole.len()]) {
        let copy = crashed(before.path());
        fs::write(journal(copy.path()), &whole[..length]).unwrap();
        let store = open(copy.path()).unwrap();
        let groups = store.groups(GroupId(0), 10).await.unwrap();
        let members: Vec<_> = groups.into_iter().map(|group| group.members).collect();
        let all = vec![vec![1, 2, 3, 4, 5]];
        let expected = if length < whole.len() {
            Vec::new()
        } else {
            all
        };
        assert_eq!(members, expected, "cut at {length}");
    }
}

#[tokio::test]
async fn a_missing_acknowledged_commit_is_reported() {
    let (_, both, before, after) = two_commits().await;
    let whole = fs::read(journal(both.path())).unwrap();
    // With the first bit flipped, the journal looks as if nothing had ever been written.
    let mut flipped = whole.clone();
    flipped[0] ^= 1;
    let copy = crashed(both.path());
    fs::write(journal(copy.path()), &flipped).unwrap();
    let unchanged = files(copy.path());
    assert!(refusal(copy.path()).to_string().contains("is damaged"));
    assert_eq!(files(copy.path()), unchanged);
    for length in (0..after).step_by(7).chain([before]) {
        let copy = crashed(both.path());
        fs::write(journal(copy.path()), &whole[..length]).unwrap();
        let before = files(copy.path());
        let refused = refusal(copy.path()).to_string();
        assert!(refused.contains("is damaged"), "cut at {length}: {refused}");
        assert_eq!(files(copy.path()), before, "cut at {length}");
    }
}
