//! A short notation for the shapes of JSON objects, and its translation to JSON schemas.
//!
//! Serves `routes`, whose table describes requests and answers in it. An object is written as its fields:
//! `name: string, uid: id|null`.
//!
//! | notation | meaning |
//! |---|---|
//! | `string`, `integer`, `number`, `boolean`, `object`, `array`, `null` | a JSON type; `string\|null` is either |
//! | `name?: string` | a field that may be absent |
//! | `..` at the end | an object with further fields |
//! | `[..]` | a list |
//! | `Server` | one of [`SHAPES`] |
//! | `id` | a 64-bit id, which differs between requests and answers: see [`Role`] |
//! | `size` | a number of bytes in a request, as a number or as a text such as `16KiB` |

use serde_json::{Map, Value, json};

use super::exact::SUFFIX;

/// Whether a shape is that of a request or of an answer.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// In a request. An id may be written as a number and as a text.
    Request,
    /// In an answer. An id is given as a number, and again as a text under its key with `_str`.
    Answer,
}

/// The shapes that have a name, under which others refer to them.
pub const SHAPES: &[(&str, &str)] = &[
    (
        "User",
        "uid: id, registered: boolean, name: string|null, online: boolean, online_ms: integer, access: string|null, \
         session: id|null",
    ),
    (
        "Group",
        "gid: id, name: string, owner: id|null, members: [id], next?: string",
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
    // The field `bytes` is present if the request has `bytes=true`.
    (
        "Event",
        "seq: integer, ms: integer, us: integer, what: string, detail: string|object|null, server: string, \
         session: id|null, uid: id|null, cmd: string|null, frame: object|null, bytes?: string",
    ),
    (
        "Fault",
        "name: string, at: string, uid?: id, session?: id, hits: integer, ..",
    ),
    ("Problem", "error: string"),
];

/// Returns the JSON schema of a shape.
pub fn schema(shape: &str, role: Role) -> Value {
    if let Some(items) = within_brackets(shape) {
        return json!({ "type": "array", "items": schema(items, role) });
    }
    if shape.contains(": ") || shape.is_empty() {
        return object(shape, role);
    }
    match (shape, role) {
        ("id" | "id|null", Role::Request) => number_or_text("^-?[0-9]+$"),
        ("id" | "id|null", Role::Answer) => {
            json!({ "type": types(&shape.replace("id", "integer")), "format": "int64" })
        }
        ("size", _) => number_or_text("^[0-9]+ *([kKMGTPE]i?)?[bB]?$"),
        (name, _) if name.starts_with(|c: char| c.is_ascii_uppercase()) => {
            json!({ "$ref": format!("#/components/schemas/{name}") })
        }
        (names, _) => json!({ "type": types(names) }),
    }
}

fn within_brackets(shape: &str) -> Option<&str> {
    shape.strip_prefix('[')?.strip_suffix(']')
}

fn types(names: &str) -> Vec<&str> {
    names.split('|').collect()
}

fn number_or_text(pattern: &str) -> Value {
    json!({ "oneOf": [
        { "type": "integer", "format": "int64" },
        { "type": "string", "pattern": pattern },
    ] })
}

fn object(shape: &str, role: Role) -> Value {
    let mut properties = Map::new();
    let mut required = Vec::new();
    for (key, kind) in shape.split(", ").filter_map(|field| field.split_once(": ")) {
        let name = key.trim_end_matches('?');
        let mut fields = vec![(name.to_owned(), schema(kind, role))];
        if role == Role::Answer && types(kind.trim_matches(['[', ']'])).contains(&"id") {
            let text = schema(&kind.replace("id", "string"), role);
            fields.push((format!("{name}{SUFFIX}"), text));
        }
        if name == key {
            required.extend(fields.iter().map(|(name, _)| name.clone()));
        }
        properties.extend(fields);
    }
    let mut schema = json!({
        "type": "object",
        "required": required,
        "properties": properties,
        "additionalProperties": shape.ends_with(".."),
    });
    if let (Role::Answer, Some(schema)) = (role, schema.as_object_mut()) {
        let texts = json!({ format!("{SUFFIX}$"): {
            "type": ["string", "array", "null"],
            "description": "A number as text: of an id always, of any other where it is 2^53 or more",
        } });
        schema.insert("patternProperties".into(), texts);
    }
    schema
}
