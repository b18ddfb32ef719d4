//! Finds the keys of the config, and the kind of value that each takes, by asking the model itself.
//!
//! Serves the variables of the environment: a name is known if the model has the key, and a text is read as the type that
//! the key has. So a new key of the model has a variable without another list. The model's `Deserialize` is run on a
//! [`Probe`], which follows one path through it, and notes what is asked for at the end.

use std::cell::Cell;
use std::collections::BTreeMap;

use serde::de::value::{Error, StrDeserializer};
use serde::de::{
    Deserialize, DeserializeSeed, Deserializer, Error as _, IntoDeserializer, MapAccess, SeqAccess,
    Visitor,
};
use serde::forward_to_deserialize_any;

use super::Config;

/// The kind of value that a key takes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Kind {
    /// `true` or `false`.
    Bool,
    /// A whole number.
    Integer,
    /// A number with or without a fraction.
    Float,
    /// A text, also one with a form of its own, such as a duration or an address.
    Text,
    /// A number or a text, such as a size in bytes.
    Any,
    /// A list of such values.
    List(Box<Kind>),
}

/// The keys of the config by their dotted names, with the kind of each. `0` stands for every index in an array of tables.
pub struct Schema(BTreeMap<String, Kind>);

impl Schema {
    /// Finds all keys of the config.
    pub fn of_config() -> Schema {
        let mut keys = BTreeMap::new();
        collect(&mut Vec::new(), &mut keys);
        // A table whose type is an enum with a tag names no fields, but the default has them.
        let defaults = toml::Table::try_from(Config::default()).unwrap_or_default();
        for (name, value) in &defaults {
            add_default(name, value, &mut keys);
        }
        Schema(keys)
    }

    /// Returns the kind of the value of a key. None if there is no such key, or if it is a table.
    pub fn kind(&self, key: &str) -> Option<&Kind> {
        self.0.get(key)
    }

    /// Returns the dotted names of all keys, in alphabetical order.
    pub fn keys(&self) -> impl Iterator<Item = &str> {
        self.0.keys().map(String::as_str)
    }
}

/// Adds the keys at and below a path to `keys`.
fn collect(path: &mut Vec<&'static str>, keys: &mut BTreeMap<String, Kind>) {
    match node_at(path) {
        Node::Table(fields) => {
            for field in fields {
                path.push(field);
                collect(path, keys);
                path.pop();
            }
        }
        Node::List => {
            let list = path.join(".");
            path.push("0");
            match node_at(path) {
                Node::Table(_) => collect(path, keys),
                Node::List => {}
                Node::Value(kind) => {
                    keys.insert(list, Kind::List(kind.into()));
                }
            }
            path.pop();
        }
        Node::Value(kind) => {
            keys.insert(path.join("."), kind);
        }
    }
}

/// Adds a key of the default config and those below it, if the model did not name it. What was taken for the value of one
/// of its parents is removed.
fn add_default(key: &str, value: &toml::Value, keys: &mut BTreeMap<String, Kind>) {
    if let toml::Value::Table(table) = value {
        for (name, value) in table {
            add_default(&format!("{key}.{name}"), value, keys);
        }
        if !table.is_empty() {
            keys.remove(key);
        }
        return;
    }
    let below = format!("{key}.");
    if keys.keys().any(|known| known.starts_with(&below)) {
        return;
    }
    match (keys.get(key), value) {
        (None | Some(Kind::Any), toml::Value::Array(_)) => {
            keys.insert(key.to_owned(), Kind::List(Kind::Text.into()));
        }
        (None, value) => {
            keys.insert(key.to_owned(), kind_of(value));
        }
        (Some(_), _) => {}
    }
}

/// Returns the kind of a scalar.
fn kind_of(value: &toml::Value) -> Kind {
    match value {
        toml::Value::Boolean(_) => Kind::Bool,
        toml::Value::Integer(_) => Kind::Integer,
        toml::Value::Float(_) => Kind::Float,
        _ => Kind::Text,
    }
}

/// What the model has at a path.
#[derive(Clone)]
enum Node {
    /// A table with these keys.
    Table(&'static [&'static str]),
    /// A list, of tables or of values.
    List,
    /// A value. One of a kind that is not known is [`Kind::Any`].
    Value(Kind),
}

/// Returns what the model has at a path, in which `0` is the index of an element.
fn node_at(path: &[&str]) -> Node {
    let found = Cell::new(None);
    // The value is of no interest, and mostly there is none: only what the model asks for is.
    let probe = Probe {
        path,
        found: &found,
    };
    let _ = Config::deserialize(probe);
    found.take().unwrap_or(Node::Value(Kind::Any))
}

/// A deserializer that offers the values on one path, and notes in `found` what is asked for at its end. It never has a
/// value.
#[derive(Clone, Copy)]
struct Probe<'a> {
    path: &'a [&'a str],
    found: &'a Cell<Option<Node>>,
}

impl<'a> Probe<'a> {
    /// Returns the name of the next step, and the probe behind it. None at the end of the path.
    fn step(self) -> Option<(&'a str, Probe<'a>)> {
        let (name, path) = self.path.split_first()?;
        Some((name, Probe { path, ..self }))
    }

    /// Ends the run. At the end of the path, notes what was asked for.
    fn end<T>(self, node: Node) -> Result<T, Error> {
        if self.path.is_empty() {
            self.found.set(Some(node));
        }
        Err(Error::custom("a probe has no values"))
    }

    /// Offers the table that has the next step as its only key, or notes `node` at the end of the path.
    fn table<'de, V: Visitor<'de>>(self, node: Node, visitor: V) -> Result<V::Value, Error> {
        match self.step() {
            Some((name, rest)) => visitor.visit_map(OnlyEntry {
                name: Some(name),
                rest,
            }),
            None => self.end(node),
        }
    }
}

/// Implements methods of a deserializer that ask for a scalar.
macro_rules! scalars {
    ($($method:ident => $kind:expr,)*) => {
        $(fn $method<V: Visitor<'de>>(self, _: V) -> Result<V::Value, Error> {
            self.end(Node::Value($kind))
        })*
    };
}

impl<'de> Deserializer<'de> for Probe<'_> {
    type Error = Error;

    scalars! {
        deserialize_bool => Kind::Bool,
        deserialize_i8 => Kind::Integer,
        deserialize_i16 => Kind::Integer,
        deserialize_i32 => Kind::Integer,
        deserialize_i64 => Kind::Integer,
        deserialize_u8 => Kind::Integer,
        deserialize_u16 => Kind::Integer,
        deserialize_u32 => Kind::Integer,
        deserialize_u64 => Kind::Integer,
        deserialize_f32 => Kind::Float,
        deserialize_f64 => Kind::Float,
        deserialize_char => Kind::Text,
        deserialize_str => Kind::Text,
        deserialize_string => Kind::Text,
        deserialize_identifier => Kind::Text,
    }

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        self.table(Node::Value(Kind::Any), visitor)
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Error> {
        self.table(Node::Table(fields), visitor)
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _: &'static str,
        _: &'static [&'static str],
        _: V,
    ) -> Result<V::Value, Error> {
        self.end(Node::Value(Kind::Text))
    }

    fn deserialize_seq<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        match self.step() {
            Some((_, rest)) => visitor.visit_seq(OnlyElement(Some(rest))),
            None => self.end(Node::List),
        }
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        visitor.visit_some(self)
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        visitor: V,
    ) -> Result<V::Value, Error> {
        visitor.visit_newtype_struct(self)
    }

    forward_to_deserialize_any! {
        i128 u128 bytes byte_buf unit unit_struct tuple tuple_struct map ignored_any
    }
}

/// A table with one entry.
struct OnlyEntry<'a> {
    name: Option<&'a str>,
    rest: Probe<'a>,
}

impl<'de> MapAccess<'de> for OnlyEntry<'_> {
    type Error = Error;

    fn next_key_seed<K: DeserializeSeed<'de>>(
        &mut self,
        seed: K,
    ) -> Result<Option<K::Value>, Error> {
        let key = self.name.take().map(|name| {
            let name: StrDeserializer<'_, Error> = name.into_deserializer();
            seed.deserialize(name)
        });
        key.transpose()
    }

    fn next_value_seed<V: DeserializeSeed<'de>>(&mut self, seed: V) -> Result<V::Value, Error> {
        seed.deserialize(self.rest)
    }
}

/// A list with one element.
struct OnlyElement<'a>(Option<Probe<'a>>);

impl<'de> SeqAccess<'de> for OnlyElement<'_> {
    type Error = Error;

    fn next_element_seed<T: DeserializeSeed<'de>>(
        &mut self,
        seed: T,
    ) -> Result<Option<T::Value>, Error> {
        self.0
            .take()
            .map(|probe| seed.deserialize(probe))
            .transpose()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::config::hint;

    #[test]
    fn a_key_has_the_kind_of_its_type() {
        let schema = Schema::of_config();
        let texts = || Kind::List(Kind::Text.into());
        for (key, kind) in [
            ("seed", Kind::Integer),
            ("roles", texts()),
            ("gateway.listen", Kind::Text),
            ("gateway.strategy", Kind::Text),
            ("session.idle", Kind::Text),
            ("access.0.advertise", Kind::Text),
            ("store.path", Kind::Text),
            ("store.keep", Kind::Text),
            ("store.max_inbox", Kind::Integer),
            ("store.buffer", Kind::Any),
            ("limits.connections", Kind::Integer),
            ("auth.auto_register", Kind::Bool),
            ("admin.token", Kind::Text),
            ("http.hosts", texts()),
            ("user.0.pw", Kind::Text),
            ("group.0.members", Kind::List(Kind::Integer.into())),
            ("fault.0.for", Kind::Any),
            ("fault.0.half_open", Kind::Bool),
            ("clock.kind", Kind::Text),
        ] {
            assert_eq!(schema.kind(key), Some(&kind), "{key}");
        }
        for none in [
            "gateway",
            "access",
            "access.0",
            "clock",
            "gateway.nothing",
            "",
        ] {
            assert_eq!(schema.kind(none), None, "{none}");
        }
    }

    #[test]
    fn the_keys_of_the_model_are_those_of_the_shipped_file() {
        let schema = Schema::of_config();
        // docs/lab.md lists the keys of a fault; imd.toml has some of them.
        let of_fault = |key: &String| key.starts_with("fault.");
        let model: BTreeSet<String> = schema.keys().map(hint::without_indices).collect();
        let shipped: BTreeSet<String> = hint::known_keys().collect();
        assert!(model.len() > 80, "{model:?}");
        let missing = model.difference(&shipped).filter(|key| !of_fault(key));
        let missing: Vec<_> = missing.collect();
        assert!(missing.is_empty(), "no line of imd.toml has {missing:?}");
        let unknown: Vec<_> = shipped.difference(&model).collect();
        assert!(unknown.is_empty(), "the model does not have {unknown:?}");
    }
}
