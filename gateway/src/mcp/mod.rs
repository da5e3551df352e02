//! The MCP endpoints: of users, of visitors, and of workspaces by name. A request passes in this order: origin, address,
//! who asks, headers, body, workspace, sidecar. What is refused on the way never wakes a workspace.

mod body;
mod check;
mod forward;
mod headers;
mod message;
pub(crate) mod origin;
mod relay;
mod session;
mod upstream;
pub(crate) mod way;

use std::net::IpAddr;
use std::sync::Arc;

use axum::Json;
use axum::body::Body;
use axum::extract::rejection::PathRejection;
use axum::extract::{Path, State};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use dexorder_protocol::headers::VISITOR;
use http::header::CACHE_CONTROL;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, StatusCode, header};
use hyper::body::Incoming;
use serde_json::json;
use tokio::time::Instant;

use crate::app::App;
use crate::auth::AuthError;
use crate::metadata;
use crate::metrics::Outcome;
use crate::refusal::Refusal;
use crate::visitors;
use crate::wake::Purpose;
pub(crate) use body::read_body;
use check::{Door, Refused, check};
use forward::{Checked, forward, respond};
pub(crate) use upstream::Upstream;
use way::Way;

const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

type Answer = (Response, Outcome);
/// The name in a path, which may be no text once it is decoded.
pub(crate) type PathName = Result<Path<String>, PathRejection>;

/// The name; an empty one, that no workspace has, if it is no text.
fn text(name: PathName) -> String {
    name.map_or_else(|_| String::new(), |Path(name)| name)
}

/// Serves `/mcp`.
pub(crate) async fn serve(State(app): State<Arc<App>>, request: Request<Body>) -> Response {
    at(&app, Door::User, request).await
}

/// Serves `/public/mcp`.
pub(crate) async fn serve_visitor(State(app): State<Arc<App>>, request: Request<Body>) -> Response {
    at(&app, Door::Visitor, request).await
}

/// Serves `/workspaces/NAME/mcp`.
pub(crate) async fn serve_named(
    State(app): State<Arc<App>>,
    name: PathName,
    request: Request<Body>,
) -> Response {
    at(&app, Door::Named(text(name)), request).await
}

/// Serves the public key of a workspace of mode Direct.
pub(crate) async fn serve_direct_key(
    State(app): State<Arc<App>>,
    name: PathName,
    request: Request<Body>,
) -> Response {
    at(&app, Door::DirectKey(text(name)), request).await
}

/// Passes a sealed credential on to a workspace of mode Direct.
pub(crate) async fn serve_direct_session(
    State(app): State<Arc<App>>,
    name: PathName,
    request: Request<Body>,
) -> Response {
    at(&app, Door::DirectSession(text(name)), request).await
}

/// Serves `/public/visitors`: makes a visitor.
pub(crate) async fn serve_new_visitor(State(app): State<Arc<App>>, request: Request<Body>) -> Response {
    around(&app, request, async |request: Request<Body>, from| {
        match new_visitor(&app, request.method(), from) {
            Ok(response) => (response, Outcome::Forwarded),
            Err(refusal) => refuse(&app, &refusal.into()),
        }
    })
    .await
}

fn new_visitor(app: &App, method: &Method, from: IpAddr) -> Result<Response, Refusal> {
    let visitors = app.visitors.as_ref().ok_or(Refusal::NotFound)?;
    if method != Method::POST {
        return Err(Refusal::Method("POST"));
    }
    visitors.count_new(from, &app.metrics)?;
    let newcomer = visitors.make(&app.signer.seals().visitors)?;
    let body = json!({"visitor": newcomer.credential, "expiresAt": visitors::end_of(&newcomer.visitor)});
    let mut response = (StatusCode::CREATED, Json(body)).into_response();
    visitors.welcome(response.headers_mut(), &newcomer);
    response.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    Ok(response)
}

async fn at(app: &App, door: Door, request: Request<Body>) -> Response {
    let begun = Instant::now();
    around(app, request, async |request, from| answer(app, &door, from, request, begun).await).await
}

/// What all requests have in common: which web pages and how many requests are let in, a number, a count.
async fn around(
    app: &App,
    request: Request<Body>,
    answer: impl AsyncFnOnce(Request<Body>, IpAddr) -> Answer,
) -> Response {
    let begun = Instant::now();
    let number = app.next_request_id();
    let method = request.method().clone();
    let from = app.limits.origin(request.extensions(), request.headers());
    let page = origin::check(request.headers(), &app.config.allowed_origins);
    let counted = page.clone().and_then(|page| app.limits.request(from, &app.metrics).map(|()| page));
    let (mut response, outcome) = match counted {
        Ok(Some(_)) if method == Method::OPTIONS => {
            (origin::preflight(request.headers()), Outcome::Forwarded)
        }
        Ok(_) => answer(request, from).await,
        Err(refusal) => refuse(app, &refusal.into()),
    };
    app.metrics.request(&method, outcome);
    let headers = response.headers_mut();
    if let Ok(Some(origin)) = page {
        origin::permit(headers, origin);
    }
    if let Ok(value) = HeaderValue::from_str(&number) {
        headers.insert(REQUEST_ID, value);
    }
    tracing::debug!(
        request = number,
        %method,
        status = response.status().as_u16(),
        outcome = outcome.as_str(),
        milliseconds = begun.elapsed().as_secs_f64() * 1000.0,
        "request"
    );
    response
}

async fn answer(app: &App, door: &Door, from: IpAddr, request: Request<Body>, begun: Instant) -> Answer {
    let by_cookie = request.headers().contains_key(header::COOKIE)
        && !request.headers().contains_key(HeaderName::from_static(VISITOR));
    let checked = match check(app, door, from, request).await {
        Ok(checked) => checked,
        Err(refused) => {
            let metadata = match door {
                Door::Named(name) => metadata::url_of(&app.config, name),
                _ => None,
            };
            let (mut response, outcome) =
                refuse_with(app, &refused, metadata.as_ref().unwrap_or(&app.metadata_url));
            if let Some(visitors) = app.visitors.as_ref().filter(|_| by_cookie)
                && matches!(refused.refusal, Refusal::Auth(AuthError::Visitor(_)))
            {
                visitors.forget(response.headers_mut());
            }
            return (response, outcome);
        }
    };
    let (mut response, outcome) = match forward(app, &checked, begun + app.config.wake_timeout).await {
        Ok((response, pod)) => {
            app.metrics.response_head(begun.elapsed());
            (respond(app, response, &checked, &pod), Outcome::Forwarded)
        }
        // A stopped workspace keeps nothing of a session.
        Err(Refusal::NotAwake) if checked.method == Method::DELETE && checked.session.is_some() => {
            refuse(app, &Refusal::NoSession.into())
        }
        Err(refusal) => refuse(app, &Refused { refusal, id: checked.id }),
    };
    // Told with a refusal too: who tries again is the same visitor.
    if let (Some(visitors), Some(newcomer)) = (&app.visitors, &checked.newcomer) {
        visitors.welcome(response.headers_mut(), newcomer);
    }
    (response, outcome)
}

fn refuse(app: &App, refused: &Refused) -> Answer {
    refuse_with(app, refused, &app.metadata_url)
}

/// `metadata`: URL of the protected-resource metadata of what was asked for.
fn refuse_with(app: &App, refused: &Refused, metadata: &str) -> Answer {
    let Refused { refusal, id } = refused;
    if let Refusal::Auth(error) = refusal {
        app.metrics.auth_failure(*error);
    }
    (refusal.response(id.clone(), metadata), Outcome::Refused(refusal.reason()))
}

/// Sends a message of the gateway's own to a user's workspace, as those of clients are sent.
pub(crate) async fn send(
    app: &App,
    way: Way,
    purpose: Purpose,
    headers: HeaderMap,
    body: Bytes,
    deadline: Instant,
) -> Result<http::Response<Incoming>, Refusal> {
    let message = Checked::message(way, purpose, headers, body);
    forward(app, &message, deadline).await.map(|(response, _)| response)
}
