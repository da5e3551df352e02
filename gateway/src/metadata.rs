//! Protected-resource metadata (RFC 9728): tells a client where to get a token for this gateway.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::response::IntoResponse;
use dexorder_protocol::MCP_PATH;
use http::header::{ACCESS_CONTROL_ALLOW_ORIGIN, CACHE_CONTROL};
use serde_json::{Value, json};

use crate::app::App;
use crate::config::Config;

/// Where the document is; the path of the resource stands behind it.
pub(crate) const PATH: &str = "/.well-known/oauth-protected-resource";

/// URL of the document about the MCP endpoint.
pub(crate) fn url(config: &Config) -> String {
    format!("{}{PATH}{MCP_PATH}", config.public_url)
}

/// Serves the document. It is public, for web pages too.
pub(crate) async fn serve(State(app): State<Arc<App>>) -> impl IntoResponse {
    let headers = [(ACCESS_CONTROL_ALLOW_ORIGIN, "*"), (CACHE_CONTROL, "public, max-age=300")];
    (headers, Json(document(&app.config)))
}

fn document(config: &Config) -> Value {
    let issuers: Vec<&str> = config.issuers.iter().map(|issuer| issuer.issuer.as_str()).collect();
    json!({
        "resource": config.resource(),
        "authorization_servers": issuers,
        "bearer_methods_supported": ["header"],
        "resource_name": "Dexorder Workspaces",
    })
}
