//! Which headers pass between client and agent, and which are dropped or set.

use dexorder_protocol::headers::{PREFIX, USER, mark_event_stream, strip_hop_by_hop, strip_named};
use http::header::{AUTHORIZATION, COOKIE, EXPECT, FORWARDED, HOST, ORIGIN, SET_COOKIE};
use http::{HeaderMap, HeaderName, HeaderValue, Method};

use crate::activity::Kind;

/// The method of the JSON-RPC request, mirrored in a header from [`FIRST_MIRRORED_REVISION`] on. The agent refuses a
/// request whose body says something else.
const MCP_METHOD: &str = "mcp-method";
const MCP_PROTOCOL_VERSION: &str = "mcp-protocol-version";
const FIRST_MIRRORED_REVISION: &str = "2026-07-28";
const LISTEN_METHOD: &str = "subscriptions/listen";

const LOCALHOST: HeaderValue = HeaderValue::from_static("localhost");

/// Headers that end here: credentials, the client's place in the network, and what the gateway has checked already.
/// The sidecar itself answers `Expect`.
const NOT_FOR_AGENT: [HeaderName; 6] =
    [AUTHORIZATION, COOKIE, FORWARDED, ORIGIN, EXPECT, HeaderName::from_static("x-real-ip")];

/// Whether a request is work, or only listens.
pub(crate) fn kind(method: &Method, headers: &HeaderMap) -> Kind {
    let value = |name| headers.get(name).map(HeaderValue::as_bytes);
    let listens = *method == Method::GET
        || value(MCP_METHOD) == Some(LISTEN_METHOD.as_bytes())
            && value(MCP_PROTOCOL_VERSION)
                .is_some_and(|revision| revision >= FIRST_MIRRORED_REVISION.as_bytes());
    if listens { Kind::Listen } else { Kind::Call }
}

/// Makes a client's headers those of the request to the agent.
pub(crate) fn to_agent(headers: &mut HeaderMap, user: &HeaderValue) {
    strip_hop_by_hop(headers);
    for name in &NOT_FOR_AGENT {
        headers.remove(name);
    }
    strip_named(headers, |name| name.starts_with(PREFIX) || name.starts_with("x-forwarded-"));
    headers.insert(HOST, LOCALHOST);
    headers.insert(HeaderName::from_static(USER), user.clone());
}

/// Makes the agent's headers those of the response to the client.
///
/// The agent runs what its user wrote: it sets no cookie on the gateway's domain, and no header that the gateway
/// takes for the sidecar's word.
pub(crate) fn to_client(headers: &mut HeaderMap) {
    strip_hop_by_hop(headers);
    headers.remove(SET_COOKIE);
    strip_named(headers, |name| name.starts_with(PREFIX));
    mark_event_stream(headers);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn map(pairs: &[(&'static str, &'static str)]) -> HeaderMap {
        pairs
            .iter()
            .map(|(name, value)| (HeaderName::from_static(name), HeaderValue::from_static(value)))
            .collect()
    }

    fn names(headers: &HeaderMap) -> Vec<&str> {
        let mut names: Vec<&str> = headers.keys().map(HeaderName::as_str).collect();
        names.sort_unstable();
        names
    }

    #[test]
    fn the_agent_gets_no_credential_no_origin_and_only_the_verified_user() {
        let mut headers = map(&[
            ("accept", "application/json, text/event-stream"),
            ("authorization", "Bearer secret"),
            ("cookie", "a=b"),
            ("connection", "keep-alive, x-per-hop"),
            ("x-per-hop", "1"),
            ("keep-alive", "timeout=5"),
            ("transfer-encoding", "chunked"),
            ("te", "trailers"),
            ("upgrade", "h2c"),
            ("expect", "100-continue"),
            ("forwarded", "for=1.2.3.4"),
            ("x-forwarded-for", "1.2.3.4"),
            ("x-forwarded-proto", "https"),
            ("x-real-ip", "1.2.3.4"),
            ("origin", "https://chat.example"),
            ("dexorder-identity", "token"),
            ("dexorder-user", "someone-else"),
            ("dexorder-anything", "1"),
            ("host", "gateway.example"),
            ("mcp-protocol-version", "2026-07-28"),
            ("mcp-param-symbol", "BTC"),
            ("traceparent", "00-1-2-01"),
        ]);
        to_agent(&mut headers, &HeaderValue::from_static("trader1"));
        assert_eq!(
            names(&headers),
            ["accept", "dexorder-user", "host", "mcp-param-symbol", "mcp-protocol-version", "traceparent"]
        );
        assert_eq!(headers["dexorder-user"], "trader1");
        assert_eq!(headers["host"], "localhost");
    }

    #[test]
    fn an_event_stream_is_marked_as_not_to_be_buffered_or_stored() {
        let mut headers =
            map(&[("content-type", "text/event-stream; charset=utf-8"), ("cache-control", "public")]);
        to_client(&mut headers);
        assert_eq!(headers["x-accel-buffering"], "no");
        assert_eq!(headers["cache-control"], "no-store");
        let mut json = map(&[("content-type", "application/json")]);
        to_client(&mut json);
        assert_eq!(names(&json), ["content-type"]);
    }

    #[test]
    fn the_agent_can_not_speak_for_the_sidecar() {
        let mut headers = map(&[
            ("dexorder-reason", "Draining"),
            ("set-cookie", "a=b"),
            ("connection", "close"),
            ("allow", "POST"),
        ]);
        to_client(&mut headers);
        assert_eq!(names(&headers), ["allow"]);
    }

    #[test]
    fn listening_is_told_from_work_by_method_and_by_a_header_that_the_agent_checks() {
        let modern = [("mcp-protocol-version", "2026-07-28"), ("mcp-method", "subscriptions/listen")];
        let call = [("mcp-protocol-version", "2026-07-28"), ("mcp-method", "tools/call")];
        let unchecked = [("mcp-protocol-version", "2025-11-25"), ("mcp-method", "subscriptions/listen")];
        assert_eq!(kind(&Method::GET, &map(&[])), Kind::Listen);
        assert_eq!(kind(&Method::POST, &map(&modern)), Kind::Listen);
        assert_eq!(kind(&Method::POST, &map(&call)), Kind::Call);
        assert_eq!(kind(&Method::POST, &map(&unchecked)), Kind::Call);
        assert_eq!(kind(&Method::POST, &map(&modern[1..])), Kind::Call);
        assert_eq!(kind(&Method::DELETE, &map(&[])), Kind::Call);
    }
}
