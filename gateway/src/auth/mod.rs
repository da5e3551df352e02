//! Who sends a request: bearer tokens of OpenID issuers, checked with the issuers' keys, and API keys.

mod api_keys;
mod error;
mod user_id;

use std::path::PathBuf;

use dexorder_oidc::{FetchError, IssuerConfig, Verifier};
use http::{HeaderMap, header};

use api_keys::ApiKeys;
pub(crate) use api_keys::{ApiKeyError, PREFIX};
pub use api_keys::{Entry, NewKey, NewKeyError};
pub(crate) use error::AuthError;

use crate::clock;

/// How many verified tokens are remembered.
const REMEMBERED: usize = 10_000;

/// Checks the credentials of requests.
pub(crate) struct Authenticator {
    tokens: Verifier,
    keys: ApiKeys,
}

impl Authenticator {
    pub(crate) async fn new(
        issuers: &[IssuerConfig],
        api_keys_folder: Option<PathBuf>,
    ) -> Result<Self, FetchError> {
        let tokens = Verifier::new(issuers, REMEMBERED).await?;
        Ok(Self { tokens, keys: ApiKeys::new(api_keys_folder).await })
    }

    /// Keeps the issuers' keys and the API keys fresh, for ever.
    pub(crate) async fn keep_keys_fresh(&self) {
        tokio::join!(self.tokens.keep_keys_fresh(), self.keys.follow());
    }

    /// How many API keys are known.
    pub(crate) fn api_keys(&self) -> usize {
        self.keys.len()
    }

    /// The user that a request's bearer token or API key stands for. `resource`: what the request is for, if that has a
    /// name of its own among the resources of this gateway.
    pub(crate) async fn authenticate(
        &self,
        headers: &HeaderMap,
        resource: Option<&str>,
    ) -> Result<String, AuthError> {
        let (credential, now) = (bearer(headers)?, clock::seconds());
        let user = if credential.starts_with(PREFIX) {
            self.keys.verify(credential, now)?
        } else {
            self.tokens.verify_for(credential, resource, now).await?.user
        };
        if user_id::is_reserved(&user) { Err(AuthError::Reserved) } else { Ok(user) }
    }
}

/// The credential of the one `Authorization` header. One of another scheme is none.
pub(crate) fn bearer(headers: &HeaderMap) -> Result<&str, AuthError> {
    let mut values = headers.get_all(header::AUTHORIZATION).iter();
    let value = values.next().ok_or(AuthError::Missing)?;
    if values.next().is_some() {
        return Err(AuthError::Header);
    }
    let text = value.to_str().map_err(|_| AuthError::Header)?;
    let (scheme, token) = text.split_once(' ').unwrap_or((text, ""));
    if !scheme.eq_ignore_ascii_case("bearer") {
        return Err(AuthError::Missing);
    }
    let token = token.trim();
    if token.is_empty() { Err(AuthError::Header) } else { Ok(token) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_token_stands_in_one_authorization_header_and_nowhere_else() {
        let headers = |values: &[&'static str]| {
            let mut map = HeaderMap::new();
            for value in values {
                map.append(header::AUTHORIZATION, http::HeaderValue::from_static(value));
            }
            map
        };
        assert_eq!(bearer(&headers(&["Bearer abc"])), Ok("abc"));
        assert_eq!(bearer(&headers(&["bearer  abc "])), Ok("abc"));
        for none in [&[][..], &["Basic abc"], &["Negotiate"], &[""]] {
            assert_eq!(bearer(&headers(none)), Err(AuthError::Missing), "{none:?}");
        }
        for bad in [&["Bearer"][..], &["Bearer "], &["Bearer a", "Bearer b"], &["Bearer a", "Basic b"]] {
            assert_eq!(bearer(&headers(bad)), Err(AuthError::Header), "{bad:?}");
        }
    }
}
