//! The routes of the chat under `/v1`. A request passes in this order: origin, token, body, turn.

use std::net::IpAddr;
use std::sync::Arc;

use axum::body::Body;
use axum::extract::rejection::{PathRejection, QueryRejection};
use axum::extract::{Path, Query, State};
use axum::middleware::{Next, from_fn_with_state};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Extension, Json, Router};
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, header};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use super::completions::{self, Chunks, Head};
use super::error::ChatError;
use super::event::{Event, Events};
use super::request::{Completion, Run};
use super::stream::{self, Writer};
use super::turn::Question;
use super::workspace::UserWorkspace;
use super::{DEFAULT_MODEL, ag_ui, begin, conversations, model_of, request};
use crate::app::App;
use crate::limits::Client;
use crate::mcp;
use crate::metrics::Outcome;
use crate::refusal::{METHODS, Refusal};
use crate::visitors;

const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// Who asks.
struct Asker {
    user: String,
    from: IpAddr,
}

type Answer = Result<Response, ChatError>;

/// The chat of users, and that of visitors if they may have one.
pub(crate) fn routes(app: &Arc<App>) -> Router<Arc<App>> {
    let router = table(app, false);
    match &app.visitors {
        Some(visitors) if visitors.may_chat() => router.nest(visitors::PATH, table(app, true)),
        _ => router,
    }
}

/// `visits`: of visitors.
fn table(app: &Arc<App>, visits: bool) -> Router<Arc<App>> {
    Router::new()
        .route("/v1/chat/completions", post(complete))
        .route("/v1/chat/events", post(events))
        .route("/v1/models", get(models))
        .route("/v1/conversations", get(list))
        .route("/v1/conversations/{id}", get(read).delete(delete))
        .route("/v1/{*rest}", axum::routing::any(not_found))
        .method_not_allowed_fallback(not_allowed)
        .layer(from_fn_with_state((Arc::clone(app), visits), around))
}

/// What all requests have in common: who may call from a web page, a number, and a count.
async fn around(
    State((app, visits)): State<(Arc<App>, bool)>,
    mut request: Request<Body>,
    next: Next,
) -> Response {
    let number = app.next_request_id();
    let method = request.method().clone();
    let page = mcp::origin::check(request.headers(), &app.config.allowed_origins);
    let from = app.limits.origin(request.extensions(), request.headers());
    request.extensions_mut().insert(Client { from, visits });
    let counted = page.clone().and_then(|page| app.limits.request(from, &app.metrics).map(|()| page));
    let mut response = match counted {
        Ok(Some(_)) if method == Method::OPTIONS => mcp::origin::preflight(request.headers()),
        Ok(_) => next.run(request).await,
        Err(refusal) => respond(&app, &method, Err(refusal.into())),
    };
    if let Ok(Some(origin)) = page {
        mcp::origin::permit(response.headers_mut(), origin);
        response.headers_mut().append(
            header::ACCESS_CONTROL_EXPOSE_HEADERS,
            HeaderValue::from_static("Dexorder-Conversation-Id"),
        );
    }
    if let Ok(value) = HeaderValue::from_str(&number) {
        response.headers_mut().insert(REQUEST_ID, value);
    }
    tracing::debug!(request = number, %method, status = response.status().as_u16(), "chat request");
    response
}

/// Makes a response of an answer, and counts it.
fn respond(app: &App, method: &Method, answer: Answer) -> Response {
    match answer {
        Ok(response) => {
            app.metrics.request(method, Outcome::Forwarded);
            response
        }
        Err(error) => {
            if let ChatError::Refusal(refusal) = &error {
                if let Refusal::Auth(error) = refusal {
                    app.metrics.auth_failure(*error);
                }
                app.metrics.request(method, Outcome::Refused(refusal.reason()));
            }
            error.response(&app.metadata_url)
        }
    }
}

/// The user who asks, and where from.
async fn authenticate(app: &App, headers: &HeaderMap, client: Client) -> Result<Asker, ChatError> {
    let way = if client.visits {
        mcp::way::by_visitor(app, headers, client.from)?
    } else {
        mcp::way::by_user(app, headers, client.from).await?
    };
    Ok(Asker { user: way.subject, from: client.from })
}

/// Who asks the model something, and the body of the request.
async fn checked<T: DeserializeOwned>(
    app: &App,
    client: Client,
    request: Request<Body>,
) -> Result<(Asker, HeaderMap, T), ChatError> {
    let (parts, body) = request.into_parts();
    let asker = authenticate(app, &parts.headers, client).await?;
    if let Some(visitors) = app.visitors.as_ref().filter(|_| client.visits) {
        visitors.count_turn(&asker.user, &app.metrics)?;
    }
    let bytes = mcp::read_body(&parts.headers, body, app.config.body_limit).await?;
    let body = serde_json::from_slice(&bytes).map_err(|error| ChatError::Request {
        message: format!("the body can't be used: {error}"),
        param: None,
    })?;
    Ok((asker, parts.headers, body))
}

async fn complete(
    State(app): State<Arc<App>>,
    Extension(client): Extension<Client>,
    request: Request<Body>,
) -> Response {
    let answer = async {
        let (asker, headers, body) = checked::<Completion>(&app, client, request).await?;
        let (streams, with_usage) = (body.stream == Some(true), body.wants_usage());
        let question = body.question(asker.user, &headers)?;
        let head = Head {
            turn: question.turn.clone(),
            conversation: question.conversation.clone(),
            model: model_of(&app, &question.user).name.clone(),
        };
        let events = begin(&app, question, asker.from)?;
        if streams {
            let conversation = head.conversation.clone();
            open(&app, events, Chunks::new(head, with_usage), &conversation).await
        } else {
            completions::whole(events, head).await
        }
    };
    let answer = answer.await;
    respond(&app, &Method::POST, answer)
}

async fn events(
    State(app): State<Arc<App>>,
    Extension(client): Extension<Client>,
    request: Request<Body>,
) -> Response {
    let answer = async {
        let (asker, headers, body) = checked::<Run>(&app, client, request).await?;
        let question: Question = body.question(asker.user, &headers)?;
        let conversation = question.conversation.clone();
        let model = model_of(&app, &question.user).name.clone();
        let writer = ag_ui::Writing { thread: conversation.clone(), id: body.id, model };
        let events = begin(&app, question, asker.from)?;
        open(&app, events, writer, &conversation).await
    };
    let answer = answer.await;
    respond(&app, &Method::POST, answer)
}

/// Streams a turn. One that fails before anything happened is answered with a status instead.
async fn open(app: &App, mut events: Events, writer: impl Writer, conversation: &str) -> Answer {
    match events.recv().await {
        Some(Event::Failed(error)) => Err(error),
        Some(first) => Ok(stream::response(writer, events, first, conversation, app.metrics.stream())),
        None => Err(ChatError::ShuttingDown),
    }
}

async fn models(
    State(app): State<Arc<App>>,
    Extension(client): Extension<Client>,
    headers: HeaderMap,
) -> Response {
    let answer = authenticate(&app, &headers, client).await.map(|asker| {
        let model = |id: &str| json!({"id": id, "object": "model", "created": 0, "owned_by": "dexorder"});
        let data: Vec<Value> = [model_of(&app, &asker.user).name.as_str(), DEFAULT_MODEL].map(model).into();
        Json(json!({"object": "list", "data": data})).into_response()
    });
    respond(&app, &Method::GET, answer)
}

/// The caller's workspace.
async fn workspace(app: &Arc<App>, headers: &HeaderMap, client: Client) -> Result<UserWorkspace, ChatError> {
    let Asker { user, from } = authenticate(app, headers, client).await?;
    Ok(UserWorkspace { app: Arc::clone(app), user, from })
}

async fn list(
    State(app): State<Arc<App>>,
    Extension(client): Extension<Client>,
    headers: HeaderMap,
) -> Response {
    let answer = async {
        let workspace = workspace(&app, &headers, client).await?;
        Ok(Json(conversations::list(&workspace).await?).into_response())
    };
    let answer = answer.await;
    respond(&app, &Method::GET, answer)
}

#[derive(Deserialize)]
struct Reading {
    last: Option<usize>,
}

async fn read(
    State(app): State<Arc<App>>,
    id: Result<Path<String>, PathRejection>,
    reading: Result<Query<Reading>, QueryRejection>,
    Extension(client): Extension<Client>,
    headers: HeaderMap,
) -> Response {
    let answer = async {
        let workspace = workspace(&app, &headers, client).await?;
        let id = conversation(id)?;
        let Query(reading) =
            reading.map_err(|_| ChatError::request("last", "last must be a number from 1 to 10000"))?;
        let last = reading.last.unwrap_or(1000).clamp(1, 10_000);
        Ok(Json(conversations::read(&workspace, &id, last).await?).into_response())
    };
    let answer = answer.await;
    respond(&app, &Method::GET, answer)
}

/// The conversation that a path names.
fn conversation(id: Result<Path<String>, PathRejection>) -> Result<String, ChatError> {
    let Path(id) = id.map_err(|_| ChatError::request("id", "the id of the conversation is no text"))?;
    request::conversation(Some(id), "id")
}

async fn delete(
    State(app): State<Arc<App>>,
    id: Result<Path<String>, PathRejection>,
    Extension(client): Extension<Client>,
    headers: HeaderMap,
) -> Response {
    let answer = async {
        let workspace = workspace(&app, &headers, client).await?;
        let id = conversation(id)?;
        Ok(Json(conversations::delete(&workspace, &id).await?).into_response())
    };
    let answer = answer.await;
    respond(&app, &Method::DELETE, answer)
}

async fn not_found(State(app): State<Arc<App>>) -> Response {
    respond(&app, &Method::GET, Err(Refusal::NotFound.into()))
}

async fn not_allowed(State(app): State<Arc<App>>) -> Response {
    respond(&app, &Method::GET, Err(Refusal::Method(METHODS).into()))
}
