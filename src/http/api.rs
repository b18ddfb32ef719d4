use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::{Request, State};
use axum::http::{HeaderValue, Method, StatusCode, Uri, header};
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use http_body_util::{BodyExt, LengthLimitError, Limited};
use serde_json::{Value, json};

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
    routes(Router::new())
        .fallback(unknown_path)
        .method_not_allowed_fallback(wrong_method)
        .with_state(api)
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
    let refusal = Refusal::because(Code::RequestErr, format!("no such path {}", uri.path()));
    (StatusCode::NOT_FOUND, envelope(&refusal, Value::Null)).into_response()
}

async fn wrong_method(method: Method) -> Response {
    let refusal = Refusal::because(Code::RequestErr, format!("{method} is not POST"));
    let mut response = envelope(&refusal, Value::Null);
    *response.status_mut() = StatusCode::METHOD_NOT_ALLOWED;
    response
        .headers_mut()
        .insert(header::ALLOW, HeaderValue::from_static("POST"));
    response
}

impl Api {
    /// Reads the fields, lets `work` answer, and writes the answer: all inside the timeout.
    async fn answer(
        &self,
        request: Request,
        work: impl AsyncFnOnce(&Services, Fields) -> Result<Value, Refusal>,
    ) -> Response {
        let (head, body) = request.into_parts();
        let body = match tokio::time::timeout(self.timeout, self.read(body)).await {
            Ok(Ok(body)) => body,
            Ok(Err(response)) => return response,
            Err(_) => {
                let why = format!(
                    "no whole body within {}",
                    humantime::format_duration(self.timeout)
                );
                let refusal = Refusal::because(Code::RequestErr, why);
                let status = StatusCode::REQUEST_TIMEOUT;
                return (status, envelope(&refusal, Value::Null)).into_response();
            }
        };
        let fields = Fields::parse(head.uri.query().unwrap_or_default(), &body);
        let work = async {
            let _inside = self.services.enter().await;
            work(&self.services, fields).await
        };
        match tokio::time::timeout(self.timeout, work).await {
            Ok(Ok(data)) => envelope(&Refusal::plain(Code::Ok), data),
            Ok(Err(refusal)) => envelope(&refusal, Value::Null),
            Err(_) => envelope(&Refusal::because(Code::ServerError, "busy"), Value::Null),
        }
    }

    async fn read(&self, body: Body) -> Result<Bytes, Response> {
        match Limited::new(body, self.body_limit).collect().await {
            Ok(body) => Ok(body.to_bytes()),
            Err(error) if error.is::<LengthLimitError>() => {
                let why = format!("the body has more than {} bytes", self.body_limit);
                let refusal = Refusal::because(Code::RequestErr, why);
                let status = StatusCode::PAYLOAD_TOO_LARGE;
                Err((status, envelope(&refusal, Value::Null)).into_response())
            }
            Err(error) => {
                let refusal = Refusal::because(Code::RequestErr, error);
                Err((StatusCode::BAD_REQUEST, envelope(&refusal, Value::Null)).into_response())
            }
        }
    }
}

/// `{"code": N, "message": "...", "data": ...}`
fn envelope(refusal: &Refusal, data: Value) -> Response {
    let body = json!({ "code": refusal.code.number(), "message": refusal.text, "data": data });
    let json = HeaderValue::from_static("application/json;charset=utf-8");
    ([(header::CONTENT_TYPE, json)], body.to_string()).into_response()
}

/// The form fields of a request. One in the body counts before one in the query; of several, the first.
struct Fields(HashMap<String, String>);

impl Fields {
    fn parse(query: &str, body: &[u8]) -> Self {
        let mut fields = HashMap::new();
        let body = form_urlencoded::parse(body);
        for (name, value) in body.chain(form_urlencoded::parse(query.as_bytes())) {
            fields
                .entry(name.into_owned())
                .or_insert_with(|| value.into_owned());
        }
        Fields(fields)
    }

    fn text(&self, name: &str) -> String {
        self.0.get(name).cloned().unwrap_or_default()
    }

    fn id(&self, name: &str) -> Result<i64, Refusal> {
        let value = self.0.get(name).map(|value| value.trim());
        let parsed = value.unwrap_or_default().parse().ok().filter(|&id| id > 0);
        parsed.ok_or_else(|| {
            let why = match value {
                None => format!("{name} is missing"),
                Some(_) => format!("{name} is no positive number"),
            };
            Refusal::because(Code::RequestErr, why)
        })
    }
}
