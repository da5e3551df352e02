//! Protected-resource metadata (RFC 9728): tells a client where to get a token for this gateway.

use std::sync::Arc;

use axum::Json;
use axum::extract::{Path, State};
use axum::response::{IntoResponse, Response};
use dexorder_protocol::MCP_PATH;
use http::header::{ACCESS_CONTROL_ALLOW_ORIGIN, CACHE_CONTROL};
use serde_json::{Value, json};

use crate::app::App;
use crate::config::Config;
use crate::mcp::PathName;
use crate::refusal::Refusal;

/// Where the document is; the path of the resource stands behind it.
pub(crate) const PATH: &str = "/.well-known/oauth-protected-resource";

/// URL of the document about the MCP endpoint.
pub(crate) fn url(config: &Config) -> String {
    format!("{}{PATH}{MCP_PATH}", config.public_url)
}

/// URL of the document about the endpoint of a workspace. Nothing for what can't be the name of one.
pub(crate) fn url_of(config: &Config, name: &str) -> Option<String> {
    is_name(name).then(|| format!("{}{PATH}/workspaces/{name}{MCP_PATH}", config.public_url))
}

/// Serves the document. It is public, for web pages too.
pub(crate) async fn serve(State(app): State<Arc<App>>) -> impl IntoResponse {
    public(document(&app.config, &app.config.resource()))
}

/// Serves the document about the endpoint of a workspace. It does not tell whether there is one.
pub(crate) async fn serve_named(State(app): State<Arc<App>>, name: PathName) -> Response {
    match name {
        Ok(Path(name)) if is_name(&name) => {
            public(document(&app.config, &app.config.resource_of(&name))).into_response()
        }
        _ => Refusal::NotFound.response(None, &app.metadata_url),
    }
}

fn public(document: Value) -> impl IntoResponse {
    ([(ACCESS_CONTROL_ALLOW_ORIGIN, "*"), (CACHE_CONTROL, "public, max-age=300")], Json(document))
}

/// Whether Kubernetes would take it as the name of a workspace.
fn is_name(text: &str) -> bool {
    let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-' || c == '.';
    (1..=253).contains(&text.len()) && text.chars().all(plain)
}

fn document(config: &Config, resource: &str) -> Value {
    let issuers: Vec<&str> = config.issuers.iter().map(|issuer| issuer.issuer.as_str()).collect();
    json!({
        "resource": resource,
        "authorization_servers": issuers,
        "bearer_methods_supported": ["header"],
        "resource_name": "Dexorder Workspaces",
    })
}
