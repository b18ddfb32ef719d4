//! Reads Rust sources as far as the layering tests need it: which modules there are, what each imports and names, and in
//! which file the thing behind a path is defined.
//!
//! Serves `tests/layering.rs`. Code under `#[cfg(test)]` is left out, for a test may use anything. Comments, doc comments
//! and strings are no code: the sources are read as tokens.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

use proc_macro2::{Delimiter, TokenStream, TokenTree};

/// How many imports a path may lead through. More of them are a circle of imports.
const MAX_HOPS: usize = 16;

/// The modules of a crate. The first one is the root.
#[derive(Debug, Default)]
pub struct Crate {
    modules: Vec<Module>,
}

/// A module: a file, or a `mod name { .. }` inside of one.
#[derive(Debug, Default)]
struct Module {
    /// The file that the module is written in, relative to the folder of the crate root.
    file: String,
    parent: Option<usize>,
    children: BTreeMap<String, usize>,
    /// The names that this module defines.
    items: BTreeSet<String>,
    imports: Vec<Import>,
    /// The paths in the code, other than those of the imports.
    paths: BTreeSet<Vec<String>>,
}

/// One name of a `use`. `use a::{b, c as d}` has two.
#[derive(Debug)]
struct Import {
    path: Vec<String>,
    /// The name that the import adds to the module, or `None` for a `*`.
    name: Option<String>,
    is_public: bool,
}

/// The target of a path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Found {
    Module(usize),
    /// An item that this module defines.
    Item(usize),
}

/// The use of one file by another.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Edge {
    pub from: String,
    pub to: String,
    /// The path in the using file, as it is written there.
    pub path: String,
}

impl Edge {
    /// Returns whether the used file is a module above the using one.
    pub fn goes_up(&self) -> bool {
        self.from.starts_with(&folder(&self.to))
    }
}

impl Crate {
    /// Reads the crate whose root is `root`, among files of given texts.
    ///
    /// # Panics
    ///
    /// If a file is not valid Rust, or a module has no file.
    pub fn read(root: &str, files: &BTreeMap<String, String>) -> Crate {
        let mut found = Crate::default();
        found.add_file(root.to_owned(), None, files);
        found
    }

    fn add_file(
        &mut self,
        file: String,
        parent: Option<usize>,
        files: &BTreeMap<String, String>,
    ) -> usize {
        let text = files.get(&file).unwrap_or_else(|| panic!("no {file}"));
        let tokens: TokenStream = text.parse().unwrap_or_else(|e| panic!("{file}: {e}"));
        self.add_module(file, parent, tokens, files)
    }

    fn add_module(
        &mut self,
        file: String,
        parent: Option<usize>,
        tokens: TokenStream,
        files: &BTreeMap<String, String>,
    ) -> usize {
        let index = self.modules.len();
        let mut scan = Scan::default();
        scan.code(tokens, true);
        self.modules.push(Module {
            file: file.clone(),
            parent,
            children: BTreeMap::new(),
            items: scan.items,
            imports: scan.imports,
            paths: scan.paths,
        });
        for (name, body) in scan.children {
            let child = match body {
                Some(body) => self.add_module(file.clone(), Some(index), body, files),
                None => {
                    let flat = format!("{}{name}.rs", folder(&file));
                    let nested = format!("{}{name}/mod.rs", folder(&file));
                    let file = if files.contains_key(&flat) {
                        flat
                    } else {
                        nested
                    };
                    self.add_file(file, Some(index), files)
                }
            };
            self.modules[index].children.insert(name, child);
        }
        index
    }

    /// Returns every use of one file by another.
    ///
    /// A public `use` of something inside the module itself does not count: the module only re-exports it. A file that imports
    /// the name from there uses the file that defines it, and not the one that re-exports it.
    pub fn edges(&self) -> BTreeSet<Edge> {
        let mut edges = BTreeSet::new();
        for (index, module) in self.modules.iter().enumerate() {
            let mut add = |path: &[String], passes_on: bool| {
                let Some(Found::Module(to) | Found::Item(to)) = self.resolve(index, path, 0) else {
                    return;
                };
                let target = &self.modules[to];
                if target.file == module.file || passes_on && self.is_inside(to, index) {
                    return;
                }
                edges.insert(Edge {
                    from: module.file.clone(),
                    to: target.file.clone(),
                    path: path.join("::"),
                });
            };
            for import in &module.imports {
                add(&import.path, import.is_public);
            }
            for path in &module.paths {
                add(path, false);
            }
        }
        edges
    }

    /// Returns the files that name something below `prefix` of another crate.
    pub fn files_naming(&self, prefix: &[&str]) -> BTreeSet<&str> {
        let names = |module: &&Module| {
            let imports = module.imports.iter().map(|import| &import.path);
            imports.chain(&module.paths).any(|path| {
                path.len() >= prefix.len() && path.iter().zip(prefix).all(|(a, b)| a == b)
            })
        };
        let modules = self.modules.iter().filter(names);
        modules.map(|module| module.file.as_str()).collect()
    }

    fn is_inside(&self, mut module: usize, outer: usize) -> bool {
        while let Some(parent) = self.modules[module].parent {
            if parent == outer {
                return true;
            }
            module = parent;
        }
        false
    }

    /// Follows a path that is written in a module. Returns `None` if it leads to another crate.
    fn resolve(&self, from: usize, path: &[String], hops: usize) -> Option<Found> {
        let (first, mut rest) = path.split_first()?;
        let mut found = match first.as_str() {
            "crate" => Found::Module(0),
            "self" => Found::Module(from),
            "super" => Found::Module(self.modules[from].parent?),
            name => self.lookup(from, name, hops)?,
        };
        while let Some((name, after)) = rest.split_first()
            && let Found::Module(module) = found
        {
            found = match name.as_str() {
                "self" => found,
                "super" => Found::Module(self.modules[module].parent?),
                // A name that is not found comes from a macro or from another crate, and counts as the module's own.
                name => self
                    .lookup(module, name, hops)
                    .unwrap_or(Found::Item(module)),
            };
            rest = after;
        }
        Some(found)
    }

    /// Looks up a name in a module.
    fn lookup(&self, module: usize, name: &str, hops: usize) -> Option<Found> {
        let here = &self.modules[module];
        if let Some(&child) = here.children.get(name) {
            return Some(Found::Module(child));
        }
        if here.items.contains(name) {
            return Some(Found::Item(module));
        }
        if hops == MAX_HOPS {
            return None;
        }
        let named = here
            .imports
            .iter()
            .filter(|import| import.name.as_deref() == Some(name));
        // The import that is being followed is left out, because `use name::..` would lead back to itself.
        let mut named =
            named.filter(|import| import.path.first().is_none_or(|first| first != name));
        if let Some(import) = named.next() {
            return self.resolve(module, &import.path, hops + 1);
        }
        let mut globs = here.imports.iter().filter(|import| import.name.is_none());
        globs.find_map(|glob| match self.resolve(module, &glob.path, hops + 1)? {
            Found::Module(inner) if inner != module => self.lookup(inner, name, hops + 1),
            _ => None,
        })
    }
}

/// Returns the folder that has the files of a module's children.
fn folder(file: &str) -> String {
    let stem = file.strip_suffix(".rs").unwrap_or(file);
    match stem
        .rsplit_once('/')
        .map_or(("", stem), |(folder, name)| (folder, name))
    {
        ("", "lib" | "main") => String::new(),
        (folder, "mod") => format!("{folder}/"),
        _ => format!("{stem}/"),
    }
}

/// The parts of one module's tokens that matter here.
#[derive(Default)]
struct Scan {
    children: Vec<(String, Option<TokenStream>)>,
    items: BTreeSet<String>,
    imports: Vec<Import>,
    paths: BTreeSet<Vec<String>>,
}

impl Scan {
    /// Reads code. `is_outer` means that the code is directly in the module, where its items are.
    fn code(&mut self, tokens: TokenStream, is_outer: bool) {
        let tokens: Vec<TokenTree> = tokens.into_iter().collect();
        let mut at = 0;
        let mut is_public = false;
        while let Some(token) = tokens.get(at) {
            let next = tokens.get(at + 1);
            match token {
                TokenTree::Punct(punct) if punct.as_char() == '#' => {
                    at += 1;
                    if matches!(tokens.get(at), Some(TokenTree::Punct(bang)) if bang.as_char() == '!')
                    {
                        at += 1;
                    }
                    let attribute = tokens.get(at).map(ToString::to_string).unwrap_or_default();
                    at += 1;
                    if is_test(&attribute) {
                        at = end_of_item(&tokens, at);
                    }
                    continue;
                }
                TokenTree::Group(group) => {
                    self.code(group.stream(), false);
                    at += 1;
                    // The `(crate)` of `pub(crate)`.
                    if group.delimiter() != Delimiter::Parenthesis {
                        is_public = false;
                    }
                    continue;
                }
                TokenTree::Ident(ident) => {
                    let word = ident.to_string();
                    match word.as_str() {
                        "pub" => {
                            is_public = true;
                            at += 1;
                            continue;
                        }
                        "use" => {
                            let end = tokens[at..].iter().position(|token| is_punct(token, ';'));
                            let end = at + end.unwrap_or(tokens.len() - at);
                            self.import(&tokens[at + 1..end], Vec::new(), is_public);
                            at = end;
                        }
                        "mod" if is_outer => {
                            if let Some(TokenTree::Ident(name)) = next {
                                let body = match tokens.get(at + 2) {
                                    Some(TokenTree::Group(body)) => Some(body.stream()),
                                    _ => None,
                                };
                                self.children.push((name.to_string(), body));
                                at += 2;
                            }
                        }
                        "struct" | "enum" | "trait" | "fn" | "const" | "static" | "type"
                        | "union"
                            if is_outer =>
                        {
                            if let Some(TokenTree::Ident(name)) = next {
                                self.items.insert(name.to_string());
                            }
                        }
                        _ => {
                            let path = path_at(&tokens, at);
                            at += 3 * (path.len() - 1);
                            if path.len() > 1 {
                                self.paths.insert(path);
                            }
                        }
                    }
                    is_public = false;
                }
                _ => is_public = false,
            }
            at += 1;
        }
    }

    /// Reads the tree of a `use` below `prefix`.
    fn import(&mut self, tree: &[TokenTree], prefix: Vec<String>, is_public: bool) {
        for branch in tree.split(|token| is_punct(token, ',')) {
            let mut path = prefix.clone();
            let mut name = None;
            let mut tokens = branch.iter();
            while let Some(token) = tokens.next() {
                match token {
                    TokenTree::Ident(word) if *word == "as" => {
                        name = tokens.next().map(ToString::to_string);
                    }
                    TokenTree::Ident(word) => {
                        // `a::{self}` is `a`.
                        if *word != "self" || path.is_empty() {
                            path.push(word.to_string());
                        }
                        name = path.last().cloned();
                    }
                    TokenTree::Punct(punct) if punct.as_char() == '*' => {
                        let path = std::mem::take(&mut path);
                        self.imports.push(Import {
                            path,
                            name: None,
                            is_public,
                        });
                        name = None;
                    }
                    TokenTree::Group(group) => {
                        let inner: Vec<TokenTree> = group.stream().into_iter().collect();
                        self.import(&inner, std::mem::take(&mut path), is_public);
                        name = None;
                    }
                    _ => {}
                }
            }
            if name.is_some() {
                self.imports.push(Import {
                    path,
                    name,
                    is_public,
                });
            }
        }
    }
}

fn is_punct(token: &TokenTree, wanted: char) -> bool {
    matches!(token, TokenTree::Punct(punct) if punct.as_char() == wanted)
}

/// Returns whether an attribute, given with its brackets, limits an item to tests.
fn is_test(attribute: &str) -> bool {
    let attribute: String = attribute.chars().filter(|c| !c.is_whitespace()).collect();
    attribute == "[cfg(test)]" || attribute.starts_with("[cfg(all(test,")
}

/// Returns the index behind the item, field or match arm that begins at `at`.
fn end_of_item(tokens: &[TokenTree], mut at: usize) -> usize {
    let mut generics = 0;
    while let Some(token) = tokens.get(at) {
        let is_arrow = at > 0 && (is_punct(&tokens[at - 1], '-') || is_punct(&tokens[at - 1], '='));
        at += 1;
        match token {
            TokenTree::Group(group) if group.delimiter() == Delimiter::Brace => return at,
            TokenTree::Punct(punct) => match punct.as_char() {
                ';' => return at,
                ',' if generics == 0 => return at,
                '<' => generics += 1,
                '>' if !is_arrow => generics -= 1,
                _ => {}
            },
            _ => {}
        }
    }
    at
}

/// Returns the words of the path that begins at `at`.
fn path_at(tokens: &[TokenTree], mut at: usize) -> Vec<String> {
    let mut path = Vec::new();
    while let Some(TokenTree::Ident(word)) = tokens.get(at) {
        path.push(word.to_string());
        let is_followed = |offset| {
            tokens
                .get(at + offset)
                .is_some_and(|token| is_punct(token, ':'))
        };
        if !(is_followed(1) && is_followed(2)) {
            break;
        }
        at += 3;
    }
    // The colons at the end of `a::<T>` and `a::*` are followed by no word.
    path
}

/// Returns the text of each Rust file in a folder, by its path in that folder.
pub fn files(folder: &Path) -> BTreeMap<String, String> {
    let mut found = BTreeMap::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(next) = folders.pop() {
        for entry in fs::read_dir(&next).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let name = path.strip_prefix(folder).unwrap().to_str().unwrap();
                found.insert(name.to_owned(), fs::read_to_string(&path).unwrap());
            }
        }
    }
    found
}
