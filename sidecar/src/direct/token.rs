//! The workspace's own token: an Ed25519 JWT, good here alone, for an hour, with the key of one client.

use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair};
use base64::{
    Engine,
    engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD},
};
use dexorder_protocol::control::Assignment;
use dexorder_protocol::direct::{Jwk, random_id};
use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey, Header, Validation, decode, encode};
use serde::{Deserialize, Serialize};

use super::keys::Ring;
use crate::refusal::CredentialError;

const ISSUER: &str = "dexorder-direct";
/// The longest life of a token, in seconds.
const LIFETIME_SECONDS: i64 = 3600;
/// A longer token is not looked at.
const MAX_BYTES: usize = 4 * 1024;

/// The key that signs tokens.
pub(super) struct TokenKey {
    encoding: EncodingKey,
    decoding: DecodingKey,
}

/// What a token says.
#[derive(Serialize, Deserialize)]
struct Claims {
    iss: String,
    aud: String,
    sub: String,
    iat: i64,
    exp: i64,
    jti: String,
    cnf: Confirmation,
}

/// The client's key (RFC 7800).
#[derive(Serialize, Deserialize)]
struct Confirmation {
    jkt: String,
}

impl TokenKey {
    pub(super) fn from_pem(pem: &str) -> Option<Self> {
        let body: String = pem.lines().map(str::trim).filter(|line| !line.starts_with("-----")).collect();
        let der = STANDARD.decode(body).ok()?;
        let pair = Ed25519KeyPair::from_pkcs8_maybe_unchecked(&der).ok()?;
        let x = URL_SAFE_NO_PAD.encode(pair.public_key().as_ref());
        Some(Self {
            encoding: EncodingKey::from_ed_der(pair.to_pkcs8v1().ok()?.as_ref()),
            decoding: DecodingKey::from_ed_components(&x).ok()?,
        })
    }
}

/// Signs a token for a client's key; it ends no later than the credential does.
pub(super) fn issue(
    ring: &Ring,
    workspace: &Assignment,
    client: &Jwk,
    most: Option<i64>,
    now: i64,
) -> Result<(String, i64), CredentialError> {
    let exp = most.unwrap_or(i64::MAX).min(now.saturating_add(LIFETIME_SECONDS));
    let claims = Claims {
        iss: ISSUER.to_owned(),
        aud: workspace.workspace_uid.clone(),
        sub: workspace.user_id.clone(),
        iat: now,
        exp,
        jti: random_id().map_err(|_| CredentialError::Token)?,
        cnf: Confirmation { jkt: client.thumbprint() },
    };
    let key = ring.current().token();
    let token = encode(&Header::new(Algorithm::EdDSA), &claims, &key.encoding);
    token.map(|token| (token, exp)).map_err(|_| CredentialError::Token)
}

/// Checks a token and says to which key it is bound.
pub(super) fn verify(
    token: &str,
    ring: &Ring,
    workspace: &Assignment,
    now: i64,
) -> Result<String, CredentialError> {
    if token.len() > MAX_BYTES {
        return Err(CredentialError::Token);
    }
    let mut validation = Validation::new(Algorithm::EdDSA);
    validation.validate_exp = false;
    validation.validate_aud = false;
    validation.required_spec_claims.clear();
    let claims = ring
        .good(now)
        .find_map(|pair| decode::<Claims>(token, &pair.token().decoding, &validation).ok())
        .ok_or(CredentialError::Token)?
        .claims;
    if claims.iss != ISSUER || claims.aud != workspace.workspace_uid || claims.sub != workspace.user_id {
        return Err(CredentialError::Token);
    }
    if claims.exp <= now {
        return Err(CredentialError::TokenExpired);
    }
    Ok(claims.cnf.jkt)
}
