//! The control port: probes and metrics for anyone; report, drain, notification, change of key and assignment for the
//! operator.

use std::sync::Arc;

use axum::Json;
use axum::Router;
use axum::body::Bytes;
use axum::extract::{DefaultBodyLimit, Request, State};
use axum::middleware::{Next, from_fn_with_state};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use dexorder_protocol::control::{
    ASSIGN_PATH, Assignment, DRAIN_PATH, DrainRequest, NOTIFY_PATH, NotifyOutcome, NotifyRequest,
    REPORT_PATH, ROTATE_KEY_PATH, Report, RotateKeyRequest,
};
use dexorder_protocol::jsonrpc::Reason;
use http::header::CONTENT_TYPE;
use http::{HeaderMap, StatusCode};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::auth::{Users, check_operator};
use crate::drain::{DrainError, STATUS_TIME, refused};
use crate::metrics::Moment;
use crate::server::App;
use crate::tenancy::AssignError;

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
        .route(NOTIFY_PATH, post(notify))
        .route(ROTATE_KEY_PATH, post(rotate_key))
        .route(ASSIGN_PATH, post(assign))
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
    let checked = check_operator(&app.keys, app.tenancy.audience(), &headers).or_else(|error| {
        // Whoever assigns a pod can't know whether the call before was carried out.
        match app.tenancy.pod_uid().filter(|_| request.uri().path() == ASSIGN_PATH) {
            Some(pod_uid) => check_operator(&app.keys, pod_uid, &headers),
            None => Err(error),
        }
    });
    match checked {
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
        public_sessions: app.tenancy.tenant().map_or(0, |tenant| tenant.users.sessions()),
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
    let tenant = app.tenancy.tenant();
    let (public_key, key_rotation) = match tenant.map(|tenant| &tenant.users) {
        Some(Users::Direct(mode)) => {
            let (thumbprint, rotation) = mode.public_key();
            (Some(thumbprint), rotation)
        }
        _ => (None, None),
    };
    Report {
        start_time: seen.start,
        last_activity_time: seen.activity.last,
        in_flight: seen.activity.in_flight,
        open_streams: seen.activity.open_streams,
        busy: known.busy,
        agent_ready: answers,
        agent_ready_time: known.first_ready,
        first_answer_time: seen.activity.first_answer,
        draining: seen.closed,
        saved_commit: known.commit,
        workspace_uid: tenant.map(|tenant| tenant.workspace.workspace_uid.clone()),
        public_key,
        key_rotation,
    }
}

async fn drain(State(app): State<Arc<App>>, body: Bytes) -> Response {
    let request: DrainRequest = match read(&body, "drain request") {
        Ok(request) => request,
        Err(problem) => return *problem,
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

/// Tells the clients that listen. It is no activity: nobody asked for it.
async fn notify(State(app): State<Arc<App>>, body: Bytes) -> Response {
    let request: NotifyRequest = match read(&body, "notification") {
        Ok(request) => request,
        Err(problem) => return *problem,
    };
    let streams = app.announcer.notify(&request);
    app.metrics.notified(streams);
    tracing::info!(streams, "told the clients that listen");
    Json(NotifyOutcome { streams }).into_response()
}

async fn rotate_key(State(app): State<Arc<App>>, body: Bytes) -> Response {
    let request: RotateKeyRequest = match read(&body, "request for another key") {
        Ok(request) => request,
        Err(problem) => return *problem,
    };
    let Some(Users::Direct(mode)) = app.tenancy.tenant().map(|tenant| &tenant.users) else {
        let text = "only a workspace of auth mode Direct has a key".to_owned();
        return problem(StatusCode::CONFLICT, Reason::AuthModeNotOffered, text);
    };
    match mode.rotate(&request.request) {
        Ok(outcome) => Json(outcome).into_response(),
        Err(error) => {
            tracing::error!(%error, "the key was not changed");
            problem(StatusCode::INTERNAL_SERVER_ERROR, Reason::Unavailable, error.to_string())
        }
    }
}

async fn assign(State(app): State<Arc<App>>, body: Bytes) -> Response {
    let workspace: Assignment = match read(&body, "assignment") {
        Ok(workspace) => workspace,
        Err(problem) => return *problem,
    };
    let error = match app.tenancy.assign(&workspace) {
        Ok(()) => return Json(make_report(&app).await).into_response(),
        Err(error) => error,
    };
    tracing::warn!(%error, "did not take an assignment");
    let status = match error {
        AssignError::Taken(_) | AssignError::NoPool => StatusCode::CONFLICT,
        AssignError::Direct | AssignError::User | AssignError::Missing(_) => StatusCode::BAD_REQUEST,
        AssignError::Session(_) | AssignError::DirectMode(_) => StatusCode::INTERNAL_SERVER_ERROR,
    };
    problem(status, Reason::InvalidRequest, error.to_string())
}

/// The body of a call, or the answer that says what it is not. Boxed: it is large, and rare.
fn read<T: DeserializeOwned>(body: &[u8], what: &str) -> Result<T, Box<Response>> {
    serde_json::from_slice(body).map_err(|error| {
        let text = format!("the body is no {what}: {error}");
        Box::new(problem(StatusCode::BAD_REQUEST, Reason::InvalidRequest, text))
    })
}

fn problem(status: StatusCode, reason: Reason, error: String) -> Response {
    (status, Json(Problem { reason, error })).into_response()
}
