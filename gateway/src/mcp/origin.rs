//! Which web pages may call, and what their browsers are told (CORS).

use std::collections::HashSet;

use axum::response::Response;
use http::header::{
    ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_METHODS, ACCESS_CONTROL_ALLOW_ORIGIN,
    ACCESS_CONTROL_EXPOSE_HEADERS, ACCESS_CONTROL_MAX_AGE, ACCESS_CONTROL_REQUEST_HEADERS, ORIGIN, VARY,
};
use http::{HeaderMap, HeaderValue, StatusCode};

use crate::refusal::{METHODS, Refusal};

const EXPOSED: &str = "WWW-Authenticate, Mcp-Session-Id, Mcp-Protocol-Version, Retry-After, Dexorder-Reason, \
                       Dexorder-Session, Dexorder-Visitor, X-Request-Id";

/// The allowed origin of a request, or nothing if it comes from no web page.
pub(crate) fn check(headers: &HeaderMap, allowed: &HashSet<String>) -> Result<Option<HeaderValue>, Refusal> {
    let mut values = headers.get_all(ORIGIN).iter();
    let Some(origin) = values.next() else {
        return Ok(None);
    };
    let known = origin.to_str().is_ok_and(|text| allowed.contains(&text.to_ascii_lowercase()));
    if known && values.next().is_none() { Ok(Some(origin.clone())) } else { Err(Refusal::Origin) }
}

/// Tells a browser that the page may read the response.
pub(crate) fn permit(headers: &mut HeaderMap, origin: HeaderValue) {
    headers.insert(ACCESS_CONTROL_ALLOW_ORIGIN, origin);
    headers.insert(ACCESS_CONTROL_EXPOSE_HEADERS, HeaderValue::from_static(EXPOSED));
    headers.append(VARY, HeaderValue::from_static("Origin"));
}

/// The answer to a browser that asks before it sends. Headers are not restricted: the origin is.
pub(crate) fn preflight(request: &HeaderMap) -> Response {
    let mut response = Response::default();
    *response.status_mut() = StatusCode::NO_CONTENT;
    let headers = response.headers_mut();
    headers.insert(ACCESS_CONTROL_ALLOW_METHODS, HeaderValue::from_static(METHODS));
    headers.insert(ACCESS_CONTROL_MAX_AGE, HeaderValue::from_static("600"));
    if let Some(asked) = request.get(ACCESS_CONTROL_REQUEST_HEADERS) {
        headers.insert(ACCESS_CONTROL_ALLOW_HEADERS, asked.clone());
    }
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    fn origin(values: &[&'static str]) -> HeaderMap {
        values.iter().map(|value| (ORIGIN, HeaderValue::from_static(value))).fold(
            HeaderMap::new(),
            |mut map, (name, value)| {
                map.append(name, value);
                map
            },
        )
    }

    #[test]
    fn only_listed_pages_may_call_and_programs_always_may() {
        let allowed = HashSet::from(["https://chat.example.com".to_owned()]);
        assert_eq!(check(&HeaderMap::new(), &allowed).unwrap(), None);
        assert!(check(&origin(&["https://Chat.example.com"]), &allowed).unwrap().is_some());
        for foreign in [
            &["https://evil.example"][..],
            &["null"],
            &["http://chat.example.com"],
            &["https://chat.example.com.evil.example"],
            &["https://chat.example.com", "https://evil.example"],
            &[""],
        ] {
            assert!(matches!(check(&origin(foreign), &allowed), Err(Refusal::Origin)), "{foreign:?}");
        }
    }
}
