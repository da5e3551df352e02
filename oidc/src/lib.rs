//! Tokens of OpenID issuers: the issuers' keys, fetched and kept, and the check of a token against them. What the
//! gateway and a workspace of mode Direct both need.

mod error;
mod expiring;
mod fetch;
mod issuer;
mod key_cache;
mod keys;
#[cfg(test)]
#[path = "../../protocol/src/mutation.rs"]
mod mutation;
#[cfg(test)]
mod tests;
mod verifier;
mod verify;

pub use error::TokenError;
pub use expiring::Expiring;
pub use fetch::FetchError;
pub use issuer::{ALGORITHMS, IssuerConfig, KeySource, algorithm, key_url};
pub use keys::{Keys, KeysError};
pub use verifier::Verifier;
pub use verify::Verified;
