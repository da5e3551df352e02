//! Auth mode Direct: the workspace checks its user by itself, and the gateway is only the way.
//!
//! A client seals its credential to the workspace's key and gets a token that is bound to a key of its own. Each
//! request needs the token and a proof that is good for this very request, once. See `docs/direct.md`.

mod credentials;
mod files;
mod keys;
mod routes;
mod seen;
mod token;

use keys::KeyFolderError;
pub(crate) use routes::{key, session};

use std::sync::{Mutex, PoisonError};
use std::time::Instant;

use dexorder_oidc::FetchError;
use dexorder_protocol::control::{Assignment, RotateKeyOutcome};
use dexorder_protocol::direct::{
    Context, Envelope, EnvelopeError, HpkeError, KeyDocument, SessionAnswer, hash, open, proof, random_id,
};
use dexorder_protocol::headers;
use http::header::AUTHORIZATION;
use http::{HeaderMap, HeaderValue, Method};

use crate::auth::{Ambiguous, Caller, Vouched, now, one};
use crate::config::DirectConfig;
use crate::rate::Bucket;
use crate::refusal::{CredentialError, Refusal};
use credentials::Credentials;
use keys::DirectKeys;
use seen::{Seen, Taken};

/// The largest body of a request: it is read whole, for its proof covers it.
pub(crate) const BODY_BYTES: usize = 8 * 1024 * 1024;
/// Envelopes that are opened in a minute. An attempt costs memory and time, and anyone can make one.
const ATTEMPTS_PER_MINUTE: u32 = 60;
const ATTEMPTS_AT_ONCE: u32 = 20;
/// Proofs that are remembered: those of two minutes.
const PROOFS: usize = 32 * 1024;
const ENVELOPES: usize = 1024;

/// Why mode Direct can't be offered.
#[derive(Debug, thiserror::Error)]
pub enum DirectError {
    /// The workspace's keys can't be had.
    #[error(transparent)]
    Keys(#[from] KeyFolderError),
    /// The issuer's keys can't be used.
    #[error("the issuer's keys can't be used: {0}")]
    Issuer(#[from] FetchError),
    /// The system gives no randomness.
    #[error(transparent)]
    Random(#[from] HpkeError),
    /// The user ID can't be told to the agent.
    #[error("the user ID can't stand in a header")]
    User,
}

/// Checks users of a workspace of mode Direct.
pub(crate) struct DirectMode {
    vouched: Vouched,
    workspace: Assignment,
    user: HeaderValue,
    run: String,
    keys: DirectKeys,
    credentials: Credentials,
    attempts: Mutex<Bucket>,
    envelopes: Seen,
    proofs: Seen,
}

/// A proof that was taken, until its request is begun.
pub(crate) struct UsedProof {
    nonce: String,
    body_hash: String,
    until: i64,
}

impl DirectMode {
    pub(crate) async fn start(
        config: &DirectConfig,
        vouched: Vouched,
        workspace: &Assignment,
    ) -> Result<Self, DirectError> {
        Ok(Self {
            vouched,
            user: HeaderValue::from_bytes(workspace.user_id.as_bytes()).map_err(|_| DirectError::User)?,
            workspace: workspace.clone(),
            run: random_id()?,
            keys: DirectKeys::open(&config.key_folder, now())?,
            credentials: Credentials::new(&config.credentials).await?,
            attempts: Mutex::new(Bucket::new(ATTEMPTS_PER_MINUTE, ATTEMPTS_AT_ONCE, Instant::now())),
            envelopes: Seen::new(ENVELOPES),
            proofs: Seen::new(PROOFS),
        })
    }

    /// Checks way, token and proof of a request.
    pub(crate) fn check(&self, method: &Method, headers: &HeaderMap, now: i64) -> Result<Caller, Refusal> {
        self.vouched.check(headers, now)?;
        let refuse = Refusal::Credential;
        let token = one(headers, AUTHORIZATION.as_str())
            .map_err(|Ambiguous| refuse(CredentialError::Token))?
            .ok_or(refuse(CredentialError::NoToken))?;
        let token = bearer(token).ok_or(refuse(CredentialError::Token))?;
        let thumbprint = token::verify(token, &self.keys.ring(), &self.workspace, now).map_err(refuse)?;
        let proof = one(headers, headers::PROOF)
            .map_err(|Ambiguous| refuse(CredentialError::NoProof))?
            .ok_or(refuse(CredentialError::NoProof))?;
        let request = proof::Request { method: method.as_str(), token, run: &self.run };
        let proof = proof::verify(proof, &request, &thumbprint, now)
            .map_err(|error| refuse(CredentialError::Proof(error)))?;
        let until = proof.signed_at.saturating_add(proof::WINDOW_SECONDS);
        let proof = UsedProof { nonce: proof.nonce, body_hash: proof.body_hash, until };
        let proof = Some(proof);
        Ok(Caller { user: self.user.clone(), session: None, place: None, listens: None, proof })
    }

    /// Compares the body with what the proof says, and takes the proof.
    pub(crate) fn check_body(&self, caller: &mut Caller, body: &[u8]) -> Result<(), Refusal> {
        // Until it is taken here there is nothing to give back.
        let Some(proof) = caller.proof.take() else {
            return Err(Refusal::Credential(CredentialError::NoProof));
        };
        if proof.body_hash != hash(body) {
            return Err(Refusal::Credential(CredentialError::Body));
        }
        take(&self.proofs, &proof.nonce, proof.until, "the proof")?;
        caller.proof = Some(proof);
        Ok(())
    }

    /// A request was not begun: its proof may come again.
    pub(crate) fn give_back(&self, proof: &UsedProof) {
        self.proofs.give_back(&proof.nonce);
    }

    /// What a client must know to seal.
    pub(crate) fn key_document(&self, headers: &HeaderMap) -> Result<KeyDocument, Refusal> {
        let now = now();
        self.vouched.check(headers, now)?;
        Ok(KeyDocument {
            keys: self.keys.ring().good(now).map(|pair| pair.public().with_kid()).collect(),
            namespace: self.workspace.namespace.clone(),
            workspace_uid: self.workspace.workspace_uid.clone(),
            run: self.run.clone(),
            time: now,
        })
    }

    /// Opens an envelope, checks what is in it, and gives a token for it.
    pub(crate) async fn open_session(&self, body: &[u8]) -> Result<SessionAnswer, Refusal> {
        let refuse = |error| Refusal::Credential(CredentialError::Envelope(error));
        let envelope: Envelope =
            serde_json::from_slice(body).map_err(|_| refuse(EnvelopeError::Malformed))?;
        let ring = self.keys.ring();
        let key = ring.find(&envelope.kid, now()).ok_or(Refusal::UnknownKey)?;
        // What is sealed to no key of this workspace costs nothing, and takes no login's place.
        self.attempts
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take(Instant::now())
            .map_err(|seconds| Refusal::TooMany { seconds })?;
        let context = Context {
            namespace: &self.workspace.namespace,
            workspace_uid: &self.workspace.workspace_uid,
            user: &self.workspace.user_id,
        };
        let inside = open(key.agreement(), &context, &envelope, &self.run, now()).map_err(refuse)?;
        take(&self.envelopes, &inside.nonce, inside.expires_at, "the envelope")?;
        let most = self.credentials.check(&inside.credential, &self.workspace.user_id, now()).await?;
        let now = now();
        // A credential that was checked when the envelope ended meanwhile is no login any more.
        if inside.expires_at <= now {
            return Err(refuse(EnvelopeError::Expired));
        }
        let (token, expires_at) = token::issue(&ring, &self.workspace, &inside.client_key, most, now)
            .map_err(|_| Refusal::Unavailable("the token can't be signed"))?;
        tracing::info!(client_key = inside.client_key.thumbprint(), "a user was let in");
        Ok(SessionAnswer { token, expires_at, run: self.run.clone(), time: now })
    }

    /// Checks the way alone.
    pub(crate) fn check_way(&self, headers: &HeaderMap) -> Result<(), Refusal> {
        self.vouched.check(headers, now())
    }

    /// Makes another key, once for each request.
    pub(crate) fn rotate(&self, request: &str) -> Result<RotateKeyOutcome, KeyFolderError> {
        self.keys.rotate(request, now())
    }

    /// Thumbprint of the key, and the last request for another.
    pub(crate) fn public_key(&self) -> (String, Option<String>) {
        let ring = self.keys.ring();
        (ring.current().public().thumbprint(), ring.rotation().map(str::to_owned))
    }

    /// What tells this run from every other.
    pub(crate) fn run(&self) -> &str {
        &self.run
    }

    /// Keeps the issuer's keys fresh, for ever.
    pub(crate) async fn keep_fresh(&self) {
        self.credentials.keep_fresh().await;
    }
}

fn take(seen: &Seen, nonce: &str, until: i64, what: &'static str) -> Result<(), Refusal> {
    match seen.take(nonce, until, now()) {
        Taken::First => Ok(()),
        Taken::Again => Err(Refusal::Replayed(what)),
        Taken::Full => Err(Refusal::TooMany { seconds: 5 }),
    }
}

/// The token of an `Authorization` header.
fn bearer(value: &str) -> Option<&str> {
    let (scheme, token) = value.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then_some(token.trim())
}
