//! An issuer as a configuration describes it.

use std::net::IpAddr;
use std::path::PathBuf;

use http::Uri;
use jsonwebtoken::Algorithm;

/// Every algorithm that an issuer may be allowed; none of them symmetric.
pub const ALGORITHMS: [Algorithm; 9] = [
    Algorithm::EdDSA,
    Algorithm::ES256,
    Algorithm::ES384,
    Algorithm::RS256,
    Algorithm::RS384,
    Algorithm::RS512,
    Algorithm::PS256,
    Algorithm::PS384,
    Algorithm::PS512,
];

/// One OpenID issuer.
#[derive(Clone, Debug)]
pub struct IssuerConfig {
    /// The `iss` of its tokens.
    pub issuer: String,
    /// The `aud` that a token must have.
    pub audience: String,
    /// Where its keys come from.
    pub keys: KeySource,
    /// Name of the claim that is the user ID.
    pub user_id_claim: String,
    /// What is set before the claim's value, so that two issuers can't name the same user.
    pub user_id_prefix: String,
    /// The algorithms that it may sign with; none of them symmetric.
    pub algorithms: Vec<Algorithm>,
    /// PEM of certificates to trust besides the public ones when its keys are fetched.
    pub ca_file: Option<PathBuf>,
}

/// Where an issuer's keys come from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum KeySource {
    /// JWKS in the configuration itself.
    Inline(String),
    /// A file with a JWKS, reread when it changes.
    File(PathBuf),
    /// URL of a JWKS.
    Uri(Uri),
    /// The issuer's OpenID configuration names the URL.
    Discovery(Uri),
}

/// An asymmetric signature algorithm by its name. A symmetric one would let everyone who can verify also sign.
pub fn algorithm(name: &str) -> Option<Algorithm> {
    ALGORITHMS.into_iter().find(|algorithm| format!("{algorithm:?}") == name)
}

/// A URL that keys may be fetched from: encrypted, or on this very host.
pub fn key_url(text: &str) -> Option<Uri> {
    let uri: Uri = text.parse().ok()?;
    let host = uri.host()?.trim_start_matches('[').trim_end_matches(']');
    let loopback = host == "localhost" || host.parse::<IpAddr>().is_ok_and(|address| address.is_loopback());
    match uri.scheme_str() {
        Some("https") => Some(uri),
        Some("http") if loopback => Some(uri),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_algorithm_has_the_name_that_tokens_give_it() {
        assert_eq!(algorithm("EdDSA"), Some(Algorithm::EdDSA));
        assert_eq!(algorithm("PS512"), Some(Algorithm::PS512));
        for name in ["none", "HS256", "rs256", "EDDSA", ""] {
            assert_eq!(algorithm(name), None, "{name}");
        }
    }

    #[test]
    fn keys_come_encrypted_or_from_this_host() {
        for good in ["https://a.example/keys", "http://127.0.0.1:80/k", "http://[::1]/k", "http://localhost/"]
        {
            assert!(key_url(good).is_some(), "{good}");
        }
        for bad in ["http://a.example/keys", "ftp://127.0.0.1", "/keys", "", "http://127.0.0.1.example/"] {
            assert!(key_url(bad).is_none(), "{bad}");
        }
    }
}
