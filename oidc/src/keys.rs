//! An issuer's public keys as a JWKS gives them.

use jsonwebtoken::jwk::{AlgorithmParameters, EllipticCurve, Jwk, KeyOperations, PublicKeyUse};
use jsonwebtoken::{Algorithm, DecodingKey};
use serde::Deserialize;
use serde_json::Value;

/// Why a JWKS can't be used.
#[derive(Debug, thiserror::Error)]
pub enum KeysError {
    /// The text is no JSON of the expected form.
    #[error("is no JWKS ({0}): expected {{\"keys\": [...]}}")]
    Form(#[from] serde_json::Error),
    /// None of its keys can verify a signature.
    #[error(
        "has no usable key: expected at least one RSA, EC (P-256, P-384) or Ed25519 public key for signatures"
    )]
    Empty,
}

/// The keys of one issuer.
pub struct Keys {
    keys: Vec<Key>,
    source: String,
}

struct Key {
    kid: Option<String>,
    algorithms: Vec<Algorithm>,
    decoding: DecodingKey,
}

#[derive(Deserialize)]
struct Jwks {
    keys: Vec<Value>,
}

impl Keys {
    /// Reads a JWKS. Keys that are not for signatures, or of a kind that is not known here, are left out.
    pub fn parse(text: &str) -> Result<Self, KeysError> {
        let set: Jwks = serde_json::from_str(text)?;
        let keys: Vec<Key> = set.keys.into_iter().filter_map(usable).collect();
        if keys.is_empty() {
            return Err(KeysError::Empty);
        }
        Ok(Self { keys, source: text.to_owned() })
    }

    /// The key of that identifier. A token without one is taken if just one key fits its algorithm.
    pub(crate) fn find(&self, kid: Option<&str>, algorithm: Algorithm) -> Option<&DecodingKey> {
        let mut fitting = self.keys.iter().filter(|key| {
            key.algorithms.contains(&algorithm) && kid.is_none_or(|kid| key.kid.as_deref() == Some(kid))
        });
        let first = fitting.next()?;
        (kid.is_some() || fitting.next().is_none()).then_some(&first.decoding)
    }

    /// Whether both were read from the same text.
    pub(crate) fn same(&self, other: &Self) -> bool {
        self.source == other.source
    }
}

fn usable(value: Value) -> Option<Key> {
    let jwk: Jwk = serde_json::from_value(value).ok()?;
    let common = &jwk.common;
    if common.public_key_use.as_ref().is_some_and(|purpose| *purpose != PublicKeyUse::Signature)
        || common.key_operations.as_ref().is_some_and(|allowed| !allowed.contains(&KeyOperations::Verify))
    {
        return None;
    }
    let mut algorithms = match &jwk.algorithm {
        AlgorithmParameters::RSA(_) => vec![
            Algorithm::RS256,
            Algorithm::RS384,
            Algorithm::RS512,
            Algorithm::PS256,
            Algorithm::PS384,
            Algorithm::PS512,
        ],
        AlgorithmParameters::EllipticCurve(key) => match key.curve {
            EllipticCurve::P256 => vec![Algorithm::ES256],
            EllipticCurve::P384 => vec![Algorithm::ES384],
            _ => return None,
        },
        AlgorithmParameters::OctetKeyPair(key) if key.curve == EllipticCurve::Ed25519 => {
            vec![Algorithm::EdDSA]
        }
        _ => return None,
    };
    if let Some(named) = common.key_algorithm {
        algorithms.retain(|algorithm| format!("{algorithm:?}") == named.to_string());
    }
    let decoding = DecodingKey::from_jwk(&jwk).ok()?;
    (!algorithms.is_empty()).then(|| Key { kid: jwk.common.key_id, algorithms, decoding })
}

#[cfg(test)]
mod tests {
    use super::*;

    const ED: &str = r#""kty":"OKP","crv":"Ed25519","x":"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo""#;

    fn set(keys: &[String]) -> Keys {
        Keys::parse(&format!(r#"{{"keys":[{}]}}"#, keys.join(","))).unwrap()
    }

    #[test]
    fn a_key_is_found_by_its_id_and_only_for_its_algorithm() {
        let keys = set(&[format!(r#"{{{ED},"kid":"a"}}"#), r#"{"kty":"unheard-of"}"#.to_owned()]);
        assert!(keys.find(Some("a"), Algorithm::EdDSA).is_some());
        assert!(keys.find(Some("a"), Algorithm::RS256).is_none());
        assert!(keys.find(Some("b"), Algorithm::EdDSA).is_none());
    }

    #[test]
    fn without_an_id_only_a_single_fitting_key_is_taken() {
        assert!(set(&[format!("{{{ED}}}")]).find(None, Algorithm::EdDSA).is_some());
        let two = set(&[format!(r#"{{{ED},"kid":"a"}}"#), format!(r#"{{{ED},"kid":"b"}}"#)]);
        assert!(two.find(None, Algorithm::EdDSA).is_none());
    }

    #[test]
    fn keys_for_encryption_and_shared_secrets_are_left_out() {
        for keys in [
            format!(r#"{{{ED},"use":"enc"}}"#),
            format!(r#"{{{ED},"key_ops":["encrypt"]}}"#),
            format!(r#"{{{ED},"alg":"RS256"}}"#),
            r#"{"kty":"oct","k":"c2VjcmV0"}"#.to_owned(),
            r#"{"kty":"OKP","crv":"X25519","x":"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"}"#.to_owned(),
        ] {
            let text = format!(r#"{{"keys":[{keys}]}}"#);
            assert!(matches!(Keys::parse(&text), Err(KeysError::Empty)), "{text}");
        }
    }
}
