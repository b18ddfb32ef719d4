//! `src/proto/external.rs` is what prost makes of `proto/external/*.proto`.
//!
//! The file is checked in, so that whoever uses the crate needs no compiler of `.proto` files. This test renews a file that
//! is out of date, and fails then: the next build takes the new one.

use std::fs;
use std::path::Path;

#[test]
fn the_generated_messages_are_those_of_the_proto_files() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let include = root.join("proto");
    let mut sources: Vec<_> = fs::read_dir(include.join("external"))
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    sources.sort();
    assert!(!sources.is_empty());

    let made = tempfile::tempdir().unwrap();
    let descriptors = protox::compile(&sources, [&include]).unwrap();
    let mut compiler = prost_build::Config::new();
    compiler.out_dir(made.path());
    compiler.compile_fds(descriptors).unwrap();
    let made = fs::read_to_string(made.path().join("external.rs")).unwrap();

    let checked_in = root.join("src/proto/external.rs");
    if fs::read_to_string(&checked_in).unwrap_or_default() != made {
        fs::write(&checked_in, made).unwrap();
        panic!(
            "src/proto/external.rs was out of date and was written anew: look at it, and build again"
        );
    }
}
