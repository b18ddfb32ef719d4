//! The handlers of the user API and the group API: form fields in, JSON out.
//!
//! Serves the start of the stack, which serves the routers on a listener each. The handlers call [`Services`], which knows
//! nothing of HTTP. Every answer is the JSON object `{"code", "message", "data"}`. A request that was understood is answered
//! with status 200, whatever its code is; any other status means that the request was wrong as HTTP.

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::{Request, State};
use axum::http::{HeaderMap, HeaderValue, Method, StatusCode, Uri, header};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use serde_json::{Value, json};

use super::body::whole_body;
use super::cors::{self, Cors};
use super::form::Fields;
use super::guard::Guard;
use crate::clock::running;
use crate::config::Http;
use crate::proto::Code;
use crate::service::{Refusal, Services};

/// The state that all handlers of one listener share.
#[derive(Debug, Clone)]
struct ApiState {
    services: Arc<Services>,
    /// The longest body that is read, in bytes.
    body_limit: usize,
    /// The real time that the services have for one request, once its body has been read.
    timeout: Duration,
}

/// Creates the router of the user API: `/x/user/register` and `/x/user/auth`.
pub fn user_router(services: Arc<Services>, config: &Http, cors: Arc<Cors>) -> Router {
    router(services, config, cors, |router| {
        router
            .route("/x/user/register", post(register))
            .route("/x/user/auth", post(auth))
    })
}

/// Creates the router of the group API: `/x/group/create`, `/x/group/join` and `/x/group/quit`.
pub fn group_router(services: Arc<Services>, config: &Http, cors: Arc<Cors>) -> Router {
    router(services, config, cors, |router| {
        router
            .route("/x/group/create", post(create))
            .route("/x/group/join", post(join))
            .route("/x/group/quit", post(quit))
    })
}

/// Creates a router with the given routes, behind the checks and fallbacks that both APIs have.
fn router(
    services: Arc<Services>,
    config: &Http,
    cors: Arc<Cors>,
    routes: impl FnOnce(Router<ApiState>) -> Router<ApiState>,
) -> Router {
    let state = ApiState {
        services,
        body_limit: config.body,
        timeout: config.timeout,
    };
    let rules = SourceRules {
        guard: Guard::new("http.hosts", &config.hosts).for_public_names(),
        cors,
    };
    routes(Router::new())
        .fallback(unknown_path)
        .method_not_allowed_fallback(wrong_method)
        .with_state(state)
        .layer(middleware::from_fn_with_state(
            Arc::new(rules),
            check_source,
        ))
}

/// The rules by which a listener decides whose requests it serves.
#[derive(Debug)]
struct SourceRules {
    guard: Guard,
    /// The exceptions from the guard. The listeners of both APIs share them.
    cors: Arc<Cors>,
}

impl SourceRules {
    /// Checks the host of a request, and its page unless CORS lets that in.
    ///
    /// # Errors
    ///
    /// A text for the client, who is answered with 403.
    fn check(&self, headers: &HeaderMap, uri: &Uri, is_allowed_origin: bool) -> Result<(), String> {
        self.guard.check_host(headers, uri)?;
        if is_allowed_origin {
            return Ok(());
        }
        let checked = self.guard.check_page(headers, uri);
        checked.inspect_err(|_| self.cors.log_refusal(headers))
    }
}

/// Passes a request on to its handler, unless it was sent by a page of another web site: that is answered with 403, except
/// to a page that CORS lets in.
async fn check_source(
    State(rules): State<Arc<SourceRules>>,
    request: Request,
    next: Next,
) -> Response {
    let (headers, uri) = (request.headers(), request.uri());
    let origin = rules.cors.allowed_origin(headers);
    let mut response = match rules.check(headers, uri, origin.is_some()) {
        Err(why) => bad_request(StatusCode::FORBIDDEN, why),
        Ok(()) if origin.is_some() && cors::is_preflight(request.method(), headers) => {
            cors::preflight(headers)
        }
        Ok(()) => next.run(request).await,
    };
    rules.cors.allow(origin, response.headers_mut());
    response
}

async fn register(State(state): State<ApiState>, request: Request) -> Response {
    state
        .respond(request, async |services, fields| {
            let (name, password) = (fields.text("name"), fields.text("pw"));
            services.register(fields.id("uid")?, name, password).await?;
            Ok(Value::Null)
        })
        .await
}

async fn auth(State(state): State<ApiState>, request: Request) -> Response {
    state
        .respond(request, async |services, fields| {
            let token = services
                .authenticate(fields.id("uid")?, fields.text("pw"))
                .await?;
            Ok(json!({ "token": token }))
        })
        .await
}

async fn create(State(state): State<ApiState>, request: Request) -> Response {
    state
        .respond(request, async |services, fields| {
            let gid = services
                .create_group(fields.id("uid")?, fields.text("name"), &[])
                .await?;
            Ok(json!({ "gid": gid, "gid_str": gid.to_string() }))
        })
        .await
}

async fn join(State(state): State<ApiState>, request: Request) -> Response {
    state
        .respond(request, async |services, fields| {
            services
                .join_group(fields.id("uid")?, fields.id("gid")?)
                .await?;
            Ok(Value::Null)
        })
        .await
}

async fn quit(State(state): State<ApiState>, request: Request) -> Response {
    state
        .respond(request, async |services, fields| {
            services
                .quit_group(fields.id("uid")?, fields.id("gid")?)
                .await?;
            Ok(Value::Null)
        })
        .await
}

/// Answers a request for a path that the API does not have.
async fn unknown_path(uri: Uri) -> Response {
    bad_request(
        StatusCode::NOT_FOUND,
        format!("no such path {}", uri.path()),
    )
}

/// Answers a request with another method than POST, which is the only one that the APIs take.
async fn wrong_method(method: Method) -> Response {
    let mut response = bad_request(
        StatusCode::METHOD_NOT_ALLOWED,
        format!("{method} is not POST"),
    );
    response
        .headers_mut()
        .insert(header::ALLOW, HeaderValue::from_static("POST"));
    response
}

impl ApiState {
    /// Reads the fields of a request, runs `handler` on them, and encodes its result as the response.
    ///
    /// A handler that takes longer than the timeout is dropped, and the request is answered as `busy`.
    async fn respond(
        &self,
        request: Request,
        handler: impl AsyncFnOnce(&Services, Fields) -> Result<Value, Refusal>,
    ) -> Response {
        let (head, body) = request.into_parts();
        let body = match whole_body(body, self.body_limit).await {
            Ok(body) => body,
            Err(error) => return bad_request(error.status(), error),
        };
        let fields = Fields::of(&head.headers, head.uri.query().unwrap_or_default(), &body);
        let answer = async {
            let _blocked = self.services.block_replacement().await;
            handler(&self.services, fields).await
        };
        match running::timeout(self.timeout, answer).await {
            Ok(Ok(data)) => envelope(&Refusal::plain(Code::Ok), data),
            Ok(Err(refusal)) => envelope(&refusal, Value::Null),
            Err(_) => envelope(&Refusal::because(Code::ServerError, "busy"), Value::Null),
        }
    }
}

/// Creates the response to a request that is wrong as HTTP. Unlike a refusal by the services, it has an error status.
fn bad_request(status: StatusCode, why: impl std::fmt::Display) -> Response {
    let refusal = Refusal::because(Code::RequestErr, why);
    (status, envelope(&refusal, Value::Null)).into_response()
}

/// Creates the JSON response `{"code": N, "message": "...", "data": ...}`. A `data` of null is left out.
fn envelope(refusal: &Refusal, data: Value) -> Response {
    let mut body = json!({ "code": refusal.code.number(), "message": refusal.text });
    if let (false, Some(body)) = (data.is_null(), body.as_object_mut()) {
        body.insert("data".into(), data);
    }
    let json = HeaderValue::from_static("application/json;charset=utf-8");
    ([(header::CONTENT_TYPE, json)], body.to_string()).into_response()
}
