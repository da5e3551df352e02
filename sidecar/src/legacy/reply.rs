//! Responses to old clients. An error of the protocol comes with a good status: these clients read no body of another.

use axum::body::Body;
use axum::response::{IntoResponse, Response};
use dexorder_protocol::headers::mark_event_stream;
use http::header::CONTENT_TYPE;
use http::{HeaderValue, StatusCode};
use serde_json::{Value, json};

use super::codes::HEADER_MISMATCH;
use super::downgrade::{self, Error};
use super::members::raw;
use super::stream::{Events, Messages};
use crate::headers::NEWEST_REVISION;

/// An error of the server's own.
pub(super) fn error(code: i64, message: &str) -> Error {
    Error { code, message: message.to_owned(), data: None }
}

/// The response to a request that has nothing to say but that it was done.
pub(super) fn done(id: &Value) -> Response {
    json_response(downgrade::response(id, Ok(&raw(&json!({})))))
}

/// A body of the newest revision without the header that goes with it (2026-07-28, basic/transports/streamable-http, Server
/// Validation). In a request that names an older revision, the body's members mean nothing.
pub(super) fn without_header(id: &Value) -> Response {
    let message =
        format!("the body is of the revision {NEWEST_REVISION}: the header MCP-Protocol-Version is missing");
    let error = error(HEADER_MISMATCH, &message);
    let mut response = json_response(downgrade::response(id, Err(&error)));
    *response.status_mut() = StatusCode::BAD_REQUEST;
    response
}

/// One message.
pub(super) fn json_response(text: String) -> Response {
    ([(CONTENT_TYPE, HeaderValue::from_static("application/json"))], text).into_response()
}

/// Messages as they come.
pub(super) fn stream<M: Messages>(events: Events<M>) -> Response {
    event_stream(Body::new(events))
}

/// The same of a body that is one.
pub(super) fn event_stream(body: Body) -> Response {
    let mut response = Response::new(body);
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("text/event-stream"));
    mark_event_stream(response.headers_mut());
    response
}
