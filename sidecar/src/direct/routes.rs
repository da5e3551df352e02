//! The two paths of mode Direct beside MCP: the workspace's key, and the place that takes a sealed credential.

use std::sync::Arc;

use axum::Json;
use axum::extract::{Request, State};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use dexorder_protocol::direct::MAX_ENVELOPE_BYTES;
use http::header::CACHE_CONTROL;
use http::{HeaderMap, Method};
use serde::Serialize;

use super::DirectMode;
use crate::activity::Kind;
use crate::auth::Users;
use crate::metrics::Outcome;
use crate::refusal::Refusal;
use crate::relay::{Record, whole};
use crate::server::App;

/// Shows the key. Anyone may see it, so it is no activity.
pub(crate) async fn key(State(app): State<Arc<App>>, request: Request) -> Response {
    answer(&app, request, Method::GET, async |mode, headers, _| mode.key_document(&headers)).await
}

/// Takes a sealed credential. One that holds is activity.
pub(crate) async fn session(State(app): State<Arc<App>>, request: Request) -> Response {
    answer(&app, request, Method::POST, async |mode, headers, body| {
        mode.check_way(&headers)?;
        if app.gate.snapshot().closed {
            return Err(Refusal::Draining);
        }
        let answer = mode.open_session(&body).await?;
        let _pass = app.gate.enter(Kind::Call).ok_or(Refusal::Draining)?;
        Ok(answer)
    })
    .await
}

async fn answer<T: Serialize>(
    app: &App,
    request: Request,
    method: Method,
    work: impl AsyncFnOnce(&DirectMode, HeaderMap, Bytes) -> Result<T, Refusal>,
) -> Response {
    let (parts, body) = request.into_parts();
    // Not counted among the calls, whose duration is told.
    let mut record = Record::new(Arc::clone(&app.metrics), Kind::Listen);
    let outcome = async {
        let body = whole(body, MAX_ENVELOPE_BYTES).await?;
        let mode = direct(app)?;
        if parts.method != method {
            return Err(Refusal::Method(if method == Method::GET { "GET" } else { "POST" }));
        }
        work(mode, parts.headers, body).await
    };
    match outcome.await {
        Ok(answer) => {
            record.set(Outcome::Answered);
            ([(CACHE_CONTROL, "no-store")], Json(answer)).into_response()
        }
        Err(refusal) => {
            tracing::debug!(%refusal, "refused a request");
            record.set(refusal.reason().into());
            refusal.response(None)
        }
    }
}

fn direct(app: &App) -> Result<&DirectMode, Refusal> {
    match app.tenancy.tenant().map(|tenant| &tenant.users) {
        Some(Users::Direct(mode)) => Ok(mode),
        Some(Users::Gateway { .. } | Users::Public(_)) => Err(Refusal::NotFound),
        None => Err(Refusal::Unassigned),
    }
}
