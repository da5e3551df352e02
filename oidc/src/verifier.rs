//! Checks tokens of the known issuers, and remembers those that held.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use sha2::{Digest, Sha256};

use crate::error::TokenError;
use crate::expiring::Expiring;
use crate::fetch::{FetchError, Fetcher};
use crate::issuer::{IssuerConfig, KeySource};
use crate::key_cache::{KeyCache, MIN_INTERVAL};
use crate::verify::{self, Verified};

/// Checks tokens.
pub struct Verifier {
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

impl Verifier {
    /// Prepares the issuers; `remembered` is how many verified tokens are kept. Keys in the configuration or in a file
    /// must be usable now; those behind a URL may come later.
    pub async fn new(issuers: &[IssuerConfig], remembered: usize) -> Result<Self, FetchError> {
        Self::with_min_interval(issuers, remembered, MIN_INTERVAL).await
    }

    pub(crate) async fn with_min_interval(
        issuers: &[IssuerConfig],
        remembered: usize,
        min_interval: Duration,
    ) -> Result<Self, FetchError> {
        let mut known = HashMap::new();
        for terms in issuers {
            let keys = KeyCache::new(Fetcher::new(terms)?, min_interval);
            if matches!(terms.keys, KeySource::Inline(_) | KeySource::File(_)) {
                keys.load().await?;
            }
            known.insert(terms.issuer.clone(), Arc::new(Issuer { terms: terms.clone(), keys }));
        }
        Ok(Self { issuers: known, verified: Expiring::new(remembered) })
    }

    /// Keeps the issuers' keys fresh, for ever.
    pub async fn keep_keys_fresh(&self) {
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

    /// Checks a token at `now` (seconds since the epoch) and says whose it is.
    pub async fn verify(&self, token: &str, now: i64) -> Result<Verified, TokenError> {
        self.verify_for(token, None, now).await
    }

    /// The same for a request to a resource, which the token may be meant for in place of its issuer's audience (RFC 8707).
    pub async fn verify_for(
        &self,
        token: &str,
        resource: Option<&str>,
        now: i64,
    ) -> Result<Verified, TokenError> {
        let hash: [u8; 32] = Sha256::digest(token).into();
        if let Some(known) = self.verified.get(&hash, now) {
            let current = known.issuer.keys.snapshot().map(|snapshot| snapshot.generation);
            if current == Some(known.generation) {
                return Ok(known.verified);
            }
        }
        let head = verify::head(token)?;
        let issuer = self.issuers.get(&head.issuer).ok_or(TokenError::UnknownIssuer)?;
        let algorithm = head
            .algorithm
            .filter(|algorithm| issuer.terms.algorithms.contains(algorithm))
            .ok_or(TokenError::Algorithm)?;
        let snapshot = issuer.keys.with_key(head.kid.as_deref(), algorithm).await?;
        let key = snapshot.keys.find(head.kid.as_deref(), algorithm).ok_or(TokenError::UnknownKey)?;
        let (verified, for_resource) = verify::verify(token, &issuer.terms, algorithm, key, resource, now)?;
        // What is remembered is good for every resource.
        if for_resource {
            return Ok(verified);
        }
        let until = verified.expires;
        let (issuer, generation) = (Arc::clone(issuer), snapshot.generation);
        let remembered = Remembered { verified: verified.clone(), issuer, generation };
        self.verified.put(hash, remembered, until, now);
        Ok(verified)
    }
}
