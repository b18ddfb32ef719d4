//! Numbers that JavaScript reads exactly: every JSON answer of the API passes through [`add_texts`].
//!
//! Serves `answer` and `events`. An id has 64 bits, and a JavaScript number holds whole numbers up to 2^53 only. So each id is
//! given twice: as a number, and as a text under its key with the suffix `_str`. Other numbers (event numbers, versions,
//! times, counts) stay below 2^53 in practice; one that does not gets such a text too.

use serde_json::Value;

/// The suffix of the key under which the text of a number is given.
pub const SUFFIX: &str = "_str";

/// The keys whose values are ids. Some are names of the wire contract, which spells them in its own way.
const IDS: [&str; 10] = [
    "uid",
    "gid",
    "owner",
    "members",
    "session",
    "id",
    "UID",
    "sourceUID",
    "targetUID",
    "groupID",
];

/// JavaScript's `Number.MAX_SAFE_INTEGER`.
const MAX_SAFE: u64 = (1 << 53) - 1;

/// Adds to every object of an answer the texts of its ids, and of its other numbers beyond 2^53.
pub fn add_texts(answer: &mut Value) {
    match answer {
        Value::Array(items) => items.iter_mut().for_each(add_texts),
        Value::Object(fields) => {
            let texts: Vec<(String, Value)> = fields
                .iter()
                .filter(|(key, value)| IDS.contains(&key.as_str()) || is_unsafe(value))
                .filter_map(|(key, value)| Some((format!("{key}{SUFFIX}"), text(value)?)))
                .collect();
            fields.values_mut().for_each(add_texts);
            fields.extend(texts);
        }
        _ => {}
    }
}

fn is_unsafe(value: &Value) -> bool {
    let unsigned = value.as_u64();
    let size = unsigned.or_else(|| Some(value.as_i64()?.unsigned_abs()));
    size.is_some_and(|size| size > MAX_SAFE)
}

/// Returns an id or a list of ids as text, and null as null; none for any other value.
fn text(value: &Value) -> Option<Value> {
    Some(match value {
        Value::Null => Value::Null,
        Value::Number(number) => number.to_string().into(),
        Value::String(text) => text.clone().into(),
        Value::Array(items) => items.iter().map(text).collect::<Option<_>>()?,
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn every_id_stands_beside_its_text_however_deep() {
        let mut answer = json!({
            "users": [{ "uid": i64::MAX, "session": null }],
            "members": [(1i64 << 53) + 1],
            "frame": { "Msgs": [{ "sourceUID": -1, "groupID": "5", "version": 3 }] },
        });
        add_texts(&mut answer);
        let expected = json!({
            "users": [{
                "uid": i64::MAX, "uid_str": "9223372036854775807", "session": null, "session_str": null,
            }],
            "members": [(1i64 << 53) + 1], "members_str": ["9007199254740993"],
            "frame": { "Msgs": [{
                "sourceUID": -1, "sourceUID_str": "-1", "groupID": "5", "groupID_str": "5", "version": 3,
            }] },
        });
        assert_eq!(answer, expected);
    }

    #[test]
    fn other_numbers_have_a_text_where_javascript_would_misread_them() {
        let mut answer = json!({
            "seq": MAX_SAFE, "times": MAX_SAFE + 1, "low": i64::MIN, "most": u64::MAX, "share": 1e300,
        });
        add_texts(&mut answer);
        assert_eq!(answer["times_str"], "9007199254740992");
        assert_eq!(answer["low_str"], "-9223372036854775808");
        assert_eq!(answer["most_str"], "18446744073709551615");
        let keys = answer.as_object().unwrap();
        assert!(!keys.contains_key("seq_str") && !keys.contains_key("share_str"));
    }
}
