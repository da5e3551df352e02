//! Checks one token against one issuer's terms and keys. Knows no network and no clock.

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use jsonwebtoken::{Algorithm, DecodingKey, Validation, decode, errors::ErrorKind};
use serde::Deserialize;
use serde_json::{Map, Value};

use super::error::AuthError;
use crate::config::{IssuerConfig, algorithm};

/// How far two clocks may be apart, in seconds.
pub(super) const LEEWAY: i64 = 10;
/// A longer token is not looked at.
const MAX_TOKEN: usize = 16 * 1024;
/// The longest user ID, in characters: the limit of `spec.userId`.
const MAX_USER_ID: usize = 253;

/// What an unverified token says of how to verify it.
#[derive(Debug)]
pub(super) struct Head {
    pub(super) issuer: String,
    /// `None`: an algorithm that is never allowed, `none` among them.
    pub(super) algorithm: Option<Algorithm>,
    pub(super) kid: Option<String>,
}

/// A user whose token was verified.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Verified {
    pub(super) user: String,
    /// When the token ends, in seconds since the epoch.
    pub(super) expires: i64,
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
pub(super) fn head(token: &str) -> Result<Head, AuthError> {
    if token.len() > MAX_TOKEN {
        return Err(AuthError::Malformed);
    }
    let parts: Vec<&str> = token.split('.').collect();
    let [header, claims, _signature] = parts[..] else {
        return Err(AuthError::Malformed);
    };
    let header: JoseHeader = part(header)?;
    // An extension that must be understood isn't (RFC 7515, section 4.1.11).
    if header.crit.is_some() {
        return Err(AuthError::Malformed);
    }
    let claims: UnverifiedClaims = part(claims)?;
    Ok(Head { issuer: claims.iss, algorithm: algorithm(&header.alg), kid: header.kid })
}

fn part<T: for<'de> Deserialize<'de>>(text: &str) -> Result<T, AuthError> {
    let bytes = URL_SAFE_NO_PAD.decode(text).map_err(|_| AuthError::Malformed)?;
    serde_json::from_slice(&bytes).map_err(|_| AuthError::Malformed)
}

/// Checks signature, issuer, times, audience and user ID, in this order.
pub(super) fn verify(
    token: &str,
    terms: &IssuerConfig,
    algorithm: Algorithm,
    key: &DecodingKey,
    now: i64,
) -> Result<Verified, AuthError> {
    // The claims are checked below, each with an answer of its own.
    let mut validation = Validation::new(algorithm);
    validation.validate_exp = false;
    validation.validate_aud = false;
    validation.required_spec_claims.clear();
    let claims =
        decode::<Map<String, Value>>(token, key, &validation).map_err(|error| match error.kind() {
            ErrorKind::Json(_) | ErrorKind::Base64(_) | ErrorKind::Utf8(_) => AuthError::Malformed,
            _ => AuthError::Signature,
        })?;
    let claims = claims.claims;
    if claims.get("iss").and_then(Value::as_str) != Some(&terms.issuer) {
        return Err(AuthError::UnknownIssuer);
    }
    let expires = time(&claims, "exp")?.ok_or(AuthError::NoExpiry)?;
    if expires.saturating_add(LEEWAY) <= now {
        return Err(AuthError::Expired);
    }
    if time(&claims, "nbf")?.is_some_and(|from| from > now.saturating_add(LEEWAY)) {
        return Err(AuthError::NotYetValid);
    }
    let intended = match claims.get("aud") {
        Some(Value::String(audience)) => *audience == terms.audience,
        Some(Value::Array(list)) => list.iter().any(|audience| audience.as_str() == Some(&terms.audience)),
        _ => false,
    };
    if !intended {
        return Err(AuthError::Audience);
    }
    let name = claims.get(&terms.user_id_claim).and_then(Value::as_str).ok_or(AuthError::User)?;
    Ok(Verified { user: user_id(&terms.user_id_prefix, name)?, expires })
}

/// A time in seconds since the epoch; fractions are cut off.
fn time(claims: &Map<String, Value>, name: &str) -> Result<Option<i64>, AuthError> {
    match claims.get(name) {
        None => Ok(None),
        Some(value) => match (value.as_i64(), value.as_f64()) {
            (Some(seconds), _) => Ok(Some(seconds)),
            #[expect(clippy::cast_possible_truncation, reason = "the cast saturates")]
            (None, Some(seconds)) => Ok(Some(seconds as i64)),
            (None, None) => Err(AuthError::Malformed),
        },
    }
}

fn user_id(prefix: &str, name: &str) -> Result<String, AuthError> {
    let user = format!("{prefix}{name}");
    let fits = !name.is_empty()
        && user.chars().count() <= MAX_USER_ID
        && !user.chars().any(|c| c.is_whitespace() || c.is_control());
    if fits { Ok(user) } else { Err(AuthError::User) }
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
            assert_eq!(user_id("", name), Err(AuthError::User), "{name:?}");
        }
        assert_eq!(user_id("corp:", ""), Err(AuthError::User));
    }

    #[test]
    fn what_is_no_token_is_malformed() {
        for token in ["", ".", "..", "a.b.c", "e30.e30.", "e30.e30.x.y", &"x".repeat(20_000)] {
            assert_eq!(head(token).unwrap_err(), AuthError::Malformed, "{token:.20}");
        }
    }
}
