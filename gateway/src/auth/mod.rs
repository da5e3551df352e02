//! Who sends a request: bearer tokens of OpenID issuers, checked with the issuers' keys.

mod error;
mod fetch;
mod key_cache;
pub(crate) mod keys;
#[cfg(test)]
mod tests;
mod verify;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use http::{HeaderMap, header};
use sha2::{Digest, Sha256};

pub(crate) use error::AuthError;
pub use fetch::FetchError;
use key_cache::{KeyCache, MIN_INTERVAL};
use verify::Verified;

use crate::clock;
use crate::config::{IssuerConfig, KeySource};
use crate::expiring::Expiring;

/// How many verified tokens are remembered.
const REMEMBERED: usize = 10_000;

/// Checks tokens.
pub(crate) struct Authenticator {
    issuers: HashMap<String, Arc<Issuer>>,
    /// Tokens that were verified, by their hash, until they end or their issuer's keys change.
    verified: Expiring<[u8; 32], Remembered>,
}

struct Issuer {
    terms: IssuerConfig,
    keys: KeyCache,
}

#[derive(Clone)]
struct Remembered {
    verified: Verified,
    issuer: Arc<Issuer>,
    generation: u64,
}

impl Authenticator {
    /// Prepares the issuers. Keys in the configuration or in a file must be usable now; those behind a URL may come
    /// later.
    pub(crate) async fn new(issuers: &[IssuerConfig]) -> Result<Self, FetchError> {
        Self::with_min_interval(issuers, MIN_INTERVAL).await
    }

    async fn with_min_interval(issuers: &[IssuerConfig], min_interval: Duration) -> Result<Self, FetchError> {
        let mut known = HashMap::new();
        for terms in issuers {
            let keys = KeyCache::new(fetch::Fetcher::new(terms)?, min_interval);
            if matches!(terms.keys, KeySource::Inline(_) | KeySource::File(_)) {
                keys.load().await?;
            }
            known.insert(terms.issuer.clone(), Arc::new(Issuer { terms: terms.clone(), keys }));
        }
        Ok(Self { issuers: known, verified: Expiring::new(REMEMBERED) })
    }

    /// Keeps the issuers' keys fresh, for ever.
    pub(crate) async fn keep_keys_fresh(&self) {
        futures::future::join_all(self.issuers.values().map(|issuer| async {
            if issuer.keys.snapshot().is_none()
                && let Err(error) = issuer.keys.load().await
            {
                tracing::warn!(%error, issuer = issuer.terms.issuer, "the issuer's keys can't be fetched yet");
            }
            issuer.keys.keep_fresh().await;
        }))
        .await;
    }

    /// The user that a request's bearer token stands for.
    pub(crate) async fn authenticate(&self, headers: &HeaderMap) -> Result<String, AuthError> {
        self.check(bearer(headers)?, clock::seconds()).await
    }

    async fn check(&self, token: &str, now: i64) -> Result<String, AuthError> {
        let hash: [u8; 32] = Sha256::digest(token).into();
        if let Some(known) = self.verified.get(&hash, now) {
            let current = known.issuer.keys.snapshot().map(|snapshot| snapshot.generation);
            if current == Some(known.generation) {
                return Ok(known.verified.user);
            }
        }
        let head = verify::head(token)?;
        let issuer = self.issuers.get(&head.issuer).ok_or(AuthError::UnknownIssuer)?;
        let algorithm = head
            .algorithm
            .filter(|algorithm| issuer.terms.algorithms.contains(algorithm))
            .ok_or(AuthError::Algorithm)?;
        let snapshot = issuer.keys.with_key(head.kid.as_deref(), algorithm).await?;
        let key = snapshot.keys.find(head.kid.as_deref(), algorithm).ok_or(AuthError::UnknownKey)?;
        let verified = verify::verify(token, &issuer.terms, algorithm, key, now)?;
        let user = verified.user.clone();
        let until = verified.expires;
        let remembered = Remembered { verified, issuer: Arc::clone(issuer), generation: snapshot.generation };
        self.verified.put(hash, remembered, until, now);
        Ok(user)
    }
}

fn bearer(headers: &HeaderMap) -> Result<&str, AuthError> {
    let mut values = headers.get_all(header::AUTHORIZATION).iter();
    let value = values.next().ok_or(AuthError::Missing)?;
    if values.next().is_some() {
        return Err(AuthError::Header);
    }
    let text = value.to_str().map_err(|_| AuthError::Header)?;
    let (scheme, token) = text.split_once(' ').ok_or(AuthError::Header)?;
    let token = token.trim();
    if scheme.eq_ignore_ascii_case("bearer") && !token.is_empty() {
        Ok(token)
    } else {
        Err(AuthError::Header)
    }
}
