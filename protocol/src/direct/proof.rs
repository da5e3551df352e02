//! The proof on each request to a workspace of mode Direct: a JWS by the client's key over method, token and body.
//!
//! It is like RFC 9449's, with the body in it and without a URL: the workspace is named by the token's audience.

use aws_lc_rs::signature::{ED25519, UnparsedPublicKey};
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::jwk::{ClientKey, Curve, Jwk};
use super::{HpkeError, hash, random_id};

/// The `typ` of a proof.
pub const TYPE: &str = "dexorder-proof+jwt";
/// The target of every proof: the workspace's MCP endpoint.
pub const TARGET: &str = "mcp";
/// How old a proof may be, and how far ahead its clock, in seconds.
pub const WINDOW_SECONDS: i64 = 60;
/// A longer proof is not looked at.
const MAX_BYTES: usize = 4 * 1024;
/// The longest nonce, in characters.
const MAX_NONCE: usize = 128;

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Header {
    typ: String,
    alg: String,
    jwk: Jwk,
}

/// What a proof says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Claims {
    /// HTTP method.
    htm: String,
    /// [`TARGET`].
    htu: String,
    /// Hash of the body.
    bh: String,
    /// Hash of the token.
    ath: String,
    /// The run of the workspace.
    run: String,
    /// When it was signed, in seconds since the epoch.
    iat: i64,
    /// What tells this proof from every other.
    jti: String,
}

/// The request that a proof is for, but for its body.
#[derive(Clone, Copy, Debug)]
pub struct Request<'a> {
    /// HTTP method.
    pub method: &'a str,
    /// The token that goes with it.
    pub token: &'a str,
    /// The run of the workspace, as it said itself: what an earlier run took is not taken again.
    pub run: &'a str,
}

/// A proof whose signature holds. Body and nonce are still to be compared.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Proof {
    /// Hash of the body that it is for: see [`super::hash`].
    pub body_hash: String,
    /// What tells it from every other.
    pub nonce: String,
    /// When it was signed, in seconds since the epoch.
    pub signed_at: i64,
}

/// Why a proof does not hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ProofError {
    /// It is no JWS of the expected form.
    #[error("the proof is malformed")]
    Malformed,
    /// It was signed with another key than the token is bound to.
    #[error("the proof is signed with another key than the token is bound to")]
    Key,
    /// Its signature does not match.
    #[error("the signature of the proof does not match")]
    Signature,
    /// It is for another method or target, or another token.
    #[error("the proof is for another request")]
    Request,
    /// It is for an earlier run of the workspace.
    #[error("the workspace was started again since the proof was signed: sign another, for its run of now")]
    Run,
    /// It is too old, or from the future.
    #[error(
        "the proof is older than {WINDOW_SECONDS} s or from the future: compare the clocks, and sign another"
    )]
    Time,
    /// No randomness for its nonce.
    #[error("the proof can't be signed")]
    Sign(#[from] HpkeError),
}

/// Signs a proof for one request.
pub fn sign(key: &ClientKey, request: &Request<'_>, body: &[u8], now: i64) -> Result<String, ProofError> {
    let header = Header { typ: TYPE.to_owned(), alg: "EdDSA".to_owned(), jwk: key.public().clone() };
    let claims = Claims {
        htm: request.method.to_owned(),
        htu: TARGET.to_owned(),
        bh: hash(body),
        ath: hash(request.token.as_bytes()),
        run: request.run.to_owned(),
        iat: now,
        jti: random_id()?,
    };
    let text = format!("{}.{}", part(&header)?, part(&claims)?);
    let signature = URL_SAFE_NO_PAD.encode(key.sign(text.as_bytes()));
    Ok(format!("{text}.{signature}"))
}

/// Checks a proof at `now` (seconds since the epoch) for a request with a token that is bound to the key with this
/// thumbprint.
pub fn verify(proof: &str, request: &Request<'_>, thumbprint: &str, now: i64) -> Result<Proof, ProofError> {
    if proof.len() > MAX_BYTES {
        return Err(ProofError::Malformed);
    }
    let (text, signature) = proof.rsplit_once('.').ok_or(ProofError::Malformed)?;
    let (header, claims) = text.split_once('.').ok_or(ProofError::Malformed)?;
    let header: Header = read(header)?;
    if header.typ != TYPE || header.alg != "EdDSA" {
        return Err(ProofError::Malformed);
    }
    let key = header.jwk.bytes(Curve::Ed25519).map_err(|_| ProofError::Malformed)?;
    if Jwk::new(Curve::Ed25519, &key).thumbprint() != thumbprint {
        return Err(ProofError::Key);
    }
    let signature = URL_SAFE_NO_PAD.decode(signature).map_err(|_| ProofError::Malformed)?;
    UnparsedPublicKey::new(&ED25519, key)
        .verify(text.as_bytes(), &signature)
        .map_err(|_| ProofError::Signature)?;
    let Claims { htm, htu, bh, ath, run, iat, jti } = read(claims)?;
    if htm != request.method || htu != TARGET || ath != hash(request.token.as_bytes()) {
        return Err(ProofError::Request);
    }
    if run != request.run {
        return Err(ProofError::Run);
    }
    if iat < now.saturating_sub(WINDOW_SECONDS) || iat > now.saturating_add(WINDOW_SECONDS) {
        return Err(ProofError::Time);
    }
    if !(16..=MAX_NONCE).contains(&jti.len()) {
        return Err(ProofError::Malformed);
    }
    Ok(Proof { body_hash: bh, nonce: jti, signed_at: iat })
}

fn part<T: Serialize>(value: &T) -> Result<String, ProofError> {
    serde_json::to_vec(value).map(|json| URL_SAFE_NO_PAD.encode(json)).map_err(|_| ProofError::Malformed)
}

fn read<T: DeserializeOwned>(part: &str) -> Result<T, ProofError> {
    let json = URL_SAFE_NO_PAD.decode(part).map_err(|_| ProofError::Malformed)?;
    serde_json::from_slice(&json).map_err(|_| ProofError::Malformed)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::mutation::{CASES, change};

    const NOW: i64 = 1_800_000_000;
    const REQUEST: Request<'static> = Request { method: "POST", token: "token", run: "run-1" };
    const BODY: &[u8] = br#"{"jsonrpc":"2.0","id":1,"method":"ping"}"#;

    fn check(proof: &str, key: &ClientKey, now: i64) -> Result<Proof, ProofError> {
        verify(proof, &REQUEST, &key.public().thumbprint(), now)
    }

    #[test]
    fn it_holds_for_its_request_and_its_minute() {
        let key = ClientKey::generate().unwrap();
        let proof = sign(&key, &REQUEST, BODY, NOW).unwrap();
        assert_eq!(check(&proof, &key, NOW).unwrap().body_hash, hash(BODY));
        assert!(check(&proof, &key, NOW + WINDOW_SECONDS).is_ok());
        assert_eq!(check(&proof, &key, NOW + WINDOW_SECONDS + 1), Err(ProofError::Time));
        assert_eq!(check(&proof, &key, NOW - WINDOW_SECONDS - 1), Err(ProofError::Time));
        let thumbprint = key.public().thumbprint();
        for (other, error) in [
            (Request { method: "GET", ..REQUEST }, ProofError::Request),
            (Request { token: "other", ..REQUEST }, ProofError::Request),
            (Request { run: "run-2", ..REQUEST }, ProofError::Run),
        ] {
            assert_eq!(verify(&proof, &other, &thumbprint, NOW), Err(error));
        }
    }

    #[test]
    fn another_key_makes_no_proof() {
        let (key, other) = (ClientKey::generate().unwrap(), ClientKey::generate().unwrap());
        let theirs = sign(&other, &REQUEST, BODY, NOW).unwrap();
        assert_eq!(check(&theirs, &key, NOW), Err(ProofError::Key));
        // The other's signature under the right key's name.
        let mine = sign(&key, &REQUEST, BODY, NOW).unwrap();
        let parts = |text: &str| text.split('.').map(str::to_owned).collect::<Vec<_>>();
        let (mine, theirs) = (parts(&mine), parts(&theirs));
        for forged in [
            [&mine[0], &theirs[1], &theirs[2]],
            [&mine[0], &mine[1], &theirs[2]],
            [&mine[0], &theirs[1], &mine[2]],
        ] {
            let forged = forged.map(String::as_str).join(".");
            assert_eq!(check(&forged, &key, NOW), Err(ProofError::Signature));
        }
    }

    #[test]
    fn other_forms_are_malformed() {
        let key = ClientKey::generate().unwrap();
        let good = sign(&key, &REQUEST, BODY, NOW).unwrap();
        let rest = good.split_once('.').unwrap().1;
        let jwk = serde_json::to_value(key.public()).unwrap();
        for header in [
            serde_json::json!({"typ": TYPE, "alg": "none", "jwk": jwk}),
            serde_json::json!({"typ": "JWT", "alg": "EdDSA", "jwk": jwk}),
            serde_json::json!({"typ": TYPE, "alg": "EdDSA", "jwk": jwk, "crit": ["exp"]}),
            serde_json::json!({"typ": TYPE, "alg": "EdDSA"}),
        ] {
            let header = URL_SAFE_NO_PAD.encode(header.to_string());
            assert_eq!(check(&format!("{header}.{rest}"), &key, NOW), Err(ProofError::Malformed));
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(CASES))]

        #[test]
        fn whatever_comes_as_a_proof_is_refused(text in "\\PC{0,60}(\\.\\PC{0,60}){0,3}") {
            let key = ClientKey::generate().unwrap();
            prop_assert!(check(&text, &key, NOW).is_err());
        }

        #[test]
        fn a_proof_that_was_changed_anywhere_is_refused(change in change()) {
            let key = ClientKey::generate().unwrap();
            if let Some(changed) = change.another(&sign(&key, &REQUEST, BODY, NOW).unwrap()) {
                prop_assert!(check(&changed, &key, NOW).is_err());
            }
        }

        /// A client's own key signs whatever it likes: what it says is read or refused, and what is read is for this request.
        #[test]
        fn a_proof_of_any_content_is_for_its_request_or_refused(part in 0_usize..2, change in change()) {
            let key = ClientKey::generate().unwrap();
            let good = sign(&key, &REQUEST, BODY, NOW).unwrap();
            let mut parts: Vec<String> = good.split('.').map(str::to_owned).collect();
            let inside = URL_SAFE_NO_PAD.decode(&parts[part]).unwrap();
            parts[part] = URL_SAFE_NO_PAD.encode(change.of(&inside));
            let text = format!("{}.{}", parts[0], parts[1]);
            let signature = URL_SAFE_NO_PAD.encode(key.sign(text.as_bytes()));
            if let Ok(proof) = check(&format!("{text}.{signature}"), &key, NOW) {
                prop_assert!((16..=MAX_NONCE).contains(&proof.nonce.len()));
                prop_assert!((proof.signed_at - NOW).abs() <= WINDOW_SECONDS);
                let claims = URL_SAFE_NO_PAD.decode(&parts[1]).unwrap();
                let claims: serde_json::Value = serde_json::from_slice(&claims).unwrap();
                prop_assert_eq!(&claims["htm"], REQUEST.method);
                prop_assert_eq!(&claims["run"], REQUEST.run);
                prop_assert_eq!(&claims["ath"], &hash(REQUEST.token.as_bytes()));
            }
        }
    }
}
