//! Ed25519 keys of the programs that sign, and the set of public keys that a sidecar trusts.

use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair};
use base64::{
    Engine,
    engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD},
};
use jsonwebtoken::{DecodingKey, EncodingKey};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::hex::hex;

/// Why a key can't be used.
#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    /// The operating system gave no randomness.
    #[error("failed to make an Ed25519 key")]
    Generate,
    /// The text is no PKCS#8 PEM of an Ed25519 key.
    #[error(
        "the signing key is no Ed25519 private key in PKCS#8 PEM: make one with `openssl genpkey -algorithm ed25519`"
    )]
    Pem,
    /// The trusted keys are no JSON of the expected form.
    #[error("the trusted identity keys can't be read")]
    TrustedKeys(#[from] serde_json::Error),
    /// A public key is not 32 bytes of base64url.
    #[error("the public key {0:?} is no Ed25519 key")]
    PublicKey(String),
}

/// A program that signs identities.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Issuer {
    /// Vouches for users.
    Gateway,
    /// Calls the sidecars' control API.
    Operator,
}

impl Issuer {
    /// The `iss` of its tokens.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Gateway => "dexorder-gateway",
            Self::Operator => "dexorder-operator",
        }
    }
}

/// A private key with the identifier of its public half.
pub struct SigningKey {
    pub(crate) encoding: EncodingKey,
    public: [u8; 32],
}

/// One public key (RFC 8037).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct PublicJwk {
    kty: String,
    crv: String,
    x: String,
    kid: String,
}

/// The public keys that a sidecar trusts, by issuer, as they stand in the pod's annotation.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeySet {
    #[serde(default)]
    gateway: Vec<PublicJwk>,
    #[serde(default)]
    operator: Vec<PublicJwk>,
}

/// A [`KeySet`] made ready for verification.
pub struct TrustedKeys {
    gateway: Vec<(String, DecodingKey)>,
    operator: Vec<(String, DecodingKey)>,
}

impl SigningKey {
    /// Makes a new key and returns it as PKCS#8 PEM.
    pub fn generate_pem() -> Result<String, KeyError> {
        let pair = Ed25519KeyPair::generate().map_err(|_| KeyError::Generate)?;
        let der = pair.to_pkcs8v1().map_err(|_| KeyError::Generate)?;
        let text = STANDARD.encode(der.as_ref());
        Ok(format!("-----BEGIN PRIVATE KEY-----\n{text}\n-----END PRIVATE KEY-----\n"))
    }

    /// Reads a key from PKCS#8 PEM.
    pub fn from_pem(pem: &str) -> Result<Self, KeyError> {
        let body: String = pem.lines().map(str::trim).filter(|line| !line.starts_with("-----")).collect();
        let der = STANDARD.decode(body).map_err(|_| KeyError::Pem)?;
        let pair = Ed25519KeyPair::from_pkcs8_maybe_unchecked(&der).map_err(|_| KeyError::Pem)?;
        let public = pair.public_key().as_ref().try_into().map_err(|_| KeyError::Pem)?;
        // The same pair in the form that signing takes, whatever form the file had.
        let der = pair.to_pkcs8v1().map_err(|_| KeyError::Pem)?;
        Ok(Self { encoding: EncodingKey::from_ed_der(der.as_ref()), public })
    }

    /// Identifier of the public half: the first 16 hex digits of its SHA-256.
    pub fn kid(&self) -> String {
        hex(&Sha256::digest(self.public)[..8])
    }

    fn public_jwk(&self) -> PublicJwk {
        PublicJwk {
            kty: "OKP".to_owned(),
            crv: "Ed25519".to_owned(),
            x: URL_SAFE_NO_PAD.encode(self.public),
            kid: self.kid(),
        }
    }
}

impl std::fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SigningKey").field("kid", &self.kid()).finish_non_exhaustive()
    }
}

impl KeySet {
    /// Adds the public half of a key to what is trusted of an issuer.
    #[must_use]
    pub fn with(mut self, issuer: Issuer, key: &SigningKey) -> Self {
        let keys = match issuer {
            Issuer::Gateway => &mut self.gateway,
            Issuer::Operator => &mut self.operator,
        };
        let jwk = key.public_jwk();
        if !keys.contains(&jwk) {
            keys.push(jwk);
        }
        self
    }

    /// The JSON of the annotation.
    pub fn to_json(&self) -> Result<String, KeyError> {
        Ok(serde_json::to_string(self)?)
    }
}

impl TrustedKeys {
    /// Reads the JSON of the annotation.
    pub fn from_json(json: &str) -> Result<Self, KeyError> {
        let set: KeySet = serde_json::from_str(json)?;
        let ready = |keys: Vec<PublicJwk>| -> Result<Vec<_>, KeyError> {
            keys.into_iter().map(|jwk| Ok((jwk.kid.clone(), decoding_key(&jwk)?))).collect()
        };
        Ok(Self { gateway: ready(set.gateway)?, operator: ready(set.operator)? })
    }

    pub(crate) fn find(&self, issuer: Issuer, kid: &str) -> Option<&DecodingKey> {
        let keys = match issuer {
            Issuer::Gateway => &self.gateway,
            Issuer::Operator => &self.operator,
        };
        keys.iter().find(|(known, _)| known == kid).map(|(_, key)| key)
    }
}

fn decoding_key(jwk: &PublicJwk) -> Result<DecodingKey, KeyError> {
    let refuse = || KeyError::PublicKey(jwk.kid.clone());
    if jwk.kty != "OKP" || jwk.crv != "Ed25519" {
        return Err(refuse());
    }
    let bytes = URL_SAFE_NO_PAD.decode(&jwk.x).map_err(|_| refuse())?;
    if bytes.len() != 32 {
        return Err(refuse());
    }
    DecodingKey::from_ed_components(&jwk.x).map_err(|_| refuse())
}
