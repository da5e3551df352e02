//! The front of a played API server: takes requests, lets fates befall writes, and answers in Kubernetes' form.

use std::{
    collections::VecDeque,
    sync::{Mutex, PoisonError},
};

use http::{Method, Request, Response, StatusCode};
use http_body_util::{BodyExt, Full};
use k8s_openapi::jiff::Timestamp;
use kube::client::Body;
use serde_json::{Value, json};

use super::fate::Fate;

/// What is behind it.
pub(super) trait Objects {
    /// What becomes of the next writes; none: they are carried out.
    fn fates(&mut self) -> &mut VecDeque<Option<Fate>>;

    /// Carries a request out.
    fn handle(
        &mut self,
        method: &Method,
        path: &str,
        body: &Value,
        now: Timestamp,
    ) -> Result<Value, StatusCode>;
}

/// Answers a request.
pub(super) async fn serve(
    objects: &Mutex<impl Objects>,
    now: Timestamp,
    request: Request<Body>,
) -> Result<Response<Full<bytes::Bytes>>, kube::Error> {
    let (parts, body) = request.into_parts();
    let body = body.collect().await?.to_bytes();
    let body: Value = serde_json::from_slice(&body).unwrap_or(Value::Null);
    let (answer, heard) = carry_out(objects, now, &parts, &body);
    if !heard {
        return std::future::pending().await;
    }
    let (status, body) = match answer {
        Ok(body) => (StatusCode::OK, body),
        Err(status) => (status, failure(status)),
    };
    let body = Full::new(serde_json::to_vec(&body).unwrap().into());
    Ok(Response::builder().status(status).body(body).unwrap())
}

/// What becomes of the request, and whether anybody hears of it.
fn carry_out(
    objects: &Mutex<impl Objects>,
    now: Timestamp,
    parts: &http::request::Parts,
    body: &Value,
) -> (Result<Value, StatusCode>, bool) {
    // A test that panicked has failed anyway.
    let mut objects = objects.lock().unwrap_or_else(PoisonError::into_inner);
    let reads = parts.method == Method::GET;
    let fate = if reads { None } else { objects.fates().pop_front().flatten() };
    let answer = match fate.and_then(Fate::refusal) {
        Some(status) => Err(status),
        None => objects.handle(&parts.method, parts.uri.path(), body, now),
    };
    (answer, fate.is_none_or(Fate::is_heard))
}

fn failure(status: StatusCode) -> Value {
    // The API server has its reasons in one word.
    let reason = status.canonical_reason().unwrap_or_default().replace(' ', "");
    json!({"kind": "Status", "apiVersion": "v1", "status": "Failure", "code": status.as_u16(),
        "reason": reason, "message": "as the test says"})
}
