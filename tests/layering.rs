//! Tests of the structure of `src/`: imports go from the upper modules to the lower ones, through their public names,
//! and never in a circle.
//!
//! The layers are listed here, and explained in docs/architecture.md. `sources` reads the files.

#[path = "layering/sources.rs"]
mod sources;

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use petgraph::algo::tarjan_scc;
use petgraph::graph::DiGraph;
use sources::{Crate, Edge};

/// The modules of the library from the bottom to the top. Modules of one tier do not use each other.
const TIERS: &[&[&str]] = &[
    &["clock", "id"],
    &[
        "byte_size",
        "proto",
        "number",
        "phc",
        "sharded",
        "task_group",
        "text",
        "file_target",
    ],
    &["codec", "tls"],
    &["transport", "command"],
    &["idgen", "client", "metrics", "lab"],
    &["config", "load"],
    &["registry", "store"],
    &["directory"],
    // A service knows no session, and a session no service.
    &["session", "service"],
    &["listener"],
    &["core"],
    &["gateway", "access", "http"],
    &["stack"],
    &["reset"],
    &["admin"],
    &["daemon"],
];

/// Orders that the tiers must keep, whatever else is changed in them: the path of a frame, and the path of its request.
const ORDERS: &[&[&str]] = &[
    &[
        "proto",
        "codec",
        "transport",
        "session",
        "listener",
        "gateway",
    ],
    &[
        "proto",
        "codec",
        "transport",
        "session",
        "listener",
        "access",
    ],
    &["registry", "service", "access", "admin", "daemon"],
    &["directory", "service", "access", "admin", "daemon"],
    &["store", "service", "http", "admin", "daemon"],
    &["lab", "service", "gateway", "daemon"],
];

/// The modules above all tiers: the crate root, the program, and its commands.
const ABOVE: [&str; 3] = ["lib", "main", "cli"];

/// Modules that may use only the listed modules, although their tier would allow more.
const NARROW: &[(&str, &[&str])] = &[
    // The client is meant to become a crate of its own.
    ("client", &["codec", "id", "proto", "tls"]),
    ("load", &["codec", "metrics", "proto"]),
];

/// Modules that no module of the library may use. The program uses them, and so do the examples, which are outside of `src`.
const FOR_THE_PROGRAM: [&str; 1] = ["load"];

/// The files of each implementation, and the modules that may name them besides the module that contains them. All other
/// modules see a trait, or an enum that does not show its variants.
const IMPLEMENTATIONS: &[(&str, &[&str])] = &[
    ("store/memory/", &["daemon"]),
    ("store/durable/", &["daemon", "cli"]),
    ("registry/memory.rs", &["daemon"]),
    // The lab and the admin API control what the faulty registry claims.
    ("registry/faulty.rs", &["core", "daemon"]),
    ("directory/local.rs", &["daemon"]),
    // The HTTP APIs are served over TCP alone.
    ("transport/tcp.rs", &["http"]),
    ("transport/tls.rs", &[]),
    ("transport/pipe.rs", &[]),
];

/// The modules that may name tokio's sockets: those that dial or listen, and the transport. The session is not one of them.
const WITH_SOCKETS: [&str; 10] = [
    "tls",
    "transport",
    "client",
    "load",
    "listener",
    "http",
    "gateway",
    "access",
    "daemon",
    "cli",
];

/// Returns the text of each file in `src`, by its path in it.
fn sources() -> BTreeMap<String, String> {
    let src = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let files = sources::files(&src);
    assert!(
        files.len() > 200,
        "only {} files in {}",
        files.len(),
        src.display()
    );
    files
}

/// Returns the module directly below the crate root that a file belongs to.
fn module(file: &str) -> &str {
    let first = file.split('/').next().unwrap_or(file);
    first.strip_suffix(".rs").unwrap_or(first)
}

/// Returns the index of a module's tier, from the bottom.
fn tier(module: &str) -> usize {
    let found = TIERS.iter().position(|tier| tier.contains(&module));
    found.unwrap_or_else(|| panic!("{module} is in no tier: add it where it belongs"))
}

/// Returns every use that does not go downwards.
fn check_directions(edges: &BTreeSet<Edge>) -> Vec<String> {
    if edges.is_empty() {
        return vec!["no uses were found: the scan is broken".to_owned()];
    }
    let mut complaints = Vec::new();
    for edge in edges {
        let from = module(&edge.from);
        // A name that is passed on may be defined further down than the module by which it is imported.
        let named = edge
            .path
            .strip_prefix("crate::")
            .and_then(|path| path.split("::").next());
        let is_known = |named: &&str| TIERS.iter().any(|tier| tier.contains(named));
        let named = named.filter(|named| is_known(named) && *named != module(&edge.to));
        for to in [Some(module(&edge.to)), named].into_iter().flatten() {
            if from == to || ABOVE.contains(&from) {
                continue;
            }
            let is_narrow = NARROW
                .iter()
                .any(|(module, may)| *module == from && !may.contains(&to));
            if ABOVE.contains(&to)
                || tier(to) >= tier(from)
                || is_narrow
                || FOR_THE_PROGRAM.contains(&to)
            {
                complaints.push(format!("{} must not use {} ({to})", edge.from, edge.path));
            }
        }
    }
    complaints
}

/// Returns every use of an implementation by a module that may not name it.
fn check_implementations(edges: &BTreeSet<Edge>) -> Vec<String> {
    let mut complaints = Vec::new();
    for (files, may) in IMPLEMENTATIONS {
        let mut is_there = false;
        for edge in edges.iter().filter(|edge| edge.to.starts_with(files)) {
            is_there = true;
            let from = module(&edge.from);
            if from != module(files) && !may.contains(&from) {
                complaints.push(format!(
                    "{} must not name {} of {files}",
                    edge.from, edge.path
                ));
            }
        }
        // Only tests use a pipe, and the scan leaves tests out.
        if !is_there && *files != "transport/pipe.rs" {
            complaints.push(format!("nobody uses {files}: has it moved?"));
        }
    }
    complaints
}

/// Returns the circles among the uses of files, each as the list of its uses.
///
/// A use of something that a module above the file defines does not count: a child module is a part of its parent, and sees
/// even the parent's private items. All other uses count: those of a sibling, those of a module elsewhere, and those that a
/// parent makes of its children. A parent that only declares its children and re-exports their names does not use them: see
/// [`Crate::edges`].
fn circles(edges: &BTreeSet<Edge>) -> Vec<Vec<String>> {
    let edges: Vec<&Edge> = edges.iter().filter(|edge| !edge.goes_up()).collect();
    let mut graph = DiGraph::new();
    let mut nodes = BTreeMap::new();
    for edge in &edges {
        let mut node = |file| *nodes.entry(file).or_insert_with(|| graph.add_node(file));
        let (from, to) = (node(edge.from.as_str()), node(edge.to.as_str()));
        graph.add_edge(from, to, ());
    }
    let components = tarjan_scc(&graph)
        .into_iter()
        .filter(|component| component.len() > 1);
    let circle = |component: Vec<_>| {
        let is_in = |file: &str| component.contains(&nodes[file]);
        let inner = edges
            .iter()
            .filter(|edge| is_in(&edge.from) && is_in(&edge.to));
        inner
            .map(|edge| format!("{} uses {} of {}", edge.from, edge.path, edge.to))
            .collect()
    };
    components.map(circle).collect()
}

/// Returns a description of each circle among these uses.
fn check_circles(edges: &BTreeSet<Edge>) -> Vec<String> {
    if edges.is_empty() {
        return vec!["no uses were found: the scan is broken".to_owned()];
    }
    circles(edges)
        .iter()
        .map(|circle| format!("a circle of files: {}", circle.join("; ")))
        .collect()
}

/// Returns the uses of files in the library and in the program.
fn all_edges(files: &BTreeMap<String, String>) -> BTreeSet<Edge> {
    let mut edges = Crate::read("lib.rs", files).edges();
    edges.extend(Crate::read("main.rs", files).edges());
    assert!(
        edges.len() > 1000,
        "only {} uses were found: the scan is broken",
        edges.len()
    );
    edges
}

fn assert_none(complaints: &[String]) {
    assert!(complaints.is_empty(), "{}", complaints.join("\n"));
}

#[test]
fn imports_go_only_downwards() {
    assert_none(&check_directions(&all_edges(&sources())));
}

#[test]
fn the_tiers_keep_the_required_orders() {
    for order in ORDERS {
        let tiers: Vec<usize> = order.iter().map(|module| tier(module)).collect();
        assert!(
            tiers.is_sorted_by(|below, above| below < above),
            "{order:?}: {tiers:?}"
        );
    }
}

#[test]
fn implementations_are_named_only_by_the_modules_that_choose_them() {
    assert_none(&check_implementations(&all_edges(&sources())));
}

#[test]
fn only_modules_that_dial_or_listen_name_a_socket() {
    let files = sources();
    let library = Crate::read("lib.rs", &files);
    let named = library.files_naming(&["tokio", "net"]);
    assert!(
        named.contains("transport/tcp.rs"),
        "the scan is broken: {named:?}"
    );
    for file in named {
        assert!(
            WITH_SOCKETS.contains(&module(file)),
            "{file} must not name tokio::net"
        );
    }
}

#[test]
fn no_files_use_each_other_in_a_circle() {
    assert_none(&check_circles(&all_edges(&sources())));
}

/// Returns the uses in a made-up crate.
fn made_up(files: &[(&str, &str)]) -> BTreeSet<Edge> {
    let text = |(file, text): &(&str, &str)| ((*file).to_owned(), (*text).to_owned());
    Crate::read("lib.rs", &files.iter().map(text).collect()).edges()
}

/// Returns the number of circles in a made-up crate whose root declares the modules `a` and `b` with these texts.
fn circles_of(a: &str, b: &str) -> usize {
    let edges = made_up(&[("lib.rs", "mod a; mod b;"), ("a.rs", a), ("b.rs", b)]);
    circles(&edges).len()
}

#[test]
fn a_circle_is_found_however_its_uses_are_written() {
    let b = "pub struct B; use super::a::A;";
    for a in [
        "pub struct A; use crate::b::B;",
        "pub struct A; use crate::{b, other};",
        "pub struct A; use super::b::{self as c, B};",
        "pub struct A; use crate::b::*;",
        "pub struct A; fn f() { let x = crate::b::B; }",
        "pub struct A(super::b::B);",
        "pub struct A; fn f() { vec![crate::b::B]; }",
        "pub struct A; pub use crate::b::B;",
        "pub struct A; mod inner { use super::super::b::B; }",
        "pub struct A; #[cfg(not(test))] use crate::b::B;",
    ] {
        assert_eq!(circles_of(a, b), 1, "{a}");
    }
}

#[test]
fn comments_strings_tests_and_other_crates_make_no_circle() {
    let b = "pub struct B; use super::a::A;";
    for a in [
        "pub struct A;",
        "pub struct A; // use crate::b::B;",
        "/// [`crate::b::B`]\npub struct A;",
        "pub struct A; const TEXT: &str = \"crate::b::B\";",
        "pub struct A; use std::b::B;",
        "pub struct A; #[cfg(test)] mod tests { use crate::b::B; }",
        "pub enum A { #[cfg(test)] One(crate::b::B), Two }",
        "pub struct A; #[cfg(test)] fn f(x: Vec<A, A>) -> Vec<A, A> { crate::b::B }",
    ] {
        assert_eq!(circles_of(a, b), 0, "{a}");
    }
}

#[test]
fn a_parent_that_only_re_exports_is_in_no_circle() {
    let child = "pub struct Child; use super::Sibling;";
    let sibling = ("folder/sibling.rs", "pub struct Sibling;");
    let root = ("lib.rs", "mod folder;");
    let with = |parent| {
        [
            root,
            ("folder/mod.rs", parent),
            ("folder/child.rs", child),
            sibling,
        ]
    };
    let parent = "mod child; mod sibling; pub use child::Child; pub use sibling::Sibling;";
    let edges = made_up(&with(parent));
    let uses: Vec<_> = edges
        .iter()
        .map(|edge| (edge.from.as_str(), edge.to.as_str()))
        .collect();
    // The name is imported from the parent, but the sibling defines it.
    assert_eq!(uses, [("folder/child.rs", "folder/sibling.rs")]);
    // The parent uses its child, and the child uses what the parent defines. They count as one module.
    let parent = "mod child; mod sibling; pub struct Sibling; fn f() -> child::Child {}";
    let edges = made_up(&with(parent));
    assert_eq!(edges.len(), 2);
    assert!(circles(&edges).is_empty());
}

#[test]
fn a_circle_through_a_parent_is_found() {
    let edges = made_up(&[
        ("lib.rs", "mod a; mod folder;"),
        ("a.rs", "pub struct A; use crate::folder::Parent;"),
        (
            "folder/mod.rs",
            "mod child; pub struct Parent(child::Child);",
        ),
        ("folder/child.rs", "pub struct Child(crate::a::A);"),
    ]);
    assert_eq!(circles(&edges).len(), 1);
}

#[test]
fn the_check_of_circles_finds_violations() {
    let nothing = check_circles(&BTreeSet::new());
    assert!(nothing[0].contains("the scan is broken"), "{nothing:?}");
    let with = |b| {
        made_up(&[
            ("lib.rs", "mod a; mod b;"),
            ("a.rs", "pub struct A; use crate::b::B;"),
            ("b.rs", b),
        ])
    };
    assert_none(&check_circles(&with("pub struct B;")));
    let circle = check_circles(&with("pub struct B; use crate::a::A;"));
    assert_eq!(circle.len(), 1, "{circle:?}");
    assert!(
        circle[0].contains("b.rs uses crate::a::A of a.rs"),
        "{circle:?}"
    );
}

#[test]
fn the_check_of_directions_finds_violations() {
    assert_eq!(
        check_directions(&BTreeSet::new()).len(),
        1,
        "nothing was found"
    );
    let root = (
        "lib.rs",
        "mod store; mod service; mod session; mod load; mod client;",
    );
    let with = |file: &str, text| {
        let others = [
            "store.rs",
            "service.rs",
            "session.rs",
            "load.rs",
            "client.rs",
        ];
        let others = others.map(|name| (name, if name == file { text } else { "pub struct It;" }));
        check_directions(&made_up(&[&[root], &others[..]].concat()))
    };
    assert_none(&with("service.rs", "use crate::store::It;"));
    assert_eq!(
        with("store.rs", "use crate::service::It;").len(),
        1,
        "upwards"
    );
    assert_eq!(
        with("service.rs", "use crate::session::It;").len(),
        1,
        "sideways"
    );
    assert_eq!(
        with("service.rs", "use crate::load::It;").len(),
        1,
        "for the program alone"
    );
    assert_eq!(
        with("client.rs", "use crate::store::It;").len(),
        1,
        "too much for a client"
    );
}

#[test]
fn the_check_of_implementations_finds_violations() {
    let memory = ("store/memory/mod.rs", "pub struct MemoryStore;");
    let store = (
        "store/mod.rs",
        "pub mod memory; pub use memory::MemoryStore;",
    );
    let root = ("lib.rs", "mod store; mod service; mod daemon;");
    let nothing = "";
    let complaints = |service, daemon| {
        let files = [
            root,
            store,
            memory,
            ("service.rs", service),
            ("daemon.rs", daemon),
        ];
        let mut complaints = check_implementations(&made_up(&files));
        complaints.retain(|complaint| complaint.contains("MemoryStore"));
        complaints.len()
    };
    let named = "use crate::store::MemoryStore;";
    assert_eq!(complaints(nothing, named), 0, "the wiring");
    assert_eq!(complaints(named, nothing), 1, "below the wiring");
    assert!(
        check_implementations(&BTreeSet::new()).len() > 1,
        "nothing was found"
    );
}
