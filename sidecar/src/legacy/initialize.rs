//! The beginning of a session (2025-11-25, basic/lifecycle), answered with what the agent says to `server/discover`.

use std::sync::Arc;

use http::{HeaderMap, HeaderValue};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use serde_json::{Map, Value, json};
use tokio_util::sync::CancellationToken;

use super::call::Stop;
use super::codes::INVALID_PARAMS;
use super::downgrade::{self, Error, META, SERVER_INFO_KEY};
use super::exchange::Exchange;
use super::members::{Members, raw};
use super::outgoing::{Inputs, Outgoing};
use super::revision::Revision;
use super::session::Session;
use crate::proxy::{Turn, forward};
use crate::refusal::Refusal;
use crate::server::App;

const DISCOVER: &str = "server/discover";

/// The answer to a client, with its session's identifier if it got one.
pub(super) struct Answer {
    pub(super) text: String,
    pub(super) session: Option<HeaderValue>,
}

/// What a client says of itself.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Introduction {
    protocol_version: String,
    capabilities: Map<String, Value>,
    client_info: Map<String, Value>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Initialized<'a> {
    protocol_version: &'static str,
    capabilities: Members<'a>,
    server_info: Box<RawValue>,
    #[serde(skip_serializing_if = "Option::is_none")]
    instructions: Option<&'a RawValue>,
}

/// Answers `initialize`.
pub(super) async fn initialize(
    app: &App,
    id: &Value,
    params: &Members<'_>,
    headers: &HeaderMap,
    cut: &CancellationToken,
) -> Result<Answer, Stop> {
    let introduction: Introduction = match serde_json::from_str(raw(params).get()) {
        Ok(introduction) => introduction,
        Err(error) => {
            let message = format!("these are no params of initialize: {error}");
            let error = Error { code: INVALID_PARAMS, message, data: None };
            return Ok(Answer { text: downgrade::response(id, Err(&error)), session: None });
        }
    };
    let Introduction { protocol_version, capabilities, client_info } = introduction;
    let revision = Revision::negotiate(&protocol_version);
    let session = Session::begin(revision, &client_info, &capabilities).map_err(|error| {
        tracing::error!(%error, "a client got no session");
        Stop::NotBegun(Refusal::Unavailable("no session can be made"))
    })?;
    let text = discover(app, &session, headers, cut).await?;
    answer(id, &session, &text)
}

async fn discover(
    app: &App,
    session: &Session,
    headers: &HeaderMap,
    cut: &CancellationToken,
) -> Result<Vec<u8>, Stop> {
    let outgoing = Outgoing {
        id: app.legacy.next_id(),
        method: DISCOVER,
        params: Members::default(),
        level: None,
        inputs: &Inputs::default(),
    };
    let request = outgoing.request(session, headers, &[]).map_err(Stop::NotBegun)?;
    let (response, connection) = forward(app, cut, request, Turn::First).await?;
    let mut exchange = Exchange::new(response, connection, Arc::clone(&app.legacy.answer_places))?;
    let text = tokio::select! {
        () = cut.cancelled() => return Err(Stop::Refused(Refusal::CutOff)),
        text = exchange.answer() => text?,
    };
    exchange.done();
    Ok(text)
}

/// What the agent says of itself, as a client of an older revision is told it.
fn answer(id: &Value, session: &Session, text: &[u8]) -> Result<Answer, Stop> {
    #[derive(Deserialize)]
    struct Discovered<'a> {
        #[serde(borrow)]
        result: Option<&'a RawValue>,
        error: Option<Error>,
    }
    let unreadable = || {
        tracing::warn!("the agent's answer to {DISCOVER} can't be read");
        Stop::Refused(Refusal::AgentUnavailable)
    };
    let discovered: Discovered<'_> = serde_json::from_slice(text).map_err(|_| unreadable())?;
    if let Some(error) = discovered.error {
        let error = downgrade::error(error, None);
        return Ok(Answer { text: downgrade::response(id, Err(&error)), session: None });
    }
    let result = discovered.result.and_then(|result| Members::parse(result).ok()).ok_or_else(unreadable)?;
    let meta = result.get(META).and_then(|meta| Members::parse(meta).ok()).unwrap_or_default();
    let server_info = meta.get(SERVER_INFO_KEY).map(ToOwned::to_owned);
    let mut capabilities =
        result.get("capabilities").and_then(|offered| Members::parse(offered).ok()).unwrap_or_default();
    // The sidecar tells its own news as messages of a log, and keeps the level.
    if capabilities.get("logging").is_none() {
        capabilities.set("logging", raw(&json!({})));
    }
    let initialized = Initialized {
        protocol_version: session.revision.as_str(),
        capabilities,
        server_info: server_info.unwrap_or_else(|| {
            raw(&json!({"name": "dexorder-workspace", "version": env!("CARGO_PKG_VERSION")}))
        }),
        instructions: result.get("instructions"),
    };
    let session = session.id().ok_or_else(unreadable)?;
    Ok(Answer { text: downgrade::response(id, Ok(&raw(&initialized))), session: Some(session) })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answered(text: &str) -> (Value, bool) {
        let session = Session::begin(Revision::V2025_06_18, &Map::new(), &Map::new()).unwrap();
        let answer = answer(&json!("a"), &session, text.as_bytes()).unwrap();
        (serde_json::from_str(&answer.text).unwrap(), answer.session.is_some())
    }

    #[test]
    fn a_client_is_told_what_the_agent_says_of_itself() {
        let discovered = json!({"jsonrpc": "2.0", "id": 7, "result": {
            "resultType": "complete", "supportedVersions": ["2026-07-28"], "ttlMs": 0, "cacheScope": "private",
            "capabilities": {"tools": {"listChanged": true}, "resources": {"subscribe": true, "listChanged": true}},
            "instructions": "read",
            "_meta": {"io.modelcontextprotocol/serverInfo": {"name": "agent", "version": "1", "title": "Agent"}},
        }});
        let expected = json!({"jsonrpc": "2.0", "id": "a", "result": {
            "protocolVersion": "2025-06-18",
            "capabilities": {
                "tools": {"listChanged": true}, "resources": {"subscribe": true, "listChanged": true}, "logging": {},
            },
            "serverInfo": {"name": "agent", "version": "1", "title": "Agent"},
            "instructions": "read",
        }});
        assert_eq!(answered(&discovered.to_string()), (expected, true));
    }

    #[test]
    fn an_agent_that_can_not_be_asked_gives_no_session() {
        let error = r#"{"jsonrpc":"2.0","id":7,"error":{"code":-32022,"message":"no"}}"#;
        let (answer, session) = answered(error);
        assert_eq!((answer["error"]["code"].as_i64(), session), (Some(-32603), false));
        let session = Session::begin(Revision::V2025_06_18, &Map::new(), &Map::new()).unwrap();
        for text in ["", "{}", r#"{"result":[]}"#] {
            assert!(super::answer(&json!(1), &session, text.as_bytes()).is_err(), "{text}");
        }
    }
}
