//! Checks one token against one issuer's terms and keys. Knows no network and no clock.

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use jsonwebtoken::{Algorithm, DecodingKey, Validation, decode, errors::ErrorKind};
use serde::Deserialize;
use serde_json::{Map, Value};

use crate::error::TokenError;
use crate::issuer::{IssuerConfig, algorithm};

/// How far two clocks may be apart, in seconds.
const LEEWAY: i64 = 10;
/// A longer token is not looked at.
const MAX_TOKEN: usize = 16 * 1024;
/// The longest user ID, in characters: the limit of `spec.userId`.
const MAX_USER_ID: usize = 253;

/// What an unverified token says of how to verify it.
#[derive(Debug)]
pub(crate) struct Head {
    pub(crate) issuer: String,
    /// `None`: an algorithm that is never allowed, `none` among them.
    pub(crate) algorithm: Option<Algorithm>,
    pub(crate) kid: Option<String>,
}

/// A user whose token was verified.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verified {
    /// The user ID, with its issuer's prefix.
    pub user: String,
    /// When the token ends, in seconds since the epoch.
    pub expires: i64,
}

#[derive(Deserialize)]
struct JoseHeader {
    alg: String,
    kid: Option<String>,
    crit: Option<Value>,
}

#[derive(Deserialize)]
struct UnverifiedClaims {
    iss: String,
}

/// Reads what is needed to choose issuer and key.
pub(crate) fn head(token: &str) -> Result<Head, TokenError> {
    if token.len() > MAX_TOKEN {
        return Err(TokenError::Malformed);
    }
    let parts: Vec<&str> = token.split('.').collect();
    let [header, claims, _signature] = parts[..] else {
        return Err(TokenError::Malformed);
    };
    let header: JoseHeader = part(header)?;
    // An extension that must be understood isn't (RFC 7515, section 4.1.11).
    if header.crit.is_some() {
        return Err(TokenError::Malformed);
    }
    let claims: UnverifiedClaims = part(claims)?;
    Ok(Head { issuer: claims.iss, algorithm: algorithm(&header.alg), kid: header.kid })
}

fn part<T: for<'de> Deserialize<'de>>(text: &str) -> Result<T, TokenError> {
    let bytes = URL_SAFE_NO_PAD.decode(text).map_err(|_| TokenError::Malformed)?;
    serde_json::from_slice(&bytes).map_err(|_| TokenError::Malformed)
}

/// Checks signature, issuer, times, audience and user ID, in this order. `resource` is an audience besides the issuer's;
/// the answer says whether it took that one.
pub(crate) fn verify(
    token: &str,
    terms: &IssuerConfig,
    algorithm: Algorithm,
    key: &DecodingKey,
    resource: Option<&str>,
    now: i64,
) -> Result<(Verified, bool), TokenError> {
    // The claims are checked below, each with an answer of its own.
    let mut validation = Validation::new(algorithm);
    validation.validate_exp = false;
    validation.validate_aud = false;
    validation.required_spec_claims.clear();
    let claims =
        decode::<Map<String, Value>>(token, key, &validation).map_err(|error| match error.kind() {
            ErrorKind::Json(_) | ErrorKind::Base64(_) | ErrorKind::Utf8(_) => TokenError::Malformed,
            _ => TokenError::Signature,
        })?;
    let claims = claims.claims;
    if claims.get("iss").and_then(Value::as_str) != Some(&terms.issuer) {
        return Err(TokenError::UnknownIssuer);
    }
    let expires = time(&claims, "exp")?.ok_or(TokenError::NoExpiry)?;
    if expires.saturating_add(LEEWAY) <= now {
        return Err(TokenError::Expired);
    }
    if time(&claims, "nbf")?.is_some_and(|from| from > now.saturating_add(LEEWAY)) {
        return Err(TokenError::NotYetValid);
    }
    let intended = |wanted: &str| match claims.get("aud") {
        Some(Value::String(audience)) => audience == wanted,
        Some(Value::Array(list)) => list.iter().any(|audience| audience.as_str() == Some(wanted)),
        _ => false,
    };
    let for_resource = !intended(&terms.audience);
    if for_resource && !resource.is_some_and(intended) {
        return Err(TokenError::Audience);
    }
    let name = claims.get(&terms.user_id_claim).and_then(Value::as_str).ok_or(TokenError::User)?;
    Ok((Verified { user: user_id(&terms.user_id_prefix, name)?, expires }, for_resource))
}

/// A time in seconds since the epoch; fractions are cut off.
fn time(claims: &Map<String, Value>, name: &str) -> Result<Option<i64>, TokenError> {
    match claims.get(name) {
        None => Ok(None),
        Some(value) => match (value.as_i64(), value.as_f64()) {
            (Some(seconds), _) => Ok(Some(seconds)),
            #[expect(clippy::cast_possible_truncation, reason = "the cast saturates")]
            (None, Some(seconds)) => Ok(Some(seconds as i64)),
            (None, None) => Err(TokenError::Malformed),
        },
    }
}

fn user_id(prefix: &str, name: &str) -> Result<String, TokenError> {
    let user = format!("{prefix}{name}");
    let fits = !name.is_empty()
        && user.chars().count() <= MAX_USER_ID
        && !user.chars().any(|c| c.is_whitespace() || c.is_control());
    if fits { Ok(user) } else { Err(TokenError::User) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_user_id_is_what_a_workspace_can_be_named_for() {
        assert_eq!(user_id("", "trader1").unwrap(), "trader1");
        assert_eq!(user_id("corp:", "jürgen@example.com").unwrap(), "corp:jürgen@example.com");
        assert!(user_id("", &"ü".repeat(253)).is_ok());
        for name in ["", "a b", "a\tb", "a\u{0}", "a\u{7f}", "a\u{a0}b", &"x".repeat(254)] {
            assert_eq!(user_id("", name), Err(TokenError::User), "{name:?}");
        }
        assert_eq!(user_id("corp:", ""), Err(TokenError::User));
    }

    proptest::proptest! {
        #![proptest_config(proptest::prelude::ProptestConfig::with_cases(crate::mutation::CASES))]

        #[test]
        fn whatever_comes_as_a_token_is_read_or_refused(
            text in "\\PC{0,60}(\\.\\PC{0,60}){0,3}",
            header in "[ -~]{0,80}",
            claims in "[ -~]{0,80}",
        ) {
            let part = |text: &str| URL_SAFE_NO_PAD.encode(text);
            let _ = head(&text);
            let _ = head(&format!("{}.{}.c2ln", part(&header), part(&claims)));
            let _ = head(&format!("{}.{}.", part(&format!("{{\"alg\":{header:?}}}")), part(&claims)));
        }
    }

    #[test]
    fn what_is_no_token_is_malformed() {
        for token in ["", ".", "..", "a.b.c", "e30.e30.", "e30.e30.x.y", &"x".repeat(20_000)] {
            assert_eq!(head(token).unwrap_err(), TokenError::Malformed, "{token:.20}");
        }
    }
}
