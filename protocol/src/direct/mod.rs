//! How a user of a workspace of auth mode Direct proves who they are, through a gateway that is not trusted with it.
//!
//! A client seals its credential to the workspace's own key ([`Envelope`]) and gets a token that is worthless without
//! the client's key: each request needs a [`proof`] made with it. The gateway forwards all of it and can read, change
//! or use again nothing of it.

mod envelope;
mod hpke;
mod jwk;
pub mod proof;

pub use envelope::{
    Context, Credential, CredentialKind, Envelope, EnvelopeError, KeyDocument, MAX_ENVELOPE_BYTES,
    MAX_LIFETIME_SECONDS, Sealed, SessionAnswer, open, seal,
};
pub use hpke::{HpkeError, PrivateKey};
pub use jwk::{ClientKey, Curve, Jwk, JwkError};
pub use proof::{Proof, ProofError};

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use sha2::{Digest, Sha256};

/// Base64url without padding of the SHA-256 of some bytes.
pub fn hash(bytes: &[u8]) -> String {
    URL_SAFE_NO_PAD.encode(Sha256::digest(bytes))
}

/// Random bytes in base64url, for a nonce.
pub fn random_id() -> Result<String, HpkeError> {
    let mut bytes = [0_u8; 16];
    aws_lc_rs::rand::fill(&mut bytes).map_err(|_| HpkeError::Random)?;
    Ok(URL_SAFE_NO_PAD.encode(bytes))
}
