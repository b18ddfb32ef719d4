use serde_json::{Map, Value, json};

/// The JSON schema of an object that is told by its fields: `name: string, uid: integer|null`. With `..` at the end it may
/// have more of them; in brackets stands a list of such objects; `text` is none.
pub fn schema(fields: &str) -> Value {
    if fields == "text" {
        return json!({ "type": "string" });
    }
    if let Some(items) = fields
        .strip_prefix('[')
        .and_then(|rest| rest.strip_suffix(']'))
    {
        return json!({ "type": "array", "items": schema(items) });
    }
    let is_open = fields.ends_with("..");
    let named = fields
        .split(", ")
        .filter_map(|field| field.split_once(": "));
    let properties: Map<String, Value> = named
        .map(|(name, kind)| {
            let kinds: Vec<&str> = kind.split('|').collect();
            (name.to_owned(), json!({ "type": kinds }))
        })
        .collect();
    json!({
        "type": "object",
        "required": properties.keys().collect::<Vec<_>>(),
        "properties": properties,
        "additionalProperties": is_open,
    })
}
