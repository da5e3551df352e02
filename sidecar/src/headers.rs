//! Which headers pass between client and agent, and which are dropped or set.

use base64::{Engine, engine::general_purpose::STANDARD};
use dexorder_protocol::headers::{PREFIX, USER, mark_event_stream, strip_hop_by_hop, strip_named};
use http::header::{
    ACCEPT, AUTHORIZATION, CONTENT_TYPE, COOKIE, EXPECT, FORWARDED, HOST, ORIGIN, SET_COOKIE,
};
use http::{HeaderMap, HeaderName, HeaderValue, Method};

use crate::activity::Kind;

/// The revision that the agent is spoken to in, and the first whose requests mirror their method in a header. The agent
/// refuses a request whose body says something else.
pub(crate) const NEWEST_REVISION: &str = dexorder_protocol::mcp::REVISION;
pub(crate) const PROTOCOL_VERSION: &str = "mcp-protocol-version";
/// The session of a client of an older revision.
pub(crate) const SESSION_ID: &str = "mcp-session-id";
/// Prefix of the headers of MCP itself.
pub(crate) const MCP_PREFIX: &str = "mcp-";
const MCP_METHOD: &str = "mcp-method";
const MCP_NAME: &str = "mcp-name";
pub(crate) const LISTEN_METHOD: &str = "subscriptions/listen";

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
            && value(PROTOCOL_VERSION).is_some_and(|revision| revision >= NEWEST_REVISION.as_bytes());
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

/// Makes a request's headers those that the newest revision demands (2026-07-28, basic/transports/streamable-http, Standard
/// Request Headers). `name` is what the request names: a tool, a prompt, a resource.
pub(crate) fn mirror(headers: &mut HeaderMap, method: &str, name: Option<&str>) {
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    headers.insert(ACCEPT, HeaderValue::from_static("application/json, text/event-stream"));
    headers.insert(PROTOCOL_VERSION, HeaderValue::from_static(NEWEST_REVISION));
    headers.insert(MCP_METHOD, mirrored(method));
    if let Some(name) = name {
        headers.insert(MCP_NAME, mirrored(name));
    }
}

/// A value of a body as it stands in a header (same page, Value Encoding).
pub(crate) fn mirrored(value: &str) -> HeaderValue {
    let plain = value.bytes().all(|byte| (0x20..=0x7e).contains(&byte))
        && value.trim_ascii() == value
        && !(value.starts_with("=?base64?") && value.ends_with("?="));
    if plain && let Ok(value) = HeaderValue::from_str(value) {
        return value;
    }
    // Letters, digits and the marks of base64 make a header's value.
    HeaderValue::from_str(&format!("=?base64?{}?=", STANDARD.encode(value)))
        .unwrap_or(HeaderValue::from_static(""))
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
    fn a_mirrored_value_is_plain_or_encoded_as_the_specification_shows() {
        for (value, expected) in [
            ("us-west1", "us-west1"),
            ("Hello, 世界", "=?base64?SGVsbG8sIOS4lueVjA==?="),
            (" padded ", "=?base64?IHBhZGRlZCA=?="),
            ("line1\nline2", "=?base64?bGluZTEKbGluZTI=?="),
            ("=?base64?literal?=", "=?base64?PT9iYXNlNjQ/bGl0ZXJhbD89?="),
            ("", ""),
        ] {
            assert_eq!(mirrored(value), expected, "{value}");
        }
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
