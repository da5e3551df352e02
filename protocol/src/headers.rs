//! HTTP headers of the hops inside the platform, and what every hop does with the headers that it passes on.
//!
//! Whatever a client sends under the prefix `dexorder-` is dropped, but for [`SESSION`], [`VISITOR`] and [`PROOF`],
//! which are a client's own.

use http::header::{
    CACHE_CONTROL, CONNECTION, CONTENT_TYPE, PROXY_AUTHENTICATE, PROXY_AUTHORIZATION, TE, TRAILER,
    TRANSFER_ENCODING, UPGRADE,
};
use http::{HeaderMap, HeaderName, HeaderValue};

/// Carries the signed identity from the gateway or the operator to the sidecar.
pub const IDENTITY: &str = "dexorder-identity";
/// Tells the agent which user the sidecar verified.
pub const USER: &str = "dexorder-user";
/// On a refusal by the sidecar: the machine-readable reason, one of [`crate::jsonrpc::Reason`].
pub const REASON: &str = "dexorder-reason";
/// The anonymous session of a public workspace: made by its sidecar, sent back by the client.
pub const SESSION: &str = "dexorder-session";
/// An anonymous visitor: sealed by the gateway, sent back by the client.
pub const VISITOR: &str = "dexorder-visitor";
/// The client's proof on each request to a workspace of mode Direct.
pub const PROOF: &str = "dexorder-proof";
/// Prefix of every header above.
pub const PREFIX: &str = "dexorder-";

/// Headers that are about one connection (RFC 9110, section 7.6.1).
const HOP_BY_HOP: [HeaderName; 9] = [
    CONNECTION,
    HeaderName::from_static("keep-alive"),
    HeaderName::from_static("proxy-connection"),
    PROXY_AUTHENTICATE,
    PROXY_AUTHORIZATION,
    TE,
    TRAILER,
    TRANSFER_ENCODING,
    UPGRADE,
];

/// Removes the headers of one connection, those among them that it names itself.
pub fn strip_hop_by_hop(headers: &mut HeaderMap) {
    let named: Vec<HeaderName> = headers
        .get_all(CONNECTION)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .filter_map(|name| name.trim().parse().ok())
        .collect();
    for name in named.iter().chain(&HOP_BY_HOP) {
        headers.remove(name);
    }
}

/// Removes the headers whose name `drop` names.
pub fn strip_named(headers: &mut HeaderMap, drop: impl Fn(&str) -> bool) {
    let names: Vec<HeaderName> = headers.keys().filter(|name| drop(name.as_str())).cloned().collect();
    for name in names {
        headers.remove(name);
    }
}

/// The media type without its parameters, in lower case.
pub fn essence(headers: &HeaderMap) -> Option<String> {
    let value = headers.get(CONTENT_TYPE)?.to_str().ok()?;
    value.split(';').next().map(|essence| essence.trim().to_ascii_lowercase())
}

/// Whether a body is a stream of server-sent events.
pub fn is_event_stream(headers: &HeaderMap) -> bool {
    essence(headers).as_deref() == Some("text/event-stream")
}

/// Marks a stream of events as nothing to be buffered or stored on its way.
pub fn mark_event_stream(headers: &mut HeaderMap) {
    if is_event_stream(headers) {
        headers.insert(HeaderName::from_static("x-accel-buffering"), HeaderValue::from_static("no"));
        headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_connection_names_as_its_own_ends_with_it() {
        let mut headers = HeaderMap::new();
        for (name, value) in [
            ("connection", "close, x-hop"),
            ("connection", "X-Other"),
            ("x-hop", "1"),
            ("x-other", "1"),
            ("te", "trailers"),
            ("proxy-authorization", "Basic abc"),
            ("accept", "*/*"),
        ] {
            headers.append(HeaderName::from_static(name), HeaderValue::from_static(value));
        }
        strip_hop_by_hop(&mut headers);
        assert_eq!(headers.keys().map(HeaderName::as_str).collect::<Vec<_>>(), ["accept"]);
    }
}
