//! What is answered for a session without the agent: the newest revision has it in each request, in a subscription, or in
//! the end of a connection.

use serde_json::Value;

use super::codes::{INVALID_PARAMS, INVALID_REQUEST};
use super::downgrade::Error;
use super::level::Level;
use super::members::Members;
use super::reply::error;
use super::session::Nonce;
use crate::server::App;

/// Takes a client's notification. Only one of them has something done.
pub(super) fn notification(app: &App, nonce: Option<Nonce>, method: &str, params: &Members<'_>) {
    if method != "notifications/cancelled" {
        return;
    }
    let id = params.get("requestId").and_then(|id| serde_json::from_str::<Value>(id.get()).ok());
    if let (Some(kept), Some(id)) = (nonce.and_then(|nonce| app.legacy.sessions.known(nonce)), id) {
        kept.cancel(&id);
    }
}

/// Keeps for a session what the newest revision has in each request or in a subscription.
pub(super) async fn keep(
    app: &App,
    nonce: Option<Nonce>,
    method: &str,
    params: &Members<'_>,
) -> Result<(), Error> {
    let Some(nonce) = nonce else {
        return Err(error(INVALID_REQUEST, "this is kept for a session, and the request names none"));
    };
    if method == "logging/setLevel" {
        let level = params.text("level").and_then(|level| Level::parse(&level));
        let level = level.ok_or_else(|| {
            error(
                INVALID_PARAMS,
                "\"level\" must be debug, info, notice, warning, error, critical, alert or emergency",
            )
        })?;
        app.legacy.sessions.of(nonce).set_level(level);
        return Ok(());
    }
    let Some(uri) = params.text("uri") else {
        return Err(error(INVALID_PARAMS, "\"uri\" must be the URI of a resource"));
    };
    let kept = app.legacy.sessions.of(nonce);
    if method == "resources/unsubscribe" {
        kept.unsubscribe(&uri);
        return Ok(());
    }
    kept.subscribe(uri.into_owned()).await.map_err(|problem| error(INVALID_REQUEST, &problem.to_string()))
}
