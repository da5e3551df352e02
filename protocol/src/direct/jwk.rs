//! Public keys as JWKs (RFC 8037) with their thumbprints (RFC 7638), and the key of a client.

use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair};
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use serde::{Deserialize, Serialize};

use super::hash;

/// Why a public key can't be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum JwkError {
    /// It is of another kind.
    #[error("the key is of another kind: expected kty OKP, crv {}", .0.as_str())]
    Kind(Curve),
    /// It is not 32 bytes of base64url.
    #[error("the key is not 32 bytes of base64url")]
    Bytes,
    /// The operating system gave no randomness.
    #[error("failed to make a key")]
    Generate,
}

/// The curve of a key, which says what it is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Curve {
    /// Sealing.
    X25519,
    /// Signatures.
    Ed25519,
}

impl Curve {
    /// Its name in a JWK.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::X25519 => "X25519",
            Self::Ed25519 => "Ed25519",
        }
    }
}

/// One public key.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Jwk {
    /// `OKP`.
    pub kty: String,
    /// `X25519` or `Ed25519`.
    pub crv: String,
    /// Its bytes in base64url.
    pub x: String,
    /// Its thumbprint, where it is shown.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kid: Option<String>,
}

impl Jwk {
    /// The key of these bytes.
    pub fn new(curve: Curve, bytes: &[u8; 32]) -> Self {
        let x = URL_SAFE_NO_PAD.encode(bytes);
        Self { kty: "OKP".to_owned(), crv: curve.as_str().to_owned(), x, kid: None }
    }

    /// The same with its thumbprint as `kid`.
    #[must_use]
    pub fn with_kid(self) -> Self {
        let kid = Some(self.thumbprint());
        Self { kid, ..self }
    }

    /// Its bytes, if it is of the expected kind.
    pub fn bytes(&self, curve: Curve) -> Result<[u8; 32], JwkError> {
        if self.kty != "OKP" || self.crv != curve.as_str() {
            return Err(JwkError::Kind(curve));
        }
        let bytes = URL_SAFE_NO_PAD.decode(&self.x).map_err(|_| JwkError::Bytes)?;
        bytes.try_into().map_err(|_| JwkError::Bytes)
    }

    /// Base64url of the SHA-256 of the key's members in a fixed form (RFC 7638): what users compare and pin.
    pub fn thumbprint(&self) -> String {
        let Self { kty, crv, x, kid: _ } = self;
        hash(format!(r#"{{"crv":"{crv}","kty":"{kty}","x":"{x}"}}"#).as_bytes())
    }
}

/// A client's own key. Whoever has it and a token that is bound to it may act; nobody else.
pub struct ClientKey {
    pair: Ed25519KeyPair,
    public: Jwk,
}

impl ClientKey {
    /// Makes a new key.
    pub fn generate() -> Result<Self, JwkError> {
        let pair = Ed25519KeyPair::generate().map_err(|_| JwkError::Generate)?;
        let bytes: [u8; 32] = pair.public_key().as_ref().try_into().map_err(|_| JwkError::Bytes)?;
        Ok(Self { public: Jwk::new(Curve::Ed25519, &bytes), pair })
    }

    /// The public half.
    pub const fn public(&self) -> &Jwk {
        &self.public
    }

    pub(super) fn sign(&self, text: &[u8]) -> Vec<u8> {
        self.pair.sign(text).as_ref().to_vec()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// RFC 8037, appendix A.3.
    #[test]
    fn a_thumbprint_is_the_rfcs() {
        let key = Jwk {
            kty: "OKP".to_owned(),
            crv: "Ed25519".to_owned(),
            x: "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo".to_owned(),
            kid: None,
        };
        assert_eq!(key.thumbprint(), "kPrK_qmxVWaYVA9wwBF6Iuo3vVzz7TxHCTwXBygrS4k");
        assert_eq!(key.clone().with_kid().kid, Some(key.thumbprint()));
    }

    #[test]
    fn a_key_of_another_kind_or_length_is_refused() {
        let key = Jwk::new(Curve::Ed25519, &[7; 32]);
        assert_eq!(key.bytes(Curve::Ed25519), Ok([7; 32]));
        assert_eq!(key.bytes(Curve::X25519), Err(JwkError::Kind(Curve::X25519)));
        for x in ["", "AAAA", "not base64!"] {
            let short = Jwk { x: x.to_owned(), ..key.clone() };
            assert_eq!(short.bytes(Curve::Ed25519), Err(JwkError::Bytes));
        }
    }
}
