//! What bodies and answers hold, for the description. A shape is written as its fields: `name: string, uid: id|null`. With
//! `?` behind its name a field may be left out, with `..` at the end there may be others. `[..]` is a list, a name with a
//! capital one of [`SHAPES`], and `id` an id: see [`Way`].

use serde_json::{Map, Value, json};

use super::exact::SUFFIX;

/// Which way a shape goes.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Way {
    /// In a request. An id may be written as a number and as a text.
    In,
    /// In an answer. An id is a number, and stands once more as a text under its key with `_str`.
    Out,
}

/// Shapes that stand in others, by their names.
pub const SHAPES: &[(&str, &str)] = &[
    (
        "User",
        "uid: id, registered: boolean, name: string|null, online: boolean, online_ms: integer, access: string|null, \
         session: id|null",
    ),
    (
        "Group",
        "gid: id, name: string, owner: id|null, members: [id]",
    ),
    (
        "Inbox",
        "uid: id, stored: integer, delivered: integer, pending: integer, removed: integer",
    ),
    (
        "Entry",
        "version: integer, msgType: string, sourceUID: id, groupID: string, groupID_str: string, msgID: string, \
         msg: string, sendTime: integer",
    ),
    (
        "Session",
        "id: id, server: string, peer: string, uid: id|null, queued: integer, half_open: boolean",
    ),
    (
        "Server",
        "name: string, state: string, addr: string, advertised: string, sessions: integer",
    ),
    (
        "Refused",
        "cmd: string, code: integer, count: integer, reason: string",
    ),
    // With `bytes=true` an event has these too.
    (
        "Event",
        "seq: integer, ms: integer, us: integer, what: string, detail: string|object|null, server: string, \
         session: id|null, uid: id|null, cmd: string|null, frame: object|null, bytes?: string",
    ),
    (
        "Fault",
        "name: string, at: string, uid?: id, session?: id, hits: integer, ..",
    ),
];

/// The JSON schema of a shape; `text` is none.
pub fn schema(shape: &str, way: Way) -> Value {
    if shape == "text" {
        return json!({ "type": "string" });
    }
    let shape = shape.trim();
    if shape.contains(": ") || shape.is_empty() || shape == ".." {
        return object(shape, way);
    }
    if let Some(items) = within_brackets(shape) {
        return json!({ "type": "array", "items": schema(items, way) });
    }
    match shape {
        "id" => id(way, false),
        name if name.starts_with(|c: char| c.is_ascii_uppercase()) => {
            json!({ "$ref": format!("#/components/schemas/{name}") })
        }
        kinds => json!({ "type": kinds.split('|').collect::<Vec<_>>() }),
    }
}

fn within_brackets(shape: &str) -> Option<&str> {
    shape.strip_prefix('[')?.strip_suffix(']')
}

fn object(shape: &str, way: Way) -> Value {
    let mut properties = Map::new();
    let mut required = Vec::new();
    for (name, kind) in shape.split(", ").filter_map(|field| field.split_once(": ")) {
        let (name, may_lack) = match name.strip_suffix('?') {
            Some(name) => (name, true),
            None => (name, false),
        };
        for (name, schema) in field(name, kind, way) {
            if !may_lack {
                required.push(name.clone());
            }
            properties.insert(name, schema);
        }
    }
    let mut schema = json!({
        "type": "object",
        "required": required,
        "properties": properties,
        "additionalProperties": shape.ends_with(".."),
    });
    if let (Way::Out, Some(schema)) = (way, schema.as_object_mut()) {
        let texts = json!({ format!("{SUFFIX}$"): {
            "type": ["string", "array", "null"],
            "description": "A number as text: of an id always, of any other where it is 2^53 or more",
        } });
        schema.insert("patternProperties".into(), texts);
    }
    schema
}

/// A field, and the text beside it.
fn field(name: &str, kind: &str, way: Way) -> Vec<(String, Value)> {
    let is_nullable = kind.ends_with("|null");
    let (schema, text) = match kind.trim_end_matches("|null") {
        "id" => {
            let text = match is_nullable {
                true => json!({ "type": ["string", "null"] }),
                false => json!({ "type": "string" }),
            };
            (id(way, is_nullable), Some(text))
        }
        "[id]" => {
            let text = json!({ "type": "array", "items": { "type": "string" } });
            (schema(kind, way), Some(text))
        }
        _ => (schema(kind, way), None),
    };
    let mut fields = vec![(name.to_owned(), schema)];
    if let (Way::Out, Some(text)) = (way, text) {
        fields.push((format!("{name}{SUFFIX}"), text));
    }
    fields
}

/// The schema of an id.
pub fn id(way: Way, is_nullable: bool) -> Value {
    match (way, is_nullable) {
        (Way::Out, false) => json!({ "type": "integer", "format": "int64" }),
        (Way::Out, true) => json!({ "type": ["integer", "null"], "format": "int64" }),
        (Way::In, _) => json!({ "oneOf": [
            { "type": "integer", "format": "int64" },
            { "type": "string", "pattern": "^-?[0-9]+$" },
        ] }),
    }
}
