//! Which headers pass between client and sidecar. Requests pass by a list of what is known to be needed: whatever
//! else a client sends may be a credential. Responses pass except for what is known to end here.

pub(super) use dexorder_protocol::headers::is_event_stream;
use dexorder_protocol::headers::{
    PREFIX, PROOF, SESSION, essence, mark_event_stream, strip_hop_by_hop, strip_named,
};
use http::header::{ACCEPT, ACCEPT_LANGUAGE, CONTENT_TYPE, SET_COOKIE, USER_AGENT, WWW_AUTHENTICATE};
use http::{HeaderMap, HeaderName};

use super::way::Kind;
use crate::refusal::Refusal;

const FORWARDED: [HeaderName; 8] = [
    ACCEPT,
    ACCEPT_LANGUAGE,
    CONTENT_TYPE,
    USER_AGENT,
    HeaderName::from_static("last-event-id"),
    HeaderName::from_static("traceparent"),
    HeaderName::from_static("tracestate"),
    HeaderName::from_static("baggage"),
];
const MCP_PREFIX: &str = "mcp-";

/// What a client shows to a workspace that knows its users itself: none of it is for this gateway.
const fn credentials(kind: Kind) -> &'static [&'static str] {
    match kind {
        Kind::User => &[],
        Kind::Public => &[SESSION],
        Kind::Direct => &["authorization", PROOF],
    }
}

/// Headers that decide what a request is: two of them could be read differently by two programs.
const SINGLE: [&str; 5] =
    ["mcp-protocol-version", "mcp-session-id", "mcp-method", "mcp-name", "content-type"];

/// Headers of a response that end at the gateway: what a workspace must not say to the clients of all.
const NOT_FOR_CLIENT: [HeaderName; 2] = [SET_COOKIE, WWW_AUTHENTICATE];
const CORS_PREFIX: &str = "access-control-";

/// The headers of the request to the sidecar, without the identity.
pub(super) fn to_sidecar(headers: &HeaderMap, kind: Kind) -> Result<HeaderMap, Refusal> {
    for name in SINGLE.iter().chain(credentials(kind)) {
        if headers.get_all(*name).iter().nth(1).is_some() {
            return Err(Refusal::DoubledHeader(name));
        }
    }
    let passes = |name: &HeaderName| {
        name.as_str().starts_with(MCP_PREFIX)
            || FORWARDED.contains(name)
            || credentials(kind).contains(&name.as_str())
    };
    Ok(headers.iter().filter(|(name, _)| passes(name)).fold(HeaderMap::new(), |mut map, (name, value)| {
        map.append(name, value.clone());
        map
    }))
}

/// Makes the sidecar's headers those of the response to the client.
pub(super) fn to_client(headers: &mut HeaderMap, kind: Kind) {
    strip_hop_by_hop(headers);
    for name in &NOT_FOR_CLIENT {
        headers.remove(name);
    }
    let of_session = |name: &str| kind == Kind::Public && name == SESSION;
    strip_named(headers, |name| {
        (name.starts_with(PREFIX) && !of_session(name)) || name.starts_with(CORS_PREFIX)
    });
    mark_event_stream(headers);
}

/// Checks what a POST says of its body and of the answer that it takes.
pub(super) fn check_post(headers: &HeaderMap) -> Result<(), Refusal> {
    if essence(headers) != Some("application/json".to_owned()) {
        return Err(Refusal::ContentType);
    }
    if accepts(headers, "application/json") && accepts(headers, "text/event-stream") {
        Ok(())
    } else {
        Err(Refusal::NotAcceptable("application/json and text/event-stream"))
    }
}

/// Checks that a GET takes a stream.
pub(super) fn check_get(headers: &HeaderMap) -> Result<(), Refusal> {
    if accepts(headers, "text/event-stream") {
        Ok(())
    } else {
        Err(Refusal::NotAcceptable("text/event-stream"))
    }
}

/// Whether a media type is acceptable. A client that says nothing takes everything.
fn accepts(headers: &HeaderMap, wanted: &str) -> bool {
    let mut said = false;
    for range in
        headers.get_all(ACCEPT).iter().filter_map(|value| value.to_str().ok()).flat_map(|v| v.split(','))
    {
        said = true;
        let range = range.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
        let fits = match range.strip_suffix("/*") {
            Some("*") => true,
            Some(kind) => wanted.split('/').next() == Some(kind),
            None => range == wanted,
        };
        if fits {
            return true;
        }
    }
    !said
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    fn map(pairs: &[(&'static str, &'static str)]) -> HeaderMap {
        let mut map = HeaderMap::new();
        for (name, value) in pairs {
            map.append(HeaderName::from_static(name), HeaderValue::from_static(value));
        }
        map
    }

    fn names(headers: &HeaderMap) -> Vec<&str> {
        let mut names: Vec<&str> = headers.keys().map(HeaderName::as_str).collect();
        names.sort_unstable();
        names
    }

    #[test]
    fn a_request_passes_what_the_agent_needs_and_no_credential() {
        let headers = map(&[
            ("authorization", "Bearer secret"),
            ("cookie", "a=b"),
            ("x-api-key", "secret"),
            ("dexorder-identity", "forged"),
            ("dexorder-user", "someone-else"),
            ("host", "gateway.example"),
            ("origin", "https://chat.example"),
            ("connection", "mcp-session-id"),
            ("transfer-encoding", "chunked"),
            ("x-forwarded-for", "1.2.3.4"),
            ("accept-encoding", "gzip"),
            ("content-length", "12"),
            ("accept", "application/json, text/event-stream"),
            ("content-type", "application/json"),
            ("mcp-protocol-version", "2026-07-28"),
            ("mcp-param-symbol", "BTC"),
            ("mcp-param-symbol", "ETH"),
            ("traceparent", "00-1-2-01"),
        ]);
        let passed = to_sidecar(&headers, Kind::User).unwrap();
        assert_eq!(
            names(&passed),
            ["accept", "content-type", "mcp-param-symbol", "mcp-protocol-version", "traceparent"]
        );
        assert_eq!(passed.get_all("mcp-param-symbol").iter().count(), 2);
    }

    #[test]
    fn a_header_that_decides_may_not_stand_twice() {
        for name in SINGLE {
            let mut headers = HeaderMap::new();
            headers.append(name, HeaderValue::from_static("a"));
            headers.append(name, HeaderValue::from_static("b"));
            assert!(
                matches!(to_sidecar(&headers, Kind::User), Err(Refusal::DoubledHeader(told)) if told == name)
            );
        }
    }

    #[test]
    fn a_workspace_that_knows_its_users_itself_gets_what_they_show_and_no_more() {
        let all = map(&[
            ("authorization", "Bearer of-the-workspace"),
            ("dexorder-proof", "proof"),
            ("dexorder-session", "session"),
            ("dexorder-visitor", "visitor"),
            ("dexorder-identity", "forged"),
            ("cookie", "a=b"),
        ]);
        for (kind, expected) in [
            (Kind::User, &[][..]),
            (Kind::Public, &["dexorder-session"]),
            (Kind::Direct, &["authorization", "dexorder-proof"]),
        ] {
            assert_eq!(names(&to_sidecar(&all, kind).unwrap()), expected);
            let mut answer = map(&[("dexorder-session", "s"), ("dexorder-reason", "r")]);
            to_client(&mut answer, kind);
            assert_eq!(answer.contains_key("dexorder-session"), kind == Kind::Public);
            assert!(!answer.contains_key("dexorder-reason"));
        }
        let twice = map(&[("authorization", "Bearer a"), ("authorization", "Bearer b")]);
        assert!(to_sidecar(&twice, Kind::Direct).is_err());
    }

    #[test]
    fn a_response_passes_except_for_what_ends_here() {
        let mut headers = map(&[
            ("content-type", "text/event-stream"),
            ("mcp-session-id", "s"),
            ("x-new", "1"),
            ("retry-after", "1"),
            ("connection", "close, x-hop"),
            ("x-hop", "1"),
            ("transfer-encoding", "chunked"),
            ("set-cookie", "a=b"),
            ("www-authenticate", "Bearer"),
            ("dexorder-reason", "Draining"),
            ("access-control-allow-origin", "*"),
        ]);
        to_client(&mut headers, Kind::User);
        assert_eq!(
            names(&headers),
            ["cache-control", "content-type", "mcp-session-id", "retry-after", "x-accel-buffering", "x-new"]
        );
    }

    #[test]
    fn a_post_must_be_json_and_take_both_forms_of_answer() {
        let post = |content: &'static str, accept: &'static str| {
            check_post(&map(&[("content-type", content), ("accept", accept)]))
        };
        for accept in [
            "application/json, text/event-stream",
            "text/event-stream;q=0.9,Application/JSON",
            "*/*",
            "application/*, text/*",
        ] {
            assert!(post("application/json; charset=utf-8", accept).is_ok(), "{accept}");
        }
        assert!(check_post(&map(&[("content-type", "application/json")])).is_ok());
        for accept in ["application/json", "text/event-stream", "text/html", ""] {
            assert!(matches!(post("application/json", accept), Err(Refusal::NotAcceptable(_))), "{accept}");
        }
        for content in ["text/plain", "application/jsonp", ""] {
            assert!(matches!(post(content, "*/*"), Err(Refusal::ContentType)), "{content}");
        }
        assert!(check_get(&map(&[("accept", "text/event-stream")])).is_ok());
        assert!(check_get(&map(&[("accept", "application/json")])).is_err());
    }
}
