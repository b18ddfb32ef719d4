//! The OpenAPI document of the admin API: it has every operation, and every answer has the form that it describes.
//!
//! Each operation is called, with its documented examples and with wrong requests. A new route needs nothing here, but
//! it fails these tests until the document describes it.

use std::collections::BTreeSet;

use imd::Imd;
use imd::lab::{EventKind, Fault, Site};
use imd::proto::{Cmd, Code};
use serde_json::{Value, json};

use crate::admin::{call, get, post};
use crate::support::{ping, start_manual, user};

const METHODS: [&str; 5] = ["GET", "POST", "PUT", "PATCH", "DELETE"];

/// Returns the path, the method and the description of every operation.
async fn operations() -> Vec<(String, String, Value)> {
    let description = get(&start_manual().await, "/v1/openapi.json").await;
    assert_eq!(description["openapi"], "3.1.0");
    let schemas = &description["components"]["schemas"];
    let mut all = Vec::new();
    for (path, methods) in description["paths"].as_object().unwrap() {
        for (method, operation) in methods.as_object().unwrap() {
            let operation = written_out(operation, schemas);
            all.push((path.clone(), method.to_uppercase(), operation));
        }
    }
    assert!(all.len() > 20);
    all
}

/// Replaces the names of schemas by the schemas, except for that of an error, which is compared by its name.
fn written_out(value: &Value, schemas: &Value) -> Value {
    match value {
        Value::Array(items) => items.iter().map(|one| written_out(one, schemas)).collect(),
        Value::Object(fields) => {
            let name = fields.get("$ref").and_then(Value::as_str);
            match name.and_then(|name| name.strip_prefix("#/components/schemas/")) {
                Some("Problem") | None => fields
                    .iter()
                    .map(|(key, one)| (key.clone(), written_out(one, schemas)))
                    .collect(),
                Some(name) => {
                    assert!(schemas[name].is_object(), "there is no schema {name}");
                    written_out(&schemas[name], schemas)
                }
            }
        }
        other => other.clone(),
    }
}

/// Returns the schema of an answer with this status. A status that the operation does not list is an error.
fn described(operation: &Value, status: u16) -> Value {
    let responses = &operation["responses"];
    let by_status = &responses[status.to_string()];
    if by_status.is_null() {
        let refused = &responses["default"]["content"]["application/json"]["schema"];
        assert_eq!(refused["$ref"], "#/components/schemas/Problem");
        assert!(status >= 400, "{status} is no refusal");
        return json!({
            "type": "object",
            "required": ["error"],
            "properties": { "error": { "type": "string" } },
            "additionalProperties": false,
        });
    }
    let mut kinds = by_status["content"].as_object().unwrap().values();
    kinds.next().unwrap()["schema"].clone()
}

/// Returns why a value does not match a schema, or `None` if it does. Supports only what the description uses.
fn differs(value: &Value, schema: &Value) -> Option<String> {
    let kinds: Vec<&str> = match &schema["type"] {
        Value::Array(kinds) => kinds.iter().filter_map(Value::as_str).collect(),
        kind => kind.as_str().into_iter().collect(),
    };
    let kind = match value {
        Value::Null => "null",
        Value::Bool(_) => "boolean",
        Value::Number(number) if number.is_f64() => "number",
        Value::Number(_) => "integer",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    };
    if !kinds.contains(&kind) {
        return Some(format!("{value} is no {kinds:?}"));
    }
    match value {
        Value::Array(items) if !schema["items"].is_null() => items
            .iter()
            .find_map(|item| differs(item, &schema["items"])),
        Value::Object(fields) if !schema["properties"].is_null() => {
            let mut required = schema["required"].as_array().unwrap().iter();
            if let Some(missing) = required.find(|key| !fields.contains_key(key.as_str().unwrap()))
            {
                return Some(format!("there is no {missing} in {value}"));
            }
            fields.iter().find_map(|(key, field)| {
                let known = &schema["properties"][key];
                if !known.is_null() {
                    return differs(field, known).map(|why| format!("{key}: {why}"));
                }
                // A field that repeats, as text, a number that JavaScript can't hold.
                if key.ends_with("_str") && fields.contains_key(&key[..key.len() - 4]) {
                    return differs(field, &schema["patternProperties"]["_str$"]);
                }
                let is_closed = schema["additionalProperties"] == false;
                is_closed.then(|| format!("{key} is not described"))
            })
        }
        _ => None,
    }
}

/// Replaces the parameters in a path by names and ids that exist in the stack.
async fn with_existing_ids(imd: &Imd, path: &str) -> String {
    let name = match path.split('/').nth(2) {
        Some("faults") => "f",
        _ => "access-1",
    };
    let sessions = get(imd, "/v1/sessions").await;
    let id = sessions["sessions"][0]["id"].to_string();
    let path = path.replace("{name}", name).replace("{id}", &id);
    let mut path = path.replace("{uid}", "1");
    if path.contains("{gid}") {
        let made = post(imd, "/v1/groups", json!({ "owner": 1 })).await;
        path = path.replace("{gid}", made["gid_str"].as_str().unwrap());
    }
    assert!(!path.contains('{'), "say what stands for it: {path}");
    path
}

fn example(operation: &Value) -> Value {
    let bodies = operation["requestBody"]["content"].as_object();
    let body = bodies.and_then(|bodies| bodies.values().next());
    body.map_or(Value::Null, |body| body["example"].clone())
}

/// Sends a request, compares the answer with its description, and returns the status.
async fn asked(imd: &Imd, method: &str, path: &str, body: Value, operation: &Value) -> u16 {
    let (status, answer) = call(imd, method, path, body).await;
    let why = differs(&answer, &described(operation, status));
    assert_eq!(why, None, "{method} {path}: {status} {answer}");
    status
}

#[tokio::test]
async fn every_operation_answers_as_described() {
    for (path, method, operation) in operations().await {
        let imd = start_manual().await;
        let mut ann = user(&imd, 1).await;
        ann.ping().await;
        imd.fault(Fault::at(Site::Notify).named("f")).keep();
        let mut path = with_existing_ids(&imd, &path).await;
        let parameters = operation["parameters"].as_array().unwrap();
        if parameters.iter().any(|one| one["name"] == "since") {
            path.push_str("?since=0");
        }
        if path.ends_with("/resume") {
            imd.access("access-1").unwrap().pause().await;
        }
        let status = asked(&imd, &method, &path, example(&operation), &operation).await;
        let responses = operation["responses"].as_object().unwrap();
        let mut done = responses.keys().filter(|status| status.starts_with('2'));
        let done = done.next().map(|status| status.parse().unwrap());
        assert_eq!(Some(status), done, "{method} {path}");
    }
}

#[tokio::test]
async fn events_of_every_kind_have_the_described_form() {
    let all = operations().await;
    let wait = all.iter().find(|(path, ..)| path == "/v1/wait");
    let (path, method, operation) = wait.unwrap();
    let imd = start_manual().await;
    let fault = Fault::at(Site::AccessRequest).cmd(Cmd::Ping);
    let _fault = imd.fault(fault.error(Code::ServerError));
    let mut ann = user(&imd, 1).await;
    ann.send(&ping()).await;
    ann.error(Cmd::Ping, 90001).await;
    ann.end().await;
    ann.finished().await;
    for what in EventKind::NAMES {
        let path = format!("{path}?since=0&what={what}");
        let status = asked(&imd, method, &path, Value::Null, operation).await;
        assert_eq!(status, 200, "{what}");
    }
}

#[tokio::test]
async fn every_refusal_is_described() {
    let imd = start_manual().await;
    for (path, method, operation) in operations().await {
        let parameters = operation["parameters"].as_array().unwrap();
        let named = path.matches('{').count();
        let mut in_path = parameters.iter().filter(|one| one["in"] == "path");
        assert_eq!(in_path.clone().count(), named, "{path}");
        if path.contains("{name}") {
            let nobody = path.replace("{name}", "nobody");
            let body = example(&operation);
            let status = asked(&imd, &method, &nobody, body.clone(), &operation).await;
            assert_eq!(status, 404, "{nobody}");
            let unreadable = path.replace("{name}", "%ff");
            let status = asked(&imd, &method, &unreadable, body, &operation).await;
            assert_eq!(status, 400, "{unreadable}");
        }
        if in_path.any(|one| one["schema"]["oneOf"].is_array()) {
            let unreadable = path.replace("{id}", "x");
            let unreadable = unreadable.replace("{uid}", "x").replace("{gid}", "x");
            let status = asked(&imd, &method, &unreadable, Value::Null, &operation).await;
            assert_eq!(status, 400, "{unreadable}");
        }
        let there = with_existing_ids(&imd, &path).await;
        if !example(&operation).is_null() {
            let wrong = json!(["no", "object"]);
            assert_eq!(asked(&imd, &method, &there, wrong, &operation).await, 400);
        }
        if parameters.iter().any(|one| one["in"] == "query") {
            let unknown = format!("{there}?nonsense=1");
            let status = asked(&imd, &method, &unknown, Value::Null, &operation).await;
            assert_eq!(status, 400, "{unknown}");
        }
    }
}

/// Returns the keys that an operation knows. The refusal of an unknown key lists them in backticks, behind the word
/// "expected".
fn known_keys(answer: &Value) -> BTreeSet<String> {
    let error = answer["error"].as_str().unwrap();
    let (_, known) = error.split_once("expected ").expect(error);
    let known = known.split('`').skip(1).step_by(2);
    known.map(str::to_owned).collect()
}

#[tokio::test]
async fn every_request_takes_the_described_keys_and_no_others() {
    let imd = start_manual().await;
    let mut ann = user(&imd, 1).await;
    ann.ping().await;
    let (mut queries, mut bodies) = (0, 0);
    for (path, method, operation) in operations().await {
        let there = with_existing_ids(&imd, &path).await;
        let parameters = operation["parameters"].as_array().unwrap().iter();
        let in_query = parameters.filter(|one| one["in"] == "query");
        let listed: BTreeSet<_> = in_query
            .map(|one| one["name"].as_str().unwrap().to_owned())
            .collect();
        if !listed.is_empty() {
            let unknown = format!("{there}?nonsense=1");
            let (_, answer) = call(&imd, &method, &unknown, Value::Null).await;
            let mut known = known_keys(&answer);
            // The journal shares its keys with `/v1/wait`, and ignores this one.
            if path == "/v1/journal" {
                assert!(known.remove("timeout"));
            }
            assert_eq!(known, listed, "{method} {path}");
            queries += 1;
        }
        let schema = &operation["requestBody"]["content"]["application/json"]["schema"];
        if let Some(properties) = schema["properties"].as_object() {
            let (_, answer) = call(&imd, &method, &there, json!({ "nonsense": 1 })).await;
            let listed: BTreeSet<_> = properties.keys().cloned().collect();
            assert_eq!(known_keys(&answer), listed, "{method} {path}");
            bodies += 1;
        }
    }
    assert!(queries >= 8 && bodies >= 8, "{queries} {bodies}");
}

/// Sends a request to a stack of its own, and returns the status.
async fn asked_of_a_new_stack(method: &str, path: &str, body: Value, operation: &Value) -> u16 {
    let imd = start_manual().await;
    let mut ann = user(&imd, 1).await;
    ann.ping().await;
    let path = with_existing_ids(&imd, path).await;
    asked(&imd, method, &path, body, operation).await
}

#[tokio::test]
async fn every_id_is_taken_as_a_number_and_as_a_text() {
    let mut tried = 0;
    for (path, method, operation) in operations().await {
        let content = operation["requestBody"]["content"].as_object();
        let schema = content.and_then(|content| content.values().next());
        let schema = schema.map_or(&Value::Null, |content| &content["schema"]);
        let properties = schema["properties"].as_object().into_iter().flatten();
        for (key, kind) in properties {
            let is_list = kind["items"]["oneOf"].is_array();
            if !is_list && !kind["oneOf"].is_array() {
                continue;
            }
            let body = |number: Value| {
                let mut body = example(&operation);
                // A request may have only one of these keys.
                if key == "group" {
                    body.as_object_mut().unwrap().remove("to");
                } else if key == "nth" {
                    body.as_object_mut().unwrap().remove("times");
                } else if key == "throttle" {
                    body = json!({ "at": "access.reply" });
                }
                body[key] = if is_list { json!([number]) } else { number };
                body
            };
            let path = path.as_str();
            let ask = |body| asked_of_a_new_stack(&method, path, body, &operation);
            let number = ask(body(json!(8))).await;
            assert_eq!(ask(body(json!("8"))).await, number, "{path} {key}");
            for wrong in [json!("8.0"), json!(" 8"), json!("eight"), json!(8.5)] {
                assert_eq!(ask(body(wrong)).await, 400, "{path} {key}");
            }
            tried += 1;
        }
    }
    assert!(tried >= 10, "{tried}");
}

#[tokio::test]
async fn only_described_methods_are_served() {
    let imd = start_manual().await;
    let all = operations().await;
    for (path, _, operation) in &all {
        let asked = with_existing_ids(&imd, path).await;
        for method in METHODS {
            let is_said =
                |(one, other, _): &&(String, String, Value)| one == path && other == method;
            if all.iter().any(|listed| is_said(&listed)) {
                continue;
            }
            let (status, answer) = call(&imd, method, &asked, Value::Null).await;
            assert_eq!(status, 405, "{method} {path}");
            assert_eq!(differs(&answer, &described(operation, 405)), None);
        }
    }
    let (status, answer) = call(&imd, "GET", "/v1/nothing", Value::Null).await;
    assert_eq!(status, 404);
    let why = answer["error"].as_str().unwrap();
    assert!(why.contains("/v1/openapi.json"), "{why}");
}

/// Returns the routes in the table of docs/admin.md. A cell has `GET, POST /path`, or only a path, which then has the
/// methods of the one before it. `a\|b` stands for either.
fn documented() -> BTreeSet<(String, String)> {
    let doc = include_str!("../../docs/admin.md");
    let rows = doc.lines().skip_while(|line| !line.starts_with("|---"));
    let rows = rows.skip(1).take_while(|line| line.starts_with('|'));
    let mut found = BTreeSet::new();
    for row in rows {
        let cell = row.replace("\\|", "\u{1}");
        let cell = cell.split('|').nth(1).unwrap().to_owned();
        let mut methods: Vec<String> = Vec::new();
        for span in cell.split('`').skip(1).step_by(2) {
            let (before, path) = span.rsplit_once(' ').unwrap_or(("", span));
            if !before.is_empty() {
                methods = before.split(", ").map(str::to_owned).collect();
            }
            let path = path.split('?').next().unwrap();
            let (stem, last) = path.rsplit_once('/').unwrap();
            for last in last.split('\u{1}') {
                let path = format!("{stem}/{last}");
                found.extend(methods.iter().map(|method| (path.clone(), method.clone())));
            }
        }
    }
    found
}

#[tokio::test]
async fn the_docs_have_every_operation_and_no_other() {
    let all = operations().await.into_iter();
    let mut listed: BTreeSet<_> = all.map(|(path, method, _)| (path, method)).collect();
    // The text above the table has this route.
    assert!(listed.remove(&("/v1/openapi.json".to_owned(), "GET".to_owned())));
    assert_eq!(listed, documented());
}
