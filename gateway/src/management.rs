//! Metrics and probes, on a port of their own that clients can't reach.

use std::sync::Arc;

use axum::Router;
use axum::extract::State;
use axum::routing::get;
use http::StatusCode;
use http::header::CONTENT_TYPE;

use crate::app::App;
use crate::metrics::Known;

const OPEN_METRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

pub(crate) fn router(app: Arc<App>) -> Router {
    Router::new()
        .route("/livez", get(|| async { "ok\n" }))
        .route("/readyz", get(readyz))
        .route("/metrics", get(metrics))
        .with_state(app)
}

/// Ready means: the workspaces are known and current, and the gateway is not shutting down.
async fn readyz(State(app): State<Arc<App>>) -> (StatusCode, String) {
    let problem = if app.shutdown.is_cancelled() {
        Some("the gateway is shutting down")
    } else {
        app.workspaces.health().problem()
    };
    match problem {
        None => (StatusCode::OK, "ok\n".to_owned()),
        Some(problem) => (StatusCode::SERVICE_UNAVAILABLE, format!("{problem}\n")),
    }
}

async fn metrics(State(app): State<Arc<App>>) -> ([(http::HeaderName, &'static str); 1], String) {
    let known = Known {
        workspaces: app.workspaces.count(),
        of_visitors: app.workspaces.anonymous(),
        api_keys: app.auth.api_keys(),
        watch_healthy: app.workspaces.health().problem().is_none(),
    };
    ([(CONTENT_TYPE, OPEN_METRICS)], app.metrics.text(known))
}
