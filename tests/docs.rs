//! README.md, CHANGELOG.md and docs/, as far as a machine can check them: their Rust compiles, and their links lead to
//! files.

use std::fs;
use std::path::{Path, PathBuf};

/// Returns every Markdown file that users read, with its text.
fn pages() -> Vec<(PathBuf, String)> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut paths = vec![root.join("README.md"), root.join("CHANGELOG.md")];
    for entry in fs::read_dir(root.join("docs")).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_some_and(|extension| extension == "md") {
            paths.push(path);
        }
    }
    assert!(paths.len() > 8, "{paths:?}");
    let read = |path: PathBuf| {
        let text = fs::read_to_string(&path).unwrap();
        (path, text)
    };
    paths.into_iter().map(read).collect()
}

/// Returns the language of each fenced block. Every other fence begins one.
fn fences(text: &str) -> Vec<&str> {
    let fences = text.lines().filter_map(|line| line.strip_prefix("```"));
    fences.step_by(2).collect()
}

#[test]
fn every_rust_snippet_is_a_doctest() {
    let lib = fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/src/lib.rs")).unwrap();
    let mut found = 0;
    for (path, text) in pages() {
        for language in fences(&text) {
            assert!(!language.is_empty(), "{}: ``` alone", path.display());
            if language != "rust" {
                assert!(!language.starts_with("rust"), "{language}");
                continue;
            }
            found += 1;
            let root = Path::new(env!("CARGO_MANIFEST_DIR"));
            let name = path.strip_prefix(root).unwrap().display();
            let included = format!("include_str!(\"../{name}\")");
            assert!(lib.contains(&included), "{name} is no doctest in lib.rs");
        }
    }
    assert!(found >= 3, "{found} Rust snippets");
}

#[test]
fn every_link_to_a_file_leads_to_one() {
    let mut found = 0;
    for (path, text) in pages() {
        for rest in text.split("](").skip(1) {
            let target = rest.split([')', '#']).next().unwrap();
            if target.is_empty() || target.contains("://") {
                continue;
            }
            found += 1;
            let file = path.parent().unwrap().join(target);
            assert!(file.exists(), "{}: {target}", path.display());
        }
    }
    assert!(found > 20, "{found} links");
}

#[test]
fn every_file_that_the_architecture_names_is_there() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let page = fs::read_to_string(root.join("docs/architecture.md")).unwrap();
    let mut found = 0;
    for word in page.split('`').skip(1).step_by(2) {
        let is_path = ["src/", "tests/", "docs/", "proto/"]
            .iter()
            .any(|folder| word.starts_with(folder));
        // A file that is to be made.
        if !is_path || word.contains("NAME") {
            continue;
        }
        found += 1;
        assert!(root.join(word).exists(), "docs/architecture.md: {word}");
    }
    assert!(found > 30, "{found} files");
}
