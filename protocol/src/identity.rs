//! The signed identity: an Ed25519 JWT that lives for a minute and is good for one workspace.
//!
//! The gateway vouches for a user with it, the operator calls the control API with it. The audience is the UID of
//! the workspace, so a token that one sidecar has seen is worth nothing at another.

use jsonwebtoken::{Algorithm, Header, Validation, dangerous, decode, decode_header, encode};
use serde::{Deserialize, Serialize};

use crate::keys::{Issuer, SigningKey, TrustedKeys};

/// The longest life of a token, in seconds.
pub const LIFETIME_SECONDS: i64 = 60;
/// How far two clocks may be apart, in seconds.
pub const LEEWAY_SECONDS: i64 = 5;
/// The subject of the operator's tokens.
pub const OPERATOR_SUBJECT: &str = "operator";
/// The subject of the gateway's tokens for whoever comes to a public workspace that many share.
pub const ANONYMOUS_SUBJECT: &str = "anonymous";
/// What the user ID of an anonymous visitor starts with.
pub const VISITOR_PREFIX: &str = "anonymous:";
/// The subject of the gateway's tokens for a workspace of mode Direct: they prove the way, not the user.
pub const GATEWAY_SUBJECT: &str = "gateway";

/// What a token says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Claims {
    /// The program that signed.
    pub iss: String,
    /// UID of the workspace that the token is good for.
    pub aud: String,
    /// The user, or one of the subjects above.
    pub sub: String,
    /// When it was signed, in seconds since the epoch.
    pub iat: i64,
    /// When it ends, in seconds since the epoch.
    pub exp: i64,
    /// Identifier of this token.
    pub jti: String,
}

/// Why a token does not hold. The texts are safe to show: they hold nothing of the token.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum IdentityError {
    /// No token was sent.
    #[error("no signed identity was sent")]
    Missing,
    /// The text is no token of the expected form.
    #[error("the signed identity is malformed")]
    Malformed,
    /// Another algorithm than `EdDSA`.
    #[error("the signed identity does not use EdDSA")]
    Algorithm,
    /// No trusted key of that issuer has this identifier.
    #[error("the signed identity uses a key that is not trusted here")]
    UnknownKey,
    /// The signature does not match.
    #[error("the signature of the identity does not match")]
    Signature,
    /// The token has ended.
    #[error("the signed identity has expired")]
    Expired,
    /// The token is from the future, or lives too long.
    #[error("the times of the signed identity are out of bounds")]
    Times,
    /// The token is good for another workspace.
    #[error("the signed identity is meant for another workspace")]
    Audience,
    /// The token was signed by another program than expected.
    #[error("the signed identity has the wrong issuer")]
    Issuer,
    /// Signing failed.
    #[error("failed to sign an identity")]
    Sign,
}

/// Signs a token that is good from `now` (seconds since the epoch) for [`LIFETIME_SECONDS`].
pub fn sign(
    key: &SigningKey,
    issuer: Issuer,
    workspace_uid: &str,
    subject: &str,
    now: i64,
) -> Result<String, IdentityError> {
    let mut id = [0_u8; 16];
    aws_lc_rs::rand::fill(&mut id).map_err(|_| IdentityError::Sign)?;
    let claims = Claims {
        iss: issuer.as_str().to_owned(),
        aud: workspace_uid.to_owned(),
        sub: subject.to_owned(),
        iat: now,
        exp: now + LIFETIME_SECONDS,
        jti: base64::Engine::encode(&base64::engine::general_purpose::URL_SAFE_NO_PAD, id),
    };
    let header = Header { kid: Some(key.kid()), ..Header::new(Algorithm::EdDSA) };
    encode(&header, &claims, &key.encoding).map_err(|_| IdentityError::Sign)
}

/// Checks a token at `now` (seconds since the epoch): key and algorithm, signature, issuer, audience and times.
pub fn verify(
    token: &str,
    keys: &TrustedKeys,
    issuer: Issuer,
    workspace_uid: &str,
    now: i64,
) -> Result<Claims, IdentityError> {
    let header = decode_header(token).map_err(|_| IdentityError::Malformed)?;
    if header.alg != Algorithm::EdDSA {
        return Err(IdentityError::Algorithm);
    }
    let kid = header.kid.ok_or(IdentityError::UnknownKey)?;
    let Some(key) = keys.find(issuer, &kid) else {
        return Err(unknown_key(token, issuer));
    };
    // Times and audience are checked below, against the clock that the caller gives.
    let mut validation = Validation::new(Algorithm::EdDSA);
    validation.validate_exp = false;
    validation.validate_aud = false;
    validation.required_spec_claims.clear();
    let claims = decode::<Claims>(token, key, &validation).map_err(|_| IdentityError::Signature)?.claims;
    check(&claims, issuer, workspace_uid, now)?;
    Ok(claims)
}

fn check(claims: &Claims, issuer: Issuer, workspace_uid: &str, now: i64) -> Result<(), IdentityError> {
    if claims.iss != issuer.as_str() {
        return Err(IdentityError::Issuer);
    }
    if claims.aud != workspace_uid {
        return Err(IdentityError::Audience);
    }
    let lifetime = claims.exp.checked_sub(claims.iat).ok_or(IdentityError::Times)?;
    if !(0..=LIFETIME_SECONDS).contains(&lifetime) || claims.iat > now.saturating_add(LEEWAY_SECONDS) {
        return Err(IdentityError::Times);
    }
    if claims.exp.saturating_add(LEEWAY_SECONDS) <= now {
        return Err(IdentityError::Expired);
    }
    Ok(())
}

/// A token of the other issuer is told apart from one of a foreign key: it helps whoever reads the log.
fn unknown_key(token: &str, issuer: Issuer) -> IdentityError {
    match dangerous::insecure_decode::<Claims>(token) {
        Ok(data) if data.claims.iss != issuer.as_str() => IdentityError::Issuer,
        Ok(_) => IdentityError::UnknownKey,
        Err(_) => IdentityError::Malformed,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::keys::KeySet;
    use crate::mutation::{CASES, change};

    const NOW: i64 = 1_800_000_000;

    struct Parties {
        gateway: SigningKey,
        trusted: TrustedKeys,
    }

    fn key() -> SigningKey {
        SigningKey::from_pem(&SigningKey::generate_pem().unwrap()).unwrap()
    }

    fn parties() -> Parties {
        let (gateway, operator) = (key(), key());
        let set = KeySet::default().with(Issuer::Gateway, &gateway).with(Issuer::Operator, &operator);
        let trusted = TrustedKeys::from_json(&set.to_json().unwrap()).unwrap();
        Parties { gateway, trusted }
    }

    fn verify_at(parties: &Parties, token: &str, now: i64) -> Result<Claims, IdentityError> {
        verify(token, &parties.trusted, Issuer::Gateway, "uid-1", now)
    }

    #[test]
    fn a_signed_identity_holds_for_its_minute_and_no_longer() {
        let parties = parties();
        let token = sign(&parties.gateway, Issuer::Gateway, "uid-1", "trader1", NOW).unwrap();
        assert_eq!(verify_at(&parties, &token, NOW).unwrap().sub, "trader1");
        assert!(verify_at(&parties, &token, NOW + LIFETIME_SECONDS + LEEWAY_SECONDS - 1).is_ok());
        assert_eq!(
            verify_at(&parties, &token, NOW + LIFETIME_SECONDS + LEEWAY_SECONDS),
            Err(IdentityError::Expired)
        );
        assert_eq!(verify_at(&parties, &token, NOW - LEEWAY_SECONDS - 1), Err(IdentityError::Times));
    }

    #[test]
    fn it_is_good_for_one_workspace_and_one_issuer() {
        let parties = parties();
        let other = sign(&parties.gateway, Issuer::Gateway, "uid-2", "trader1", NOW).unwrap();
        assert_eq!(verify_at(&parties, &other, NOW), Err(IdentityError::Audience));
        let as_operator = sign(&parties.gateway, Issuer::Operator, "uid-1", "operator", NOW).unwrap();
        assert_eq!(
            verify(&as_operator, &parties.trusted, Issuer::Operator, "uid-1", NOW),
            Err(IdentityError::UnknownKey)
        );
    }

    #[test]
    fn a_key_of_another_install_is_not_trusted() {
        let parties = parties();
        let token = sign(&key(), Issuer::Gateway, "uid-1", "trader1", NOW).unwrap();
        assert_eq!(verify_at(&parties, &token, NOW), Err(IdentityError::UnknownKey));
    }

    #[test]
    fn it_lives_for_a_minute_at_most() {
        let parties = parties();
        let signed = |iat: i64, exp: i64| {
            let claims = Claims { iat, exp, ..claims(&parties) };
            let header = Header { kid: Some(parties.gateway.kid()), ..Header::new(Algorithm::EdDSA) };
            encode(&header, &claims, &parties.gateway.encoding).unwrap()
        };
        assert!(verify_at(&parties, &signed(NOW, NOW + LIFETIME_SECONDS), NOW).is_ok());
        for (iat, exp) in [
            (NOW, NOW + LIFETIME_SECONDS + 1),
            (NOW, i64::MAX),
            (i64::MIN, i64::MAX),
            (NOW, NOW - 1),
            (NOW + LEEWAY_SECONDS + 1, NOW + LIFETIME_SECONDS),
            (i64::MAX, i64::MAX),
        ] {
            assert_eq!(verify_at(&parties, &signed(iat, exp), NOW), Err(IdentityError::Times), "{iat} {exp}");
        }
    }

    fn claims(parties: &Parties) -> Claims {
        let token = sign(&parties.gateway, Issuer::Gateway, "uid-1", "trader1", NOW).unwrap();
        verify_at(parties, &token, NOW).unwrap()
    }

    #[test]
    fn what_is_tampered_with_or_malformed_is_refused() {
        let parties = parties();
        let token = sign(&parties.gateway, Issuer::Gateway, "uid-1", "trader1", NOW).unwrap();
        let mut parts: Vec<&str> = token.split('.').collect();
        let forged = sign(&parties.gateway, Issuer::Gateway, "uid-1", "someone-else", NOW).unwrap();
        parts[1] = forged.split('.').nth(1).unwrap();
        assert_eq!(verify_at(&parties, &parts.join("."), NOW), Err(IdentityError::Signature));
        for text in ["", "a.b.c", "Bearer x", "..", &token[..token.len() / 2]] {
            assert!(verify_at(&parties, text, NOW).is_err(), "{text}");
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(CASES))]

        #[test]
        fn a_token_that_was_changed_anywhere_is_refused(change in change()) {
            let parties = parties();
            let token = sign(&parties.gateway, Issuer::Gateway, "uid-1", "trader1", NOW).unwrap();
            if let Some(changed) = change.another(&token) {
                prop_assert!(verify_at(&parties, &changed, NOW).is_err(), "{changed}");
            }
        }

        /// The text inside the parts is changed, and the parts are put together again.
        #[test]
        fn parts_that_were_changed_inside_are_refused(which in 0_usize..3, change in change()) {
            let parties = parties();
            let token = sign(&parties.gateway, Issuer::Gateway, "uid-1", "trader1", NOW).unwrap();
            let engine = base64::engine::general_purpose::URL_SAFE_NO_PAD;
            let mut pieces: Vec<String> = token.split('.').map(str::to_owned).collect();
            let inside = base64::Engine::decode(&engine, &pieces[which]).unwrap();
            pieces[which] = base64::Engine::encode(&engine, change.of(&inside));
            let changed = pieces.join(".");
            prop_assert!(changed == token || verify_at(&parties, &changed, NOW).is_err(), "{changed}");
        }
    }
}
