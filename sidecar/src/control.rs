//! The control port: probes and metrics for anyone, report and drain for the operator.

use std::sync::Arc;

use axum::Json;
use axum::Router;
use axum::body::Bytes;
use axum::extract::{DefaultBodyLimit, Request, State};
use axum::middleware::{Next, from_fn_with_state};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use dexorder_protocol::control::{DRAIN_PATH, DrainRequest, REPORT_PATH, Report};
use dexorder_protocol::jsonrpc::Reason;
use http::header::CONTENT_TYPE;
use http::{HeaderMap, StatusCode};
use serde::Serialize;

use crate::auth::check_operator;
use crate::drain::{DrainError, STATUS_TIME, refused};
use crate::metrics::Moment;
use crate::server::App;

const REQUEST_BYTES: usize = 16 * 1024;
const OPENMETRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// A refusal in JSON.
#[derive(Serialize)]
struct Problem {
    reason: Reason,
    error: String,
}

/// Everything that is served at the control port.
pub(crate) fn router(app: Arc<App>) -> Router {
    let signed = Router::new()
        .route(REPORT_PATH, get(report))
        .route(DRAIN_PATH, post(drain))
        .layer(DefaultBodyLimit::max(REQUEST_BYTES))
        .route_layer(from_fn_with_state(Arc::clone(&app), signed_by_operator));
    Router::new()
        .route("/livez", get(|| async { "ok" }))
        .route("/readyz", get(readyz))
        .route("/metrics", get(metrics))
        .merge(signed)
        .with_state(app)
}

async fn signed_by_operator(
    State(app): State<Arc<App>>,
    headers: HeaderMap,
    request: Request,
    next: Next,
) -> Response {
    match check_operator(&app.keys, &app.workspace_uid, &headers) {
        Ok(()) => next.run(request).await,
        Err(error) => problem(StatusCode::UNAUTHORIZED, Reason::Unauthenticated, error.to_string()),
    }
}

async fn readyz(State(app): State<Arc<App>>) -> Response {
    let known = app.agent.known();
    let refuse = |reason, error: &str| problem(StatusCode::SERVICE_UNAVAILABLE, reason, error.to_owned());
    if app.gate.snapshot().closed {
        refuse(Reason::Draining, "the workspace is stopping")
    } else if known.ready {
        "ok".into_response()
    } else if known.first_ready.is_some() {
        refuse(Reason::AgentUnavailable, "the agent does not answer any more")
    } else {
        refuse(Reason::AgentStarting, "the agent does not answer yet")
    }
}

async fn metrics(State(app): State<Arc<App>>) -> Response {
    let (seen, known) = (app.gate.snapshot(), app.agent.known());
    let moment = Moment {
        in_flight: seen.activity.in_flight,
        open_streams: seen.activity.open_streams,
        agent_ready: known.ready,
        agent_start_seconds: known.first_ready.map(|ready| ready.duration_since(seen.start).as_secs_f64()),
        last_activity_seconds: seen.activity.last.as_duration().as_secs_f64(),
        draining: seen.closed,
    };
    match app.metrics.text(&moment) {
        Ok(text) => ([(CONTENT_TYPE, OPENMETRICS)], text).into_response(),
        Err(error) => problem(StatusCode::INTERNAL_SERVER_ERROR, Reason::Unavailable, error.to_string()),
    }
}

async fn report(State(app): State<Arc<App>>) -> Json<Report> {
    Json(make_report(&app).await)
}

/// The agent is asked for its own work at this moment. If it does not answer, it is reported as not ready.
async fn make_report(app: &App) -> Report {
    let answers = app.agent.status(STATUS_TIME).await.is_ok_and(|status| status.ready);
    let (known, seen) = (app.agent.known(), app.gate.snapshot());
    Report {
        start_time: seen.start,
        last_activity_time: seen.activity.last,
        in_flight: seen.activity.in_flight,
        open_streams: seen.activity.open_streams,
        busy: known.busy,
        agent_ready: answers,
        agent_ready_time: known.first_ready,
        draining: seen.closed,
        saved_commit: known.commit,
        workspace_uid: Some(app.workspace_uid.clone()),
        public_key: None,
        key_rotation: None,
    }
}

async fn drain(State(app): State<Arc<App>>, body: Bytes) -> Response {
    let request: DrainRequest = match serde_json::from_slice(&body) {
        Ok(request) => request,
        Err(error) => {
            let text = format!("the body is no drain request: {error}");
            return problem(StatusCode::BAD_REQUEST, Reason::InvalidRequest, text);
        }
    };
    tracing::info!(mode = ?request.mode, "asked to drain");
    let error = match app.drain.run(request).await {
        Ok(outcome) => return Json(outcome).into_response(),
        Err(error) => error,
    };
    tracing::info!(error = &error as &dyn std::error::Error, "did not drain");
    let text = error.to_string();
    match error {
        DrainError::NotIdle(reason) => {
            (StatusCode::CONFLICT, Json(refused(reason, make_report(&app).await))).into_response()
        }
        DrainError::NoTime => problem(StatusCode::BAD_REQUEST, Reason::InvalidRequest, text),
        DrainError::Unknown(cause) => {
            problem(StatusCode::SERVICE_UNAVAILABLE, Reason::AgentUnavailable, format!("{text}: {cause}"))
        }
        DrainError::NotReady => problem(StatusCode::SERVICE_UNAVAILABLE, Reason::AgentStarting, text),
        DrainError::Broken(_) => problem(StatusCode::INTERNAL_SERVER_ERROR, Reason::Unavailable, text),
    }
}

fn problem(status: StatusCode, reason: Reason, error: String) -> Response {
    (status, Json(Problem { reason, error })).into_response()
}
