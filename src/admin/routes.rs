//! What can be asked. The router and its OpenAPI description are made from one table, so that neither knows more than
//! the other.

use std::sync::Arc;

use axum::extract::Request;
use axum::http::{Method, StatusCode};
use axum::routing::{MethodFilter, MethodRouter, on};
use axum::{Extension, Json, Router};
use serde_json::{Map, Value, json};

use super::answer::Problem;
use super::servers::Change;
use super::shape::Way;
use super::{Parts, clock, contents, events, faults, metrics, reset, servers, shape, state};

/// One thing that can be asked.
struct Route {
    method: Method,
    path: &'static str,
    /// What it does, for people.
    about: &'static str,
    /// The keys that may stand in its query.
    query: &'static [&'static str],
    /// An example of its body, where it takes one.
    body: Option<&'static str>,
    /// What its body holds, as [`shape::schema`] reads it.
    takes: &'static str,
    /// Whether its body is a snapshot.
    takes_lines: bool,
    /// The status when it is done.
    status: StatusCode,
    /// What its answer is then, and what it holds, as [`shape::schema`] reads it.
    media: &'static str,
    gives: &'static str,
    answer: MethodRouter<Arc<Parts>>,
}

impl Route {
    fn query(mut self, query: &'static [&'static str]) -> Route {
        self.query = query;
        self
    }

    /// Takes a snapshot as its body.
    fn lines(mut self) -> Route {
        self.takes_lines = true;
        self
    }

    /// Takes a body of this shape.
    fn body(mut self, takes: &'static str, example: &'static str) -> Route {
        self.takes = takes;
        self.body = Some(example);
        self
    }

    fn gives(mut self, fields: &'static str) -> Route {
        self.gives = fields;
        self
    }

    fn text(mut self, media: &'static str) -> Route {
        self.media = media;
        self.gives("text")
    }

    fn creates(mut self) -> Route {
        self.status = StatusCode::CREATED;
        self
    }
}

/// `answer` is the handler.
macro_rules! route {
    ($method:ident $path:literal, $answer:expr, $about:literal) => {
        Route {
            method: Method::$method,
            path: $path,
            about: $about,
            query: &[],
            body: None,
            takes: "",
            takes_lines: false,
            status: StatusCode::OK,
            media: "application/json",
            gives: "",
            answer: on(MethodFilter::$method, $answer),
        }
    };
}

/// A snapshot of nothing.
const EMPTY: &str = "{\"imd_snapshot\":{\"format\":1,\"newest\":0}}\n{\"end\":{\"lines\":1}}\n";

/// By what a part of a list is chosen.
const PART: &[&str] = &["after", "limit"];

/// By what events are chosen.
const EVENTS: &[&str] = &[
    "since", "instance", "uid", "cmd", "server", "session", "what", "bytes",
];

/// The keys of a path or a query that are whole numbers.
const NUMBERS: &[&str] = &["id", "uid", "session", "since", "after"];

/// What is told of the registry, the clock, everything, the messages.
const REGISTRY: &str = "frozen: boolean, lease_ms: integer, records: array, leases: array";
const CLOCK: &str = "kind: string, now_ms: integer, unix_ms: integer";
const STATE: &str = "version: string, instance: string, clock: object, store: string, durable: boolean, gateway: object, http: object, \
    access: [Server], registry: object, faults: [Fault], quirks: array, journal: object, ledger: object, frames: integer";
const REPORT: &str = "stored: integer, delivered: integer, pending: integer, removed: integer, refused: integer, \
    lost: integer, repeated: integer, swapped: integer, unfinished: integer, inboxes: [Inbox], refusals: [Refused]";

#[rustfmt::skip]
fn routes() -> Vec<Route> {
    vec![
        route!(GET "/healthz", state::health, "Whether the process answers")
            .gives("status: string"),
        route!(GET "/readyz", state::ready, "Whether the stack serves: 503 when its store has failed or has no room, or every place for a connection is taken")
            .gives("status: string"),
        route!(GET "/version", state::version, "The version of imd")
            .gives("name: string, version: string"),
        route!(GET "/metrics", metrics::metrics, "What is counted: OpenMetrics where accept asks for it, else the text format 0.0.4 of Prometheus")
            .text("text/plain"),
        route!(GET "/v1/openapi.json", description_of, "This description")
            .gives("openapi: string, info: object, paths: object, components: object"),
        route!(GET "/v1/state", state::state, "Everything at a glance: servers, registry, faults, clock, ledger")
            .gives(STATE),
        route!(GET "/v1/report", state::report, "What became of the messages, with each inbox and each kind of refusal")
            .gives(REPORT),
        route!(GET "/v1/fidelity", state::fidelity, "Which quirks of the original are on, and what is not emulated")
            .gives("quirks: array, not_emulated: array"),
        route!(GET "/v1/sessions", servers::sessions, "The sessions, of the gateway too, in the order in which they were opened")
            .query(&["after", "limit", "server", "uid"]).gives("sessions: [Session], next: string|null"),
        route!(DELETE "/v1/sessions/{id}", servers::end_session, "Ends a session: fin closes it, rst resets it, halfopen leaves it unserved")
            .query(&["how"]),
        route!(POST "/v1/access", servers::add, "One more access server").body("name: string", r#"{"name": "access-4"}"#)
            .creates().gives("Server"),
        route!(POST "/v1/access/{name}/kill", |parts, name| servers::change(parts, name, Change::Kill), "Resets its connections; its lease runs out")
            .gives("Server"),
        route!(POST "/v1/access/{name}/stop", |parts, name| servers::change(parts, name, Change::Stop), "Deregisters it, tells and drains its sessions")
            .gives("Server"),
        route!(POST "/v1/access/{name}/pause", |parts, name| servers::change(parts, name, Change::Pause), "It accepts and answers nothing; its sockets stay")
            .gives("Server"),
        route!(POST "/v1/access/{name}/resume", |parts, name| servers::change(parts, name, Change::Resume), "It goes on after a pause")
            .gives("Server"),
        route!(POST "/v1/access/{name}/restart", |parts, name| servers::change(parts, name, Change::Restart), "It serves again, under the same name and address")
            .gives("Server"),
        route!(GET "/v1/registry", servers::registry, "The records that the gateway is shown")
            .gives(REGISTRY),
        route!(POST "/v1/registry/freeze", servers::freeze, "The gateway is shown what there is now, whatever becomes of it")
            .gives(REGISTRY),
        route!(POST "/v1/registry/thaw", servers::thaw, "The gateway is shown what there is")
            .gives(REGISTRY),
        route!(POST "/v1/registry/{name}/expire", servers::expire, "A lease runs out now")
            .gives(REGISTRY),
        route!(POST "/v1/registry/{name}/advertise", servers::advertise, "Clients are told this address in place of the server's own; null for its own again")
            .body("addr?: string|null", r#"{"addr": "127.0.0.1:1"}"#)
            .gives(REGISTRY),
        route!(GET "/v1/faults", faults::list, "The faults in force, with their hits")
            .gives("[Fault]"),
        route!(POST "/v1/faults", faults::add, "A new fault")
            .body("at: string, uid?: id, session?: id, nth?: id, after?: id, times?: id, throttle?: id, ..", r#"{"at": "notify", "uid": 7, "drop": true, "times": 1}"#)
            .creates().gives("name: string"),
        route!(DELETE "/v1/faults", faults::clear, "Ends all faults"),
        route!(DELETE "/v1/faults/{name}", faults::remove, "Ends a fault"),
        route!(GET "/v1/menu", faults::menu, "Of what a fault can be made: sites with their actions, commands, error codes")
            .gives("sites: array, cmds: array, codes: array"),
        route!(GET "/v1/users/{uid}/token", state::token, "The token that logs a user in")
            .gives("uid: id, token: string"),
        route!(GET "/v1/clock", clock::show, "The time by which the stack goes")
            .gives(CLOCK),
        route!(POST "/v1/clock/advance", clock::advance, "Moves a manual clock").body("by: string", r#"{"by": "15s"}"#)
            .gives(CLOCK),
        route!(POST "/v1/clock/skew", clock::skew, "Moves the wall clock alone, either way").body("ms: integer", r#"{"ms": -3600000}"#)
            .gives(CLOCK),
        route!(GET "/v1/users", contents::users, "The users, registered or there: where they are, and for how long they count as online")
            .query(PART).gives("users: [User], next: string|null"),
        route!(POST "/v1/users", contents::add_user, "Registers a user").body("uid: id, name?: string, pw?: string", r#"{"uid": 7, "name": "ann", "pw": "a secret"}"#)
            .creates().gives("uid: id"),
        route!(GET "/v1/groups", contents::groups, "The groups, with their members")
            .query(PART).gives("groups: [Group], next: string|null"),
        route!(POST "/v1/groups", contents::add_group, "A new group").body("owner: id, name?: string, members?: [id]", r#"{"owner": 7, "name": "team", "members": [8]}"#)
            .creates().gives("gid: id"),
        route!(GET "/v1/inboxes", contents::inboxes, "What became of the messages, inbox by inbox")
            .query(PART).gives("inboxes: [Inbox], next: string|null"),
        route!(GET "/v1/inboxes/{uid}", contents::inbox, "Looks into an inbox: no read mark moves")
            .query(PART).gives("uid: id, read: integer, total: integer, entries: [Entry], next: string|null"),
        route!(POST "/v1/messages", contents::send, "Sends a message as a user, to a user or a group")
            .body("from: id, to?: id, group?: id, msg_id?: string, text?: string", r#"{"from": 7, "to": 8, "text": "hello"}"#)
            .creates().gives("msg_id: string"),
        route!(POST "/v1/reset", reset::reset, "Makes the stack as new, while it runs").body("confirm?: boolean", r#"{"confirm": true}"#),
        route!(GET "/v1/snapshot", reset::save, "Everything that the store holds, as JSON lines; 503 while clients read others that are large")
            .text("application/jsonl"),
        route!(PUT "/v1/snapshot", reset::load, "Replaces everything that the store holds by a snapshot")
            .query(&["confirm"]).lines(),
        route!(GET "/v1/mark", events::mark, "A mark: what passes after it is recorded, for five minutes at least, and can be waited for")
            .gives("instance: string, mark: integer, recorded_ms: integer|null"),
        route!(GET "/v1/journal", events::journal, "What has passed; as server-sent events with accept: text/event-stream. 409 for a mark of another run")
            .query(EVENTS)
            .gives("instance: string, mark: integer, dropped: integer, missed: integer, unrecorded: integer, events: [Event]"),
        route!(GET "/v1/wait", events::wait, "Waits for an event, also one that has passed since the mark; 408 when none came in time, 409 when that can't be known")
            .query(&["since", "instance", "uid", "cmd", "server", "session", "what", "bytes", "timeout"])
            .gives("Event"),
    ]
}

/// Answers all of it.
pub fn router() -> Router<Arc<Parts>> {
    let known = routes().into_iter();
    known
        .fold(Router::new(), |router, route| {
            router.route(route.path, route.answer)
        })
        .fallback(unknown)
        .method_not_allowed_fallback(wrong_method)
}

async fn unknown(request: Request) -> Problem {
    let path = request.uri().path();
    Problem::missing(format!("no such path {path}: /v1/openapi.json has all"))
}

async fn wrong_method(request: Request) -> Problem {
    let why = format!("{} is not for this path", request.method());
    Problem::new(StatusCode::METHOD_NOT_ALLOWED, why)
}

async fn description_of(Extension(description): Extension<Arc<Value>>) -> Json<Value> {
    Json(description.as_ref().clone())
}

/// The schema of a part of a path or a query.
fn parameter(name: &str) -> Value {
    if NUMBERS.contains(&name) {
        shape::id(Way::In, false)
    } else {
        json!({ "type": "string" })
    }
}

/// The OpenAPI description.
pub fn description() -> Value {
    let mut paths = Map::new();
    for route in routes() {
        let names = route.path.split('{').skip(1);
        let names = names.filter_map(|rest| Some(rest.split_once('}')?.0));
        let in_path = names.map(|name| {
            json!({ "name": name, "in": "path", "required": true, "schema": parameter(name) })
        });
        let in_query = route
            .query
            .iter()
            .map(|name| json!({ "name": name, "in": "query", "schema": parameter(name) }));
        let parameters: Vec<Value> = in_path.chain(in_query).collect();
        let mut operation = json!({
            "summary": route.about,
            "parameters": parameters,
            "responses": {
                route.status.as_str(): {
                    "description": "Done",
                    "content": { route.media: { "schema": shape::schema(route.gives, Way::Out) } },
                },
                "default": {
                    "description": "Why it was not done",
                    "content": { "application/json": { "schema": { "$ref": "#/components/schemas/Problem" } } },
                },
            },
        });
        let example = route.body.map(serde_json::from_str::<Value>);
        if let (Some(Ok(example)), Some(operation)) = (example, operation.as_object_mut()) {
            let schema = shape::schema(route.takes, Way::In);
            let content = json!({ "application/json": { "schema": schema, "example": example } });
            operation.insert(
                "requestBody".into(),
                json!({ "required": true, "content": content }),
            );
        }
        if let (true, Some(operation)) = (route.takes_lines, operation.as_object_mut()) {
            let content = json!({ "application/jsonl": { "schema": { "type": "string" }, "example": EMPTY } });
            operation.insert(
                "requestBody".into(),
                json!({ "required": true, "content": content }),
            );
        }
        let methods = paths.entry(route.path).or_insert_with(|| json!({}));
        if let Some(methods) = methods.as_object_mut() {
            methods.insert(route.method.as_str().to_ascii_lowercase(), operation);
        }
    }
    json!({
        "openapi": "3.1.0",
        "info": { "title": "imd", "version": env!("CARGO_PKG_VERSION") },
        "paths": paths,
        "components": { "schemas": schemas() },
    })
}

/// The schemas that others name.
fn schemas() -> Map<String, Value> {
    let mut schemas: Map<String, Value> = shape::SHAPES
        .iter()
        .map(|&(name, shape)| (name.to_owned(), shape::schema(shape, Way::Out)))
        .collect();
    let problem = json!({
        "type": "object",
        "required": ["error"],
        "properties": { "error": { "type": "string" } },
    });
    schemas.insert("Problem".into(), problem);
    schemas
}
