//! The table of all operations of the API.
//!
//! Serves the router and the OpenAPI description, which are both made from it, so that exactly the described operations are
//! served. tests/lab/described.rs checks that each answer has the shape, and each request the keys, that the table lists.

use std::sync::Arc;

use axum::extract::Request;
use axum::http::{Method, StatusCode};
use axum::routing::{MethodFilter, MethodRouter, on};
use axum::{Extension, Json, Router};
use serde_json::{Map, Value, json};

use super::answer::Problem;
use super::servers::Change;
use super::shape::{Role, SHAPES, schema};
use super::{Deps, clock, contents, events, faults, metrics, reset, servers, state};

/// One operation: a method on a path.
struct Route {
    method: Method,
    /// The path, with its parameters in braces.
    path: &'static str,
    /// One line for people on what it does.
    summary: &'static str,
    /// The keys that the query of a request may have. A key with a shape of its own is followed by it: `after: string`.
    query: &'static [&'static str],
    body: Option<RequestBody>,
    /// The status of a successful answer. Every other answer is a [`Problem`].
    status: StatusCode,
    /// The media type of a successful answer.
    media: &'static str,
    /// The shape of a successful answer, in the notation of [`shape`](super::shape).
    gives: &'static str,
    handler: MethodRouter<Arc<Deps>>,
}

/// The body that a request for an operation has.
struct RequestBody {
    media: &'static str,
    shape: &'static str,
    /// A body with which the operation succeeds.
    example: Value,
}

impl Route {
    fn query(mut self, keys: &'static [&'static str]) -> Route {
        self.query = keys;
        self
    }

    fn body(mut self, shape: &'static str, example: Value) -> Route {
        self.body = Some(RequestBody {
            media: "application/json",
            shape,
            example,
        });
        self
    }

    /// Describes an operation whose body is a snapshot.
    fn snapshot(mut self) -> Route {
        self.body = Some(RequestBody {
            media: "application/jsonl",
            shape: "string",
            example: json!(EMPTY_SNAPSHOT),
        });
        self
    }

    fn gives(mut self, shape: &'static str) -> Route {
        self.gives = shape;
        self
    }

    /// Describes an operation that answers a text of this media type, not JSON.
    fn media(mut self, media: &'static str) -> Route {
        self.media = media;
        self.gives("string")
    }

    fn creates(mut self) -> Route {
        self.status = StatusCode::CREATED;
        self
    }

    /// Returns the route as an operation object of OpenAPI.
    fn operation(&self) -> Value {
        let names = self.path.split('{').skip(1);
        let names = names.filter_map(|rest| Some(rest.split_once('}')?.0));
        let in_path = names.map(|name| {
            json!({ "name": name, "in": "path", "required": true, "schema": parameter(name) })
        });
        let in_query = self
            .query
            .iter()
            .map(|key| match key.split_once(": ") {
                Some((name, shape)) => (name, schema(shape, Role::Request)),
                None => (*key, parameter(key)),
            })
            .map(|(name, schema)| json!({ "name": name, "in": "query", "schema": schema }));
        let parameters: Vec<Value> = in_path.chain(in_query).collect();
        let mut operation = json!({
            "summary": self.summary,
            "parameters": parameters,
            "responses": {
                self.status.as_str(): {
                    "description": "Done",
                    "content": { self.media: { "schema": schema(self.gives, Role::Answer) } },
                },
                "default": {
                    "description": "Why it was not done",
                    "content": { "application/json": { "schema": schema("Problem", Role::Answer) } },
                },
            },
        });
        if let (Some(body), Some(operation)) = (&self.body, operation.as_object_mut()) {
            let schema = schema(body.shape, Role::Request);
            let content = json!({ body.media: { "schema": schema, "example": body.example } });
            let body = json!({ "required": true, "content": content });
            operation.insert("requestBody".into(), body);
        }
        operation
    }
}

/// Creates a [`Route`] that takes no query and no body, and answers an empty object.
macro_rules! route {
    ($method:ident $path:literal, $handler:expr, $summary:literal) => {
        Route {
            method: Method::$method,
            path: $path,
            summary: $summary,
            query: &[],
            body: None,
            status: StatusCode::OK,
            media: "application/json",
            gives: "",
            handler: on(MethodFilter::$method, $handler),
        }
    };
}

/// A snapshot without users, groups and messages.
const EMPTY_SNAPSHOT: &str =
    "{\"imd_snapshot\":{\"format\":1,\"newest\":0}}\n{\"end\":{\"lines\":1}}\n";

/// The query keys by which a page of a list is chosen.
const PAGE: &[&str] = &["after", "limit"];

/// The query keys by which events are chosen.
const EVENTS: &[&str] = &[
    "since", "instance", "uid", "cmd", "server", "session", "what", "bytes",
];

/// The parameters of paths and queries that are 64-bit numbers.
const NUMBERS: &[&str] = &["id", "uid", "gid", "session", "since", "after"];

// Shapes that are too long for a line of the table, or that several operations answer.
const REGISTRY: &str = "frozen: boolean, lease_ms: integer, records: array, leases: array";
const CLOCK: &str = "kind: string, now_ms: integer, unix_ms: integer";
const STATE: &str = "version: string, instance: string, clock: object, store: string, durable: boolean, gateway: object, http: object, \
    access: [Server], registry: object, faults: [Fault], quirks: array, journal: object, ledger: object, frames: integer";
const REPORT: &str = "stored: integer, delivered: integer, pending: integer, removed: integer, refused: integer, \
    pushed: integer, lost: integer, repeated: integer, swapped: integer, unfinished: integer, inboxes: [Inbox], refusals: [Refused]";
const FAULT: &str = "at: string, name?: string, uid?: id, access?: string, session?: id, cmd?: string|integer, direction?: string, \
    nth?: id, after?: id, times?: id, probability?: number|string, for?: string, delay?: string, jitter?: string, \
    drop?: boolean, duplicate?: boolean, reorder?: boolean, error?: integer|string, reset?: boolean, half_open?: boolean, \
    throttle?: size, slice?: size, truncate?: boolean, stale?: boolean, gap?: boolean";

/// Returns every operation, in the order in which docs/admin.md explains them.
#[rustfmt::skip]
fn routes() -> Vec<Route> {
    vec![
        route!(GET "/healthz", state::health, "Whether the process answers")
            .gives("status: string"),
        route!(GET "/readyz", state::ready, "Whether the stack serves: 503 when its store has failed or has no room, or every place is taken, so that a new connection has to wait")
            .gives("status: string, reclaim?: object"),
        route!(GET "/version", state::version, "The version of imd")
            .gives("name: string, version: string"),
        route!(GET "/metrics", metrics::metrics, "What is counted: OpenMetrics where accept asks for it, else the text format 0.0.4 of Prometheus")
            .media("text/plain"),
        route!(GET "/v1/openapi.json", openapi, "This description")
            .gives("openapi: string, info: object, paths: object, components: object"),
        route!(GET "/v1/state", state::state, "Everything at a glance: servers, registry, faults, clock, ledger")
            .gives(STATE),
        route!(GET "/v1/report", state::report, "What became of the messages, with each inbox and each kind of refusal")
            .gives(REPORT),
        route!(GET "/v1/fidelity", state::fidelity, "Which quirks of the original are on, and what is not emulated")
            .gives("quirks: array, not_emulated: array"),
        route!(GET "/v1/sessions", servers::sessions, "The sessions, of the gateway too, in the order in which they were opened")
            .query(&["after", "limit", "server", "uid"]).gives("sessions: [Session], next: string|null"),
        route!(DELETE "/v1/sessions/{id}", servers::end_session, "Closes (fin) or resets (rst) a session of any server, or leaves it half-open (halfopen)")
            .query(&["how"]),
        route!(POST "/v1/access", servers::add, "Adds an access server").body("name: string", json!({"name": "access-4"}))
            .creates().gives("Server"),
        route!(POST "/v1/access/{name}/kill", |deps, name| servers::change(deps, name, Change::Kill), "Resets its connections; its lease runs out")
            .gives("Server"),
        route!(POST "/v1/access/{name}/stop", |deps, name| servers::change(deps, name, Change::Stop), "Deregisters it, tells and drains its sessions")
            .gives("Server"),
        route!(POST "/v1/access/{name}/pause", |deps, name| servers::change(deps, name, Change::Pause), "Stops accepting and answering; sockets stay open")
            .gives("Server"),
        route!(POST "/v1/access/{name}/resume", |deps, name| servers::change(deps, name, Change::Resume), "Ends a pause")
            .gives("Server"),
        route!(POST "/v1/access/{name}/restart", |deps, name| servers::change(deps, name, Change::Restart), "Starts the server again, under the same name and address")
            .gives("Server"),
        route!(GET "/v1/registry", servers::registry, "The records that the gateway reads, and the leases")
            .gives(REGISTRY),
        route!(POST "/v1/registry/freeze", servers::freeze, "Freezes the list that the gateway reads: later changes do not reach it")
            .gives(REGISTRY),
        route!(POST "/v1/registry/thaw", servers::thaw, "Ends the freeze")
            .gives(REGISTRY),
        route!(POST "/v1/registry/{name}/expire", servers::expire, "Ends a lease now")
            .gives(REGISTRY),
        route!(POST "/v1/registry/{name}/advertise", servers::advertise, "Clients are told this address in place of the server's own; null for its own again")
            .body("addr?: string|null", json!({"addr": "127.0.0.1:1"}))
            .gives(REGISTRY),
        route!(GET "/v1/faults", faults::list, "The faults in force, with their hits, in the order in which they were added; after is the name of one, and a page that is not full is the last")
            .query(&["after: string", "limit"]).gives("[Fault]"),
        route!(POST "/v1/faults", faults::add, "Adds a fault")
            .body(FAULT, json!({"at": "notify", "uid": 7, "drop": true, "times": 1}))
            .creates().gives("name: string"),
        route!(DELETE "/v1/faults", faults::clear, "Ends all faults"),
        route!(DELETE "/v1/faults/{name}", faults::remove, "Ends a fault"),
        route!(GET "/v1/menu", faults::menu, "The values that a fault can have: sites with their actions, commands, error codes")
            .gives("sites: array, cmds: array, codes: array"),
        route!(GET "/v1/users/{uid}/token", state::token, "The token that logs a user in")
            .gives("uid: id, token: string"),
        route!(GET "/v1/clock", clock::show, "The time of the stack's clock")
            .gives(CLOCK),
        route!(POST "/v1/clock/advance", clock::advance, "Moves a manual clock").body("by: string", json!({"by": "15s"}))
            .gives(CLOCK),
        route!(POST "/v1/clock/skew", clock::skew, "Moves the wall clock alone, either way").body("ms: integer", json!({"ms": -3600000}))
            .gives(CLOCK),
        route!(GET "/v1/users", contents::users, "Users who are registered or have a session: their access server, and how long they still count as online")
            .query(PAGE).gives("users: [User], next: string|null"),
        route!(POST "/v1/users", contents::add_user, "Registers a user").body("uid: id, name?: string, pw?: string", json!({"uid": 7, "name": "ann", "pw": "a secret"}))
            .creates().gives("uid: id"),
        route!(GET "/v1/groups", contents::groups, "The groups, each with its first 100 members; a group with more members has next")
            .query(PAGE).gives("groups: [Group], next: string|null"),
        route!(GET "/v1/groups/{gid}", contents::group, "A group, with a page of its members")
            .query(PAGE).gives("gid: id, name: string, owner: id|null, members: [id], next: string|null"),
        route!(POST "/v1/groups", contents::add_group, "Creates a group").body("owner: id, name?: string, members?: [id]", json!({"owner": 7, "name": "team", "members": [8]}))
            .creates().gives("gid: id"),
        route!(GET "/v1/inboxes", contents::inboxes, "What became of the messages, inbox by inbox")
            .query(PAGE).gives("inboxes: [Inbox], next: string|null"),
        route!(GET "/v1/inboxes/{uid}", contents::inbox, "Looks into an inbox: no read mark moves")
            .query(PAGE).gives("uid: id, read: integer, total: integer, entries: [Entry], next: string|null"),
        route!(POST "/v1/messages", contents::send, "Sends a message as a user, to a user or a group")
            .body("from: id, to?: id, group?: id, msg_id?: string, text?: string", json!({"from": 7, "to": 8, "text": "hello"}))
            .creates().gives("msg_id: string"),
        route!(POST "/v1/reset", reset::reset, "Empties the running stack, and restores what the config defines").body("confirm?: boolean", json!({"confirm": true})),
        route!(GET "/v1/snapshot", reset::save, "Everything that the store holds, as JSON lines; 503 while clients read others that are large")
            .media("application/jsonl"),
        route!(PUT "/v1/snapshot", reset::load, "Replaces everything that the store holds by a snapshot")
            .query(&["confirm"]).snapshot(),
        route!(GET "/v1/mark", events::mark, "Takes a mark: events after it are recorded for at least five minutes")
            .gives("instance: string, mark: integer, recorded_ms: integer|null"),
        route!(GET "/v1/journal", events::journal, "The recorded events; as server-sent events with accept: text/event-stream. 409 for a mark of another run")
            .query(EVENTS)
            .gives("instance: string, mark: integer, dropped: integer, missed: integer, unrecorded: integer, events: [Event]"),
        route!(GET "/v1/wait", events::wait, "Waits for an event, also one that has passed since the mark; 408 when none came in time, 409 when that can't be known")
            .query(&["since", "instance", "uid", "cmd", "server", "session", "what", "bytes", "timeout"])
            .gives("Event"),
    ]
}

/// Returns the router of every operation.
pub fn router() -> Router<Arc<Deps>> {
    let routes = routes().into_iter();
    routes
        .fold(Router::new(), |router, route| {
            router.route(route.path, route.handler)
        })
        .fallback(unknown_path)
        .method_not_allowed_fallback(unknown_method)
}

async fn unknown_path(request: Request) -> Problem {
    let path = request.uri().path();
    Problem::missing(format!("no such path {path}: /v1/openapi.json has all"))
}

async fn unknown_method(request: Request) -> Problem {
    let why = format!("{} is not for this path", request.method());
    Problem::new(StatusCode::METHOD_NOT_ALLOWED, why)
}

async fn openapi(Extension(description): Extension<Arc<Value>>) -> Json<Value> {
    Json(description.as_ref().clone())
}

/// Returns the schema of a parameter of a path or a query.
fn parameter(name: &str) -> Value {
    let shape = if NUMBERS.contains(&name) {
        "id"
    } else {
        "string"
    };
    schema(shape, Role::Request)
}

/// Returns the OpenAPI description of every operation.
pub fn description() -> Value {
    let mut paths: Map<String, Value> = Map::new();
    for route in routes() {
        let methods = paths.entry(route.path).or_insert_with(|| json!({}));
        if let Some(methods) = methods.as_object_mut() {
            let method = route.method.as_str().to_ascii_lowercase();
            methods.insert(method, route.operation());
        }
    }
    let schemas = SHAPES.iter();
    let schemas = schemas.map(|&(name, shape)| (name.to_owned(), schema(shape, Role::Answer)));
    json!({
        "openapi": "3.1.0",
        "info": { "title": "imd", "version": env!("CARGO_PKG_VERSION") },
        "paths": paths,
        "components": { "schemas": schemas.collect::<Map<_, _>>() },
    })
}
