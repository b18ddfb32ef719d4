//! The layers of the crate: a module may import from itself and from lower tiers.

use std::fs;
use std::path::{Path, PathBuf};

/// The modules from the bottom to the top. Modules of one tier do not import each other.
const TIERS: &[&[&str]] = &[
    &["clock", "id"],
    &[
        "byte_size",
        "proto",
        "number",
        "phc",
        "sharded",
        "shutdown",
        "text",
        "file_target",
    ],
    &["codec", "transport"],
    &["idgen", "client", "metrics", "command", "lab"],
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

/// The only modules that `client` may import, although its tier would allow more.
const CLIENT_MAY_USE: [&str; 3] = ["codec", "id", "proto"];

fn tier(module: &str) -> usize {
    let found = TIERS.iter().position(|tier| tier.contains(&module));
    found.unwrap_or_else(|| panic!("{module} is in no tier: add it where it belongs"))
}

fn files(dir: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            files(&path, found);
        } else if path.extension().is_some_and(|ext| ext == "rs") {
            found.push(path);
        }
    }
}

/// Returns the modules that a source file names as `crate::module`.
fn imports(source: &str) -> impl Iterator<Item = String> + '_ {
    source
        .lines()
        .filter(|line| !line.trim_start().starts_with("//"))
        .flat_map(|line| {
            line.split("crate::").skip(1).map(|rest| {
                rest.chars()
                    .take_while(|c| c.is_ascii_lowercase() || *c == '_')
                    .collect::<String>()
            })
        })
}

#[test]
fn imports_go_downwards_only() {
    let src = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut all = Vec::new();
    files(&src, &mut all);
    let mut checked = 0;
    for path in all {
        let relative = path.strip_prefix(&src).unwrap();
        let first = relative.iter().next().unwrap().to_str().unwrap();
        let module = first.strip_suffix(".rs").unwrap_or(first);
        // `lib`, `main` and `cli` stand above all tiers.
        if ["lib", "main", "cli"].contains(&module) {
            continue;
        }
        for import in imports(&fs::read_to_string(&path).unwrap()) {
            if import == module {
                continue;
            }
            checked += 1;
            let below = tier(&import) < tier(module);
            let allowed = module != "client" || CLIENT_MAY_USE.contains(&import.as_str());
            assert!(
                below && allowed,
                "{} must not use crate::{import}",
                relative.display()
            );
        }
    }
    assert!(
        checked > 50,
        "only {checked} imports were found: the scan is broken"
    );
}

#[test]
fn the_scan_sees_imports() {
    let source = "use crate::store::Level;\n// use crate::daemon;\nlet x = crate::codec::encode;\n";
    assert_eq!(imports(source).collect::<Vec<_>>(), ["store", "codec"]);
}
