//! What the paths of the user API and the group API do: fields in, an answer in JSON out.

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::{Request, State};
use axum::http::{HeaderValue, Method, StatusCode, Uri, header};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use serde_json::{Value, json};

use super::Guard;
use super::body::whole_body;
use super::form::Fields;
use crate::clock::running;
use crate::config::Http;
use crate::proto::Code;
use crate::service::{Refusal, Services};

/// What the handlers share.
#[derive(Debug, Clone)]
struct Api {
    services: Arc<Services>,
    body_limit: usize,
    timeout: Duration,
}

/// The user API: `/x/user/register` and `/x/user/auth`.
pub fn user_router(services: Arc<Services>, config: &Http) -> Router {
    router(services, config, |router| {
        router
            .route("/x/user/register", post(register))
            .route("/x/user/auth", post(auth))
    })
}

/// The group API: `/x/group/create`, `/x/group/join` and `/x/group/quit`.
pub fn group_router(services: Arc<Services>, config: &Http) -> Router {
    router(services, config, |router| {
        router
            .route("/x/group/create", post(create))
            .route("/x/group/join", post(join))
            .route("/x/group/quit", post(quit))
    })
}

fn router(
    services: Arc<Services>,
    config: &Http,
    routes: impl FnOnce(Router<Api>) -> Router<Api>,
) -> Router {
    let api = Api {
        services,
        body_limit: config.body,
        timeout: config.timeout,
    };
    let guard = Guard::new("http.hosts", &config.hosts).for_public_names();
    routes(Router::new())
        .fallback(unknown_path)
        .method_not_allowed_fallback(wrong_method)
        .with_state(api)
        .layer(middleware::from_fn_with_state(Arc::new(guard), guarded))
}

/// Answers the requests that come from no page of another site.
async fn guarded(State(guard): State<Arc<Guard>>, request: Request, next: Next) -> Response {
    let (headers, uri) = (request.headers(), request.uri());
    let checked = guard.check_host(headers, uri);
    match checked.and_then(|()| guard.check_page(headers, uri)) {
        Ok(()) => next.run(request).await,
        Err(why) => refused(StatusCode::FORBIDDEN, why),
    }
}

async fn register(State(api): State<Api>, request: Request) -> Response {
    api.answer(request, async |services, fields| {
        let (name, password) = (fields.text("name"), fields.text("pw"));
        services.register(fields.id("uid")?, name, password).await?;
        Ok(Value::Null)
    })
    .await
}

async fn auth(State(api): State<Api>, request: Request) -> Response {
    api.answer(request, async |services, fields| {
        let token = services
            .authenticate(fields.id("uid")?, fields.text("pw"))
            .await?;
        Ok(json!({ "token": token }))
    })
    .await
}

async fn create(State(api): State<Api>, request: Request) -> Response {
    api.answer(request, async |services, fields| {
        let gid = services
            .create_group(fields.id("uid")?, fields.text("name"), &[])
            .await?;
        Ok(json!({ "gid": gid, "gid_str": gid.to_string() }))
    })
    .await
}

async fn join(State(api): State<Api>, request: Request) -> Response {
    api.answer(request, async |services, fields| {
        services
            .join_group(fields.id("uid")?, fields.id("gid")?)
            .await?;
        Ok(Value::Null)
    })
    .await
}

async fn quit(State(api): State<Api>, request: Request) -> Response {
    api.answer(request, async |services, fields| {
        services
            .quit_group(fields.id("uid")?, fields.id("gid")?)
            .await?;
        Ok(Value::Null)
    })
    .await
}

async fn unknown_path(uri: Uri) -> Response {
    refused(
        StatusCode::NOT_FOUND,
        format!("no such path {}", uri.path()),
    )
}

async fn wrong_method(method: Method) -> Response {
    let mut response = refused(
        StatusCode::METHOD_NOT_ALLOWED,
        format!("{method} is not POST"),
    );
    response
        .headers_mut()
        .insert(header::ALLOW, HeaderValue::from_static("POST"));
    response
}

impl Api {
    /// Reads the fields, lets `work` answer within the timeout, and writes the answer.
    async fn answer(
        &self,
        request: Request,
        work: impl AsyncFnOnce(&Services, Fields) -> Result<Value, Refusal>,
    ) -> Response {
        let (head, body) = request.into_parts();
        let body = match whole_body(body, self.body_limit).await {
            Ok(body) => body,
            Err(error) => return refused(error.status(), error),
        };
        let fields = Fields::of(&head.headers, head.uri.query().unwrap_or_default(), &body);
        let work = async {
            let _shared = self.services.lock_shared().await;
            work(&self.services, fields).await
        };
        match running::timeout(self.timeout, work).await {
            Ok(Ok(data)) => envelope(&Refusal::plain(Code::Ok), data),
            Ok(Err(refusal)) => envelope(&refusal, Value::Null),
            Err(_) => envelope(&Refusal::because(Code::ServerError, "busy"), Value::Null),
        }
    }
}

/// A request that is at fault as HTTP, not as what it asks for: the status says so too.
fn refused(status: StatusCode, why: impl std::fmt::Display) -> Response {
    let refusal = Refusal::because(Code::RequestErr, why);
    (status, envelope(&refusal, Value::Null)).into_response()
}

/// `{"code": N, "message": "...", "data": ...}`, without `data` where there is none.
fn envelope(refusal: &Refusal, data: Value) -> Response {
    let mut body = json!({ "code": refusal.code.number(), "message": refusal.text });
    if let (false, Some(body)) = (data.is_null(), body.as_object_mut()) {
        body.insert("data".into(), data);
    }
    let json = HeaderValue::from_static("application/json;charset=utf-8");
    ([(header::CONTENT_TYPE, json)], body.to_string()).into_response()
}
