//! The envelope: a credential sealed to one workspace's key, for one user, for two minutes, once.

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use serde::{Deserialize, Serialize};

use super::hpke::{self, PrivateKey};
use super::jwk::{Curve, Jwk};

/// The longest time that an envelope may be good for, in seconds.
pub const MAX_LIFETIME_SECONDS: i64 = 120;
/// A longer envelope is not looked at.
pub const MAX_ENVELOPE_BYTES: usize = 64 * 1024;
/// What every context begins with.
const VERSION: &str = "dexorder-direct-v1";

/// What an envelope is for. Sealed for one context, it can't be opened in another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Context<'a> {
    /// Namespace of the workspace.
    pub namespace: &'a str,
    /// UID of the workspace.
    pub workspace_uid: &'a str,
    /// The user who asks to be let in.
    pub user: &'a str,
}

/// Which credential it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum CredentialKind {
    /// A token of the OpenID issuer that the workspace names.
    Token,
    /// A password or key whose argon2id hash is in the Secret that the workspace names.
    Password,
}

/// What the user proves themselves with.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Credential {
    /// Which it is.
    pub kind: CredentialKind,
    /// With a password: the entry of the Secret that it is checked against. Left out: the user's ID.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub id: Option<String>,
    /// The credential itself.
    pub value: String,
}

/// What is in an envelope.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Sealed {
    /// What the user proves themselves with.
    pub credential: Credential,
    /// The client's Ed25519 key: the token that comes back is bound to it.
    pub client_key: Jwk,
    /// What tells this envelope from every other: 16 random bytes or more, in base64url.
    pub nonce: String,
    /// The run of the workspace that it is for, as [`KeyDocument::run`] says: what an earlier run took is not taken
    /// again.
    pub run: String,
    /// When it ends, in seconds since the epoch: at most [`MAX_LIFETIME_SECONDS`] from now.
    pub expires_at: i64,
}

/// A sealed credential on its way.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Envelope {
    /// Thumbprint of the workspace's key that it is sealed to.
    pub kid: String,
    /// The encapsulated key in base64url.
    pub enc: String,
    /// The sealed text in base64url.
    pub ciphertext: String,
}

/// The keys that a workspace takes envelopes for, as it shows them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct KeyDocument {
    /// X25519 keys, the one to use first. `kid` is the thumbprint to compare with what is known from elsewhere.
    pub keys: Vec<Jwk>,
    /// Namespace of the workspace.
    pub namespace: String,
    /// UID of the workspace.
    pub workspace_uid: String,
    /// What tells this run of the workspace from every other.
    pub run: String,
    /// The time at the workspace, in seconds since the epoch.
    pub time: i64,
}

/// The answer to an envelope whose credential holds.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SessionAnswer {
    /// The workspace's own token. It is worth nothing without the client's key.
    pub token: String,
    /// When it ends, in seconds since the epoch.
    pub expires_at: i64,
    /// What tells this run of the workspace from every other: each proof names it.
    pub run: String,
    /// The time at the workspace, in seconds since the epoch.
    pub time: i64,
}

/// Why an envelope was not made or not opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EnvelopeError {
    /// Sealing failed.
    #[error("the credential can't be sealed to this key")]
    Seal,
    /// It is not of the expected form.
    #[error("the envelope is malformed: expected kid, enc and ciphertext in base64url")]
    Malformed,
    /// It was sealed to another key, for another workspace or user, or it was changed.
    #[error("the envelope was sealed for another workspace or user, or was changed on its way")]
    Open,
    /// What was sealed is not of the expected form.
    #[error("what was sealed is malformed: expected credential, clientKey, nonce, run and expiresAt")]
    Content,
    /// It was sealed for an earlier run.
    #[error("the workspace was started again since: seal another, for its run of now")]
    Run,
    /// It has ended.
    #[error("the envelope has expired: seal another")]
    Expired,
    /// It is good for too long.
    #[error(
        "the envelope is good for more than {MAX_LIFETIME_SECONDS} s: compare the clocks, and seal another"
    )]
    TooLong,
}

impl Context<'_> {
    /// The bytes that bind an envelope to its context: each field after its length, so that no two contexts agree.
    pub fn info(&self) -> Vec<u8> {
        let Self { namespace, workspace_uid, user } = self;
        let mut info = Vec::new();
        for field in [VERSION, namespace, workspace_uid, user] {
            // A field of four gigabytes does not exist.
            info.extend_from_slice(&u32::try_from(field.len()).unwrap_or(u32::MAX).to_be_bytes());
            info.extend_from_slice(field.as_bytes());
        }
        info
    }
}

/// Seals a credential to a workspace's public key.
pub fn seal(key: &Jwk, context: &Context<'_>, inside: &Sealed) -> Result<Envelope, EnvelopeError> {
    let public = key.bytes(Curve::X25519).map_err(|_| EnvelopeError::Seal)?;
    let text = serde_json::to_vec(inside).map_err(|_| EnvelopeError::Seal)?;
    let (enc, ciphertext) =
        hpke::seal(&public, &context.info(), b"", &text).map_err(|_| EnvelopeError::Seal)?;
    Ok(Envelope {
        kid: key.thumbprint(),
        enc: URL_SAFE_NO_PAD.encode(enc),
        ciphertext: URL_SAFE_NO_PAD.encode(ciphertext),
    })
}

/// Opens an envelope in a run of the workspace at `now` (seconds since the epoch). Whether its nonce was used before in
/// this run is for the caller to say.
pub fn open(
    key: &PrivateKey,
    context: &Context<'_>,
    envelope: &Envelope,
    run: &str,
    now: i64,
) -> Result<Sealed, EnvelopeError> {
    let decode = |text: &str| URL_SAFE_NO_PAD.decode(text).map_err(|_| EnvelopeError::Malformed);
    let (enc, ciphertext) = (decode(&envelope.enc)?, decode(&envelope.ciphertext)?);
    let text = hpke::open(key, &enc, &context.info(), b"", &ciphertext).map_err(|_| EnvelopeError::Open)?;
    let inside: Sealed = serde_json::from_slice(&text).map_err(|_| EnvelopeError::Content)?;
    let nonce = URL_SAFE_NO_PAD.decode(&inside.nonce).map_err(|_| EnvelopeError::Content)?;
    if !(16..=64).contains(&nonce.len()) || inside.client_key.bytes(Curve::Ed25519).is_err() {
        return Err(EnvelopeError::Content);
    }
    if inside.run != run {
        return Err(EnvelopeError::Run);
    }
    if inside.expires_at <= now {
        return Err(EnvelopeError::Expired);
    }
    if inside.expires_at > now.saturating_add(MAX_LIFETIME_SECONDS) {
        return Err(EnvelopeError::TooLong);
    }
    Ok(inside)
}

impl std::fmt::Debug for Credential {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Credential").field("kind", &self.kind).field("id", &self.id).finish_non_exhaustive()
    }
}

impl std::fmt::Debug for Sealed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Sealed").field("credential", &self.credential).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::direct::{ClientKey, random_id};
    use crate::mutation::{CASES, change};

    const NOW: i64 = 1_800_000_000;
    const HERE: Context<'static> = Context { namespace: "dexorder", workspace_uid: "uid-1", user: "trader1" };

    fn content(expires_at: i64) -> Sealed {
        Sealed {
            credential: Credential {
                kind: CredentialKind::Password,
                id: None,
                value: "correct horse".to_owned(),
            },
            client_key: ClientKey::generate().unwrap().public().clone(),
            nonce: random_id().unwrap(),
            run: "run-1".to_owned(),
            expires_at,
        }
    }

    fn keys() -> (PrivateKey, Jwk) {
        let key = PrivateKey::generate().unwrap();
        let public = Jwk::new(Curve::X25519, key.public());
        (key, public)
    }

    #[test]
    fn what_was_sealed_for_here_and_now_is_opened() {
        let (key, public) = keys();
        let inside = content(NOW + 60);
        let envelope = seal(&public, &HERE, &inside).unwrap();
        assert_eq!(envelope.kid, public.thumbprint());
        assert_eq!(open(&key, &HERE, &envelope, "run-1", NOW), Ok(inside));
        assert_eq!(open(&key, &HERE, &envelope, "run-2", NOW), Err(EnvelopeError::Run));
        assert_eq!(open(&key, &HERE, &envelope, "run-1", NOW + 60), Err(EnvelopeError::Expired));
        assert_eq!(open(&key, &HERE, &envelope, "run-1", NOW - 61), Err(EnvelopeError::TooLong));
    }

    #[test]
    fn it_opens_nowhere_else_and_for_nobody_else() {
        let (key, public) = keys();
        let envelope = seal(&public, &HERE, &content(NOW + 60)).unwrap();
        for elsewhere in [
            Context { namespace: "other", ..HERE },
            Context { workspace_uid: "uid-2", ..HERE },
            Context { user: "trader2", ..HERE },
            // The same letters, cut elsewhere.
            Context { namespace: "dexorderuid", workspace_uid: "-1", user: "trader1" },
        ] {
            assert_eq!(
                open(&key, &elsewhere, &envelope, "run-1", NOW),
                Err(EnvelopeError::Open),
                "{elsewhere:?}"
            );
        }
        assert_eq!(open(&keys().0, &HERE, &envelope, "run-1", NOW), Err(EnvelopeError::Open));
    }

    #[test]
    fn content_of_another_form_is_refused() {
        let (key, public) = keys();
        let short = Sealed { nonce: "c2hvcnQ".to_owned(), ..content(NOW + 60) };
        let foreign = Sealed { client_key: public.clone(), ..content(NOW + 60) };
        for inside in [short, foreign] {
            let envelope = seal(&public, &HERE, &inside).unwrap();
            assert_eq!(open(&key, &HERE, &envelope, "run-1", NOW), Err(EnvelopeError::Content));
        }
    }

    #[test]
    fn a_credential_is_never_printed() {
        assert!(!format!("{:?}", content(NOW)).contains("horse"));
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(CASES))]

        #[test]
        fn whatever_comes_as_an_envelope_is_refused(
            kid in "\\PC{0,50}", enc in "[A-Za-z0-9_-]{0,60}|\\PC{0,20}", ciphertext in "[A-Za-z0-9_-]{0,200}|\\PC{0,20}",
        ) {
            let (key, _) = keys();
            let envelope = Envelope { kid, enc, ciphertext };
            prop_assert!(open(&key, &HERE, &envelope, "run-1", NOW).is_err());
        }

        #[test]
        fn whatever_was_sealed_is_read_or_refused(text in proptest::collection::vec(any::<u8>(), 0..300)) {
            let (key, public) = keys();
            let (enc, ciphertext) =
                hpke::seal(&public.bytes(Curve::X25519).unwrap(), &HERE.info(), b"", &text).unwrap();
            let (enc, ciphertext) = (URL_SAFE_NO_PAD.encode(enc), URL_SAFE_NO_PAD.encode(ciphertext));
            let envelope = Envelope { kid: String::new(), enc, ciphertext };
            prop_assert_eq!(open(&key, &HERE, &envelope, "run-1", NOW), Err(EnvelopeError::Content));
        }

        /// On the way the name of the key alone may be changed, which only says where to look for it.
        #[test]
        fn an_envelope_that_was_changed_on_the_way_is_refused(change in change()) {
            let (key, public) = keys();
            let envelope = seal(&public, &HERE, &content(NOW + 60)).unwrap();
            let text = serde_json::to_vec(&envelope).unwrap();
            if let Ok(changed) = serde_json::from_slice::<Envelope>(&change.of(&text)) {
                let same = Envelope { kid: envelope.kid.clone(), ..changed.clone() } == envelope;
                prop_assert_eq!(open(&key, &HERE, &changed, "run-1", NOW).is_ok(), same, "{:?}", changed);
            }
        }

        /// A client seals what it likes: it is read or refused, and what is read is of this run and ends soon.
        #[test]
        fn sealed_content_that_was_changed_is_within_the_rules_or_refused(change in change()) {
            let (key, public) = keys();
            let inside = serde_json::to_vec(&content(NOW + 60)).unwrap();
            let (enc, ciphertext) =
                hpke::seal(&public.bytes(Curve::X25519).unwrap(), &HERE.info(), b"", &change.of(&inside)).unwrap();
            let (enc, ciphertext) = (URL_SAFE_NO_PAD.encode(enc), URL_SAFE_NO_PAD.encode(ciphertext));
            let envelope = Envelope { kid: public.thumbprint(), enc, ciphertext };
            if let Ok(read) = open(&key, &HERE, &envelope, "run-1", NOW) {
                prop_assert_eq!(&read.run, "run-1");
                prop_assert!(read.expires_at > NOW && read.expires_at <= NOW + MAX_LIFETIME_SECONDS);
                prop_assert!(URL_SAFE_NO_PAD.decode(&read.nonce).is_ok_and(|nonce| nonce.len() >= 16));
                prop_assert!(read.client_key.bytes(Curve::Ed25519).is_ok());
            }
        }
    }
}
