//! Finds keys in the text of a TOML document, and the keys at a place of the text.
//!
//! Serves the errors of the config, which name a line, and `provenance`, which says where each value is written. A text that
//! can't be parsed has no keys.

use std::ops::Range;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

/// A value of a TOML document: a list or a scalar, or the header of a table in an array of tables.
pub struct Entry {
    /// The dotted key, such as `access.1.name`.
    pub key: String,
    /// The bytes of the value. For a table in an array, those of its header.
    pub span: Range<usize>,
    /// Whether this is a table in an array, not a value.
    pub is_table: bool,
}

/// Returns every value of a document, and every table in an array of tables, in the order of the text.
pub fn entries(text: &str) -> Vec<Entry> {
    fn walk(key: &str, value: &Spanned<DeValue<'_>>, found: &mut Vec<Entry>) {
        match value.get_ref() {
            DeValue::Table(table) => {
                for (name, value) in table {
                    walk(&format!("{key}.{}", name.get_ref()), value, found);
                }
            }
            DeValue::Array(items) if is_array_of_tables(items) => {
                for (index, item) in items.iter().enumerate() {
                    let key = format!("{key}.{index}");
                    found.push(Entry {
                        key: key.clone(),
                        span: item.span(),
                        is_table: true,
                    });
                    walk(&key, item, found);
                }
            }
            _ => found.push(Entry {
                key: key.to_owned(),
                span: value.span(),
                is_table: false,
            }),
        }
    }
    let Ok(root) = DeTable::parse(text) else {
        return Vec::new();
    };
    let mut found = Vec::new();
    for (name, value) in root.get_ref() {
        walk(name.get_ref(), value, &mut found);
    }
    found.sort_by_key(|entry| entry.span.start);
    found
}

/// Returns whether an array has tables, and nothing else.
fn is_array_of_tables(items: &[Spanned<DeValue<'_>>]) -> bool {
    let is_table = |item: &Spanned<DeValue<'_>>| matches!(item.get_ref(), DeValue::Table(_));
    !items.is_empty() && items.iter().all(is_table)
}

/// The beginnings of the lines of a text, to number many places of it.
pub struct Lines(Vec<usize>);

impl Lines {
    /// Finds the lines of a text.
    pub fn of(text: &str) -> Lines {
        let ends = text.match_indices('\n').map(|(at, _)| at + 1);
        Lines(std::iter::once(0).chain(ends).collect())
    }

    /// Returns the number of the line, from 1, that contains the byte at `offset`.
    pub fn number(&self, offset: usize) -> usize {
        self.0.partition_point(|&begin| begin <= offset)
    }
}

/// Returns whether a dotted key is `table`, or one below it.
pub fn is_in(key: &str, table: &str) -> bool {
    let rest = key.strip_prefix(table);
    rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
}

/// Returns the number of the line, from 1, that contains the byte at `offset`.
pub fn line_of(text: &str, offset: usize) -> usize {
    text.bytes()
        .take(offset)
        .filter(|&byte| byte == b'\n')
        .count()
        + 1
}

/// Returns the span of the value of a dotted key, and true; or, if the file does not contain the key, the span of its
/// nearest parent, and false.
pub fn span_of(text: &str, key: &str) -> Option<(Range<usize>, bool)> {
    let root = DeTable::parse(text).ok()?;
    let mut innermost = None;
    let mut children = Children::Table(root.get_ref());
    for part in key.split('.') {
        let Some(value) = children.get(part) else {
            return innermost.map(|span| (span, false));
        };
        innermost = Some(value.span());
        children = Children::of(value.get_ref());
    }
    innermost.map(|span| (span, true))
}

/// Returns whether a file contains a key.
pub fn is_written_in(text: &str, key: &str) -> bool {
    span_of(text, key).is_some_and(|(_, is_own)| is_own)
}

/// Returns the dotted key of the innermost key or value that covers a span.
pub fn key_at(text: &str, at: Range<usize>) -> Option<String> {
    let root = DeTable::parse(text).ok()?;
    let mut path: Vec<String> = Vec::new();
    let mut children = Children::Table(root.get_ref());
    while let Some((name, value)) = children.covering(&at) {
        path.push(name);
        children = Children::of(value.get_ref());
    }
    (!path.is_empty()).then(|| path.join("."))
}

/// The elements of a table or an array.
enum Children<'a, 'i> {
    Table(&'a DeTable<'i>),
    Array(&'a [Spanned<DeValue<'i>>]),
    None,
}

impl<'a, 'i> Children<'a, 'i> {
    fn of(value: &'a DeValue<'i>) -> Self {
        match value {
            DeValue::Table(table) => Children::Table(table),
            DeValue::Array(array) => Children::Array(array),
            _ => Children::None,
        }
    }

    /// Returns the element of a name, which for an array is an index.
    fn get(&self, name: &str) -> Option<&'a Spanned<DeValue<'i>>> {
        match self {
            Children::Table(table) => table.get(name),
            Children::Array(array) => array.get(name.parse::<usize>().ok()?),
            Children::None => None,
        }
    }

    /// Returns the name of the element that covers a span, and its value.
    fn covering(&self, at: &Range<usize>) -> Option<(String, &'a Spanned<DeValue<'i>>)> {
        let covers = |span: Range<usize>| span.start <= at.start && at.end <= span.end;
        match self {
            Children::Table(table) => table
                .iter()
                .find(|(key, value)| {
                    covers(key.span()) || covers(value.span()) || has_covering_child(value, at)
                })
                .map(|(key, value)| (key.get_ref().to_string(), value)),
            Children::Array(array) => array
                .iter()
                .enumerate()
                .find(|(_, value)| covers(value.span()) || has_covering_child(value, at))
                .map(|(index, value)| (index.to_string(), value)),
            Children::None => None,
        }
    }
}

/// Returns whether an element within a value covers a span. Needed for a `[table]`, whose own span is its header alone.
fn has_covering_child(value: &Spanned<DeValue<'_>>, at: &Range<usize>) -> bool {
    Children::of(value.get_ref()).covering(at).is_some()
}
